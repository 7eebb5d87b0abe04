"""The fold of what happens at targets: waves, outcomes, steps, hooks, health."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fraisier.events import Event, Record
from fraisier.events import types as ev
from fraisier.journal.state import StepState, TargetState, hook_key
from fraisier.journal.tables import Tables

CHANGING_STEPS = frozenset({"migrate", "drain", "switch", "restart"})
"""Steps that change what a target serves; an intent of one of them means that the target was touched."""

Handler = Callable[[Tables, Record, Any], None]

# waves, targets, steps


def _wave(status: str) -> Callable[[Tables, Record, Any], None]:
    def fold(t: Tables, r: Record, e: Any) -> None:
        d = t.deployment(e.deployment_id)
        d.waves[e.wave] = status
        d.last_seq = r.seq

    return fold


def _target_started(t: Tables, r: Record, e: ev.TargetStarted) -> None:
    t.target(e.deployment_id, e.target).started_us = r.at_us


def _target_updated(t: Tables, r: Record, e: ev.TargetUpdated) -> None:
    target = _outcome(t, r, e, "updated")
    if e.release:
        _place(t, r, e, e.release, e.version, target.digest)
        t.release(e.fraise, e.environment, e.target, e.release).status = "serving"


def _target_unchanged(t: Tables, r: Record, e: ev.TargetUnchanged) -> None:
    _outcome(t, r, e, "unchanged")


def _target_failed(t: Tables, r: Record, e: ev.TargetFailed) -> None:
    target = _outcome(t, r, e, "failed")
    target.reason, target.error = e.reason, e.detail
    if e.bad and e.release:
        t.release(e.fraise, e.environment, e.target, e.release).bad = True


def _target_unreachable(t: Tables, r: Record, e: ev.TargetUnreachable) -> None:
    target = _outcome(t, r, e, "unreachable")
    target.reason, target.error = e.reason, e.detail


def _target_rolled_back(t: Tables, r: Record, e: ev.TargetRolledBack) -> None:
    _outcome(t, r, e, "rolled_back")


def _target_in_doubt(t: Tables, r: Record, e: ev.TargetInDoubt) -> None:
    _outcome(t, r, e, "in_doubt").error = e.detail


def _outcome(t: Tables, r: Record, e: Event, outcome: str) -> TargetState:
    target = t.target(e.deployment_id, e.target)
    target.outcome, target.finished_us = outcome, r.at_us
    return target


def _place(t: Tables, r: Record, e: Event, release: str, version: str, digest: str) -> None:
    place = t.placement(e.fraise, e.environment, e.target)
    if place.release != release:
        place.since_us = r.at_us
    place.release, place.version, place.digest, place.deployment_id = (
        release,
        version,
        digest,
        e.deployment_id,
    )
    if not release:  # the first one was taken away again
        place.served = False


def _step_started(t: Tables, r: Record, e: ev.StepStarted) -> None:
    target = t.step(e.deployment_id, e.target, e.step)
    target.step = e.step
    target.steps[e.step] = StepState("started", e.attempt, r.seq, r.at_us)
    if not target.begun and e.step in CHANGING_STEPS:
        t.target(e.deployment_id, e.target).begun = True


def _ended_step(t: Tables, r: Record, e: ev.StepEvent) -> tuple[TargetState, StepState]:
    target = t.step(e.deployment_id, e.target, e.step)
    step = target.steps.get(e.step)
    if step is None:
        target.step = e.step
        step = target.steps[e.step] = StepState("", e.attempt, r.seq, r.at_us)
    return target, step


def _step_succeeded(t: Tables, r: Record, e: ev.StepSucceeded) -> None:
    target, step = _ended_step(t, r, e)
    step.status, step.duration_s, step.evidence = "succeeded", e.duration_s, e.evidence
    if e.step == "stage" and target.release:
        release = t.release(e.fraise, e.environment, e.target, target.release)
        release.version, release.digest, release.deployment_id = (
            target.version,
            target.digest,
            e.deployment_id,
        )
        if not release.seq:
            release.created_us, release.seq = r.at_us, r.seq
        release.status = "staged"
    elif e.step == "switch":
        _place(t, r, e, target.release, target.version, target.digest)
    elif e.step == "cleanup":
        for name in e.evidence.get("removed", ()):
            t.release(e.fraise, e.environment, e.target, name).status = "pruned"


def _step_failed(t: Tables, r: Record, e: ev.StepFailed) -> None:
    _, step = _ended_step(t, r, e)
    step.status = "failed" if e.known else "unknown"
    step.duration_s, step.error, step.code = e.duration_s, e.message, e.code
    t.target(e.deployment_id, e.target).error = e.message


# hooks


def _hook_started(t: Tables, r: Record, e: ev.HookStarted) -> None:
    key = hook_key(e.phase, e.name)
    state = StepState("started", e.attempt, r.seq, r.at_us)
    if not e.target:
        t.deployment(e.deployment_id).hooks[key] = state
        return
    target = t.step(e.deployment_id, e.target, key)
    target.step, target.steps[key] = key, state


def _hook(t: Tables, e: ev.HookEvent) -> StepState:
    key = hook_key(e.phase, e.name)
    if e.target:
        hooks = t.step(e.deployment_id, e.target, key).steps
    else:
        hooks = t.deployment(e.deployment_id).hooks
    return hooks.setdefault(key, StepState("", e.attempt, 0, 0))


def _hook_succeeded(t: Tables, r: Record, e: ev.HookSucceeded) -> None:
    hook = _hook(t, e)
    hook.status, hook.duration_s = "succeeded", e.duration_s


def _hook_failed(t: Tables, r: Record, e: ev.HookFailed) -> None:
    hook = _hook(t, e)
    hook.status = "failed" if e.known else "unknown"
    hook.duration_s, hook.error, hook.code = e.duration_s, e.message, e.code


def _health(verdict: str) -> Callable[[Tables, Record, Any], None]:
    def fold(t: Tables, r: Record, e: Any) -> None:
        place = t.placement(e.fraise, e.environment, e.target)
        place.health, place.health_us = verdict, r.at_us
        place.served = place.served or verdict == "healthy"

    return fold


TARGET_FOLD: dict[type[Event], Handler] = {
    ev.WaveStarted: _wave("started"),
    ev.WaveSucceeded: _wave("succeeded"),
    ev.WaveFailed: _wave("failed"),
    ev.TargetStarted: _target_started,
    ev.TargetUpdated: _target_updated,
    ev.TargetUnchanged: _target_unchanged,
    ev.TargetFailed: _target_failed,
    ev.TargetUnreachable: _target_unreachable,
    ev.TargetRolledBack: _target_rolled_back,
    ev.TargetInDoubt: _target_in_doubt,
    ev.StepStarted: _step_started,
    ev.StepSucceeded: _step_succeeded,
    ev.StepFailed: _step_failed,
    ev.HookStarted: _hook_started,
    ev.HookSucceeded: _hook_succeeded,
    ev.HookFailed: _hook_failed,
    ev.HealthPassed: _health("healthy"),
    ev.HealthFailed: _health("unhealthy"),
}
"""What folds each event about a target."""
