"""What happens inside a transaction of the journal: chain, rows, fold. Runs in the writer's thread, one batch a hop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from fraisier.errors import DatabaseTransactionError, GuardRefusedError, ValidationError
from fraisier.events import TYPE_OF, Event, Record, decode_body
from fraisier.journal.base import Guard
from fraisier.journal.chain import GENESIS, Chain, hash_body
from fraisier.journal.connection import begin, rollback
from fraisier.journal.faults import is_untrusted, untrusted_error, writing_error
from fraisier.journal.fold import apply, forget_touched
from fraisier.journal.rows import write_dirty
from fraisier.journal.spans import Spans
from fraisier.journal.stored import StoredTables

INSERT_ROW = "insert into journal values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_HEAD = "select seq, hash from journal order by seq desc limit 1"
_FOREIGN = "select seq, body, hash from journal where seq > ? order by seq"
_SAVE_POSITION = "replace into positions values (?, ?)"


class Entry(msgspec.Struct, eq=False):
    """One append on its way. The thread gives it a record or an error; only the loop, after the commit, settles it.

    `leader` is the first of those that it is written together with, if there are any before it."""

    event: Event
    event_id: str
    at_us: int
    body: bytes
    guard: Guard | None
    future: asyncio.Future[None]
    record: Record | None = None
    error: BaseException | None = None
    settled: bool = False
    leader: Entry | None = None


class Note:
    """Something written beside the log: a statement (empty: only wait for the commit) and who waits for it."""

    __slots__ = ("future", "sql", "values")

    def __init__(self, sql: str, values: Sequence[Any], future: asyncio.Future[None]) -> None:
        self.sql = sql
        self.values = values
        self.future = future


class Batch:
    """What one transaction writes, and afterwards which records it made known: foreign ones first."""

    __slots__ = ("done", "entries", "foreign", "head_hash", "notes", "positions", "records", "submitted_s")

    def __init__(self, entries: list[Entry], positions: dict[str, int], notes: list[Note]) -> None:
        self.entries = entries
        self.positions = positions
        self.notes = notes
        self.records: list[Record] = []
        self.foreign = 0
        self.head_hash = GENESIS
        self.submitted_s = 0.0
        self.done = False


class Writer:
    """The thread's side of the journal: the head of the log as this process knows it, and the fold's working set."""

    def __init__(self, connection: sqlite3.Connection, path: Path, log_id: str) -> None:
        self._connection = connection
        self._path = path
        self._data_version = -1
        self._failure: BaseException | None = None
        self._file = self._identity()
        self.chain = Chain(log_id)
        self.tables = StoredTables(connection)
        self._spans = Spans()
        row = connection.execute(_HEAD).fetchone()
        self.seq: int = row[0] if row else 0
        self.hash: bytes = row[1] if row else GENESIS

    def commit(self, batch: Batch) -> None:
        """Write a batch in one transaction, after reading what other processes wrote before it.

        Raises sqlite3.Error, or whatever the guard or the fold of an entry raised; then nothing was written, or after a
        failed fsync it is not known, and every further commit raises DatabaseTransactionError.
        """
        if self._failure is not None:
            raise untrusted_error(self._path, self._failure)
        connection = self._connection
        seq, digest = self.seq, self.hash
        batch.records, batch.foreign = [], 0
        try:
            begin(connection)
            self._catch_up(batch)
            rows = self._enter(batch.entries, batch.records)
            if rows:
                connection.executemany(INSERT_ROW, rows)
            self._write_beside(batch)
            connection.execute("commit")
            batch.head_hash = self.hash
            batch.done = True
        except sqlite3.Error as error:
            if is_untrusted(error):
                self._failure = writing_error(self._path, error)
            raise
        finally:
            if not batch.done:
                self.seq, self.hash = seq, digest
                self.tables.forget()
                self._spans.forget()
                rollback(connection)
        self.tables.trim()
        self._spans.trim()

    def tail(self, batch: Batch) -> None:
        """Read what other processes wrote, without writing."""
        version = self._connection.execute("pragma data_version").fetchone()[0]
        if version != self._data_version:
            self._catch_up(batch)
            self._data_version = version
        batch.head_hash = self.hash
        batch.done = True

    def _identity(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return 0, 0
        return found.st_dev, found.st_ino

    def _catch_up(self, batch: Batch) -> None:
        if self._identity() != self._file:
            raise DatabaseTransactionError(
                f"the store {self._path} was replaced or removed while it was open",
                context={"path": str(self._path)},
                recoverable=False,
                hint="end this process and start it again; what it wrote last is in the replaced file",
            )
        row = self._connection.execute(_HEAD).fetchone()
        seq, digest = row if row else (0, GENESIS)
        if seq == self.seq and digest == self.hash:
            return
        if seq <= self.seq:
            raise DatabaseTransactionError(
                f"the log in {self._path} is not the one that was opened: it ends at row {seq}, {self.seq} was seen",
                context={"path": str(self._path), "seq": seq, "seen": self.seq},
                recoverable=False,
                hint="end this process; then run `fraisier db check`, and `fraisier audit verify --head HASH`",
            )
        for number, body, link in self._connection.execute(_FOREIGN, (self.seq,)).fetchall():
            self._take(batch, number, body)
            self.seq, self.hash = number, link
        batch.foreign = len(batch.records)

    def _take(self, batch: Batch, seq: int, body: bytes | None) -> None:
        # The tables hold the other process's fold already, so what it touched is dropped here and loaded when needed.
        try:
            if body is None:
                raise ValidationError(f"the body of row {seq} has expired")
            record = decode_body(seq, body)
        except ValidationError:
            # A newer program's event: it cannot be told to anybody here, and may have changed any row.
            self.tables.forget()
            return
        forget_touched(self.tables, record.event)
        batch.records.append(record)

    def _enter(self, entries: list[Entry], records: list[Record]) -> list[tuple[Any, ...]]:
        """Give each entry its place in the chain, fold it, and return the rows to insert."""
        link, tables, seq, previous = self.chain.link, self.tables, self.seq, self.hash
        note = self._spans.note
        rows: list[tuple[Any, ...]] = []
        for entry in entries:
            event, body = entry.event, entry.body
            if entry.leader is not None and entry.leader.record is None:
                entry.error = entry.leader.error
                continue
            if entry.guard is not None and not self._allowed(entry):
                continue
            seq += 1
            digest = hash_body(body)
            previous = link(seq, previous, digest)
            name = TYPE_OF[event.__class__]
            rows.append(
                (
                    seq, name, event.deployment_id, event.fraise, event.environment, event.target,
                    entry.at_us, body, digest, previous,
                )
            )  # fmt: skip
            record = entry.record = Record(seq, entry.event_id, entry.at_us, event)
            records.append(record)
            if event.deployment_id:
                note(event.deployment_id, seq)
            apply(tables, record)
        self.seq, self.hash = seq, previous
        return rows

    def _allowed(self, entry: Entry) -> bool:
        refusal = entry.guard(self.tables) if entry.guard is not None else ""
        if refusal:
            entry.error = GuardRefusedError(
                refusal,
                context={"type": TYPE_OF[entry.event.__class__], "deployment_id": entry.event.deployment_id},
            )
        return not refusal

    def _write_beside(self, batch: Batch) -> None:
        write_dirty(self._connection, self.tables)
        self._spans.write(self._connection)
        if batch.positions:
            self._connection.executemany(_SAVE_POSITION, list(batch.positions.items()))
        for note in batch.notes:
            if note.sql:
                self._connection.execute(note.sql, note.values)
