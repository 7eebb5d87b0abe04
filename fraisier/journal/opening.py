"""What happens when a store is opened: settings, migrations, and the fold of a log that has no tables yet."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from fraisier.errors import DatabaseConnectionError
from fraisier.journal import spans
from fraisier.journal.connection import begin, patiently, rollback
from fraisier.journal.refold import expired, refold
from fraisier.journal.schema import FOLDED_SINCE, TABLES_SINCE, VERSION, log_id_of, migrate, version_of

# In KiB. SQLite's 2 MB make it read back pages that it has just written; with this a batch takes a third less time.
_CACHE = "pragma cache_size = -16384"

# In bytes, for new files. Bodies of events fill larger pages better and a commit writes fewer of them: a tenth more events a
# second than with SQLite's 4,096 when many publish, and nothing lost when one does.
_PAGE = "pragma page_size = 8192"

# In pages, 16 MB. The pages that grow (the end of the log, the steps of its targets) are written by many commits in a row, so
# the longer they wait in the write-ahead log, the less often they are copied into the file.
_CHECKPOINT = "pragma wal_autocheckpoint = 2000"
_SYNCHRONOUS = {"FULL": "pragma synchronous = full", "NORMAL": "pragma synchronous = normal"}


def prepare(
    connection: sqlite3.Connection, path: Path, new_log_id: str, synchronous: str, *, read_only: bool
) -> str:
    """Make a connection ready and the file up to date, and return the log's id.

    Raises sqlite3.Error, DatabaseConnectionError.
    """
    if read_only:
        _refuse_older(version_of(connection, path), path)
        return log_id_of(connection)
    patiently(lambda: version_of(connection, path))
    connection.execute(_PAGE).close()
    patiently(lambda: connection.execute("pragma journal_mode = wal").fetchall())
    connection.execute(_SYNCHRONOUS[synchronous.upper()]).close()
    connection.execute(_CACHE).close()
    connection.execute(_CHECKPOINT).close()
    upgrade(connection, path, new_log_id)
    return log_id_of(connection)


def upgrade(connection: sqlite3.Connection, path: Path, new_log_id: str) -> tuple[int, int]:
    """Apply the missing migrations in one transaction; return the schema version before and after."""
    if patiently(lambda: version_of(connection, path)) == VERSION:
        return VERSION, VERSION
    try:
        begin(connection)
        versions = migrate(connection, path, new_log_id, lambda before: _fill(connection, before))
        connection.execute("commit").close()
    finally:
        rollback(connection)
    return versions


def _fill(connection: sqlite3.Connection, before: int) -> None:
    """Make the tables from the log, unless they are as this version makes them. Where bodies have expired, the tables of an
    older schema are all that is known of them; those stay as they are, with the defaults of the new columns."""
    spans.fill(connection)
    if before >= FOLDED_SINCE:
        return
    if before < TABLES_SINCE or not expired(connection):
        refold(connection)


def _refuse_older(version: int, path: Path) -> None:
    if version < VERSION:
        raise DatabaseConnectionError(
            f"the store {path} has schema version {version} and was opened read-only; this fraisier needs {VERSION}",
            context={"path": str(path), "version": version, "needed": VERSION},
            recoverable=False,
            hint="run `fraisier db upgrade`",
        )
