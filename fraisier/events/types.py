"""Every fact that Fraisier records or announces: immutable, past tense, one class each.

The tag of a class is its event type and a promise to users. Durations are in seconds, times are microseconds since the
epoch. Free text in an event has been through redaction before the event was made; secrets are never in one.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """What all events share: which deployment, fraise, environment and target they are about (empty: none)."""

    ephemeral: ClassVar[bool] = False

    deployment_id: str = ""
    fraise: str = ""
    environment: str = ""
    target: str = ""


class StepEvent(Event, frozen=True, kw_only=True):
    """What the events of a step share: its name and which try it is, counted from 1."""

    step: str = ""
    attempt: int = 0


class Actor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asked: the user and host, and through what (`cli`, `api`, `webhook`, `schedule`, `watch`)."""

    user: str = ""
    host: str = ""
    trigger: str = "api"


# deployments ---------------------------------------------------------------------------------------------------------


class DeploymentRequested(Event, frozen=True, tag="deployment.requested"):
    """Somebody asked for a deployment. `kind` is deploy or rollback; `request` holds the options as given."""

    kind: str = "deploy"
    fraise_type: str = ""
    provider: str = ""
    actor: Actor = Actor()
    rollback_of: str = ""
    request: dict[str, Any] = {}


class DeploymentPlanned(Event, frozen=True, tag="deployment.planned"):
    """The plan was frozen; `plan` is the whole of it, and the only thing the deployment is driven by from here on."""

    version: str = ""
    previous_version: str = ""
    strategy: str = ""
    plan: msgspec.Raw = msgspec.Raw(b"{}")


class DeploymentQueued(Event, frozen=True, tag="deployment.queued"):
    """The deployment waits for its lease."""

    holder: str = ""


class DeploymentStarted(Event, frozen=True, tag="deployment.started"):
    """The deployment began to act on its targets."""

    version: str = ""
    targets: int = 0


class DeploymentPaused(Event, frozen=True, tag="deployment.paused"):
    """The deployment stopped where it was and holds its position; not an end."""

    reason: str = ""
    detail: str = ""


class DeploymentSucceeded(Event, frozen=True, tag="deployment.succeeded"):
    """Every target runs the wanted version, with evidence. `outcome` is succeeded or unchanged."""

    outcome: str = "succeeded"
    reason: str = ""
    detail: str = ""
    duration_s: float = 0.0


class DeploymentFailed(Event, frozen=True, tag="deployment.failed"):
    """The deployment ended without reaching its aim. `outcome` is failed, locked, unreachable or skipped."""

    outcome: str = "failed"
    reason: str = ""
    detail: str = ""
    duration_s: float = 0.0


class DeploymentRolledBack(Event, frozen=True, tag="deployment.rolled_back"):
    """The deployment failed and every changed target is back at its last good release."""

    reason: str = ""
    detail: str = ""
    duration_s: float = 0.0


class DeploymentNeedsAttention(Event, frozen=True, tag="deployment.needs_attention"):
    """A person must look: a step is in doubt that may not be repeated, or a rollback failed; not an end."""

    reason: str = ""
    detail: str = ""
    duration_s: float = 0.0


class DeploymentInterrupted(Event, frozen=True, tag="deployment.interrupted"):
    """The deployment was ended from outside in mid-way; not an end."""

    reason: str = ""
    detail: str = ""
    duration_s: float = 0.0


class DeploymentSuperseded(Event, frozen=True, tag="deployment.superseded"):
    """An unfinished deployment was replaced by a new one."""

    reason: str = ""
    detail: str = ""
    by: str = ""


# waves and targets ---------------------------------------------------------------------------------------------------


class WaveStarted(Event, frozen=True, tag="wave.started"):
    """A wave began; `wave` counts from 1."""

    wave: int = 0
    targets: tuple[str, ...] = ()


class WaveSucceeded(Event, frozen=True, tag="wave.succeeded"):
    """Every target of the wave is verified; the next wave may start after `pause_s`."""

    wave: int = 0
    pause_s: float = 0.0


class WaveFailed(Event, frozen=True, tag="wave.failed"):
    """More targets failed than may; no further target is changed."""

    wave: int = 0
    failed: tuple[str, ...] = ()


class TargetStarted(Event, frozen=True, tag="target.started"):
    """The target's change began in its wave."""

    wave: int = 0


class TargetUpdated(Event, frozen=True, tag="target.updated"):
    """The target serves the new release: read back and probed."""

    release: str = ""
    version: str = ""
    previous_release: str = ""
    previous_version: str = ""
    duration_s: float = 0.0


class TargetUnchanged(Event, frozen=True, tag="target.unchanged"):
    """The target already served what was wanted: version, settings, process and health agree."""

    release: str = ""
    version: str = ""


class TargetFailed(Event, frozen=True, tag="target.failed"):
    """The target did not reach the new release. `bad`: there is evidence against the release itself."""

    step: str = ""
    reason: str = ""
    detail: str = ""
    release: str = ""
    bad: bool = False
    duration_s: float = 0.0


class TargetUnreachable(Event, frozen=True, tag="target.unreachable"):
    """The target could not be reached, which says nothing about the release."""

    reason: str = ""
    detail: str = ""


class TargetRolledBack(Event, frozen=True, tag="target.rolled_back"):
    """The target serves its previous release again (empty: it has none and is stopped)."""

    release: str = ""
    version: str = ""
    detail: str = ""


class TargetInDoubt(Event, frozen=True, tag="target.in_doubt"):
    """Nobody knows what happened at the target; a person must look."""

    step: str = ""
    detail: str = ""


# steps ---------------------------------------------------------------------------------------------------------------


class StepStarted(StepEvent, frozen=True, tag="step.started"):
    """The intent: durable before the step touches the target. `before` is what a probe needs to tell done from not done."""

    before: dict[str, Any] = {}


class StepOutput(StepEvent, frozen=True, tag="step.output"):
    """A line that a step printed; `stream` is stdout or stderr. Ephemeral."""

    ephemeral: ClassVar[bool] = True

    stream: str = "stdout"
    line: str = ""


class StepSucceeded(StepEvent, frozen=True, tag="step.succeeded"):
    """The outcome: the step is done; `evidence` says how that is known."""

    duration_s: float = 0.0
    evidence: dict[str, Any] = {}


class StepFailed(StepEvent, frozen=True, tag="step.failed"):
    """The outcome: the step failed. `known` is False when the effect may have happened all the same."""

    duration_s: float = 0.0
    code: str = ""
    error_type: str = ""
    message: str = ""
    recoverable: bool = False
    known: bool = True
    output_tail: tuple[str, ...] = ()


# health --------------------------------------------------------------------------------------------------------------


class HealthRequested(Event, frozen=True, tag="health.requested"):
    """A verdict on a target is wanted. `purpose` is verify, bake, plan or check. Ephemeral.

    `baseline` is what was seen of the service before the restart (its invocation), so that the old process cannot vouch
    for the new release; `budget_s` is what is left of the deployment's own deadline.
    """

    ephemeral: ClassVar[bool] = True

    purpose: str = "verify"
    release: str = ""
    version: str = ""
    baseline: str = ""
    budget_s: float = 0.0


class HealthSampled(Event, frozen=True, tag="health.sampled"):
    """One probe was answered, or not: `status` is pass, fail or error. Ephemeral."""

    ephemeral: ClassVar[bool] = True

    check_type: str = ""
    status: str = ""
    duration_s: float = 0.0
    message: str = ""


class HealthVerdict(Event, frozen=True, kw_only=True):
    """What both verdicts carry, so that metrics can be rebuilt from the journal: `counts` has probes by status, `buckets`
    each probe once, under the smallest of .1, .5, 1, 2, 5, 10 seconds that holds its duration (`+Inf` above), and
    `probes_s` the sum of their durations; `duration_s` is how long the verdict took.
    """

    provider: str = ""
    purpose: str = "verify"
    check_type: str = ""
    release: str = ""
    version: str = ""
    counts: dict[str, int] = {}
    buckets: dict[str, int] = {}
    probes_s: float = 0.0
    duration_s: float = 0.0
    message: str = ""
    evidence: dict[str, Any] = {}


class HealthPassed(HealthVerdict, frozen=True, tag="health.passed"):
    """The target is healthy and serves the release that was asked about."""


class HealthFailed(HealthVerdict, frozen=True, tag="health.failed"):
    """The target is not healthy. `reason` is deadline, exited, fall, wrong_release, unreachable or no_answer;
    `bad` says that a live target gave evidence against the release."""

    reason: str = ""
    bad: bool = False


# recovery ------------------------------------------------------------------------------------------------------------


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
    child_id: str = ""
    targets: tuple[str, ...] = ()


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


# leases --------------------------------------------------------------------------------------------------------------


class Holder(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who holds a lease, exactly enough to prove that it is dead: a pid means nothing without host, boot and start."""

    owner: str = ""
    host: str = ""
    boot_id: str = ""
    pid: int = 0
    pid_start: str = ""
    version: str = ""


class LeaseAcquired(Event, frozen=True, tag="lease.acquired"):
    """The exclusive right was taken; `epoch` is higher than any before for the fraise and environment."""

    epoch: int = 0
    holder: Holder = Holder()
    expires_at: int = 0
    took_over: str = ""


class LeaseWaiting(Event, frozen=True, tag="lease.waiting"):
    """A deployment waits for another holder."""

    epoch: int = 0
    holder: Holder = Holder()


class LeaseRenewed(Event, frozen=True, tag="lease.renewed"):
    """The holder is alive; the lease now ends at `expires_at`."""

    epoch: int = 0
    expires_at: int = 0


class LeaseLost(Event, frozen=True, tag="lease.lost"):
    """The holder found that the lease is no longer its own."""

    epoch: int = 0
    detail: str = ""


class LeaseReleased(Event, frozen=True, tag="lease.released"):
    """The holder gave the right back."""

    epoch: int = 0


# services, audit, system ---------------------------------------------------------------------------------------------


class ServiceRequested(Event, frozen=True, tag="service.requested"):
    """The intent to start, stop, restart or remove the service of a target outside a deployment."""

    action: str = ""
    actor: Actor = Actor()


class ServiceSucceeded(Event, frozen=True, tag="service.succeeded"):
    """The action is done."""

    action: str = ""
    duration_s: float = 0.0


class ServiceFailed(Event, frozen=True, tag="service.failed"):
    """The action failed."""

    action: str = ""
    code: str = ""
    message: str = ""
    duration_s: float = 0.0


class AuditCheckpointed(Event, frozen=True, tag="audit.checkpointed"):
    """The head of the chain was signed: HMAC-SHA-256 of log id, `head_seq` and `head_hash` under the key `key_id`."""

    head_seq: int = 0
    head_hash: str = ""
    key_id: str = ""
    signature: str = ""


class LeaseRefused(Event, frozen=True, tag="lease.refused"):
    """A deployment gave up waiting for another holder after `waited_s`."""

    epoch: int = 0
    holder: Holder = Holder()
    waited_s: float = 0.0


# what is noted beside deployments ------------------------------------------------------------------------------------


class WebhookReceived(Event, frozen=True, tag="webhook.received"):
    """A request came from a git host; `source` is the address that it came from."""

    provider: str = ""
    event: str = ""
    delivery: str = ""
    branch: str = ""
    version: str = ""
    source: str = ""


class WebhookAccepted(Event, frozen=True, tag="webhook.accepted"):
    """A webhook asked for a deployment and got one: the deployment that this event names."""

    provider: str = ""
    delivery: str = ""
    branch: str = ""
    version: str = ""


class ConfigChanged(Event, frozen=True, tag="config.changed"):
    """The configuration is no longer what it was; `changes` are key paths, never values."""

    path: str = ""
    changes: tuple[str, ...] = ()
    detail: str = ""
    actor: Actor = Actor()


class ProviderUnavailable(Event, frozen=True, tag="provider.unavailable"):
    """A provider could not be used, outside the steps of a deployment."""

    provider: str = ""
    code: str = ""
    error_type: str = ""
    message: str = ""
    recoverable: bool = False


class SecurityReported(Event, frozen=True, tag="security.reported"):
    """Something happened that a person in charge of security wants to know. `severity` is low, medium, high or critical."""

    kind: str = ""
    severity: str = "medium"
    detail: str = ""
    source: str = ""
    actor: Actor = Actor()
    data: dict[str, Any] = {}


class PerformanceSlow(Event, frozen=True, tag="performance.slow"):
    """An operation took longer than it should; `threshold_s` is how long it may take."""

    operation: str = ""
    duration_s: float = 0.0
    threshold_s: float = 0.0
    data: dict[str, Any] = {}


class SystemNoted(Event, frozen=True, tag="system.noted"):
    """Something happened to Fraisier itself that belongs into the record."""

    kind: str = ""
    detail: str = ""
    actor: Actor = Actor()
    data: dict[str, Any] = {}


def _concrete(base: type[Event]) -> list[type[Event]]:
    found: list[type[Event]] = []
    for cls in base.__subclasses__():
        if isinstance(cls.__struct_config__.tag, str) and "." in cls.__struct_config__.tag:
            found.append(cls)
        found.extend(_concrete(cls))
    return found


EVENT_TYPES: dict[str, type[Event]] = {str(cls.__struct_config__.tag): cls for cls in _concrete(Event)}
"""Every registered event type; the bus and the journal refuse all others."""

TYPE_OF: dict[type[Event], str] = {cls: name for name, cls in EVENT_TYPES.items()}
"""The type name of each event class."""
