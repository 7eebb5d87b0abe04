"""The journal in memory, with the two moments at which a write can kill its writer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio

from fraisier.clock import Clock
from fraisier.errors import DatabaseConnectionError
from fraisier.events import Event, Record
from fraisier.ids import Ids
from fraisier.journal.base import Guard, OnCommit
from fraisier.journal.memory import MemoryJournal
from fraisier.simulation.crash import CrashPoint
from fraisier.simulation.loop import VirtualLoop


class MortalJournal(MemoryJournal):
    """What it holds survives its owners. Each owner calls `begin` with the append that it dies at, if any."""

    def __init__(self, *, clock: Clock, ids: Ids) -> None:
        super().__init__(clock=clock, ids=ids)
        self.appends = 0
        self._crash = CrashPoint()
        self._owner_lives = True

    def begin(self, crash: CrashPoint) -> None:
        """Count the appends of a new owner from here."""
        self.appends = 0
        self._crash = crash
        self._owner_lives = True

    def kill(self) -> None:
        """Take nothing more from the owner, and lose what it had only noted."""
        self._owner_lives = False
        self._on_commit = None
        self._noted.clear()

    async def open(self, on_commit: OnCommit) -> None:
        """Begin to take appends; the notes of a dead owner are gone. Raises DatabaseConnectionError for a dead owner."""
        if not self._owner_lives:
            raise DatabaseConnectionError("the owner of the journal is dead", recoverable=False)
        await super().open(on_commit)
        self._noted.clear()

    async def append(self, event: Event, guard: Guard | None = None) -> Record:
        """Return the record, unless this is the append that the owner dies at: before it, or with the record durable
        and nobody told."""
        await self._maybe_die()
        return await super().append(event, guard)

    async def append_all(self, events: Sequence[Event], guard: Guard | None = None) -> list[Record]:
        """The same for events of one commit; it counts as one append."""
        await self._maybe_die()
        return await super().append_all(events, guard)

    async def _maybe_die(self) -> None:
        self._writable()
        self.appends += 1
        if self._crash == CrashPoint("before append", self.appends):
            _die()
            await anyio.sleep_forever()
        if self._crash == CrashPoint("after append", self.appends):
            _die()  # takes effect where the append first waits, and by then it is committed


def _die() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "only a process under virtual time can die at an append"
    loop.die()
