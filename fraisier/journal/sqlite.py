"""The embedded journal: SQLite with a write-ahead log, group commit and one thread hop a batch."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

from fraisier.clock import Clock
from fraisier.errors import DatabaseError, DatabaseTransactionError
from fraisier.events import Event, Record, encode_body
from fraisier.events.codec import decode_event
from fraisier.ids import Ids
from fraisier.journal import queries
from fraisier.journal.base import Guard, JournalStatistics, OnCommit
from fraisier.journal.connection import Database, create_file, refuse_emptied
from fraisier.journal.expiry import Range
from fraisier.journal.faults import is_of_one_entry, opening_error, writing_error
from fraisier.journal.opening import prepare
from fraisier.journal.schema import fence_id_of
from fraisier.journal.sqlite_reads import SqliteReads
from fraisier.journal.writer import Batch, Entry, Note, Writer

PENDING_MAX = 10_000
"""Appends that may wait for a commit; beyond it `append` waits for room."""

_QUIET_TICKS = 3
"""Positions that no commit has taken along are written after so many idle polls."""

_EXPIRE = "update journal set body = null where seq between ? and ? and body is not null"
_EXPIRE_ROWS = 5_000

_DEAD_LETTER = "replace into dead_letters values (?, ?, ?, ?)"
_FORGET = ("delete from dead_letters where subscriber = ?", "delete from positions where subscriber = ?")


class SqliteJournal(SqliteReads):
    """The log and its tables in one SQLite file, which several processes may open at once.

    `synchronous` is SQLite's own word: FULL makes every commit durable against a power cut, NORMAL only against a
    crash of the process. Every `poll_s` seconds the idle journal looks for what other processes wrote. With `read_only`
    nothing is created, migrated or written.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Clock,
        ids: Ids,
        synchronous: str = "FULL",
        poll_s: float = 0.1,
        read_only: bool = False,
    ) -> None:
        super().__init__(Path(path))
        self._clock = clock
        self._ids = ids
        self._synchronous = synchronous
        self._poll_s = poll_s
        self._read_only = read_only
        self._log_id = self._fence_id = ""
        self._head = 0
        self._head_hash = ""
        self._on_commit: OnCommit | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._database: Database | None = None
        self._writer: Writer | None = None
        self._pending: list[Entry] = []
        self._notes: list[Note] = []
        self._positions: dict[str, int] = {}
        self._again: deque[Batch] = deque()
        self._in_flight: asyncio.Task[None] | None = None
        self._scheduled = False
        self._closing = True
        self._quiet_ticks = 0
        self._room = asyncio.Event()
        self._appended = self._commits = self._foreign = self._largest_batch = 0
        self._commit_s = 0.0

    @property
    def log_id(self) -> str:
        """32 hex digits that name this log."""
        return self._log_id

    @property
    def fence_id(self) -> str:
        """32 hex digits that name the tokens of this log at the targets."""
        return self._fence_id

    @property
    def head(self) -> int:
        """The seq of the newest record that was fanned out here."""
        return self._head

    @property
    def head_hash(self) -> str:
        """The chain hash of the newest record known here, in hex; empty for an empty log."""
        return self._head_hash

    # opening and closing

    async def open(self, on_commit: OnCommit) -> None:
        """Open or create the store, migrate it when it is older, and begin to listen to other processes.

        `on_commit` gets records newer than `head`. Raises DatabaseConnectionError.
        """
        try:
            refuse_emptied(self.path)
            if not self._read_only:
                create_file(self.path)
            self._database = await Database.open(self.path, read_only=self._read_only)
            self._log_id = await self._database.run(self._prepare)
            self._fence_id = await self._database.run(fence_id_of)
            self._writer = await self._database.run(self._make_writer)
            self._reader = await Database.open(self.path, read_only=True)
        except (sqlite3.Error, OSError) as error:
            await self._disconnect()
            raise opening_error(self.path, error) from error
        except BaseException:
            await self._disconnect()
            raise
        self._head = self._writer.seq
        self._head_hash = self._writer.hash.hex() if self._head else ""
        self._on_commit = on_commit
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._timer = self._loop.call_later(self._poll_s, self._tick)

    def _prepare(self, connection: sqlite3.Connection) -> str:
        new_id = self._ids.deployment().replace("-", "")
        return prepare(connection, self.path, new_id, self._synchronous, read_only=self._read_only)

    def _make_writer(self, connection: sqlite3.Connection) -> Writer:
        return Writer(connection, self.path, self._log_id)

    async def close(self) -> None:
        """Write what is pending, end the threads and close the file.

        Whoever appended what cannot be written any more is told so there. Positions have nobody to tell: left behind, they
        only mean that records are handled once more, and must not hide the error that ends the program.
        """
        self._closing = True
        with anyio.CancelScope(shield=True):
            try:
                if self._database is not None and (self._busy() or self._positions):
                    with suppress(DatabaseError):
                        await self._note("")
            finally:
                if self._timer is not None:
                    self._timer.cancel()
                while self._in_flight is not None:
                    await asyncio.wait({self._in_flight})
                await self._disconnect()

    async def _disconnect(self) -> None:
        reader, self._reader = self._reader, None
        database, self._database = self._database, None
        for connection in (reader, database):
            if connection is not None:
                await connection.close()

    def _busy(self) -> bool:
        return bool(self._pending or self._notes or self._again or self._in_flight)

    # appending

    async def append(self, event: Event, guard: Guard | None = None) -> Record:
        """Return the record once it is durable; a cancelled caller waits for the commit first.

        `guard` runs in the writer's thread, inside the transaction, and only reads. Raises ValidationError,
        GuardRefusedError, DatabaseTransactionError, or what the guard raised.
        """
        entry = self._entry(event, guard)
        while len(self._pending) >= PENDING_MAX and not self._closing:
            await self._room.wait()
        self._writable()
        self._pending.append(entry)
        self._kick()
        await self._until_settled(entry)
        return self._record_of(entry)

    async def append_all(self, events: Sequence[Event], guard: Guard | None = None) -> list[Record]:
        """Return the records once all are durable, in one commit; raises what `append` raises, and then none is written."""
        entries = [self._entry(event, guard) for event in events]
        while len(self._pending) >= PENDING_MAX and not self._closing:
            await self._room.wait()
        self._writable()
        for follower in entries[1:]:
            follower.guard, follower.leader = None, entries[0]
        self._pending.extend(entries)
        self._kick()
        await self._until_settled(entries[-1])
        return [self._record_of(entry) for entry in entries]

    def _entry(self, event: Event, guard: Guard | None) -> Entry:
        """Return an append of the event that nobody waits for yet. Raises ValidationError."""
        event_id, at_us = self._ids.event(), self._clock.now_us()
        body = encode_body(event_id, at_us, event)
        # One row that cannot be read again would stop every reader, so it is read here, where its publisher hears of it.
        event, future = decode_event(body), asyncio.get_running_loop().create_future()
        return Entry(event, event_id, at_us, body, guard, future)

    def _record_of(self, entry: Entry) -> Record:
        if entry.record is None:
            raise entry.error or DatabaseTransactionError(
                f"the store {self.path} did not say what became of an event"
            )
        return entry.record

    def _writable(self) -> None:
        if self._read_only:
            raise DatabaseTransactionError(
                f"the store {self.path} was opened read-only",
                context={"path": str(self.path)},
                recoverable=False,
            )
        if self._closing or self._loop is None:
            raise DatabaseTransactionError(f"the journal {self.path} is closed", recoverable=False)

    async def _until_settled(self, entry: Entry) -> None:
        """Wait for what becomes of an entry, whoever cancels: an anyio scope, which is shielded then, or the task itself."""
        try:
            await entry.future
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                while not entry.settled:
                    entry.future = asyncio.get_running_loop().create_future()
                    try:
                        await entry.future
                    except asyncio.CancelledError:
                        continue
            raise

    # committing: one batch in flight, everything that arrives meanwhile in the next

    def _kick(self) -> None:
        # On the next turn of the loop, so that publishers woken together share a commit.
        if self._in_flight is None and not self._scheduled and self._loop is not None:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._in_flight is not None or self._writer is None:
            return
        if self._again:
            self._submit(self._again.popleft(), self._writer.commit)
        elif self._pending or self._notes:
            batch = Batch(self._pending, self._positions, self._notes)
            self._pending, self._positions, self._notes = [], {}, []
            self._room.set()
            self._room = asyncio.Event()
            self._submit(batch, self._writer.commit)

    def _submit(self, batch: Batch, job: Callable[[Batch], None]) -> None:
        if self._loop is None or self._database is None:
            return
        batch.submitted_s = self._loop.time()
        running = self._database.run(lambda _: job(batch))
        self._in_flight = self._loop.create_task(running, name=f"journal:{job.__name__}")
        self._in_flight.add_done_callback(lambda task: self._settle(batch, task))

    def _settle(self, batch: Batch, task: asyncio.Task[None]) -> None:
        self._in_flight = None
        if task.cancelled():
            # Somebody cancelled every task of the loop; the thread goes on, so its word is waited for.
            self._submit(batch, self._await_outcome)
            return
        error = task.exception()
        try:
            if error is None:
                self._announce(batch)
        finally:
            self._release(batch, error)
            if self._pending or self._notes or self._again:
                self._kick()

    def _await_outcome(self, batch: Batch) -> None:
        if not batch.done:
            raise DatabaseTransactionError(f"a commit to {self.path} was ended from outside")

    def _announce(self, batch: Batch) -> None:
        if batch.entries or batch.notes or batch.positions:
            self._commits += 1
            self._commit_s += 0.0 if self._loop is None else self._loop.time() - batch.submitted_s
            self._appended += len(batch.records) - batch.foreign
            self._largest_batch = max(self._largest_batch, len(batch.entries))
            self._quiet_ticks = 0
        self._foreign += batch.foreign
        if batch.records:
            self._head = batch.records[-1].seq
            self._head_hash = batch.head_hash.hex()
            if self._on_commit is not None:
                self._on_commit(batch.records)

    def _release(self, batch: Batch, error: BaseException | None) -> None:
        if error is not None:
            self._positions = {**batch.positions, **self._positions}
            alone = self._one_by_one(batch) if is_of_one_entry(error) else []
            if len(alone) > 1:
                # One of them is poison: each goes by itself, in order, so that only the culprit fails, with its company.
                self._again.extendleft(reversed(alone))
                return
        for waiting in batch.entries:
            waiting.settled = True
            if error is not None:
                waiting.record, waiting.error = None, writing_error(self.path, error)
            if not waiting.future.done():
                waiting.future.set_result(None)
        for note in batch.notes:
            if not note.future.done():
                if error is None:
                    note.future.set_result(None)
                else:
                    note.future.set_exception(writing_error(self.path, error))

    def _one_by_one(self, batch: Batch) -> list[Batch]:
        alone: list[Batch] = []
        for entry in batch.entries:
            entry.record = entry.error = None
            if entry.leader is None:
                alone.append(Batch([entry], {}, []))
            else:
                alone[-1].entries.append(entry)
        return alone + [Batch([], {}, [note]) for note in batch.notes]

    def _tick(self) -> None:
        if self._loop is None or self._closing:
            return
        self._timer = self._loop.call_later(self._poll_s, self._tick)
        if self._in_flight is not None or self._scheduled or self._writer is None:
            return
        self._quiet_ticks += 1
        if self._positions and self._quiet_ticks >= _QUIET_TICKS and not self._read_only:
            batch, self._positions = Batch([], self._positions, []), {}
            self._submit(batch, self._writer.commit)
        else:
            self._submit(Batch([], {}, []), self._writer.tail)

    # beside the log

    async def _note(self, sql: str, values: Sequence[Any] = ()) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._notes.append(Note(sql, values, future))
        self._kick()
        await future

    async def position(self, subscriber: str) -> int | None:
        """Return the stored position of a durable subscriber, or the noted one that is not written yet."""
        if subscriber in self._positions:
            return self._positions[subscriber]
        return await self._read(lambda connection: queries.position(connection, subscriber))

    def save_position(self, subscriber: str, seq: int) -> None:
        """Note a position; it is written with the next commit, or soon when there is none."""
        if not self._read_only:
            self._positions[subscriber] = seq

    async def flush_positions(self) -> None:
        """Write the noted positions now."""
        if self._positions or self._busy():
            self._writable()
            await self._note("")

    async def dead_letter(self, subscriber: str, seq: int, error: str) -> None:
        """Park an event that a subscriber could not handle."""
        self._writable()
        await self._note(_DEAD_LETTER, (subscriber, seq, self._clock.now_us(), error))

    async def forget(self, subscriber: str) -> None:
        """Remove the position and the parked events of a durable subscriber."""
        self._writable()
        self._positions.pop(subscriber, None)
        for sql in _FORGET:
            await self._note(sql, (subscriber,))

    async def expire(self, ranges: Sequence[Range]) -> int:
        """Remove the bodies of rows, a few thousand a transaction, so that no other writer waits long."""
        self._writable()
        counted = await self._read(lambda connection: queries.bodies_in(connection, ranges))
        for first, last in ranges:
            for start in range(first, last + 1, _EXPIRE_ROWS):
                self._writable()
                await self._note(_EXPIRE, (start, min(start + _EXPIRE_ROWS - 1, last)))
        return counted

    def statistics(self) -> JournalStatistics:
        """Return counters of this process."""
        return JournalStatistics(
            head=self._head,
            appended=self._appended,
            commits=self._commits,
            commit_s=self._commit_s,
            foreign=self._foreign,
            pending=len(self._pending),
            largest_batch=self._largest_batch,
        )
