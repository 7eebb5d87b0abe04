"""Is the audit trail what was written? The chain says whether rows were changed, the signatures by whom it
was made."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from fraisier.audit.checkpoint import sign
from fraisier.audit.keys import AuditKey
from fraisier.audit.retention import sign_pruned
from fraisier.events import Record
from fraisier.events import types as ev
from fraisier.journal.base import Journal, Verification
from fraisier.journal.expiry import NEVER_EXPIRE

_PAGE = 2048

Signed = ev.AuditCheckpointed | ev.AuditPruned


class AuditReport(msgspec.Struct, frozen=True):
    """What a verification found. `first_bad_seq` is 0 and `problem` empty when all holds.

    `checkpoints` signatures hold, and the last of them covers every row up to `signed_seq`.
    """

    ok: bool
    rows: int
    head: str
    first_bad_seq: int = 0
    problem: str = ""
    checkpoints: int = 0
    signed_seq: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the document of `fraisier audit verify --json`; nothing wrong is null."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return {**document, "first_bad_seq": self.first_bad_seq or None, "problem": self.problem or None}


async def verify(journal: Journal, key: AuditKey | None, head: str = "") -> AuditReport:
    """Walk the chain, look for `head` (a hash that a person kept), then check every signature with `key`.

    Without a key only the chain is walked. The signatures of a broken chain are not looked at: its fault
    comes first.
    """
    chain = await journal.verify(head)
    if not chain.ok or key is None:
        return AuditReport(chain.ok, chain.rows, chain.head, chain.first_bad_seq, chain.problem)
    return await _check_signatures(journal, key, chain)


async def _check_signatures(journal: Journal, key: AuditKey, chain: Verification) -> AuditReport:
    good = signed = 0
    async for page in _signed(journal):
        hashes = await journal.hashes_at(
            [event.head_seq for _, event in page if isinstance(event, ev.AuditCheckpointed)]
        )
        for record, event in page:
            problem = (
                _pruned_fault(journal, key, record, event)
                if isinstance(event, ev.AuditPruned)
                else _checkpoint_fault(journal, key, record, event, hashes.get(event.head_seq))
            )
            if problem:
                return AuditReport(
                    ok=False,
                    rows=chain.rows,
                    head=chain.head,
                    first_bad_seq=record.seq,
                    problem=problem,
                    checkpoints=good,
                    signed_seq=signed,
                )
            if isinstance(event, ev.AuditCheckpointed):
                good, signed = good + 1, max(signed, event.head_seq)
    return AuditReport(ok=True, rows=chain.rows, head=chain.head, checkpoints=good, signed_seq=signed)


async def _signed(journal: Journal) -> AsyncIterator[list[tuple[Record, Signed]]]:
    after = 0
    while page := await journal.read(after, types=NEVER_EXPIRE, limit=_PAGE):
        yield [
            (record, record.event)
            for record in page
            if isinstance(record.event, (ev.AuditCheckpointed, ev.AuditPruned))
        ]
        after = page[-1].seq


def _checkpoint_fault(
    journal: Journal, key: AuditKey, record: Record, event: ev.AuditCheckpointed, actual: str | None
) -> str:
    """Return what is wrong with a checkpoint, or an empty string. `actual` is the hash of the row that it signs."""
    if event.head_seq >= record.seq:
        return f"the checkpoint at {record.seq} claims row {event.head_seq}, which came after it"
    if actual is None:
        return f"the checkpoint at {record.seq} signs row {event.head_seq}, which does not exist"
    if actual != event.head_hash:
        return f"the checkpoint at {record.seq} signs another row {event.head_seq} than the one that is there"
    if event.key_id != key.id:
        return f"the checkpoint at {record.seq} was signed with the key {event.key_id}, not with {key.id}"
    if not hmac.compare_digest(
        event.signature, sign(key.secret, journal.log_id, event.head_seq, event.head_hash)
    ):
        return f"the signature of the checkpoint at {record.seq} is false"
    return ""


def _pruned_fault(journal: Journal, key: AuditKey, record: Record, event: ev.AuditPruned) -> str:
    """Return what is wrong with the record of a prune, or an empty string."""
    if event.key_id != key.id:
        return f"the prune at {record.seq} was signed with the key {event.key_id}, not with {key.id}"
    if not hmac.compare_digest(event.signature, sign_pruned(key.secret, journal.log_id, event)):
        return f"the signature of the prune at {record.seq} is false"
    return ""
