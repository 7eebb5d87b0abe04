"""SQLite's errors as Fraisier's: mapped here and nowhere else, each with the path and the cause."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from fraisier.errors import (
    DatabaseConnectionError,
    DatabaseError,
    DatabaseTransactionError,
    GuardRefusedError,
)
from fraisier.journal.reading import fold_error

_FREE_SPACE = "free some space on the disk of the store, then run the command again"
_RESTORE = "run `fraisier db check` to see the damage, then `fraisier db restore BACKUP`"
_MODES = "give this user the right to read and write the store and its directory"

_CAUSES = {
    sqlite3.SQLITE_FULL: ("the disk is full", _FREE_SPACE),
    sqlite3.SQLITE_IOERR: (
        "the disk reported an I/O error",
        "check the disk of the store (dmesg, smartctl), then run `fraisier db check`",
    ),
    sqlite3.SQLITE_READONLY: (
        "it is read-only",
        "check the mount of the store's directory and the permissions, then run the command again",
    ),
    sqlite3.SQLITE_PERM: ("permission is denied", _MODES),
    sqlite3.SQLITE_BUSY: ("another process keeps it locked", "find the process that holds the store (fuser)"),
    sqlite3.SQLITE_LOCKED: (
        "another connection keeps it locked",
        "find the process that holds the store (fuser)",
    ),
    sqlite3.SQLITE_CORRUPT: ("the file is damaged", _RESTORE),
    sqlite3.SQLITE_NOTADB: (
        "the file is not a database",
        "put a backup in its place with `fraisier db restore BACKUP`, or name another file with --store",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "the file cannot be opened",
        "check the path of the store (--store, $FRAISIER_STORE) and the permissions",
    ),
    sqlite3.SQLITE_TOOBIG: ("a value is too large", "shorten the event"),
    sqlite3.SQLITE_CONSTRAINT: ("a row breaks a rule of the store", "run `fraisier db check`"),
}

_OF_ERRNO = {
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.EDQUOT: sqlite3.SQLITE_FULL,
    errno.EROFS: sqlite3.SQLITE_READONLY,
    errno.EIO: sqlite3.SQLITE_IOERR,
    errno.EACCES: sqlite3.SQLITE_PERM,
    errno.EPERM: sqlite3.SQLITE_PERM,
    errno.EISDIR: sqlite3.SQLITE_CANTOPEN,
    errno.ENOTDIR: sqlite3.SQLITE_CANTOPEN,
    errno.ENOENT: sqlite3.SQLITE_CANTOPEN,
}

_LITTLE_BYTES = 64 * 1024
"""Less free space than the store's shared-memory file takes."""

_UNTRUSTED = frozenset(
    {
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
    }
)
_UNTRUSTED_CLASSES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


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


def is_untrusted(error: BaseException) -> bool:
    """Tell whether nothing may be written through this connection any more.

    After a failed fsync the kernel forgets which pages did not reach the disk, and the next fsync succeeds without them:
    what is committed later would be said to be durable, and is not.
    """
    code = int(getattr(error, "sqlite_errorcode", 0) or 0)
    return code in _UNTRUSTED or error_class(error) in _UNTRUSTED_CLASSES


def _class_seen(path: Path, error: BaseException) -> int:
    if isinstance(error, OSError):
        return _OF_ERRNO.get(error.errno or 0, 0)
    found = error_class(error)
    if found == sqlite3.SQLITE_IOERR and not _has_room(path):
        # What SQLite calls an I/O error is here its shared-memory file, for which there is no room.
        return sqlite3.SQLITE_FULL
    return found


def _has_room(path: Path) -> bool:
    try:
        found = os.statvfs(path.absolute().parent)
    except OSError:
        return True
    return found.f_bavail * found.f_frsize >= _LITTLE_BYTES


def _describe(path: Path, doing: str, error: BaseException, what: str = "store") -> tuple[str, str | None]:
    own_words = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    cause, hint = _CAUSES.get(_class_seen(path, error), (own_words, None))
    detail = "" if cause == own_words else f" ({own_words})"
    return f"the {what} {path} cannot be {doing}: {cause}{detail}", hint


def opening_error(path: Path, error: BaseException, *, what: str = "store") -> DatabaseConnectionError:
    """Return the error for a store, or a file beside it, that cannot be opened."""
    message, hint = _describe(path, "opened", error, what)
    return DatabaseConnectionError(message, context={"path": str(path)}, cause=error, hint=hint)


def emptied_error(path: Path) -> DatabaseConnectionError:
    """Return the error for a file without a byte in a place where a store was in use."""
    return DatabaseConnectionError(
        f"the store {path} is empty (0 bytes), and it was in use before: what was recorded is gone",
        context={"path": str(path)},
        recoverable=False,
        hint="run `fraisier db restore BACKUP`; to begin anew without what was recorded, remove the file",
    )


def untrusted_error(path: Path, cause: BaseException) -> DatabaseTransactionError:
    """Return the error for an append after one that left the file in a state nobody knows."""
    told = cause.message if isinstance(cause, DatabaseError) else str(cause)
    return DatabaseTransactionError(
        f"nothing more is written to the store {path} by this process, because an earlier write failed: {told}",
        context={"path": str(path)},
        recoverable=False,
        cause=cause,
        hint=cause.hint if isinstance(cause, DatabaseError) else None,
    )


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
