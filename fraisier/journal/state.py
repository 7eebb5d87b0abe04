"""What the log says at this moment: deployments with their targets and steps, placements, releases and leases."""

from __future__ import annotations

from typing import Any

import msgspec

from fraisier.events import Actor, Holder

TERMINAL_STATES = frozenset({"succeeded", "failed", "rolled_back", "aborted", "superseded"})
"""States that a deployment never leaves."""

OPEN_STATES = ("planned", "queued", "running", "paused", "rolling_back", "interrupted", "needs_attention")
"""States that a deployment has yet to leave."""


class StepState(msgspec.Struct, omit_defaults=True):
    """Where a step of a target stands: started (an intent without an outcome is in doubt), succeeded or failed."""

    status: str
    attempt: int
    intent_seq: int
    at_us: int
    duration_s: float = 0.0
    error: str = ""
    code: str = ""
    evidence: dict[str, Any] = {}


def hook_key(phase: str, name: str) -> str:
    """Return the key of a hook's state: among the steps of its target, or among the `hooks` of the deployment."""
    return f"{phase}:{name}"


def is_hook(step: str) -> bool:
    """Whether a key among the steps of a target is a hook's."""
    return ":" in step


class TargetState(msgspec.Struct):
    """A target within one deployment. `action` is update, unchanged, remove or skip; `undone` by a later rollback."""

    name: str
    wave: int = 0
    action: str = "update"
    outcome: str = ""
    step: str = ""
    reason: str = ""
    error: str = ""
    release: str = ""
    version: str = ""
    digest: str = ""
    previous_release: str = ""
    previous_version: str = ""
    begun: bool = False
    undone: bool = False
    started_us: int = 0
    finished_us: int = 0
    steps: dict[str, StepState] = {}


class DeploymentState(msgspec.Struct):
    """A deployment as the journal tells it. Empty strings and zeros mean: not yet.

    `fallback` names the place beside its environment that it goes through (empty: through the environment itself).
    `asked` is abort or pause while a person wants it; `child_id` is the rollback of the whole, `children` are those of
    single targets, by name. `hooks` are those of the deployment as a whole; those of a target are among its steps.
    """

    id: str
    fraise: str = ""
    environment: str = ""
    kind: str = "deploy"
    fraise_type: str = ""
    provider: str = ""
    state: str = "planned"
    outcome: str = ""
    reason: str = ""
    detail: str = ""
    version: str = ""
    previous_version: str = ""
    strategy: str = ""
    actor: Actor = Actor()
    rollback_of: str = ""
    child_id: str = ""
    decision: str = ""
    decided_reason: str = ""
    decided_detail: str = ""
    fallback: str = ""
    asked: str = ""
    children: dict[str, str] = {}
    undoes: tuple[str, ...] = ()
    requested_us: int = 0
    started_us: int = 0
    finished_us: int = 0
    duration_s: float = 0.0
    first_seq: int = 0
    last_seq: int = 0
    request: dict[str, Any] = {}
    plan: bytes = b""
    waves: dict[int, str] = {}
    hooks: dict[str, StepState] = {}
    targets: dict[str, TargetState] = {}

    @property
    def is_terminal(self) -> bool:
        """Whether the deployment has ended for good."""
        return self.state in TERMINAL_STATES


class Placement(msgspec.Struct):
    """What is recorded about one target of a fraise in an environment, across deployments."""

    fraise: str
    environment: str
    target: str
    release: str = ""
    version: str = ""
    digest: str = ""
    good_release: str = ""
    good_version: str = ""
    good_digest: str = ""
    health: str = "unknown"
    health_us: int = 0
    since_us: int = 0
    deployment_id: str = ""
    served: bool = False
    """It was healthy once since something was first put there; from then on it is missed when it is not."""


class Release(msgspec.Struct):
    """A release known on a target. `status` is staged, serving, kept or pruned; `previous` is the good one it replaced."""

    fraise: str
    environment: str
    target: str
    release: str
    version: str = ""
    digest: str = ""
    status: str = "staged"
    good: bool = False
    bad: bool = False
    previous: str = ""
    deployment_id: str = ""
    created_us: int = 0
    seq: int = 0


class LeaseState(msgspec.Struct):
    """The newest lease of a fraise in an environment, and the freeze that a person put on it.

    `renewed_us` is the holder's last sign of life, `broken_by` who took the lease from it by hand. A freeze without
    `frozen_until_us` lasts until it is released.
    """

    fraise: str
    environment: str
    epoch: int = 0
    held: bool = False
    holder: Holder = Holder()
    deployment_id: str = ""
    acquired_us: int = 0
    expires_us: int = 0
    renewed_us: int = 0
    broken_by: str = ""
    frozen_by: str = ""
    frozen_message: str = ""
    frozen_us: int = 0
    frozen_until_us: int = 0

    def is_frozen(self, now_us: int) -> bool:
        """Whether a freeze forbids changes at this moment."""
        return bool(self.frozen_by) and not 0 < self.frozen_until_us <= now_us


def snapshot(deployment: DeploymentState) -> DeploymentState:
    """Return a copy that later events do not change: targets by wave and name, their steps in the order of their intents.

    What an event brought (`request`, `before`, `evidence`) is shared, because no fold changes it.
    """
    replace = msgspec.structs.replace
    targets = {
        target.name: replace(
            target,
            steps={
                name: replace(step)
                for name, step in sorted(target.steps.items(), key=lambda item: item[1].intent_seq)
            },
        )
        for target in sorted(deployment.targets.values(), key=lambda target: (target.wave, target.name))
    }
    hooks = {key: replace(hook) for key, hook in deployment.hooks.items()}
    return replace(deployment, waves=dict(deployment.waves), hooks=hooks, targets=targets)


def outline(deployment: DeploymentState) -> DeploymentState:
    """Return a copy as lists show it: without the plan, the targets without their steps."""
    copied = snapshot(deployment)
    copied.plan = b""
    for target in copied.targets.values():
        target.step, target.steps = "", {}
    return copied
