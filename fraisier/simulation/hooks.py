"""Hooks on the simulated orchestrator's own machine: they go on when their process is gone, and leave receipts."""

from __future__ import annotations

from typing import Any

from fraisier.errors import ProviderConnectionError
from fraisier.providers.base import StepCall
from fraisier.simulation.process import Process
from fraisier.simulation.world import World


class SimulatedHooks:
    """The `HookRunner` of one process; a dead process runs none."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    async def run(self, call: StepCall) -> dict[str, Any]:
        """Run a hook, or take what an earlier attempt of it came to."""
        self._alive()
        return await self._world.carry(call, here=True)

    async def forget(self, deployment_id: str) -> None:
        """End what still runs of a deployment's hooks."""
        self._alive()
        self._world.end_jobs(self._world.here, lambda key: key[0] == deployment_id)

    def _alive(self) -> None:
        if self._process.dead:
            raise ProviderConnectionError("the process that these hooks belonged to is dead")
