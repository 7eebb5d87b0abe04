"""What a deployment works with: the ports, and what the orchestrator made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from fraisier.bus import Bus
from fraisier.clock import Clock
from fraisier.config.resolve import Resolver
from fraisier.config.schema import Config, Environment, Retry
from fraisier.ids import Ids
from fraisier.journal.base import Journal
from fraisier.journal.fold import DeploymentState, Placement, Release
from fraisier.providers.base import Provider
from fraisier.providers.hooks import HookRunner
from fraisier.recovery import RetryStrategy
from fraisier.redaction import Redactor
from fraisier.rollout.lease import Leases
from fraisier.rollout.plan import Recorded
from fraisier.rollout.steering import Helm
from fraisier.rollout.subjects import Subjects


class World(msgspec.Struct, frozen=True, kw_only=True):
    """The surroundings of all deployments of one orchestrator."""

    config: Config
    bus: Bus
    journal: Journal
    clock: Clock
    ids: Ids
    leases: Leases
    resolver: Resolver
    redactor: Redactor
    subjects: Subjects
    helm: Helm
    make_provider: Callable[[Environment], Provider]
    make_retry: Callable[[Retry], RetryStrategy]
    hook_runner: HookRunner

    async def recorded(self, fraise: str, environment: str) -> Recorded:
        """Return what the journal knows of the targets of a fraise in an environment."""
        placements: list[Placement] = await self.journal.placements(fraise, environment)
        releases = await self.journal.releases(fraise, environment)
        return Recorded(
            {place.target: place for place in placements},
            {(release.target, release.release): release for release in releases},
        )

    async def versions(self, fraise: str, environment: str) -> dict[str, str]:
        """Return the recorded version of each target."""
        return {place.target: place.version for place in await self.journal.placements(fraise, environment)}

    async def releases(self, fraise: str, environment: str) -> Mapping[str, list[Release]]:
        """Return the known releases by target, newest first."""
        found: dict[str, list[Release]] = {}
        for release in await self.journal.releases(fraise, environment):
            found.setdefault(release.target, []).append(release)
        return found


def about(state: DeploymentState) -> dict[str, Any]:
    """Return the envelope of events about a deployment."""
    return {"deployment_id": state.id, "fraise": state.fraise, "environment": state.environment}
