"""The questions that the journal answers from its tables. Each runs as one job in the reader's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from fraisier.events import Record, decode_body
from fraisier.journal import rows
from fraisier.journal.base import DeadLetter, Follower
from fraisier.journal.expiry import Columns, Range
from fraisier.journal.fold import DeploymentState, LeaseState, Placement, Release
from fraisier.journal.reading import ambiguous, no_such_row
from fraisier.journal.spans import stretches
from fraisier.journal.tally import COUNTED_TYPES, Slots, Tally, decode_outcome

_READ = "select seq, body from journal where seq > ? and seq <= ? and body is not null{} order by seq limit ?"
_OLD = """select seq, type, at, deployment_id, fraise, environment, target from journal
where seq > ? and at < ? and body is not null order by seq limit ?"""
_BODIES = "select count(*) from journal where seq between ? and ? and body is not null"
_NEWEST = """select body from deployments where ? in ('', fraise) and ? in ('', environment)
and requested_us >= ? order by first_seq desc limit ?"""
_NEWEST_IN_STATE = """select body from deployments where ? in ('', fraise) and ? in ('', environment)
and requested_us >= ? and state = ? order by first_seq desc limit ?"""
_PLACEMENTS = """select * from placements where ? in ('', fraise) and ? in ('', environment)
order by fraise, environment, target"""
_RELEASES = """select * from releases where fraise = ? and environment = ? and ? in ('', target)
order by seq desc, target, release"""
_LEASE = "select * from leases where fraise = ? and environment = ?"
_LEASES = """select * from leases where ? in ('', fraise) and ? in ('', environment)
order by fraise, environment"""
_BEGINS = "select id from deployments where id >= ? and id < ? order by id limit 2"
_DEAD = (
    "select subscriber, seq, at_us, error from dead_letters order by at_us desc, seq desc, subscriber limit ?"
)
# The first condition must stand as it does in the schema, or the index is not used. A refused lock that is no deployment's
# is that of somebody who starts or stops a service.
_OF_COUNTED = ", ".join(f"'{name}'" for name in COUNTED_TYPES)
_COUNTED = f"""select type, at, body from journal where type < 'step.g' and type in ({_OF_COUNTED})
and at >= ? and ? in ('', fraise) and body is not null
and (type <> 'lease.refused' or deployment_id in (select id from deployments))"""  # noqa: S608 - constants
_OUTCOMES = (
    """select body from deployments where ? in ('', fraise) and requested_us >= ? order by first_seq"""
)
_FOLLOWERS = """select name, positions.seq, (select count(*) from dead_letters where subscriber = name)
from (select subscriber as name from positions union select subscriber from dead_letters)
left join positions on positions.subscriber = name order by name"""
_LAST = (1 << 63) - 1


def read(
    connection: sqlite3.Connection,
    after: int,
    upto: int | None,
    deployment_id: str,
    types: Sequence[str],
    limit: int,
) -> list[Record]:
    """Return records of the log in order."""
    end = _LAST if upto is None else upto
    only = f" and type in ({', '.join('?' * len(types))})" if types else ""
    if not deployment_id:
        found = connection.execute(_READ.format(only), (after, end, *types, limit)).fetchall()
        return [decode_body(seq, body) for seq, body in found]
    of_one = _READ.format(f" and deployment_id = ?{only}")
    records: list[Record] = []
    for first, last in stretches(connection, deployment_id):
        if last > after and first <= end and len(records) < limit:
            values = (max(after, first - 1), min(end, last), deployment_id, *types, limit - len(records))
            found = connection.execute(of_one, values).fetchall()
            records.extend(decode_body(seq, body) for seq, body in found)
    return records


def hashes_at(connection: sqlite3.Connection, seqs: Sequence[int]) -> dict[int, str]:
    """Return the chain hashes of the rows that exist, by seq."""
    found = {}
    for seq in seqs:
        row = connection.execute("select hash from journal where seq = ?", (seq,)).fetchone()
        if row is not None:
            found[seq] = row[0].hex()
    return found


def old_rows(connection: sqlite3.Connection, before_us: int, after: int, limit: int) -> list[Columns]:
    """Return rows that have a body and are older than a time."""
    return [Columns(*row) for row in connection.execute(_OLD, (after, before_us, limit)).fetchall()]


def bodies_in(connection: sqlite3.Connection, ranges: Sequence[Range]) -> int:
    """Return how many rows of some ranges have a body."""
    counted = (connection.execute(_BODIES, span).fetchone()[0] for span in ranges)
    return sum(counted)


def hash_at(connection: sqlite3.Connection, seq: int) -> str:
    """Return the chain hash of a row. Raises NotFoundError."""
    row = connection.execute("select hash from journal where seq = ?", (seq,)).fetchone()
    if row is None:
        raise no_such_row(seq)
    found: bytes = row[0]
    return found.hex()


def deployment(connection: sqlite3.Connection, deployment_id: str) -> DeploymentState | None:
    """Return the deployment whose id is, or uniquely begins with, `deployment_id`."""
    if not deployment_id:
        return None
    found = rows.load_deployment(connection, deployment_id)
    if found is not None:
        return found
    ids = connection.execute(_BEGINS, (deployment_id, deployment_id + "\U0010ffff")).fetchall()
    if len(ids) > 1:
        raise ambiguous(deployment_id)
    return rows.load_deployment(connection, ids[0][0]) if ids else None


def deployments(
    connection: sqlite3.Connection, fraise: str, environment: str, state: str, since_us: int, limit: int
) -> list[DeploymentState]:
    """Return deployments, newest first, without plans and steps."""
    if state:
        return rows.load_deployments(
            connection, _NEWEST_IN_STATE, (fraise, environment, since_us, state, limit)
        )
    return rows.load_deployments(connection, _NEWEST, (fraise, environment, since_us, limit))


def tally(connection: sqlite3.Connection, slots: Slots, fraise: str) -> Tally:
    """Return the numbers of the slots' time; row by row, so that memory stays flat."""
    found = Tally(slots)
    for (body,) in connection.execute(_OUTCOMES, (fraise, slots.since_us)):
        found.outcomes.append(decode_outcome(body))
    found.count(connection.execute(_COUNTED, (slots.since_us, fraise)))
    return found


def placements(connection: sqlite3.Connection, fraise: str, environment: str) -> list[Placement]:
    """Return the recorded state of targets."""
    return rows.load_placements(connection, _PLACEMENTS, (fraise, environment))


def releases(connection: sqlite3.Connection, fraise: str, environment: str, target: str) -> list[Release]:
    """Return the releases of a fraise in an environment."""
    return rows.load_releases(connection, _RELEASES, (fraise, environment, target))


def lease(connection: sqlite3.Connection, fraise: str, environment: str) -> LeaseState | None:
    """Return the newest lease."""
    return next(iter(rows.load_leases(connection, _LEASE, (fraise, environment))), None)


def leases(connection: sqlite3.Connection, fraise: str, environment: str) -> list[LeaseState]:
    """Return the newest leases."""
    return rows.load_leases(connection, _LEASES, (fraise, environment))


def position(connection: sqlite3.Connection, subscriber: str) -> int | None:
    """Return a subscriber's stored position."""
    row = connection.execute("select seq from positions where subscriber = ?", (subscriber,)).fetchall()
    return int(row[0][0]) if row else None


def dead_letters(connection: sqlite3.Connection, limit: int) -> list[DeadLetter]:
    """Return parked events, newest first."""
    return [DeadLetter(*row) for row in connection.execute(_DEAD, (limit,)).fetchall()]


def followers(connection: sqlite3.Connection) -> list[Follower]:
    """Return the subscribers that have a position or parked events, by name."""
    return [Follower(*row) for row in connection.execute(_FOLLOWERS).fetchall()]
