"""Where the rows of a deployment stand in the log, as stretches of it. An index over the rows would hold each once more, and
cost every append as much as both of its hashes do; a stretch is written once a commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

GAP = 64
"""Rows of others that a stretch may hold between two of its own; more begin a new one."""

_KEPT_MAX = 64
_WRITE = "replace into spans values (?, ?, ?)"
_FIND = "select first_seq, last_seq from spans where deployment_id = ? order by first_seq"
_OUTSIDE = """select seq, deployment_id from journal where deployment_id <> '' and not exists (select 1 from spans
where spans.deployment_id = journal.deployment_id and seq between first_seq and last_seq) order by seq limit ?"""
_FILL = f"""insert into spans select deployment_id, min(seq), max(seq) from (
  select deployment_id, seq, sum(apart) over (partition by deployment_id order by seq) as island from (
    select deployment_id, seq, seq - lag(seq, 1, seq) over (partition by deployment_id order by seq) > {GAP} as apart
    from journal where deployment_id <> ''
  )
) group by deployment_id, island"""  # noqa: S608 - a number


class Spans:
    """The stretches that one writer is at. Two processes that write about one deployment keep their own; they overlap."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[int, int]] = {}
        self._changed: set[str] = set()

    def note(self, deployment_id: str, seq: int) -> None:
        """Take a new row of a deployment into its stretch."""
        first, last = self._open.get(deployment_id, (seq, seq))
        self._open[deployment_id] = (first if seq - last <= GAP else seq, seq)
        self._changed.add(deployment_id)

    def write(self, connection: sqlite3.Connection) -> None:
        """Write what changed, inside the caller's transaction."""
        if self._changed:
            connection.executemany(_WRITE, [(key, *self._open[key]) for key in self._changed])
            self._changed.clear()

    def forget(self) -> None:
        """Begin new stretches from here on: after a transaction that failed, or when there are many."""
        self._open.clear()
        self._changed.clear()

    def trim(self) -> None:
        """Keep the number of remembered stretches bounded; only after everything was written."""
        if len(self._open) > _KEPT_MAX:
            self.forget()


def stretches(connection: sqlite3.Connection, deployment_id: str) -> Iterator[tuple[int, int]]:
    """Yield the parts of the log, first and last seq, that hold every row of a deployment: in order, none twice."""
    upto = 0
    for first, last in connection.execute(_FIND, (deployment_id,)).fetchall():
        if last > upto:
            yield max(first, upto + 1), last
            upto = last


def fill(connection: sqlite3.Connection) -> None:
    """Make the table anew from the columns of the log, inside the caller's transaction."""
    connection.execute("delete from spans").close()
    connection.execute(_FILL).close()


def outside(connection: sqlite3.Connection, limit: int) -> list[tuple[int, str]]:
    """Return rows, seq and deployment, that no stretch holds, so that nobody who asks for the deployment would see them."""
    return connection.execute(_OUTSIDE, (limit,)).fetchall()
