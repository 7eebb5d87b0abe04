"""The numbered migrations of the store, and how an older file is brought up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

from fraisier.errors import DatabaseConnectionError

APPLICATION_ID = 0x46524149
"""Marks the file as ours ("FRAI")."""

MIGRATIONS = (
    "0001_journal.sql",
    "0002_tables.sql",
    "0003_freezes.sql",
    "0004_tally.sql",
    "0005_spans_and_served.sql",
)
"""In order; the number of those applied is the file's schema version."""

VERSION = len(MIGRATIONS)

TABLES_SINCE = 2
"""The schema version that brought the query tables; an older file has none, so they are filled from its log."""

FOLDED_SINCE = 5
"""The schema version since which the query tables are as the fold makes them; a younger file needs no new fold."""

TRIGGERS = frozenset({"journal_insert", "journal_update", "journal_delete"})
"""What keeps the log append-only."""


def script(name: str) -> str:
    """Return the text of a migration."""
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def statements(text: str) -> Iterator[str]:
    """Split a script, so that it can run inside a transaction (`executescript` would commit it first)."""
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """Return the file's schema version, 0 for an empty one. Raises DatabaseConnectionError for a strange or newer file."""
    tables = {
        name
        for (name,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall()
    }
    if not tables:
        return 0
    if not {"meta", "journal"} <= tables:
        raise DatabaseConnectionError(
            f"{path} is a database of another program", context={"path": str(path)}, recoverable=False
        )
    row = connection.execute("select value from meta where key = 'schema_version'").fetchone()
    version = int(row[0]) if row else 0
    if version > VERSION:
        raise DatabaseConnectionError(
            f"the store {path} has schema version {version}; this fraisier knows up to {VERSION}",
            context={"path": str(path), "version": version, "known": VERSION},
            recoverable=False,
            hint="upgrade fraisier on this machine, or name another store with --store",
        )
    return version


def migrate(
    connection: sqlite3.Connection, path: Path, log_id: str, refold: Callable[[int], object]
) -> tuple[int, int]:
    """Bring the file up to date inside the caller's transaction and return its version before and after.

    `log_id` names the log when it is new. `refold` fills the query tables of a log that has rows already; it is given
    the version before.
    """
    before = version_of(connection, path)
    if before == VERSION:
        return before, VERSION
    for name in MIGRATIONS[before:]:
        for statement in statements(script(name)):
            connection.execute(statement).close()
    if before == 0:
        connection.execute(f"pragma application_id = {APPLICATION_ID}").close()
        connection.execute("insert into meta values ('log_id', ?)", (log_id,)).close()
    connection.execute("replace into meta values ('schema_version', ?)", (str(VERSION),)).close()
    if before:
        refold(before)
    return before, VERSION


def fence_id_of(connection: sqlite3.Connection) -> str:
    """Return the name space of the tokens that targets compare: the log's id, or what a restore put in its place."""
    row = connection.execute("select value from meta where key = 'fence_id'").fetchone()
    return str(row[0]) if row else log_id_of(connection)


def log_id_of(connection: sqlite3.Connection) -> str:
    """Return the log's id, or an empty string when the file has none."""
    row = connection.execute("select value from meta where key = 'log_id'").fetchone()
    return str(row[0]) if row else ""
