"""Writes a deployment's facts: journal first, then into the live state that the runner reads."""

from __future__ import annotations

from fraisier.bus import Bus
from fraisier.events import Event, Record
from fraisier.journal.base import Guard
from fraisier.journal.fold import DeploymentState, Tables, apply


class Scribe:
    """Publishes events under the lease's guard and folds each into `tables`, exactly as the journal does."""

    def __init__(self, bus: Bus, tables: Tables, guard: Guard | None = None) -> None:
        self.bus = bus
        self.tables = tables
        self.guard = guard

    async def say(self, event: Event) -> Record:
        """Return the record of `event` once it is durable. Raises GuardRefusedError when the lease is not ours."""
        record = await self.bus.publish(event, guard=self.guard)
        apply(self.tables, record)
        self.tables.clear_dirty()
        return record

    async def ask(self, event: Event, *, timeout_s: float) -> Event:
        """Return the reply to a request event. Raises ResponderError."""
        return await self.bus.request(event, timeout_s=timeout_s, guard=self.guard)

    def deployment(self, deployment_id: str) -> DeploymentState:
        """Return the live state of a deployment."""
        found = self.tables.find_deployment(deployment_id)
        return found if found is not None else DeploymentState(deployment_id)
