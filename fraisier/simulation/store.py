"""One store that several simulated processes write to: each has a door of its own, as each real one has a connection.

Everything is synchronous, because a thread would take real time. What a disk does is simulated at the door: a commit that
takes a while, one that is the last thing its writer did, one that never came, a disk that takes no more.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import anyio

from fraisier.clock import Clock
from fraisier.errors import DatabaseConnectionError, DatabaseTransactionError
from fraisier.events import Event, Record
from fraisier.ids import Ids
from fraisier.journal.base import Guard, OnCommit
from fraisier.journal.memory import MemoryJournal
from fraisier.simulation.process import PROCESS, Process

Observer = Callable[[Record, Process | None], None]

FOREIGN_S = 0.1
"""After so long at most a process hears of what another one wrote."""


class SharedStore(MemoryJournal):
    """What is on the disk. `observers` are told of every record when it becomes durable, with the process that wrote it."""

    def __init__(self, *, clock: Clock, ids: Ids, rng: random.Random) -> None:
        super().__init__(clock=clock, ids=ids)
        self.rng = rng
        self.doors: list[StoreDoor] = []
        self.observers: list[Observer] = []

    def door(self, process: Process) -> StoreDoor:
        """Return a connection for a process; it is mute once the process is dead."""
        door = StoreDoor(self, process)
        process.on_death.append(door.kill)
        return door

    def commit(self, events: Sequence[Event], guard: Guard | None, process: Process | None) -> list[Record]:
        """Make events durable together. Each is observed in the state that it itself makes, as if it stood alone. Raises
        ValidationError, GuardRefusedError, both only for the first: what follows it was checked by its author."""
        records: list[Record] = []
        for event in events:
            record = self._admit(event, None if records else guard)
            records.append(record)
            for observe in self.observers:
                observe(record, process)
        return records

    def lose_tail(self, rows: int) -> int:
        """Lose the newest rows, as a disk does that called them safe and was not; return how many were lost.

        Only when no door is open: who had seen them would not go on."""
        rows = min(rows, len(self._rows) - 1)
        if rows > 0:
            self._take_back(len(self._rows) - rows)
            for name, seq in self._positions.items():
                self._positions[name] = min(seq, len(self._rows))
        return max(rows, 0)

    @property
    def bodies(self) -> list[bytes]:
        """Every stored body, oldest first."""
        return [row.body or b"" for row in self._rows]

    @property
    def records(self) -> list[Record]:
        """Every record, oldest first."""
        return self._records


class StoreDoor(MemoryJournal):
    """One process's connection to a `SharedStore`.

    It dies with its process: before its `dies_before`-th event is committed, or when the `dies_after`-th is durable and
    nobody was told. `busy_s` is how long a commit takes at most; `fails` says why the disk takes no more (empty: it does)."""

    def __init__(self, store: SharedStore, process: Process) -> None:
        self._store = store
        self._process = process
        self._clock, self._ids, self._chain = store._clock, store._ids, store._chain
        self._rows, self._records, self._tables = store._rows, store._records, store._tables
        self._positions, self._dead, self._expired = store._positions, store._dead, store._expired
        self._noted = {}
        self._on_commit: OnCommit | None = None
        self._commits = 0
        self._known = 0
        self._due = False
        self._mute = False
        self.appends = 0
        self.dies_before = 0
        self.dies_after = 0
        self.busy_s = 0.0
        self.fails = ""

    @property
    def head(self) -> int:
        """The seq of the newest record that this process knows."""
        return self._known

    @property
    def head_hash(self) -> str:
        """The hash of that record, in hex."""
        return self._rows[self._known - 1].hash.hex() if self._known else ""

    def kill(self) -> None:
        """Take nothing more, and lose what was only noted."""
        self._mute = True
        self._on_commit = None
        self._noted.clear()
        if self in self._store.doors:
            self._store.doors.remove(self)

    async def open(self, on_commit: OnCommit) -> None:
        """Connect. Raises DatabaseConnectionError for a disk that does not work."""
        if self._mute or self.fails:
            raise DatabaseConnectionError(self.fails or "its process is dead", recoverable=False)
        self._known = len(self._rows)
        self._on_commit = on_commit
        self._store.doors.append(self)

    async def close(self) -> None:
        """Take no more appends."""
        if self._on_commit is not None and not self.fails:
            self._keep_positions()
        self._on_commit = None
        if self in self._store.doors:
            self._store.doors.remove(self)

    async def append(self, event: Event, guard: Guard | None = None) -> Record:
        """Return the record once it is durable and this process was told of it, after all that others wrote before."""
        return (await self.append_all((event,), guard))[0]

    async def append_all(self, events: Sequence[Event], guard: Guard | None = None) -> list[Record]:
        """The same for events of one commit: a crash keeps all of them or loses all of them."""
        self._writable()
        if self.busy_s:
            with anyio.CancelScope(shield=True):  # a commit that was begun is waited for
                await anyio.sleep(self._store.rng.uniform(0, self.busy_s))
        self._writable()
        earlier, self.appends = self.appends, self.appends + len(events)
        if earlier < self.dies_before <= self.appends:
            await self._die("before an append")
        records = self._store.commit(events, guard, self._process)
        if earlier < self.dies_after <= self.appends:
            await self._die("after an append")
        self._commits += len(records)
        self._keep_positions()
        self.catch_up()
        for other in self._store.doors:
            if other is not self:
                other.hear_soon()
        await asyncio.sleep(0)  # what is durable stays so, whoever cancels here: as with the real one
        return records

    def hear_soon(self) -> None:
        """Hear within 100 ms of what another process wrote."""
        if not self._due and self._on_commit is not None:
            self._due = True
            process, delay_s = self._process, self._store.rng.uniform(0, FOREIGN_S)
            token = PROCESS.set(process)
            try:
                asyncio.get_running_loop().call_later(delay_s, self.catch_up)
            finally:
                PROCESS.reset(token)

    def catch_up(self) -> None:
        """Tell this process's bus of every record that it has not heard of."""
        self._due = False
        fresh = self._records[self._known :]
        if fresh and self._on_commit is not None:
            self._known = len(self._records)
            self._on_commit(fresh)

    def _writable(self) -> OnCommit:
        if self.fails and not self._mute:
            raise DatabaseTransactionError(self.fails, recoverable=False)
        return super()._writable()

    async def _die(self, died_of: str) -> None:
        self._process.kill(died_of)
        await anyio.sleep_forever()
