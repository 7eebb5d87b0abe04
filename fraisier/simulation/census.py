"""Counts what a trial went through: every kind of event with what it came to, and how its processes died."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fraisier.events import TYPE_OF, Record
from fraisier.events import types as ev
from fraisier.simulation.process import Process


def census(records: Iterable[Record], processes: Iterable[Process]) -> Counter[str]:
    """Return how often each event, each recovery path and each kind of death came up."""
    found: Counter[str] = Counter()
    for record in records:
        found[f"event {TYPE_OF[record.event.__class__]}"] += 1
        if path := _path(record):
            found[path] += 1
    for process in processes:
        if process.died_of:
            found[f"processes that died {process.died_of}"] += 1
    return found


def _path(record: Record) -> str:
    """Return the way that an event stands for beyond its type, or nothing."""
    match record.event:
        case ev.LeaseAcquired(took_over=owner) if owner:
            return "leases taken over"
        case ev.RecoveryDecided() as decided:
            what = "step" if decided.target else "deployment"
            return f"recovery of a {what}: {decided.action}"
        case ev.RollbackStarted() as started:
            return "rollbacks of a whole deployment" if started.whole else "rollbacks of one target"
        case ev.StepFailed(known=False):
            return "steps in doubt"
        case ev.StepStarted(attempt=attempt) if attempt > 1:
            return "steps attempted again"
        case ev.TargetFailed(bad=True):
            return "releases found to be bad"
        case ev.TargetRolledBack(release=""):
            return "first releases taken away again"
        case ev.DeploymentAcknowledged() as answer:
            return f"asked to {answer.action}: {answer.effect}"
    return ""
