"""Is the audit trail what was written? The chain says whether rows were changed, the signatures by whom it
was made."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from fraisier.audit.checkpoint import sign
from fraisier.audit.keys import AuditKey
from fraisier.errors import NotFoundError
from fraisier.events import Record
from fraisier.events import types as ev
from fraisier.journal.base import Journal, Verification

_PAGE = 512


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
    async for record, event in _checkpoints(journal):
        problem = await _fault(journal, key, record, event)
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
        good, signed = good + 1, max(signed, event.head_seq)
    return AuditReport(ok=True, rows=chain.rows, head=chain.head, checkpoints=good, signed_seq=signed)


async def _checkpoints(journal: Journal) -> AsyncIterator[tuple[Record, ev.AuditCheckpointed]]:
    after = 0
    while page := await journal.read(after, limit=_PAGE):
        for record in page:
            if isinstance(record.event, ev.AuditCheckpointed):
                yield record, record.event
        after = page[-1].seq


async def _fault(journal: Journal, key: AuditKey, record: Record, event: ev.AuditCheckpointed) -> str:
    """Return what is wrong with a checkpoint, or an empty string."""
    if event.head_seq >= record.seq:
        return f"the checkpoint at {record.seq} claims row {event.head_seq}, which came after it"
    try:
        actual = await journal.hash_at(event.head_seq)
    except NotFoundError:
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
