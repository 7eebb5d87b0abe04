"""What is done about failures."""

from __future__ import annotations

from fraisier.events.base import Event, StepEvent


class RecoveryRequested(StepEvent, frozen=True, tag="recovery.requested"):
    """A step, the question to the source (`resolve`), or a deployment, failed and the runner asks what to do. `fallbacks`
    are the places that it may still go to, when nothing was changed yet."""

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
    retry_after_s: float = 0.0
    on_failure: str = "rollback"
    fallbacks: tuple[str, ...] = ()


class RecoveryDecided(StepEvent, frozen=True, tag="recovery.decided"):
    """The answer, durable before it is acted on. `action` is retry (after `delay_s`), fallback, rollback, hold, stop or
    fail."""

    action: str = "fail"
    strategy: str = ""
    reason: str = ""
    detail: str = ""
    delay_s: float = 0.0
    fallback: str = ""


class RecoverySucceeded(StepEvent, frozen=True, tag="recovery.succeeded"):
    """What was decided worked: the step passed on a later attempt, or the fallback serves."""

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


class CircuitEvent(Event, frozen=True, kw_only=True):
    """What the changes of a circuit share: whose calls it passes or refuses (a provider and the address of a target, or
    the server of a source), and the circuit's state before."""

    resource: str = ""
    provider: str = ""
    previous: str = ""


class CircuitOpened(CircuitEvent, frozen=True, tag="circuit.opened"):
    """A resource failed too often, or failed its trial: it is left alone until `until_at`."""

    until_at: int = 0


class CircuitHalfOpened(CircuitEvent, frozen=True, tag="circuit.half_opened"):
    """The time of an open circuit is over: a bounded number of calls may try the resource."""


class CircuitClosed(CircuitEvent, frozen=True, tag="circuit.closed"):
    """A trial reached the resource, or nobody used it for a long time: every call passes again."""
