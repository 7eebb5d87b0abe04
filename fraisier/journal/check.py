"""The store's self-examination: every fault as a sentence, nothing changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import msgspec

from fraisier.errors import ValidationError
from fraisier.journal import rows, spans
from fraisier.journal.fold import DeploymentState, Tables, apply, snapshot
from fraisier.journal.refold import pages
from fraisier.journal.schema import TRIGGERS
from fraisier.journal.verify import verify

_FAULTS_MAX = 100
_AHEAD = """select 'the position of subscriber ' || subscriber, seq from positions where seq > ?
union all select 'a dead letter of ' || subscriber, seq from dead_letters where seq > ?
union all select 'the deployment ' || id, first_seq from deployments where first_seq > ?"""

_LOST = """select distinct deployment_id from journal
where type = 'deployment.requested' and deployment_id not in (select id from deployments) order by deployment_id"""


def check(connection: sqlite3.Connection) -> list[str]:
    """Return the faults of a store: the file, the triggers, the chain, what lies beyond the head, the tables."""
    faults = [*_integrity(connection), *_triggers(connection)]
    verification = verify(connection)
    if not verification.ok:
        faults.append(f"the chain is broken at row {verification.first_bad_seq}: {verification.problem}")
    connection.execute("begin").close()
    try:
        faults.extend(_beyond(connection))
        faults.extend(_outside(connection))
        faults.extend(_tables(connection))
    except ValidationError as error:
        faults.append(f"the log cannot be folded: {error}")
    finally:
        connection.execute("rollback").close()
    return faults[:_FAULTS_MAX]


def _integrity(connection: sqlite3.Connection) -> list[str]:
    found = [str(row[0]) for row in connection.execute(f"pragma integrity_check({_FAULTS_MAX})").fetchall()]
    return [f"the file is damaged: {line}" for line in found if line != "ok"]


def _triggers(connection: sqlite3.Connection) -> list[str]:
    found = {
        name
        for (name,) in connection.execute("select name from sqlite_master where type = 'trigger'").fetchall()
    }
    return [
        f"the trigger {name} is missing: the log is not protected from edits"
        for name in sorted(TRIGGERS - found)
    ]


def _beyond(connection: sqlite3.Connection) -> Iterator[str]:
    head = connection.execute("select coalesce(max(seq), 0) from journal").fetchone()[0]
    for what, seq in connection.execute(_AHEAD, (head, head, head)).fetchall():
        yield f"{what} is at {seq}, beyond the head {head}: the log was truncated"


def _outside(connection: sqlite3.Connection) -> Iterator[str]:
    for seq, deployment_id in spans.outside(connection, _FAULTS_MAX):
        yield f"the table spans lacks row {seq} of the deployment {deployment_id}: `fraisier events` would not list it"


def _tables(connection: sqlite3.Connection) -> Iterator[str]:
    """Compare the tables with the fold of the log, row by row. What expired bodies said is only in the tables now, so there
    is nothing to hold those rows against: then only the deployments are compared that began after the last of them."""
    folded = Tables()
    for records in pages(connection):
        for record in records:
            apply(folded, record)
    last_expired = connection.execute(
        "select coalesce(max(seq), 0) from journal where body is null"
    ).fetchone()[0]
    yield from _deployments(connection, folded, last_expired)
    if last_expired:
        return
    pairs = (
        ("placements", folded.placements, rows.load_placements(connection, "select * from placements")),
        ("releases", folded.release_rows, rows.load_releases(connection, "select * from releases")),
        ("leases", folded.leases, rows.load_leases(connection, "select * from leases")),
    )
    for table, wanted, stored in pairs:
        expected = {repr(row) for row in wanted.values()}
        actual = {repr(row) for row in stored}
        for row in sorted(expected - actual):
            yield f"the table {table} lacks a row that the log gives: {row}"
        for row in sorted(actual - expected):
            yield f"the table {table} has a row that the log does not give: {row}"


def _deployments(connection: sqlite3.Connection, folded: Tables, after: int) -> Iterator[str]:
    """Compare the deployments that began after a row; of all others only that they are there can be told."""
    for (key,) in connection.execute(_LOST).fetchall():
        yield f"the deployment {key} is in the log, but not in the tables"
    known = {key: found for key, found in folded.deployments.items() if found.first_seq > after or not after}
    stored = {
        key
        for key, first_seq in connection.execute("select id, first_seq from deployments").fetchall()
        if first_seq > after or not after
    }
    for key in sorted(stored - known.keys()):
        yield f"the deployment {key} is in the tables, but not in the log"
    for key, wanted in sorted(known.items()):
        if key in stored and _loaded(connection, key) != snapshot(wanted):
            yield f"the deployment {key} differs from what the log gives"


def _loaded(connection: sqlite3.Connection, key: str) -> DeploymentState | None:
    try:
        return rows.load_deployment(connection, key)
    except msgspec.MsgspecError:
        return None
