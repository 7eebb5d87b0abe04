"""Deployments, waves and targets: what became of them."""

from __future__ import annotations

from typing import Any

import msgspec

from fraisier.events.base import Actor, Event


class DeploymentRequested(Event, frozen=True, tag="deployment.requested"):
    """Somebody asked for a deployment. `kind` is deploy or rollback; `request` holds the options as given."""

    kind: str = "deploy"
    fraise_type: str = ""
    provider: str = ""
    actor: Actor = Actor()
    rollback_of: str = ""
    request: dict[str, Any] = {}


class DeploymentPlanned(Event, frozen=True, tag="deployment.planned"):
    """The plan was frozen; `plan` is the whole of it, and the only thing the deployment is driven by from here on.

    A deployment that goes through another provider is planned once more, with `fallback` as the name of that place."""

    provider: str = ""
    fallback: str = ""
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
