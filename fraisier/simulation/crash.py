"""Where a process dies, and the enumeration of every such place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

Kind = Literal["never", "handle", "before append", "after append"]


class CrashPoint(msgspec.Struct, frozen=True):
    """A process dies instead of running its `number`-th handle (a stretch between two awaits), before its `number`-th
    append commits, or when that append is durable and nobody was told. Numbers count from 1."""

    kind: Kind = "never"
    number: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.number}" if self.number else self.kind


def every_crash_point(
    *, handles: int, appends: int, stride: int = 1, offset: int = 0
) -> Iterator[CrashPoint]:
    """Yield every place at which a run of so many handles and appends can be cut off.

    With a `stride` only one handle out of so many, beginning with `offset`; appends are never left out."""
    for number in range(1, appends + 1):
        yield CrashPoint("before append", number)
        yield CrashPoint("after append", number)
    for number in range(1 + offset % stride, handles + 1, stride):
        yield CrashPoint("handle", number)
