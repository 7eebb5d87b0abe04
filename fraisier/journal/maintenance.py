"""What a person does to a store: upgrade, rebuild, back up, restore. Each runs in a thread of its own."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fraisier.clock import Clock
from fraisier.errors import AuditError, DatabaseTransactionError, UsageError
from fraisier.ids import Ids
from fraisier.journal.base import Verification
from fraisier.journal.connection import begin, connect, create_file, rollback, run_once
from fraisier.journal.faults import opening_error, writing_error
from fraisier.journal.opening import prepare, upgrade
from fraisier.journal.refold import refold
from fraisier.journal.rows import load_leases
from fraisier.journal.schema import VERSION, version_of
from fraisier.journal.verify import verify

T = TypeVar("T")

_LIVE_LEASES = "select * from leases where held and expires_us > ?"
_SIDE_FILES = ("-wal", "-shm")


async def upgrade_store(path: Path, *, ids: Ids) -> tuple[int, int]:
    """Apply the missing migrations; return the schema version before and after. Raises DatabaseConnectionError."""
    create_file(path)
    new_log_id = ids.deployment().replace("-", "")

    def job(connection: sqlite3.Connection) -> tuple[int, int]:
        before = version_of(connection, path)
        prepare(connection, path, new_log_id, "FULL", read_only=False)
        return before, VERSION

    return await _run(path, job, read_only=False)


async def rebuild(path: Path) -> int:
    """Make the query tables anew from the log, in one transaction; return the number of rows folded.

    Raises DatabaseConnectionError, DatabaseError (bodies have expired), DatabaseTransactionError.
    """

    def job(connection: sqlite3.Connection) -> int:
        version_of(connection, path)
        upgrade(connection, path, "")
        try:
            begin(connection)
            folded = refold(connection)
            connection.execute("commit").close()
        finally:
            rollback(connection)
        return folded

    return await _run(path, job, read_only=False)


async def backup(path: Path, destination: Path) -> Verification:
    """Copy a store that may be in use into one self-contained file (mode 0600), and verify the copy.

    Raises UsageError (the destination exists), AuditError (the copy does not verify), DatabaseError.
    """

    def job(connection: sqlite3.Connection) -> Verification:
        if destination.exists():
            raise UsageError(f"{destination} exists already", hint="name a file that does not exist yet")
        partial = destination.with_name(f"{destination.name}.partial")
        return _copy(connection, partial, lambda: _place_new(partial, destination))

    return await _run(path, job, read_only=True)


async def restore(path: Path, source: Path, *, clock: Clock, ids: Ids, force: bool = False) -> Path | None:
    """Put a verified copy of `source` in the place of the store, and keep the replaced one beside it.

    Return where the replaced store is now (`.replaced-<microseconds>`), None when there was none. Refused while another
    process has the store open or a lease in it is live, unless forced. The copy counts under a new name at the targets,
    because they may have seen later numbers than the backup knows. Raises AuditError (the source does not verify),
    UsageError (in use), DatabaseError.
    """
    now_us = clock.now_us()
    fence_id = ids.deployment().replace("-", "")

    def job(connection: sqlite3.Connection) -> Path | None:
        if path.exists() and path.samefile(source):
            raise UsageError(f"{source} is the store itself")
        version_of(connection, source)
        partial = path.with_name(f"{path.name}.restoring")
        placed: list[Path | None] = []

        def place() -> None:
            _count_anew(partial, fence_id)
            placed.append(_replace(partial, path, now_us, force=force))

        _copy(connection, partial, place)
        return placed[0]

    return await _run(source, job, read_only=True)


async def _run(path: Path, job: Callable[[sqlite3.Connection], T], *, read_only: bool) -> T:
    try:
        return await run_once(path, job, read_only=read_only)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise writing_error(path, error) from error
        raise opening_error(path, error) from error
    except OSError as error:
        raise DatabaseTransactionError(f"the store {path} cannot be copied: {error}", cause=error) from error


def _copy(connection: sqlite3.Connection, partial: Path, place: Callable[[], object]) -> Verification:
    """Copy a store into the file `partial`, verify that, make it durable, and let `place` give it its name."""
    partial.unlink(missing_ok=True)
    create_file(partial)
    try:
        verification = _copy_and_verify(connection, partial)
        _make_durable(partial)
        place()
        _make_durable(partial.parent)
    finally:
        partial.unlink(missing_ok=True)
    return verification


def _copy_and_verify(connection: sqlite3.Connection, partial: Path) -> Verification:
    copy = connect(partial)
    try:
        # All pages in one step: a copy in portions begins anew whenever somebody writes in between.
        connection.backup(copy)
        # A copy must not need a write-ahead log beside it.
        copy.execute("pragma journal_mode = delete").fetchall()
        faults = [
            str(row[0]) for row in copy.execute("pragma integrity_check(5)").fetchall() if row[0] != "ok"
        ]
        if faults:
            raise AuditError(f"the copy is damaged: {'; '.join(faults)}", context={"faults": faults})
        verification = verify(copy)
    finally:
        copy.close()
    if not verification.ok:
        raise AuditError(
            f"the log does not verify at row {verification.first_bad_seq}: {verification.problem}",
            context={"first_bad_seq": verification.first_bad_seq, "problem": verification.problem},
        )
    return verification


def _count_anew(partial: Path, fence_id: str) -> None:
    copy = connect(partial)
    try:
        copy.execute("replace into meta values ('fence_id', ?)", (fence_id,)).close()
    finally:
        copy.close()
    _make_durable(partial)


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _place_new(partial: Path, destination: Path) -> None:
    try:
        # A link, unlike a rename, does not overwrite what came into being meanwhile.
        destination.hardlink_to(partial)
    except FileExistsError as error:
        raise UsageError(f"{destination} exists already", cause=error) from error


def _replace(partial: Path, path: Path, now_us: int, *, force: bool) -> Path | None:
    if not path.exists():
        partial.replace(path)
        return None
    if not force:
        _refuse_in_use(path, now_us)
    replaced = path.with_name(f"{path.name}.replaced-{now_us}")
    # Linked first and then replaced by one rename, so that a store stands at `path` at every moment.
    replaced.hardlink_to(path)
    for suffix in _SIDE_FILES:
        side = path.with_name(path.name + suffix)
        if side.exists():
            side.replace(replaced.with_name(replaced.name + suffix))
    partial.replace(path)
    return replaced


def _refuse_in_use(path: Path, now_us: int) -> None:
    """Take the write-ahead log into the file, which works only when nobody else has it open; look for a live lease."""
    hint = "end the processes that use the store, or add --force"
    current = connect(path)
    try:
        live = load_leases(current, _LIVE_LEASES, (now_us,)) if version_of(current, path) == VERSION else []
        if live:
            raise UsageError(
                f"{live[0].fraise} {live[0].environment} is being deployed with the store {path}", hint=hint
            )
        current.execute("pragma busy_timeout = 200").close()
        current.execute("pragma journal_mode = delete").fetchall()
    except sqlite3.OperationalError as error:
        raise UsageError(f"another process has the store {path} open", hint=hint, cause=error) from error
    except sqlite3.DatabaseError:
        # A store that is damaged beyond reading is just what is restored over.
        return
    finally:
        current.close()
