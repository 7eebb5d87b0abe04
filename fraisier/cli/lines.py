"""One plain line an event, for pipes and files: when, where, what happened. No colours; those are the
caller's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from fraisier.clock import rfc3339
from fraisier.events import Holder, Record
from fraisier.events import types as ev

_CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)
_NAMES_SHOWN = 5
_VERSION_CHARS = 12
_HEX_VERSION = re.compile(r"[0-9a-f]{20,64}")


def format_line(record: Record, *, with_date: bool = False) -> str | None:
    """Return the line of a record, or None for what a person does not need to see.

    `12:01:07Z api/production web-1: restart failed after 1.2s: …`; a line that a step printed is `web-1 | text`. Times
    are UTC. Whatever comes from outside is put on one line, without control characters. `with_date` is for events of
    other days.
    """
    event = record.event
    if isinstance(event, ev.StepOutput):
        return f"{event.target or event.step} | {_CONTROL.sub('', event.line)}"
    told = sentence(event)
    if told is None:
        return None
    place = f"{event.fraise}/{event.environment}" if event.environment else event.fraise
    where = " ".join(part for part in (place, event.target, _wave(event)) if part)
    moment = rfc3339(record.at_us)[0 if with_date else 11 : 19]
    return f"{moment}Z {where + ': ' if where else ''}{told}"


def sentence(event: ev.Event) -> str | None:
    """Return what happened, without when and where; None for what a person does not need to see."""
    say = _SAY.get(event.__class__)
    return say(event) if say is not None else None


def seconds(duration_s: float) -> str:
    """Return a duration as people say it: 0.4s, 12s, 3m05s, 2h10m."""
    if duration_s < 9.95:
        return f"{duration_s:.1f}s"
    whole = round(duration_s)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def short(version: str) -> str:
    """Return a version as people read it: a commit id or digest shortened, a name whole."""
    return version[:_VERSION_CHARS] if _HEX_VERSION.fullmatch(version) else _clean(version)


# pieces -----------------------------------------------------------------------------------------------------


def _clean(text: str) -> str:
    return " ".join(_CONTROL.sub(" ", text).split())


def _tail(*parts: str) -> str:
    """Return what explains a line: `: a; b`, or nothing."""
    told = [_clean(part) for part in parts if part]
    return f": {'; '.join(dict.fromkeys(told))}" if told else ""


def _words(reason: str) -> str:
    return reason.replace("_", " ")


def _after(duration_s: float) -> str:
    return f" after {seconds(duration_s)}" if duration_s else ""


def _in(duration_s: float) -> str:
    return f" in {seconds(duration_s)}" if duration_s else ""


def _wave(event: ev.Event) -> str:
    wave = getattr(event, "wave", 0)
    return f"wave {wave}" if wave else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _names(names: Sequence[str]) -> str:
    """Return some names, and how many more there are."""
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"


def _try(attempt: int) -> str:
    return f" (try {attempt})" if attempt > 1 else ""


def _move(version: str, previous: str) -> str:
    """Return `old -> new`, or only what is known."""
    if version and previous and version != previous:
        return f"{short(previous)} -> {short(version)}"
    return short(version or previous) or "nothing"


def _holder(holder: Holder) -> str:
    who = holder.owner or "another process"
    at = f" on {holder.host}" if holder.host else ""
    return f"{who}{at} (pid {holder.pid})" if holder.pid else f"{who}{at}"


def _by(actor: ev.Actor) -> str:
    who = "@".join(part for part in (actor.user, actor.host) if part)
    return (
        " by " + " ".join(part for part in (who, f"({actor.trigger})") if part)
        if who
        else f" by {actor.trigger}"
    )


# sentences --------------------------------------------------------------------------------------------------


def _requested(e: ev.DeploymentRequested) -> str:
    what = "rollback" if e.kind == "rollback" else "deployment"
    of = f" of {e.rollback_of}" if e.rollback_of else ""
    return f"{what} {e.deployment_id}{of} requested{_by(e.actor)}"


def _planned(e: ev.DeploymentPlanned) -> str:
    how = f", {_words(e.strategy)}" if e.strategy else ""
    through = f", through the fallback {_clean(e.fallback)}" if e.fallback else ""
    return f"planned {_move(e.version, e.previous_version)}{how}{through}"


def _started(e: ev.DeploymentStarted) -> str:
    on = f" on {_count(e.targets, 'target')}" if e.targets else ""
    return f"deployment of {short(e.version) or 'nothing'} started{on}"


def _succeeded(e: ev.DeploymentSucceeded) -> str:
    if e.outcome == "unchanged":
        return f"UNCHANGED: nothing to do{_tail(e.detail)}"
    return f"SUCCEEDED{_after(e.duration_s)}{_tail(e.detail)}"


def _failed(e: ev.DeploymentFailed) -> str:
    return f"{_words(e.outcome).upper()}{_after(e.duration_s)}{_tail(_words(e.reason), e.detail)}"


def _ended(word: str) -> Callable[[Any], str]:
    def say(e: Any) -> str:
        return f"{word}{_after(getattr(e, 'duration_s', 0.0))}{_tail(_words(e.reason), e.detail)}"

    return say


def _superseded(e: ev.DeploymentSuperseded) -> str:
    return f"SUPERSEDED{f' by {e.by}' if e.by else ''}{_tail(_words(e.reason), e.detail)}"


def _asked(what: str) -> Callable[[Any], str]:
    return lambda e: f"{what} asked for{_by(e.actor)}"


def _acknowledged(e: ev.DeploymentAcknowledged) -> str:
    return f"{_clean(e.action)} {_clean(e.effect)}{_tail(e.detail)}"


def _goes_on(word: str) -> Callable[[Any], str]:
    return lambda e: f"{word}{_by(e.actor)}{_tail(e.detail)}"


def _wave_succeeded(e: ev.WaveSucceeded) -> str:
    return f"all healthy{f', pausing for {seconds(e.pause_s)}' if e.pause_s else ''}"


def _updated(e: ev.TargetUpdated) -> str:
    return f"updated, {_move(e.version, e.previous_version)}{_in(e.duration_s)}"


def _target_failed(e: ev.TargetFailed) -> str:
    at = f" at {e.step}" if e.step else ""
    return f"FAILED{at}{_tail(_words(e.reason), e.detail)}"


def _target_rolled_back(e: ev.TargetRolledBack) -> str:
    if not e.release and not e.version:
        return f"stopped: there is no release to go back to{_tail(e.detail).replace(': ', '; ', 1)}"
    return f"rolled back to {short(e.version) or e.release}{_tail(e.detail)}"


def _in_doubt(e: ev.TargetInDoubt) -> str:
    at = f" at {e.step}" if e.step else ""
    return f"IN DOUBT{at}, a person must look{_tail(e.detail)}"


def _step_failed(e: ev.StepFailed) -> str:
    word = "failed" if e.known else "ended in doubt"
    return f"{e.step} {word}{_after(e.duration_s)}{_try(e.attempt)}{_tail(e.message)}"


def _health_passed(e: ev.HealthPassed) -> str:
    return f"healthy{_after(e.duration_s)}{_probes(e)}{_tail(*(f'warning: {told}' for told in e.warnings))}"


def _health_failed(e: ev.HealthFailed) -> str:
    return f"NOT HEALTHY{_after(e.duration_s)}{_probes(e)}{_tail(_words(e.reason), e.message)}"


def _probes(e: ev.HealthVerdict) -> str:
    total = sum(e.counts.values())
    return f" ({e.counts.get('pass', 0)} of {_count(total, 'probe')} passed)" if total else ""


def _decided(e: ev.RecoveryDecided) -> str:
    step = f"{e.step} " if e.step else ""
    what = {
        "retry": f"{step}will be tried again in {seconds(e.delay_s)}",
        "fallback": f"decided to go through the fallback {_clean(e.fallback)}",
        "rollback": "decided to roll back",
        "hold": "decided to hold here",
        "stop": "decided to stop here",
        "fail": "decided to give up",
    }.get(e.action, f"decided to {_words(e.action)}")
    return f"{what}{_tail(_words(e.reason), e.detail)}"


def _rollback_started(e: ev.RollbackStarted) -> str:
    return f"rolling back {_names(e.targets) or 'the changed targets'}{_tail(_words(e.reason))}"


def _rollback_failed(e: ev.RollbackFailed) -> str:
    on = _names(e.failed) or "some targets"
    return f"ROLLBACK FAILED{_after(e.duration_s)} on {on}{_tail(_words(e.reason))}"


def _hook_failed(e: ev.HookFailed) -> str:
    word = "failed" if e.known else "ended in doubt"
    what = {"abort": "", "rollback": "; going back"}.get(e.on_failure, "; only a warning")
    return f"hook {_clean(e.name)} ({_words(e.phase)}) {word}{_after(e.duration_s)}{_try(e.attempt)}{_tail(e.message)}{what}"


def _lease_acquired(e: ev.LeaseAcquired) -> str:
    over = f", taken over: {_clean(e.took_over)}" if e.took_over else ""
    freeze = f", OVERRIDING THE FREEZE of {_clean(e.overrode)}" if e.overrode else ""
    return f"lock taken (epoch {e.epoch}){over}{freeze}"


def _lease_waiting(e: ev.LeaseWaiting) -> str:
    return f"waiting: {_clean(e.detail)}" if e.detail else f"waiting for the lock of {_holder(e.holder)}"


def _lease_refused(e: ev.LeaseRefused) -> str:
    if e.detail:
        return f"gave up waiting{_after(e.waited_s)}{_tail(e.detail)}"
    return f"gave up waiting for the lock of {_holder(e.holder)}{_after(e.waited_s)}"


def _lease_released(e: ev.LeaseReleased) -> str | None:
    return (
        f"LOCK BROKEN by {_clean(e.broken_by)}: it was held by {_holder(e.holder)}" if e.broken_by else None
    )


def _lease_frozen(e: ev.LeaseFrozen) -> str:
    until = f" until {rfc3339(e.until_at)}" if e.until_at else ""
    return f"frozen by {_clean(e.owner)}{until}{_tail(e.message)}"


def _service_failed(e: ev.ServiceFailed) -> str:
    return f"{e.action} failed{_after(e.duration_s)}{_tail(e.message)}"


def _webhook(e: ev.WebhookReceived) -> str:
    of = f" for {_clean(e.branch)}" if e.branch else ""
    return f"webhook from {e.provider}: {_clean(e.event)}{of}"


def _config_changed(e: ev.ConfigChanged) -> str:
    return f"configuration changed{_by(e.actor)}{_tail(e.path, _names(e.changes), e.detail)}"


def _slow(e: ev.PerformanceSlow) -> str:
    limit = f", more than {seconds(e.threshold_s)}" if e.threshold_s else ""
    return f"slow: {_clean(e.operation)} took {seconds(e.duration_s)}{limit}"


_SAY: dict[type[ev.Event], Callable[[Any], str | None]] = {
    ev.DeploymentRequested: _requested,
    ev.DeploymentPlanned: _planned,
    ev.DeploymentQueued: lambda e: f"waiting for the lock{f' of {_clean(e.holder)}' if e.holder else ''}",
    ev.DeploymentStarted: _started,
    ev.DeploymentPaused: _ended("PAUSED"),
    ev.DeploymentSucceeded: _succeeded,
    ev.DeploymentFailed: _failed,
    ev.DeploymentRolledBack: _ended("ROLLED BACK"),
    ev.DeploymentNeedsAttention: _ended("NEEDS ATTENTION"),
    ev.DeploymentInterrupted: _ended("INTERRUPTED"),
    ev.DeploymentSuperseded: _superseded,
    ev.DeploymentAborted: _ended("ABORTED"),
    ev.DeploymentResumed: _goes_on("RESUMED"),
    ev.DeploymentPromoted: _goes_on("PROMOTED"),
    ev.AbortRequested: _asked("abort"),
    ev.PauseRequested: _asked("pause"),
    ev.PromoteRequested: _asked("promotion"),
    ev.ResumeRequested: _asked("resumption"),
    ev.DeploymentAcknowledged: _acknowledged,
    ev.WaveStarted: lambda e: f"started on {_count(len(e.targets), 'target')}: {_names(e.targets)}",
    ev.WaveSucceeded: _wave_succeeded,
    ev.WaveFailed: lambda e: f"FAILED on {_names(e.failed) or 'its targets'}; no further target is changed",
    ev.TargetStarted: lambda e: "started",
    ev.TargetUpdated: _updated,
    ev.TargetUnchanged: lambda e: f"unchanged, already on {short(e.version) or e.release}",
    ev.TargetFailed: _target_failed,
    ev.TargetUnreachable: lambda e: f"UNREACHABLE{_tail(_words(e.reason), e.detail)}",
    ev.TargetRolledBack: _target_rolled_back,
    ev.TargetInDoubt: _in_doubt,
    ev.StepStarted: lambda e: f"{e.step} ...{_try(e.attempt)}",
    ev.StepSucceeded: lambda e: f"{e.step} done{_in(e.duration_s)}{_try(e.attempt)}",
    ev.StepFailed: _step_failed,
    ev.HealthPassed: _health_passed,
    ev.HealthFailed: _health_failed,
    ev.RecoveryDecided: _decided,
    ev.RecoverySucceeded: lambda e: (
        "the fallback serves" if e.strategy == "fallback" else f"{e.step} recovered{_try(e.attempt)}"
    ),
    ev.RecoveryFailed: lambda e: f"{e.step or 'recovery'} could not be recovered{_tail(e.message)}",
    ev.CircuitOpened: lambda e: f"{_clean(e.resource)} is LEFT ALONE until {rfc3339(e.until_at)}",
    ev.CircuitHalfOpened: lambda e: f"{_clean(e.resource)} is tried again",
    ev.CircuitClosed: lambda e: f"{_clean(e.resource)} is reached again",
    ev.RollbackStarted: _rollback_started,
    ev.RollbackSucceeded: lambda e: f"rollback done{_in(e.duration_s)}",
    ev.RollbackFailed: _rollback_failed,
    ev.HookStarted: lambda e: f"hook {_clean(e.name)} ({_words(e.phase)}) ...",
    ev.HookSucceeded: lambda e: f"hook {_clean(e.name)} ({_words(e.phase)}) done{_in(e.duration_s)}",
    ev.HookFailed: _hook_failed,
    ev.LeaseAcquired: _lease_acquired,
    ev.LeaseWaiting: _lease_waiting,
    ev.LeaseRefused: _lease_refused,
    ev.LeaseReleased: _lease_released,
    ev.LeaseFrozen: _lease_frozen,
    ev.LeaseThawed: lambda e: f"freeze of {_clean(e.owner)} released{_by(e.actor)}{_tail(e.message)}",
    ev.LeaseLost: lambda e: f"LOCK LOST to another process{_tail(e.detail)}",
    ev.ServiceRequested: lambda e: f"{e.action} ...",
    ev.ServiceSucceeded: lambda e: f"{e.action} done{_in(e.duration_s)}",
    ev.ServiceFailed: _service_failed,
    ev.AuditPruned: lambda e: f"{e.rows} old events lost their bodies{_by(e.actor)}{_tail(e.message)}",
    ev.WebhookReceived: _webhook,
    ev.WebhookAccepted: lambda e: f"webhook from {e.provider} accepted as deployment {e.deployment_id}",
    ev.ConfigChanged: _config_changed,
    ev.ProviderUnavailable: lambda e: f"provider {e.provider} UNAVAILABLE{_tail(e.message)}",
    ev.SecurityReported: lambda e: f"SECURITY ({e.severity}): {_words(e.kind)}{_tail(e.detail)}",
    ev.PerformanceSlow: _slow,
    ev.SystemNoted: lambda e: f"{_words(e.kind)}{_tail(e.detail)}",
}
"""What is not here is for programs: probes, requests of a verdict or decision, renewals and ends of leases,
checkpoints."""
