"""The walk along the chain that tells what was tampered with, and where. Memory stays flat however long the log is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from fraisier.events import types as ev
from fraisier.journal.base import Verification
from fraisier.journal.chain import GENESIS, Chain, hash_body
from fraisier.journal.expiry import NEVER_EXPIRE, Columns, Gaps, Reader

_SHORTEST_HEAD = 16

Link = tuple[int, bytes, bytes]
"""Of a row: its seq, the hash of its body, its hash."""


class ChainRow(NamedTuple):
    """A row of the log as it is stored; `body` is None when retention expired it."""

    seq: int
    body: bytes | None
    body_hash: bytes
    hash: bytes
    type: str
    at: int
    deployment_id: str
    fraise: str
    environment: str
    target: str

    def columns(self) -> Columns:
        """Return what is stored beside body and hashes."""
        return Columns(self.seq, *self[4:])


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    """The part of a body that is repeated in columns."""

    type: str
    at: int
    deployment_id: str = ""
    fraise: str = ""
    environment: str = ""
    target: str = ""


_COLUMNS = _Envelope.__struct_fields__
_FIRST_COLUMN = 4
_PRUNED = "audit.pruned"
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_pruned = msgspec.json.Decoder(ev.AuditPruned).decode
_told = attrgetter(*_COLUMNS)


def walk(
    chain: Chain,
    rows: Iterable[tuple[Any, ...]],
    links: Callable[[int], Iterable[Link]],
    head: str = "",
    *,
    read: Reader,
) -> Verification:
    """Follow the chain to its first fault; `rows` have the fields of ChainRow.

    `links(after)` gives a second look at the rows with a higher seq, to explain a broken link, `read` at those whose body
    is gone. `head` is a hash that a person kept, in hex, at least 16 digits of it.
    """
    wanted = head.strip().lower()
    seen = not wanted
    count, previous, gaps = 0, GENESIS, Gaps()
    # The loop is what an audit of a million rows costs: no object and no call a row that can be had without.
    for row in rows:
        seq, body, body_hash, digest = row[:_FIRST_COLUMN]
        expected = count + 1
        if seq != expected or not _is_sound(body, body_hash, digest):
            return _bad(count, previous, expected, _misplaced(seq, expected))
        if body is None:
            if row[_FIRST_COLUMN] in NEVER_EXPIRE:
                return _bad(
                    count,
                    previous,
                    expected,
                    f"the body of row {seq} is gone, and such a row is never pruned",
                )
            gaps.add_gone(seq)
        elif hash_body(body) != body_hash:
            return _bad(count, previous, expected, f"the body of row {expected} was edited")
        if chain.link(seq, previous, body_hash) != digest:
            return _bad(count, previous, expected, _explain(chain, expected, previous, links(count)))
        if body is not None:
            try:
                told = _told(_decode_envelope(body))
            except msgspec.MsgspecError as error:
                return _bad(count, previous, expected, f"the body of row {seq} is not an event: {error}")
            if told != row[_FIRST_COLUMN:]:
                return _bad(count, previous, expected, _edited(ChainRow(*row), told))
            if told[0] == _PRUNED:
                gaps.add_record(seq, _decode_pruned(body))
        count, previous = expected, digest
        if not seen and len(wanted) >= _SHORTEST_HEAD:
            seen = digest.hex().startswith(wanted)
    fault = gaps.fault(read)
    if fault is not None:
        return _bad(count, previous, *fault)
    if not seen:
        ends = f"ends at row {count}" if count else "is empty"
        return _bad(count, previous, count + 1, f"truncated: the log {ends} and never had the head {wanted}")
    return Verification(ok=True, rows=count, head=previous.hex() if count else "")


def _bad(rows: int, last: bytes, seq: int, problem: str) -> Verification:
    head = last.hex() if rows else ""
    return Verification(ok=False, rows=rows, head=head, first_bad_seq=seq, problem=problem)


def _is_sound(body: object, body_hash: object, digest: object) -> bool:
    # Whatever SQLite was given is what it keeps: a text where bytes should be, for example.
    return type(body_hash) is bytes and type(digest) is bytes and (type(body) is bytes or body is None)


def _misplaced(seq: int, expected: int) -> str:
    if seq == expected:
        return f"row {expected} was edited: a column has a value of the wrong kind"
    missing = f"row {expected} is" if seq == expected + 1 else f"rows {expected} to {seq - 1} are"
    return f"{missing} missing: deleted from the log"


def _edited(row: ChainRow, told: tuple[Any, ...]) -> str:
    """Say which column differs from the body."""
    pairs = zip(_COLUMNS, row[_FIRST_COLUMN:], told, strict=True)
    name, stored, said = next(pair for pair in pairs if pair[1] != pair[2])
    return f"the column `{name}` of row {row.seq} was edited: it says {stored!r}, the body says {said!r}"


def _explain(chain: Chain, seq: int, previous: bytes, links: Iterable[Link]) -> str:
    """Say why the row does not follow the one before it: swapped, pushed aside by an inserted row, or replaced."""
    rest = iter(links)
    _, body_hash, digest = next(rest)
    before = digest
    for other, other_body_hash, other_digest in rest:
        if chain.link(seq, previous, other_body_hash) == other_digest:
            # What belongs at `seq` stands here. When what stands at `seq` belongs here, the two were swapped.
            came_after = other_digest if other == seq + 1 else before
            if chain.link(other, came_after, body_hash) == digest:
                return f"rows {seq} and {other} were swapped"
            return f"a row was inserted at {seq}: what was row {seq} is now row {other}"
        before = other_digest
    where = f"does not follow row {seq - 1}" if seq > 1 else "is not the beginning of this log"
    return f"row {seq} {where}: it was edited, replaced or inserted, or the log's id was changed"
