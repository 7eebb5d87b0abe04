"""Goes on with deployments that ended without an end: which there are, and who carries them out."""

from __future__ import annotations

from typing import Any

import msgspec

from fraisier.errors import NotFoundError, UsageError
from fraisier.events import Actor
from fraisier.journal.base import Journal
from fraisier.journal.fold import DeploymentState, LeaseState
from fraisier.rollout.deployer import Deployer
from fraisier.rollout.life import Life
from fraisier.rollout.reopen import open_deployments
from fraisier.rollout.request import DeployRequest, RollbackRequest
from fraisier.rollout.stop import StopSignal
from fraisier.rollout.undo import Undo
from fraisier.rollout.world import World


async def unfinished(world: World) -> list[DeploymentState]:
    """Return every deployment that has no end and that nobody carries out now, oldest first. A linked rollback is part of
    the deployment that it undoes."""
    found = []
    for state in await open_deployments(world.journal):
        if not state.rollback_of and not await may_live(world, state):
            found.append(state)
    return found


async def may_live(world: World, state: DeploymentState) -> bool:
    """Whether somebody may be at work on it: who holds the lease for it, or who waits for the lease of another."""
    lease = await world.journal.lease(state.fraise, state.environment)
    if is_carried_out(world, state, lease):
        return True
    held = lease is not None and not world.leases.is_free(lease, world.clock.now_us())
    return held and state.state in ("planned", "queued")


def is_carried_out(world: World, state: DeploymentState, lease: LeaseState | None) -> bool:
    """Whether a process that may be alive holds the lease for this very deployment."""
    return (
        lease is not None
        and lease.deployment_id == state.id
        and not world.leases.is_free(lease, world.clock.now_us())
    )


async def find(journal: Journal, deployment_id: str) -> DeploymentState:
    """Return the deployment that is meant: a linked rollback means the one that it undoes. Raises NotFoundError."""
    state = await journal.deployment(deployment_id)
    if state is None:
        raise NotFoundError(f"there is no deployment {deployment_id!r} in this store")
    return await find(journal, state.rollback_of) if state.rollback_of else state


async def choose(world: World, deployment_id: str) -> DeploymentState | None:
    """Return the deployment to go on with: the named one, else the only one that is unfinished, None without any.

    Raises UsageError when there are several, NotFoundError."""
    if deployment_id:
        return await find(world.journal, deployment_id)
    waiting = await unfinished(world)
    if len(waiting) > 1:
        names = [f"{state.id} ({state.fraise} in {state.environment}, {state.state})" for state in waiting]
        raise UsageError(
            f"{len(waiting)} deployments are unfinished: {', '.join(names)}",
            context={"deployments": [state.id for state in waiting]},
            hint="name one, or use --all",
        )
    return await find(world.journal, waiting[0].id) if waiting else None


def again(
    world: World, state: DeploymentState, actor: Actor, *, stop: StopSignal, lock_wait_s: float = 0.0
) -> Life:
    """Return the life that goes on with a deployment: by its plan when it has one, else by what was asked for."""
    given: dict[str, Any] = {
        **state.request,
        "fraise": state.fraise,
        "environment": state.environment,
        "actor": msgspec.structs.asdict(actor),
        "lock_wait_s": lock_wait_s,
    }
    if state.kind == "rollback":
        return Undo(world, msgspec.convert(given, RollbackRequest), stop=stop, resumes=state)
    return Deployer(world, msgspec.convert(given, DeployRequest), stop=stop, resumes=state)
