"""Every event as one structured line."""

from __future__ import annotations

import logging
from typing import Any

from fraisier.events import TYPE_OF, Record, to_public
from fraisier.events import types as ev
from fraisier.logging.context import ContextualLogger
from fraisier.redaction import Redactor

_TOO_LONG = frozenset({"plan", "request"})
"""Fields that `fraisier show` is for."""

_LEVELS: dict[type[ev.Event], int] = {
    **dict.fromkeys(
        (
            ev.DeploymentFailed,
            ev.DeploymentRolledBack,
            ev.DeploymentNeedsAttention,
            ev.WaveFailed,
            ev.TargetFailed,
            ev.TargetUnreachable,
            ev.TargetInDoubt,
            ev.StepFailed,
            ev.HookFailed,
            ev.HealthFailed,
            ev.RecoveryFailed,
            ev.RollbackFailed,
            ev.LeaseLost,
            ev.ServiceFailed,
            ev.ProviderUnavailable,
        ),
        logging.ERROR,
    ),
    **dict.fromkeys(
        (
            ev.DeploymentAborted,
            ev.DeploymentPaused,
            ev.DeploymentInterrupted,
            ev.DeploymentSuperseded,
            ev.TargetRolledBack,
            ev.RecoveryRequested,
            ev.RecoveryDecided,
            ev.CircuitOpened,
            ev.RollbackStarted,
            ev.LeaseWaiting,
            ev.LeaseRefused,
            ev.LeaseFrozen,
            ev.LeaseThawed,
            ev.SecurityReported,
            ev.PerformanceSlow,
        ),
        logging.WARNING,
    ),
    **dict.fromkeys(
        (
            ev.StepStarted,
            ev.StepOutput,
            ev.StepSucceeded,
            ev.HookStarted,
            ev.HookSucceeded,
            ev.HealthRequested,
            ev.HealthSampled,
            ev.LeaseRenewed,
            ev.AuditCheckpointed,
        ),
        logging.DEBUG,
    ),
}


def level_of(event: ev.Event) -> int:
    """Return the stdlib level of an event: failures error, retries, going back and what people are warned of warning,
    steps debug, the rest info."""
    if isinstance(event, ev.HealthPassed) and event.warnings:
        return logging.WARNING
    return _LEVELS.get(event.__class__, logging.INFO)


class LoggingSubscriber:
    """Logs bus records through the logger `fraisier.events`: the type is the message, the rest its fields.

    Subscribe it to `patterns`. Set-up is not done here: see `setup_structured_logging`.
    """

    name = "logging"
    patterns = ("*",)

    def __init__(self, logger: ContextualLogger | None = None, *, redactor: Redactor | None = None) -> None:
        self._logger = logger or ContextualLogger("fraisier.events")
        self._redactor = redactor

    async def __call__(self, record: Record) -> None:
        """Log one event."""
        level = level_of(record.event)
        if self._logger.is_enabled_for(level):
            fields = _fields(record)
            if self._redactor is not None:
                fields = self._redactor.scrub_object(fields)
            self._logger.log(level, TYPE_OF[record.event.__class__], **fields)


def _fields(record: Record) -> dict[str, Any]:
    """Return what is set: the place, then the data; a field of the data never hides the place."""
    public = to_public(record)
    data = {key: value for key, value in public.pop("data").items() if value not in ("", [], (), {}, None)}
    for key in _TOO_LONG & data.keys():
        del data[key]
    place = {
        key: value for key, value in public.items() if key not in ("type", "id", "time") and value is not None
    }
    return {**data, **place}
