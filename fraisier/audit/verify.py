"""Is the audit trail what was written? The chain says whether rows were changed, the signatures by whom it
was made."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from fraisier.audit.checkpoint import sign
from fraisier.audit.keys import AuditKey
from fraisier.audit.retention import sign_pruned
from fraisier.events import Record
from fraisier.events import types as ev
from fraisier.journal.base import Journal, Verification
from fraisier.journal.expiry import NEVER_EXPIRE

_PAGE = 2048

Signed = ev.AuditCheckpointed | ev.AuditPruned
Keys = Mapping[str, AuditKey]
"""By their ids."""


class AuditReport(msgspec.Struct, frozen=True):
    """What a verification found. `first_bad_seq` is 0 and `problem` empty when all holds.

    `checkpoints` signatures hold, and the last of them covers every row up to `signed_seq`. `unknown_keys` are the ids of
    keys that signed and are not known here; there are any only when nothing else is wrong.
    """

    ok: bool
    rows: int
    head: str
    first_bad_seq: int = 0
    problem: str = ""
    checkpoints: int = 0
    signed_seq: int = 0
    unknown_keys: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the document of `fraisier audit verify --json`; nothing wrong is null."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return {**document, "first_bad_seq": self.first_bad_seq or None, "problem": self.problem or None}


async def verify(
    journal: Journal, key: AuditKey | None, head: str = "", *, former: Sequence[AuditKey] = ()
) -> AuditReport:
    """Walk the chain, look for `head` (a hash that a person kept), then check every signature with the key that made it:
    `key`, or one of the `former` ones.

    Without any key only the chain is walked. The signatures of a broken chain are not looked at: its fault comes first. A
    signature by a key that is not given is neither good nor false: it is told when no fault was found.
    """
    chain = await journal.verify(head)
    keys = {one.id: one for one in (key, *former) if one is not None}
    if not chain.ok or not keys:
        return AuditReport(chain.ok, chain.rows, chain.head, chain.first_bad_seq, chain.problem)
    return await _check_signatures(journal, keys, chain)


async def _check_signatures(journal: Journal, keys: Keys, chain: Verification) -> AuditReport:
    report = AuditReport(ok=True, rows=chain.rows, head=chain.head)
    unknown: dict[str, tuple[int, str]] = {}
    async for page in _signed(journal):
        hashes = await journal.hashes_at(
            [event.head_seq for _, event in page if isinstance(event, ev.AuditCheckpointed)]
        )
        for record, event in page:
            problem = _fault(journal, keys.get(event.key_id), record, event, hashes)
            if problem:
                return replace(report, ok=False, first_bad_seq=record.seq, problem=problem)
            if event.key_id not in keys:
                unknown.setdefault(event.key_id, (record.seq, _what(event)))
            elif isinstance(event, ev.AuditCheckpointed):
                signed = max(report.signed_seq, event.head_seq)
                report = replace(report, checkpoints=report.checkpoints + 1, signed_seq=signed)
    if not unknown:
        return report
    key_id, (seq, what) = next(iter(unknown.items()))
    problem = f"the {what} at {seq} was signed with the key {key_id}, which is not known here"
    return replace(report, ok=False, first_bad_seq=seq, problem=problem, unknown_keys=tuple(unknown))


async def _signed(journal: Journal) -> AsyncIterator[list[tuple[Record, Signed]]]:
    after = 0
    while page := await journal.read(after, types=NEVER_EXPIRE, limit=_PAGE):
        yield [
            (record, record.event)
            for record in page
            if isinstance(record.event, (ev.AuditCheckpointed, ev.AuditPruned))
        ]
        after = page[-1].seq


def _what(event: Signed) -> str:
    return "checkpoint" if isinstance(event, ev.AuditCheckpointed) else "prune"


def _fault(
    journal: Journal, key: AuditKey | None, record: Record, event: Signed, hashes: Mapping[int, str]
) -> str:
    """Return what is wrong with a signature, or an empty string; without its key, with the place that it signs."""
    if isinstance(event, ev.AuditCheckpointed) and (fault := _place_fault(record, event, hashes)):
        return fault
    if key is not None and not hmac.compare_digest(event.signature, _signature(journal, key, event)):
        return f"the signature of the {_what(event)} at {record.seq} is false"
    return ""


def _place_fault(record: Record, event: ev.AuditCheckpointed, hashes: Mapping[int, str]) -> str:
    if event.head_seq >= record.seq:
        return f"the checkpoint at {record.seq} claims row {event.head_seq}, which came after it"
    actual = hashes.get(event.head_seq)
    if actual is None:
        return f"the checkpoint at {record.seq} signs row {event.head_seq}, which does not exist"
    if actual != event.head_hash:
        return f"the checkpoint at {record.seq} signs another row {event.head_seq} than the one that is there"
    return ""


def _signature(journal: Journal, key: AuditKey, event: Signed) -> str:
    if isinstance(event, ev.AuditPruned):
        return sign_pruned(key.secret, journal.log_id, event)
    return sign(key.secret, journal.log_id, event.head_seq, event.head_hash)
