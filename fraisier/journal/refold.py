"""The query tables made anew from the log."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from fraisier.errors import DatabaseError
from fraisier.events import Record, decode_body
from fraisier.journal import spans
from fraisier.journal.fold import apply
from fraisier.journal.rows import write_dirty
from fraisier.journal.stored import StoredTables

_EMPTY = (
    "delete from deployments",
    "delete from plans",
    "delete from deployment_targets",
    "delete from deployment_steps",
    "delete from placements",
    "delete from releases",
    "delete from leases",
)
_PAGE_ROWS = 1000
_PAGE = "select seq, body from journal where seq > ? order by seq limit ?"


def pages(connection: sqlite3.Connection) -> Iterator[list[Record]]:
    """Read the whole log, a page at a time; rows whose body has expired are passed over. Raises ValidationError."""
    after = 0
    while rows := connection.execute(_PAGE, (after, _PAGE_ROWS)).fetchall():
        yield [decode_body(seq, body) for seq, body in rows if body is not None]
        after = rows[-1][0]


def expired(connection: sqlite3.Connection) -> int:
    """Return how many rows have lost their body to retention."""
    return int(connection.execute("select count(*) from journal where body is null").fetchone()[0])


def refold(connection: sqlite3.Connection) -> int:
    """Empty the query tables and fill them from the log, inside the caller's transaction; return the rows folded.

    Raises DatabaseError when bodies have expired: their part of the tables could not be made again.
    """
    gone = expired(connection)
    if gone:
        raise DatabaseError(
            f"the tables cannot be rebuilt: the bodies of {gone} rows have expired",
            hint="restore a backup that was made before they expired",
        )
    for statement in _EMPTY:
        connection.execute(statement).close()
    spans.fill(connection)
    tables = StoredTables(connection)
    folded = 0
    for records in pages(connection):
        for record in records:
            apply(tables, record)
        write_dirty(connection, tables)
        tables.trim()
        folded += len(records)
    return folded
