"""What people ask of a deployment that is under way, from any terminal, and what its runner answers."""

from __future__ import annotations

from fraisier.events.base import Actor, Event


class SteeringRequest(Event, frozen=True):
    """Somebody asks for something; anybody may append it, with or without the lease."""

    actor: Actor = Actor()


class AbortRequested(SteeringRequest, frozen=True, tag="deployment.abort_requested"):
    """Somebody wants the deployment to end and what it began to be put right, as `on_failure` says."""


class PauseRequested(SteeringRequest, frozen=True, tag="deployment.pause_requested"):
    """Somebody wants no further target to be changed until told otherwise."""


class PromoteRequested(SteeringRequest, frozen=True, tag="deployment.promote_requested"):
    """Somebody wants a deployment that waits to go on now."""


class ResumeRequested(SteeringRequest, frozen=True, tag="deployment.resume_requested"):
    """Somebody wants a paused deployment to go on."""


class DeploymentAcknowledged(Event, frozen=True, tag="deployment.acknowledged"):
    """The runner saw the request at `request_seq`. `effect` is done, already or refused; `detail` says why."""

    action: str = ""
    request_seq: int = 0
    effect: str = "done"
    detail: str = ""


class DeploymentResumed(Event, frozen=True, tag="deployment.resumed"):
    """The deployment goes on: after a pause, or in another process than the one that began it."""

    actor: Actor = Actor()
    detail: str = ""


class DeploymentPromoted(Event, frozen=True, tag="deployment.promoted"):
    """A wait was ended by a person, and the deployment goes on."""

    actor: Actor = Actor()
    detail: str = ""


class DeploymentAborted(Event, frozen=True, tag="deployment.aborted"):
    """A person ended the deployment; what it had begun was put right as `on_failure` says."""

    reason: str = ""
    detail: str = ""
    duration_s: float = 0.0
