"""The walk along the chain of a stored log."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from typing import Any

from fraisier.journal.base import Verification
from fraisier.journal.chain import Chain
from fraisier.journal.expiry import Columns
from fraisier.journal.schema import log_id_of
from fraisier.journal.walk import walk

_ALL = """select seq, body, body_hash, hash, type, at, deployment_id, fraise, environment, target
from journal order by seq"""
_LINKS = "select seq, body_hash, hash from journal where seq > ? order by seq"
_COLUMNS = """select seq, type, at, deployment_id, fraise, environment, target from journal
where seq between ? and ? order by seq"""
_PAGE_ROWS = 500


def verify(connection: sqlite3.Connection, head: str = "") -> Verification:
    """Walk the log of a store. `head` is a hash that a person kept, in hex, at least 16 digits of it."""
    # One read transaction, so that a second look at the rows sees what the first one saw.
    connection.execute("begin").close()
    try:
        return walk(
            Chain(log_id_of(connection)),
            _stream(connection, _ALL),
            lambda after: _stream(connection, _LINKS, after),
            head,
            read=lambda first, last: columns_between(connection, first, last),
        )
    finally:
        connection.execute("rollback").close()


def columns_between(connection: sqlite3.Connection, first: int, last: int) -> Iterator[Columns]:
    """Yield the columns of the rows from the first to the last seq."""
    return (Columns(*row) for row in _stream(connection, _COLUMNS, first, last))


def _stream(connection: sqlite3.Connection, sql: str, *values: int) -> Generator[tuple[Any, ...], None, None]:
    cursor = connection.execute(sql, values)
    try:
        while page := cursor.fetchmany(_PAGE_ROWS):
            yield from page
    finally:
        cursor.close()
