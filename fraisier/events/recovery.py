"""What is done about failures."""

from __future__ import annotations

from fraisier.events.base import Event, StepEvent


class RecoveryRequested(StepEvent, frozen=True, tag="recovery.requested"):
    """A step failed and the runner asks what to do."""

    provider: str = ""
    code: str = ""
    error_type: str = ""
    message: str = ""
    recoverable: bool = False
    known: bool = True
    max_attempts: int = 3
    base_delay_s: float = 1.0
    backoff_factor: float = 2.0
    max_delay_s: float = 60.0
    on_failure: str = "rollback"


class RecoveryDecided(StepEvent, frozen=True, tag="recovery.decided"):
    """The answer, durable before it is acted on. `action` is retry (after `delay_s`), rollback, hold, stop or fail."""

    action: str = "fail"
    strategy: str = ""
    reason: str = ""
    detail: str = ""
    delay_s: float = 0.0


class RecoverySucceeded(StepEvent, frozen=True, tag="recovery.succeeded"):
    """What was decided worked: the step passed on a later attempt."""

    strategy: str = ""


class RecoveryFailed(StepEvent, frozen=True, tag="recovery.failed"):
    """What was decided did not help."""

    strategy: str = ""
    message: str = ""


class RollbackStarted(Event, frozen=True, tag="rollback.started"):
    """Targets go back under the linked deployment `child_id`; `whole` is False when one tolerated failure is restored
    and the deployment goes on."""

    child_id: str = ""
    whole: bool = True
    provider: str = ""
    reason: str = ""
    targets: tuple[str, ...] = ()


class RollbackSucceeded(Event, frozen=True, tag="rollback.succeeded"):
    """Every target of the rollback is back."""

    child_id: str = ""
    provider: str = ""
    reason: str = ""
    duration_s: float = 0.0


class RollbackFailed(Event, frozen=True, tag="rollback.failed"):
    """At least one target could not be brought back."""

    child_id: str = ""
    provider: str = ""
    reason: str = ""
    failed: tuple[str, ...] = ()
    duration_s: float = 0.0
