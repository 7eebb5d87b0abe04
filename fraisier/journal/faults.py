"""SQLite's errors as Fraisier's: mapped here and nowhere else, each with the path and the cause."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from fraisier.errors import (
    DatabaseConnectionError,
    DatabaseError,
    DatabaseTransactionError,
    GuardRefusedError,
)
from fraisier.journal.reading import fold_error

_CAUSES = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space on the disk of the store, then try again"),
    sqlite3.SQLITE_IOERR: ("the disk reported an I/O error", "check the disk of the store (dmesg, smartctl)"),
    sqlite3.SQLITE_READONLY: (
        "it is read-only",
        "check the permissions and the mount of the store's directory",
    ),
    sqlite3.SQLITE_PERM: ("permission is denied", "check the permissions of the store and its directory"),
    sqlite3.SQLITE_BUSY: ("another process keeps it locked", "find the process that holds the store (fuser)"),
    sqlite3.SQLITE_LOCKED: (
        "another connection keeps it locked",
        "find the process that holds the store (fuser)",
    ),
    sqlite3.SQLITE_CORRUPT: ("the file is damaged", "run `fraisier db check`, then restore a backup"),
    sqlite3.SQLITE_NOTADB: ("the file is not a database", "name another file, or move this one away"),
    sqlite3.SQLITE_CANTOPEN: ("the file cannot be opened", "check the path and the permissions of the store"),
    sqlite3.SQLITE_TOOBIG: ("a value is too large", "shorten the event"),
    sqlite3.SQLITE_CONSTRAINT: ("a row breaks a rule of the store", "run `fraisier db check`"),
}


def error_class(error: BaseException) -> int:
    """Return SQLite's primary result code, or 0 when the error has none."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def is_locked(error: sqlite3.Error) -> bool:
    """Tell whether another connection stands in the way for now."""
    return error_class(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_of_one_entry(error: BaseException) -> bool:
    """Tell whether one entry of a batch may be to blame, rather than the store as a whole."""
    if isinstance(
        error, (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
    ):
        return True
    return isinstance(error, GuardRefusedError) or not isinstance(error, (sqlite3.Error, DatabaseError))


def _describe(path: Path, doing: str, error: BaseException) -> tuple[str, str | None]:
    cause, hint = _CAUSES.get(error_class(error), (str(error), None))
    detail = "" if cause == str(error) else f" ({error})"
    return f"the store {path} cannot be {doing}: {cause}{detail}", hint


def opening_error(path: Path, error: BaseException) -> DatabaseConnectionError:
    """Return the error for a store that cannot be opened."""
    message, hint = _describe(path, "opened", error)
    return DatabaseConnectionError(message, context={"path": str(path)}, cause=error, hint=hint)


def reading_error(path: Path, error: BaseException) -> DatabaseTransactionError:
    """Return the error for a query that failed."""
    message, hint = _describe(path, "read", error)
    return DatabaseTransactionError(message, context={"path": str(path)}, cause=error, hint=hint)


def writing_error(path: Path, error: BaseException) -> BaseException:
    """Return the error for a transaction that failed; what is not the store's fault is returned as it is."""
    if isinstance(error, sqlite3.Error):
        message, hint = _describe(path, "written", error)
        return DatabaseTransactionError(message, context={"path": str(path)}, cause=error, hint=hint)
    return fold_error(error)
