"""The fold: events in, tables out. A plain function, the same for every journal, for the runner and for a
rebuild."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from fraisier.events import Event, Record
from fraisier.events import types as ev
from fraisier.journal.fold_targets import CHANGING_STEPS, TARGET_FOLD
from fraisier.journal.state import (
    TERMINAL_STATES,
    DeploymentState,
    LeaseState,
    Placement,
    Release,
    StepState,
    TargetState,
    is_hook,
    outline,
    snapshot,
)
from fraisier.journal.tables import LeaseKey, PlaceKey, ReleaseKey, Tables

__all__ = [
    "CHANGING_STEPS",
    "TERMINAL_STATES",
    "DeploymentState",
    "LeaseKey",
    "LeaseState",
    "PlaceKey",
    "Placement",
    "Release",
    "ReleaseKey",
    "StepState",
    "Tables",
    "TargetState",
    "apply",
    "forget_touched",
    "outline",
    "snapshot",
]


class _PlannedTarget(msgspec.Struct):
    name: str
    wave: int = 0
    action: str = "update"
    release: str = ""
    version: str = ""
    digest: str = ""
    previous_release: str = ""
    previous_version: str = ""


class _PlanOutline(msgspec.Struct):
    """The part of a plan that the tables need; the plan itself belongs to the rollout."""

    targets: tuple[_PlannedTarget, ...] = ()
    undoes: tuple[str, ...] = ()


_decode_outline = msgspec.json.Decoder(_PlanOutline).decode


def apply(tables: Tables, record: Record) -> None:
    """Fold one record into the tables. Events that change no table are passed over."""
    handler = _FOLD.get(record.event.__class__)
    if handler is not None:
        handler(tables, record, record.event)


def forget_touched(tables: Tables, event: Event) -> None:
    """Drop every row that an event folded elsewhere may have changed, so that those are loaded afresh."""
    kind = event.__class__
    if kind in _LEASE_EVENTS:
        tables.leases.pop((event.fraise, event.environment), None)
    elif kind in _SETTLING_EVENTS:
        tables.forget()
    elif kind in _FOLD:
        tables.deployments.pop(event.deployment_id, None)
        tables.placements.clear()
        tables.release_rows.clear()


# deployments


def _requested(t: Tables, r: Record, e: ev.DeploymentRequested) -> None:
    d = t.deployment(e.deployment_id)
    d.fraise, d.environment, d.kind = e.fraise, e.environment, e.kind
    d.fraise_type, d.provider = e.fraise_type, e.provider
    d.actor, d.rollback_of, d.request = e.actor, e.rollback_of, e.request
    d.requested_us, d.first_seq, d.last_seq = r.at_us, r.seq, r.seq


def _planned(t: Tables, r: Record, e: ev.DeploymentPlanned) -> None:
    d = t.deployment(e.deployment_id)
    d.version, d.previous_version, d.strategy = e.version, e.previous_version, e.strategy
    d.plan, d.last_seq = bytes(e.plan), r.seq
    d.provider, d.fallback = e.provider or d.provider, e.fallback
    if d.decision == "fallback":
        d.decision = d.reason = d.detail = d.decided_reason = d.decided_detail = ""
    t.dirty_plans.add(d.id)
    outline = _decode_outline(d.plan)
    d.undoes = outline.undoes
    for planned in outline.targets:
        target = t.target(d.id, planned.name)
        target.wave, target.action = planned.wave, planned.action
        target.release, target.version, target.digest = planned.release, planned.version, planned.digest
        target.previous_release, target.previous_version = planned.previous_release, planned.previous_version
        if target.outcome == "unreachable" and planned.action != "skip":
            # An earlier process looked in vain, and ended before it had a plan; the look that this one rests on reached it.
            target.outcome = target.error = target.reason = ""


def _queued(t: Tables, r: Record, e: ev.DeploymentQueued) -> None:
    d = t.deployment(e.deployment_id)
    d.state, d.last_seq = "queued", r.seq


def _started(t: Tables, r: Record, e: ev.DeploymentStarted) -> None:
    d = t.deployment(e.deployment_id)
    d.state, d.started_us, d.last_seq = "running", d.started_us or r.at_us, r.seq
    d.version = d.version or e.version


def _paused(t: Tables, r: Record, e: ev.DeploymentPaused) -> None:
    _end(t, r, e, "paused", "paused")


def _succeeded(t: Tables, r: Record, e: ev.DeploymentSucceeded) -> None:
    d = _end(t, r, e, "succeeded", e.outcome)
    _settle_good(t, d, ("updated", "unchanged"))


def _failed(t: Tables, r: Record, e: ev.DeploymentFailed) -> None:
    d = _end(t, r, e, "failed", e.outcome)
    if e.reason == "partial":
        _settle_good(t, d, ("updated",))


def _rolled_back(t: Tables, r: Record, e: ev.DeploymentRolledBack) -> None:
    _end(t, r, e, "rolled_back", "rolled_back")


def _needs_attention(t: Tables, r: Record, e: ev.DeploymentNeedsAttention) -> None:
    # What was asked for before somebody has to look is not what is wanted after it.
    _end(t, r, e, "needs_attention", "needs_attention").asked = ""


def _interrupted(t: Tables, r: Record, e: ev.DeploymentInterrupted) -> None:
    _end(t, r, e, "interrupted", "interrupted")


def _superseded(t: Tables, r: Record, e: ev.DeploymentSuperseded) -> None:
    _end(t, r, e, "superseded", "superseded")


def _aborted(t: Tables, r: Record, e: ev.DeploymentAborted) -> None:
    _end(t, r, e, "aborted", "aborted")


def _resumed(t: Tables, r: Record, e: ev.DeploymentResumed | ev.DeploymentPromoted) -> None:
    """Open the deployment again. After a hold, and in a rollback, what failed is tried again; elsewhere a failure stays one,
    so that a crash between it and its consequences changes nothing."""
    d = t.deployment(e.deployment_id)
    again = d.decision == "hold" or d.kind == "rollback"
    forgotten = {"untouched", "in_doubt", *(("failed", "unreachable") if again else ())}
    for target in d.targets.values():
        if target.outcome in forgotten and target.action not in ("skip",):
            target.outcome = target.error = target.reason = ""
            t.dirty_targets.add((d.id, target.name))
    if d.decision == "hold":
        _let_hooks_run_again(t, d)
        d.decision = ""
    d.outcome = d.reason = d.detail = ""
    d.asked = "abort" if d.asked == "abort" else ""
    d.finished_us, d.last_seq = 0, r.seq
    d.state = _state_under_way(d)


def _let_hooks_run_again(t: Tables, d: DeploymentState) -> None:
    """Forget the failures of hooks, with those that saw one; where nobody knows how one ended, that stays so."""
    d.hooks = {key: hook for key, hook in d.hooks.items() if not key.startswith("on_failure:")}
    for hook in d.hooks.values():
        hook.status = _AGAIN.get(hook.status, hook.status)
    for target in d.targets.values():
        for key, step in target.steps.items():
            saw_it = key.startswith("on_failure:")
            if saw_it or (is_hook(key) and step.status in _AGAIN):
                step.status = "" if saw_it else _AGAIN[step.status]
                t.dirty_steps.add((d.id, target.name, key))


_AGAIN = {"failed": "", "unknown": "started"}


def _state_under_way(d: DeploymentState) -> str:
    if d.decision == "rollback" or d.child_id:
        return "rolling_back"
    return "running" if d.started_us else "planned"


def _asked(what: str) -> Callable[[Tables, Record, Any], None]:
    def fold(t: Tables, r: Record, e: Event) -> None:
        d = t.deployment(e.deployment_id)
        if d.asked != "abort":
            d.asked = what

    return fold


def _acknowledged(t: Tables, r: Record, e: ev.DeploymentAcknowledged) -> None:
    if e.effect == "refused":
        t.deployment(e.deployment_id).asked = ""


def _end(t: Tables, r: Record, e: Any, state: str, outcome: str) -> DeploymentState:
    d = t.deployment(e.deployment_id)
    d.state, d.outcome, d.reason, d.detail = state, outcome, e.reason, e.detail
    d.duration_s, d.finished_us, d.last_seq = getattr(e, "duration_s", 0.0), r.at_us, r.seq
    if state in TERMINAL_STATES or state == "interrupted":
        for target in d.targets.values():
            if not target.outcome and not target.begun:
                target.outcome = "untouched"
                t.dirty_targets.add((d.id, target.name))
    return d


def _settle_good(t: Tables, d: DeploymentState, outcomes: tuple[str, ...]) -> None:
    """Last good moves here and nowhere else: with the terminal row. What an unfinished deployment brought becomes good
    when a later one finds it there, unchanged and healthy."""
    for target in d.targets.values():
        if target.outcome not in outcomes or not target.release:
            continue
        release = t.release(d.fraise, d.environment, target.name, target.release)
        place = t.placement(d.fraise, d.environment, target.name)
        if d.kind == "deploy" and not release.good:
            release.previous = place.good_release
        release.good, release.bad = True, False
        place.good_release, place.good_version, place.good_digest = (
            target.release,
            target.version,
            release.digest,
        )
    for undone in d.undoes:
        for name, target in d.targets.items():
            earlier = t.find_deployment(undone)
            if target.outcome == "updated" and earlier is not None and name in earlier.targets:
                t.target(undone, name).undone = True


# health, recovery


def _decided(t: Tables, r: Record, e: ev.RecoveryDecided) -> None:
    if e.target or (e.step and e.action != "fallback"):
        return
    d = t.deployment(e.deployment_id)
    d.fallback = e.fallback or d.fallback
    d.decision, d.reason, d.detail, d.last_seq = e.action, e.reason, e.detail, r.seq
    d.decided_reason, d.decided_detail = e.reason, e.detail


def _rollback_started(t: Tables, r: Record, e: ev.RollbackStarted) -> None:
    if e.whole:
        d = t.deployment(e.deployment_id)
        d.state, d.child_id, d.last_seq = "rolling_back", e.child_id, r.seq
    else:
        d = t.deployment(e.deployment_id)
        d.children = {**d.children, **dict.fromkeys(e.targets, e.child_id)}


# leases, services


def _lease_acquired(t: Tables, r: Record, e: ev.LeaseAcquired) -> None:
    lease = t.lease(e.fraise, e.environment)
    lease.epoch, lease.held, lease.holder, lease.deployment_id = e.epoch, True, e.holder, e.deployment_id
    lease.acquired_us, lease.expires_us, lease.renewed_us = r.at_us, e.expires_at, r.at_us
    lease.broken_by = ""


def _lease_renewed(t: Tables, r: Record, e: ev.LeaseRenewed) -> None:
    lease = t.lease(e.fraise, e.environment)
    if lease.epoch == e.epoch:
        lease.expires_us, lease.renewed_us = e.expires_at, r.at_us


def _lease_released(t: Tables, r: Record, e: ev.LeaseReleased) -> None:
    lease = t.lease(e.fraise, e.environment)
    if lease.epoch == e.epoch:
        lease.held, lease.broken_by = False, e.broken_by


def _lease_frozen(t: Tables, r: Record, e: ev.LeaseFrozen) -> None:
    lease = t.lease(e.fraise, e.environment)
    lease.frozen_by, lease.frozen_message = e.owner, e.message
    lease.frozen_us, lease.frozen_until_us = r.at_us, e.until_at


def _lease_thawed(t: Tables, r: Record, e: ev.LeaseThawed) -> None:
    lease = t.lease(e.fraise, e.environment)
    lease.frozen_by = lease.frozen_message = ""
    lease.frozen_us = lease.frozen_until_us = 0


def _service_succeeded(t: Tables, r: Record, e: ev.ServiceSucceeded) -> None:
    if e.action == "remove":
        place = t.placement(e.fraise, e.environment, e.target)
        place.release = place.version = place.digest = ""
        place.good_release = place.good_version = place.good_digest = ""
        place.health, place.since_us, place.served = "removed", r.at_us, False


_FOLD: dict[type[Event], Callable[[Tables, Record, Any], None]] = {
    **TARGET_FOLD,
    ev.DeploymentRequested: _requested,
    ev.DeploymentPlanned: _planned,
    ev.DeploymentQueued: _queued,
    ev.DeploymentStarted: _started,
    ev.DeploymentPaused: _paused,
    ev.DeploymentSucceeded: _succeeded,
    ev.DeploymentFailed: _failed,
    ev.DeploymentRolledBack: _rolled_back,
    ev.DeploymentNeedsAttention: _needs_attention,
    ev.DeploymentInterrupted: _interrupted,
    ev.DeploymentSuperseded: _superseded,
    ev.DeploymentAborted: _aborted,
    ev.DeploymentResumed: _resumed,
    ev.DeploymentPromoted: _resumed,
    ev.AbortRequested: _asked("abort"),
    ev.PauseRequested: _asked("pause"),
    ev.PromoteRequested: _asked(""),
    ev.ResumeRequested: _asked(""),
    ev.DeploymentAcknowledged: _acknowledged,
    ev.RecoveryDecided: _decided,
    ev.RollbackStarted: _rollback_started,
    ev.LeaseAcquired: _lease_acquired,
    ev.LeaseRenewed: _lease_renewed,
    ev.LeaseReleased: _lease_released,
    ev.LeaseFrozen: _lease_frozen,
    ev.LeaseThawed: _lease_thawed,
    ev.ServiceSucceeded: _service_succeeded,
}

_LEASE_EVENTS = frozenset(
    {ev.LeaseAcquired, ev.LeaseRenewed, ev.LeaseReleased, ev.LeaseFrozen, ev.LeaseThawed}
)

_SETTLING_EVENTS = frozenset({ev.DeploymentPlanned, ev.DeploymentSucceeded, ev.DeploymentFailed})
"""Events that may change rows beyond their own deployment, or all of its targets."""
