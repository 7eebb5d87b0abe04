"""Every fact that Fraisier records or announces: immutable, past tense, one class each.

The tag of a class is its event type and a promise to users. Durations are in seconds, times are microseconds since the
epoch. Free text in an event has been through redaction before the event was made; secrets are never in one.
"""

from __future__ import annotations

from fraisier.events.base import Actor, Event, StepEvent
from fraisier.events.deployments import (
    DeploymentFailed,
    DeploymentInterrupted,
    DeploymentNeedsAttention,
    DeploymentPaused,
    DeploymentPlanned,
    DeploymentQueued,
    DeploymentRequested,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
    DeploymentSuperseded,
    TargetFailed,
    TargetInDoubt,
    TargetRolledBack,
    TargetStarted,
    TargetUnchanged,
    TargetUnreachable,
    TargetUpdated,
    WaveFailed,
    WaveStarted,
    WaveSucceeded,
)
from fraisier.events.health import (
    HealthFailed,
    HealthPart,
    HealthPassed,
    HealthRequested,
    HealthSampled,
    HealthVerdict,
)
from fraisier.events.hooks import HookEvent, HookFailed, HookStarted, HookSucceeded
from fraisier.events.leases import (
    Holder,
    LeaseAcquired,
    LeaseFrozen,
    LeaseLost,
    LeaseRefused,
    LeaseReleased,
    LeaseRenewed,
    LeaseThawed,
    LeaseWaiting,
)
from fraisier.events.notes import (
    AuditCheckpointed,
    AuditPruned,
    ConfigChanged,
    PerformanceSlow,
    ProviderUnavailable,
    SecurityReported,
    ServiceFailed,
    ServiceRequested,
    ServiceSucceeded,
    SystemNoted,
    WebhookAccepted,
    WebhookReceived,
)
from fraisier.events.recovery import (
    CircuitClosed,
    CircuitEvent,
    CircuitHalfOpened,
    CircuitOpened,
    RecoveryDecided,
    RecoveryFailed,
    RecoveryRequested,
    RecoverySucceeded,
    RollbackFailed,
    RollbackStarted,
    RollbackSucceeded,
)
from fraisier.events.steering import (
    AbortRequested,
    DeploymentAborted,
    DeploymentAcknowledged,
    DeploymentPromoted,
    DeploymentResumed,
    PauseRequested,
    PromoteRequested,
    ResumeRequested,
)
from fraisier.events.steps import StepFailed, StepOutput, StepStarted, StepSucceeded


def _concrete(base: type[Event]) -> list[type[Event]]:
    found: list[type[Event]] = []
    for cls in base.__subclasses__():
        if isinstance(cls.__struct_config__.tag, str) and "." in cls.__struct_config__.tag:
            found.append(cls)
        found.extend(_concrete(cls))
    return found


EVENT_TYPES: dict[str, type[Event]] = {str(cls.__struct_config__.tag): cls for cls in _concrete(Event)}
"""Every registered event type; the bus and the journal refuse all others."""

EVENT_PATTERNS = (*EVENT_TYPES, *sorted({f"{name.partition('.')[0]}.*" for name in EVENT_TYPES}))
"""What may be meant where event types are chosen: each type, and each family of them."""

TYPE_OF: dict[type[Event], str] = {cls: name for name, cls in EVENT_TYPES.items()}
"""The type name of each event class."""

__all__ = [
    "EVENT_PATTERNS",
    "EVENT_TYPES",
    "TYPE_OF",
    "AbortRequested",
    "Actor",
    "AuditCheckpointed",
    "AuditPruned",
    "CircuitClosed",
    "CircuitEvent",
    "CircuitHalfOpened",
    "CircuitOpened",
    "ConfigChanged",
    "DeploymentAborted",
    "DeploymentAcknowledged",
    "DeploymentFailed",
    "DeploymentInterrupted",
    "DeploymentNeedsAttention",
    "DeploymentPaused",
    "DeploymentPlanned",
    "DeploymentPromoted",
    "DeploymentQueued",
    "DeploymentRequested",
    "DeploymentResumed",
    "DeploymentRolledBack",
    "DeploymentStarted",
    "DeploymentSucceeded",
    "DeploymentSuperseded",
    "Event",
    "HealthFailed",
    "HealthPart",
    "HealthPassed",
    "HealthRequested",
    "HealthSampled",
    "HealthVerdict",
    "Holder",
    "HookEvent",
    "HookFailed",
    "HookStarted",
    "HookSucceeded",
    "LeaseAcquired",
    "LeaseFrozen",
    "LeaseLost",
    "LeaseRefused",
    "LeaseReleased",
    "LeaseRenewed",
    "LeaseThawed",
    "LeaseWaiting",
    "PauseRequested",
    "PerformanceSlow",
    "PromoteRequested",
    "ProviderUnavailable",
    "RecoveryDecided",
    "RecoveryFailed",
    "RecoveryRequested",
    "RecoverySucceeded",
    "ResumeRequested",
    "RollbackFailed",
    "RollbackStarted",
    "RollbackSucceeded",
    "SecurityReported",
    "ServiceFailed",
    "ServiceRequested",
    "ServiceSucceeded",
    "StepEvent",
    "StepFailed",
    "StepOutput",
    "StepStarted",
    "StepSucceeded",
    "SystemNoted",
    "TargetFailed",
    "TargetInDoubt",
    "TargetRolledBack",
    "TargetStarted",
    "TargetUnchanged",
    "TargetUnreachable",
    "TargetUpdated",
    "WaveFailed",
    "WaveStarted",
    "WaveSucceeded",
    "WebhookAccepted",
    "WebhookReceived",
]
