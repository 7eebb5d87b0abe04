"""SQLite connections: made safely on disk, and reached with one thread hop a job."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
from anyio import CancelScope

from fraisier.journal.claims import CLAIMS_FOLDER
from fraisier.journal.faults import emptied_error, is_locked, opening_error

T = TypeVar("T")

BUSY_TIMEOUT_S = 5.0
LOCK_PATIENCE_S = 25.0
"""A writer waits so long for the others (and BUSY_TIMEOUT_S more), then gives up."""

LOCK_PAUSE_S = 0.01

_JOIN_TIMEOUT_S = 5.0


def create_file(path: Path) -> None:
    """Make the file (mode 0600) and its missing directories (mode 0700). Raises OSError."""
    missing = [parent for parent in path.absolute().parents if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(mode=0o700, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def refuse_emptied(path: Path) -> None:
    """Raise DatabaseConnectionError for a file that lost all its bytes: a new store in its place would look as if nothing
    had ever been deployed. A start that was cut short leaves an empty file too, but before anybody claimed anything."""
    try:
        emptied = path.stat().st_size == 0 and (path.parent / CLAIMS_FOLDER).is_dir()
    except OSError:
        return  # there is no file, or opening it will say what is wrong
    if emptied:
        raise emptied_error(path)


def location(path: Path, *, read_only: bool) -> str:
    """Return the URI of a store that must exist."""
    return f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Return a plain connection in autocommit mode, for use off the event loop. Raises sqlite3.Error."""
    uri = location(path, read_only=read_only)
    return sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False
    )


def patiently(job: Callable[[], T]) -> T:
    """Run what takes a lock before it writes anything, again and again while others hold the lock. Raises sqlite3.Error.

    SQLite itself waits for a lock in most cases, but says at once that a store is locked when its mode is being changed.
    """
    deadline_s = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            return job()
        except sqlite3.OperationalError as error:
            if not is_locked(error) or time.monotonic() > deadline_s:
                raise
        threading.Event().wait(LOCK_PAUSE_S)


def begin(connection: sqlite3.Connection) -> None:
    """Begin to write. A deferred begin that reads and then writes would be refused at once when others wrote."""
    patiently(lambda: connection.execute("begin immediate").close())


def rollback(connection: sqlite3.Connection) -> None:
    """Undo an open transaction. After some errors SQLite has done so already, and a second one would hide the cause."""
    if connection.in_transaction:
        connection.execute("rollback").close()


Jobs = deque[Callable[[sqlite3.Connection], None]]


def _factory(jobs: Jobs, threads: list[threading.Thread]) -> type[sqlite3.Connection]:
    class JobConnection(sqlite3.Connection):
        """Runs a queued job where aiosqlite calls `commit`: a whole batch for one hop to the thread and back."""

        def __init__(self, *args: Any, **options: Any) -> None:
            # Noted first, because a connection that fails leaves its thread behind for a moment.
            threads.append(threading.current_thread())
            super().__init__(*args, **options)

        def commit(self) -> None:
            jobs.popleft()(self)

    return JobConnection


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(_JOIN_TIMEOUT_S)


class Database:
    """One connection, in a thread of its own that runs one job after the other."""

    def __init__(self, connection: aiosqlite.Connection, jobs: Jobs, threads: list[threading.Thread]) -> None:
        self._connection = connection
        self._jobs = jobs
        self._threads = threads

    @classmethod
    async def open(cls, path: Path, *, read_only: bool = False) -> Database:
        """Connect to a file that exists. Raises DatabaseConnectionError."""
        jobs: Jobs = deque()
        threads: list[threading.Thread] = []
        options: dict[str, Any] = {"uri": True, "isolation_level": None, "timeout": BUSY_TIMEOUT_S}
        uri = location(path, read_only=read_only)
        connecting = aiosqlite.connect(uri, factory=_factory(jobs, threads), cached_statements=256, **options)
        connected = False
        try:
            with CancelScope(shield=True):
                connection = await connecting
            connected = True
        except (sqlite3.Error, OSError) as error:
            raise opening_error(path, error) from error
        finally:
            if not connected:
                _join(threads)
        return cls(connection, jobs, threads)

    async def run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run `job` in the thread and return what it returns. A cancelled caller leaves the job running to its end."""
        result: list[T] = []
        self._jobs.append(lambda connection: result.append(job(connection)))
        await self._connection.commit()
        return result[0]

    async def close(self) -> None:
        """Close the connection and end its thread."""
        with CancelScope(shield=True):
            await self._connection.close()
        _join(self._threads)


async def run_once(path: Path, job: Callable[[sqlite3.Connection], T], *, read_only: bool = True) -> T:
    """Run one long job on a connection of its own, so that it holds up nobody else."""
    database = await Database.open(path, read_only=read_only)
    try:
        return await database.run(job)
    finally:
        await database.close()
