"""Folded state as rows of the query tables, and back. One `executemany` a table writes what changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from fraisier.events import Holder
from fraisier.journal.fold import (
    DeploymentState,
    LeaseState,
    Placement,
    Release,
    StepState,
    Tables,
    TargetState,
)

Row = tuple[Any, ...]

_encode = msgspec.json.Encoder().encode
_decode_deployment = msgspec.json.Decoder(DeploymentState).decode
_decode_step = msgspec.json.Decoder(StepState).decode
_decode_holder = msgspec.json.Decoder(Holder).decode

_HEAD_FIELDS = tuple(name for name in DeploymentState.__struct_fields__ if name not in {"plan", "targets"})
_TARGET_FIELDS = tuple(name for name in TargetState.__struct_fields__ if name not in {"step", "steps"})

_WRITE_DEPLOYMENT = "replace into deployments values (?, ?, ?, ?, ?, ?, ?)"
_WRITE_PLAN = "replace into plans values (?, ?)"
_WRITE_TARGET = "replace into deployment_targets values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_WRITE_STEP = "replace into deployment_steps values (?, ?, ?, ?)"
_WRITE_PLACEMENT = "replace into placements values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_WRITE_RELEASE = "replace into releases values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_WRITE_LEASE = "replace into leases values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

_astuple = msgspec.structs.astuple


# to rows


def deployment_row(d: DeploymentState) -> Row:
    """Return the row of a deployment, without its plan and targets."""
    body = _encode({name: getattr(d, name) for name in _HEAD_FIELDS})
    return d.id, d.fraise, d.environment, d.state, d.requested_us, d.first_seq, body


def target_row(deployment_id: str, t: TargetState) -> Row:
    """Return the row of a target, without its steps. Which step it is at follows from them."""
    return (
        deployment_id, t.name, t.wave, t.action, t.outcome, t.reason, t.error, t.release, t.version, t.digest,
        t.previous_release, t.previous_version, t.begun, t.undone, t.started_us, t.finished_us,
    )  # fmt: skip


def lease_row(lease: LeaseState) -> Row:
    """Return the row of a lease."""
    return (
        lease.fraise, lease.environment, lease.epoch, lease.held, _encode(lease.holder), lease.deployment_id,
        lease.acquired_us, lease.expires_us, lease.renewed_us, lease.broken_by,
        lease.frozen_by, lease.frozen_message, lease.frozen_us, lease.frozen_until_us,
    )  # fmt: skip


def write_dirty(connection: sqlite3.Connection, tables: Tables) -> None:
    """Write every row that changed since the last call, inside the caller's transaction."""
    many = connection.executemany
    deployments = tables.deployments
    if tables.dirty_steps:
        many(
            _WRITE_STEP,
            [(d, s, n, _encode(deployments[d].targets[n].steps[s])) for d, n, s in tables.dirty_steps],
        )
    if tables.dirty_targets:
        many(_WRITE_TARGET, [target_row(d, deployments[d].targets[n]) for d, n in tables.dirty_targets])
    if tables.dirty_placements:
        many(_WRITE_PLACEMENT, [_astuple(tables.placements[key]) for key in tables.dirty_placements])
    if tables.dirty_releases:
        many(_WRITE_RELEASE, [_astuple(tables.release_rows[key]) for key in tables.dirty_releases])
    if tables.dirty_deployments:
        many(_WRITE_DEPLOYMENT, [deployment_row(deployments[key]) for key in tables.dirty_deployments])
    if tables.dirty_plans:
        many(_WRITE_PLAN, [(key, deployments[key].plan) for key in tables.dirty_plans])
    if tables.dirty_leases:
        many(_WRITE_LEASE, [lease_row(tables.leases[key]) for key in tables.dirty_leases])
    tables.clear_dirty()


# from rows: reading each query to its end leaves no cursor open, which would keep the write-ahead log from being taken in


def _target(row: Row) -> TargetState:
    values = dict(zip(_TARGET_FIELDS, row[1:], strict=True))
    values["begun"], values["undone"] = bool(values["begun"]), bool(values["undone"])
    return TargetState(**values)


def load_targets(connection: sqlite3.Connection, deployment_id: str) -> dict[str, TargetState]:
    """Return the targets of a deployment by wave and name, without their steps."""
    sql = "select * from deployment_targets where deployment_id = ? order by wave, name"
    return {row[1]: _target(row) for row in connection.execute(sql, (deployment_id,)).fetchall()}


def load_steps(connection: sqlite3.Connection, deployment_id: str, targets: dict[str, TargetState]) -> None:
    """Add the steps to the targets of a deployment, in the order of their intents."""
    sql = "select target, step, body from deployment_steps where deployment_id = ?"
    rows = connection.execute(sql, (deployment_id,)).fetchall()
    loaded = [(name, step, _decode_step(body)) for name, step, body in rows]
    for name, step, state in sorted(loaded, key=lambda item: item[2].intent_seq):
        target = targets.setdefault(name, TargetState(name))
        target.step, target.steps[step] = step, state


def load_deployment(connection: sqlite3.Connection, deployment_id: str) -> DeploymentState | None:
    """Return a deployment with its plan, targets and steps, or None."""
    found = connection.execute("select body from deployments where id = ?", (deployment_id,)).fetchall()
    if not found:
        return None
    deployment = _decode_deployment(found[0][0])
    plan = connection.execute("select body from plans where deployment_id = ?", (deployment_id,)).fetchall()
    deployment.plan = plan[0][0] if plan else b""
    deployment.targets = load_targets(connection, deployment_id)
    load_steps(connection, deployment_id, deployment.targets)
    return deployment


def load_deployments(
    connection: sqlite3.Connection, sql: str, values: Sequence[Any]
) -> list[DeploymentState]:
    """Return the deployments whose bodies `sql` selects, with their targets, without plans and steps."""
    found = [_decode_deployment(body) for (body,) in connection.execute(sql, values).fetchall()]
    for deployment in found:
        deployment.targets = load_targets(connection, deployment.id)
    return found


def load_placements(connection: sqlite3.Connection, sql: str, values: Sequence[Any] = ()) -> list[Placement]:
    """Return the placements that `sql` selects."""
    found = [Placement(*row) for row in connection.execute(sql, values).fetchall()]
    for place in found:
        place.served = bool(place.served)
    return found


def load_releases(connection: sqlite3.Connection, sql: str, values: Sequence[Any] = ()) -> list[Release]:
    """Return the releases that `sql` selects."""
    found = [Release(*row) for row in connection.execute(sql, values).fetchall()]
    for release in found:
        release.good, release.bad = bool(release.good), bool(release.bad)
    return found


def load_leases(connection: sqlite3.Connection, sql: str, values: Sequence[Any] = ()) -> list[LeaseState]:
    """Return the leases that `sql` selects."""
    return [
        LeaseState(fraise, environment, epoch, bool(held), _decode_holder(holder), *rest)
        for fraise, environment, epoch, held, holder, *rest in connection.execute(sql, values).fetchall()
    ]
