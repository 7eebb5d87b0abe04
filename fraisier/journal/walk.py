"""The walk along the chain that tells what was tampered with, and where. Memory stays flat however long the log is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from fraisier.journal.base import Verification
from fraisier.journal.chain import GENESIS, Chain, hash_body

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


class _Envelope(msgspec.Struct, frozen=True):
    """The part of a body that is repeated in columns."""

    type: str
    at: int
    deployment_id: str = ""
    fraise: str = ""
    environment: str = ""
    target: str = ""


_COLUMNS = _Envelope.__struct_fields__
_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def walk(
    chain: Chain, rows: Iterable[ChainRow], links: Callable[[int], Iterable[Link]], head: str = ""
) -> Verification:
    """Follow the chain to its first fault.

    `links(after)` gives a second look at the rows with a higher seq, to explain a broken link. `head` is a hash that a
    person kept, in hex, at least 16 digits of it.
    """
    wanted = head.strip().lower()
    seen = not wanted
    count, previous = 0, GENESIS
    for row in rows:
        expected = count + 1
        if row.seq != expected:
            missing = (
                f"row {expected} is" if row.seq == expected + 1 else f"rows {expected} to {row.seq - 1} are"
            )
            return _bad(count, previous, expected, f"{missing} missing: deleted from the log")
        if not _is_sound(row):
            return _bad(
                count,
                previous,
                expected,
                f"row {expected} was edited: a column has a value of the wrong kind",
            )
        if row.body is not None and hash_body(row.body) != row.body_hash:
            return _bad(count, previous, expected, f"the body of row {expected} was edited")
        if chain.link(row.seq, previous, row.body_hash) != row.hash:
            return _bad(count, previous, expected, _explain(chain, expected, previous, links(count)))
        problem = _columns(row)
        if problem:
            return _bad(count, previous, expected, problem)
        count, previous = expected, row.hash
        seen = seen or (len(wanted) >= _SHORTEST_HEAD and row.hash.hex().startswith(wanted))
    if not seen:
        ends = f"ends at row {count}" if count else "is empty"
        return _bad(count, previous, count + 1, f"truncated: the log {ends} and never had the head {wanted}")
    return Verification(ok=True, rows=count, head=previous.hex() if count else "")


def _bad(rows: int, last: bytes, seq: int, problem: str) -> Verification:
    head = last.hex() if rows else ""
    return Verification(ok=False, rows=rows, head=head, first_bad_seq=seq, problem=problem)


def _is_sound(row: ChainRow) -> bool:
    return (
        isinstance(row.body, bytes | None)
        and isinstance(row.body_hash, bytes)
        and isinstance(row.hash, bytes)
    )


def _columns(row: ChainRow) -> str:
    """Say which column differs from the body. An expired body cannot say, its row is accepted through its hash."""
    if row.body is None:
        return ""
    try:
        envelope = _decode_envelope(row.body)
    except msgspec.MsgspecError as error:
        return f"the body of row {row.seq} is not an event: {error}"
    for name in _COLUMNS:
        stored, told = getattr(row, name), getattr(envelope, name)
        if stored != told:
            return (
                f"the column `{name}` of row {row.seq} was edited: it says {stored!r}, the body says {told!r}"
            )
    return ""


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
