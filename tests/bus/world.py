"""What the bus's tests share: a bus over a journal in memory under virtual time, and short ways to make
events."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from fraisier.bus import Bus
from fraisier.events import Event, Record
from fraisier.events.types import StepOutput, StepStarted
from fraisier.journal.base import DeadLetter, Guard, JournalStatistics
from fraisier.testing import MemoryJournal, SeededIds, VirtualClock


class ListJournal:
    """The journal's port as the bus uses it, for tests that look inside it, slow it down or break it. `commit_s` is how long
    one takes."""

    def __init__(self, *, commit_s: float = 0.0) -> None:
        self.records: list[Record] = []
        self.positions: dict[str, int] = {}
        self.noted: dict[str, int] = {}
        self.letters: list[DeadLetter] = []
        self.calls: list[str] = []
        self.opened = False
        self._commit_s = commit_s
        self._pending = 0
        self._ids = SeededIds()
        self._on_commit: Callable[[list[Record]], None] | None = None

    @property
    def head(self) -> int:
        return len(self.records)

    async def open(self, on_commit: Callable[[list[Record]], None]) -> None:
        self._on_commit = on_commit
        self.opened = True

    async def close(self) -> None:
        self.calls.append("close")
        self.opened = False

    async def append(self, event: Event, guard: Guard | None = None) -> Record:
        assert self.opened
        if self._commit_s:
            self._pending += 1
            try:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(self._commit_s)
            finally:
                self._pending -= 1
        record = Record(len(self.records) + 1, self._ids.event(), 0, event)
        self.records.append(record)
        self._on_commit([record])
        return record

    async def read(
        self, after: int, upto: int | None = None, *, deployment_id: str = "", limit: int = 512
    ) -> list[Record]:
        await anyio.sleep(0.0001)
        return self.records[after : min(after + limit, self.head if upto is None else upto)]

    async def position(self, subscriber: str) -> int | None:
        return self.positions.get(subscriber)

    def save_position(self, subscriber: str, seq: int) -> None:
        self.noted[subscriber] = seq

    async def flush_positions(self) -> None:
        assert self.opened
        self.calls.append("flush")
        self.positions.update(self.noted)
        self.noted.clear()

    async def dead_letter(self, subscriber: str, seq: int, error: str) -> None:
        self.letters.append(DeadLetter(subscriber, seq, 0, error))

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        return self.letters[::-1][:limit]

    def statistics(self) -> JournalStatistics:
        return JournalStatistics(self.head, self.head, self.head, 0.0, 0, self._pending, 1)


def make_bus(journal: Any = None, **options: Any) -> Bus:
    """Return a bus that was not entered yet."""
    clock = VirtualClock()
    ids = SeededIds(0, clock)
    return Bus(journal or MemoryJournal(clock=clock, ids=ids), clock=clock, ids=ids, **options)


@asynccontextmanager
async def bus_over(journal: Any = None, **options: Any) -> AsyncIterator[Bus]:
    """Give an entered bus over `journal` (a new one by default)."""
    async with make_bus(journal, **options) as bus:
        yield bus


def step(number: int = 0) -> StepStarted:
    """Return a durable event that says which one it is."""
    return StepStarted(step="fetch", attempt=number)


def line(number: int = 0) -> StepOutput:
    """Return an ephemeral event that says which one it is."""
    return StepOutput(step="fetch", line=str(number))


def numbers(records: list[Record]) -> list[int]:
    """Return which ones these are."""
    return [int(r.event.line) if isinstance(r.event, StepOutput) else r.event.attempt for r in records]
