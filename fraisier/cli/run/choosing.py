"""Which deployment is meant when none is named."""

from __future__ import annotations

from collections.abc import Sequence

from fraisier.errors import NotFoundError, UsageError
from fraisier.journal.fold import DeploymentState
from fraisier.orchestrator import Orchestrator


async def open_ones(orchestrator: Orchestrator) -> list[DeploymentState]:
    """Return the deployments that have not ended, running or not, oldest first; those that undo another are part of it."""
    return [state for state in await orchestrator.open_deployments() if not state.rollback_of]


async def resumable(orchestrator: Orchestrator) -> list[DeploymentState]:
    """Return those that `resume` can go on with, oldest first: nobody carries them out, or they are paused."""
    unfinished = {state.id for state in await orchestrator.unfinished()}
    return [
        state for state in await open_ones(orchestrator) if state.id in unfinished or state.state == "paused"
    ]


def refuse_several(found: Sequence[DeploymentState], hint: str) -> None:
    """Raise UsageError, with the list, when there are more than one."""
    if len(found) > 1:
        names = "\n".join(
            f"  {state.id}  {state.fraise} in {state.environment}: {state.state}" for state in found
        )
        raise UsageError(
            f"{len(found)} deployments have not ended:\n{names}",
            hint=hint,
            context={"deployments": [in_a_list(state) for state in found]},
        )


async def the_only_one(orchestrator: Orchestrator, action: str) -> str:
    """Return the id of the only deployment that has not ended. Raises UsageError, NotFoundError."""
    found = await open_ones(orchestrator)
    refuse_several(found, f"name one: fraisier {action} {found[0].id if found else 'DEPLOYMENT'}")
    if not found:
        raise NotFoundError(
            f"there is no deployment to {action}: all have ended",
            hint="`fraisier history` lists them; name one to see how it ended",
        )
    return found[0].id


def in_a_list(state: DeploymentState) -> dict[str, str]:
    """Return a deployment as it stands in a list."""
    return {
        "deployment_id": state.id,
        "fraise": state.fraise,
        "environment": state.environment,
        "state": state.state,
    }
