"""Bodies that retention removed: which ones may be gone, and what is still known of their rows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import NamedTuple

import msgspec

from fraisier.events import types as ev

Range = tuple[int, int]
"""First and last seq."""


class Columns(NamedTuple):
    """What is stored of a row beside its body and its hashes."""

    seq: int
    type: str
    at: int
    deployment_id: str
    fraise: str
    environment: str
    target: str


Reader = Callable[[int, int], Iterable[Columns]]
"""Gives the columns of the rows from the first to the last seq, in order."""

NEVER_EXPIRE = ("audit.checkpointed", "audit.pruned")
"""Their bodies are the evidence for all others."""

_encode = msgspec.json.Encoder().encode


class ColumnsDigest:
    """A hash over the columns of rows, which their bodies can no longer vouch for."""

    def __init__(self) -> None:
        self._hash = sha256(b"fraisier.expired.v1\0")

    def add(self, columns: Columns) -> None:
        """Take the next row."""
        self._hash.update(_encode(columns))

    def hex(self) -> str:
        """Return the hash of the rows so far."""
        return self._hash.hexdigest()


def as_ranges(seqs: Iterable[int]) -> Iterator[Range]:
    """Yield ascending seqs as ranges without gaps."""
    first = last = 0
    for seq in seqs:
        if seq != last + 1 or not first:
            if first:
                yield first, last
            first = seq
        last = seq
    if first:
        yield first, last


class Gaps:
    """What a walk along the log found out about bodies that are gone."""

    def __init__(self) -> None:
        self._gone: list[Range] = []
        self._records: list[tuple[int, ev.AuditPruned]] = []

    def add_gone(self, seq: int) -> None:
        """Note a row without a body; in ascending order."""
        if self._gone and self._gone[-1][1] == seq - 1:
            self._gone[-1] = (self._gone[-1][0], seq)
        else:
            self._gone.append((seq, seq))

    def add_record(self, seq: int, event: ev.AuditPruned) -> None:
        """Note a row that says which bodies were removed."""
        self._records.append((seq, event))

    def fault(self, read: Reader) -> tuple[int, str] | None:
        """Return the first row whose body is gone without a record of it, or whose columns are not those that the record
        knows, with what is wrong; None when there is none."""
        declared = sorted(span for at, event in self._records for span in event.ranges if span[1] < at)
        starts = [first for first, _ in declared]
        for first, last in self._gone:
            seq = first
            while seq <= last:
                found = bisect_right(starts, seq) - 1
                if found < 0 or declared[found][1] < seq:
                    return seq, f"the body of row {seq} is gone, and no row says that it was pruned"
                seq = declared[found][1] + 1
        for at, event in self._records:
            digest = ColumnsDigest()
            for first, last in event.ranges:
                for columns in read(first, last):
                    digest.add(columns)
            if digest.hex() != event.columns_hash:
                first = min((first for first, _ in event.ranges), default=at)
                return (
                    first,
                    f"a column was edited of a row whose body was pruned (those that row {at} names)",
                )
        return None
