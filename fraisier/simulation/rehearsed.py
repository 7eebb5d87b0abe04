"""Targets of a rehearsal: as they were found, with steps that fail because somebody wants to see that."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from fraisier.config.schema import Environment
from fraisier.errors import HookError, MigrationError, ProviderError
from fraisier.providers.base import Artifact, StepCall, TargetFacts
from fraisier.rollout.plan import Seen
from fraisier.simulation.hosts import SimulatedHost
from fraisier.simulation.past import Past
from fraisier.simulation.process import Process
from fraisier.simulation.provider import SimulatedProvider
from fraisier.simulation.services import Behaviour
from fraisier.simulation.world import World, receipt_key


class RehearsedHost(SimulatedHost):
    """A target as the look found it. `fails` are the steps that do not work with any release that was not there before;
    of those in `bad` that means how the release behaves. Without a service there is nothing to look at, as on the real
    one."""

    def __init__(
        self, name: str, *, fails: Collection[str], bad: Mapping[str, Behaviour], has_service: bool
    ) -> None:
        super().__init__(name)
        self._fails = frozenset(fails)
        self._bad = bad
        self._has_service = has_service
        self._before: frozenset[str] = frozenset()

    def begin_with(self, releases: dict[str, str], current: str, running: str, behaviour: Behaviour) -> None:
        """Be as found: releases with their versions, the current one, and the one that runs (empty: none)."""
        self.releases = dict(releases)
        self._before = frozenset(releases)
        self.current = current
        if running:
            self.unit.start(running, behaviour, 0.0, "before")

    def fails(self, call: StepCall) -> bool:
        """Whether a step is to fail here."""
        return call.step in self._fails and self._is_new(call)

    def facts(self, now_s: float) -> TargetFacts:
        """What a look finds."""
        return super().facts(now_s) if self._has_service else TargetFacts(release=self.current)

    def begin(self, call: StepCall) -> None:
        """The first moment of a step. Raises ProviderError, or MigrationError, for one that is to fail."""
        super().begin(call)
        if not self.fails(call):
            return
        told = f"{call.step} on {self.name} fails, as the rehearsal was told"
        if call.step == "migrate":
            self.receipts[receipt_key(call, call.attempt)] = "failed"
            raise MigrationError(told)
        if call.hook is not None:
            self.receipts[receipt_key(call, call.attempt)] = "failed"
            raise HookError(told)
        raise ProviderError(told)

    def end(self, call: StepCall, behaviour: Behaviour, now_s: float) -> dict[str, Any]:
        """The last moment of a step: its effect, and the evidence."""
        if self._is_new(call):
            behaviour = next((bad for step, bad in self._bad.items() if step in self._fails), behaviour)
        evidence = super().end(call, behaviour, now_s)
        if call.step == "switch" and not self._has_service:
            self.unit.start(call.release, behaviour, now_s, call.deployment_id)
        return evidence

    def _is_new(self, call: StepCall) -> bool:
        return bool(call.release) and call.release not in self._before and not call.undo


class RehearsedProvider(SimulatedProvider):
    """Knows only the artifact of the plan; a step that is to fail takes its time before it does."""

    def __init__(self, world: World, process: Process, artifact: Artifact | None) -> None:
        super().__init__(world, process)
        self._artifact = artifact

    async def resolve(self, settings: Environment, ref: str) -> Artifact:
        """Return what the plan found the version to be."""
        return self._artifact or await super().resolve(settings, ref)

    async def perform(self, call: StepCall) -> dict[str, Any]:
        """Take a step."""
        host = self._world.hosts[call.context.target.name]
        if isinstance(host, RehearsedHost) and host.fails(call):
            await anyio.sleep(self._world.durations_s.get(call.step, 0.0))
        return await super().perform(call)


class RehearsedHooks:
    """Runs no hook: each one is taken to end well, but those that are to fail, by target (empty: of the deployment)."""

    def __init__(self, fails: Mapping[str, Collection[str]]) -> None:
        self._fails = fails

    async def run(self, call: StepCall) -> dict[str, Any]:
        """Return the evidence of a hook that succeeded. Raises HookError for one that is to fail."""
        await checkpoint()
        if call.step in self._fails.get(call.context.target.name, ()):
            raise HookError(f"{call.step} fails, as the rehearsal was told")
        return {"exit_code": 0}

    async def forget(self, deployment_id: str) -> None:
        """There is nothing to forget."""


def hosts_as_found(
    past: Past, settings: Environment, fails: Mapping[str, Collection[str]]
) -> dict[str, SimulatedHost]:
    """Return a host for each target of the environment, in the state that the look and the store tell of."""
    # Without a health check only a service that ends can be told from a good one.
    bad = {
        "verify": Behaviour("sick" if settings.health_check is not None else "exits"),
        "bake": Behaviour("dies", after_s=_healthy_until_s(settings)),
    }
    hosts: dict[str, SimulatedHost] = {}
    for target in settings.targets:
        host = RehearsedHost(
            target.name,
            fails=fails.get(target.name, ()),
            bad=bad,
            has_service=settings.service is not None,
        )
        look = past.seen.get(target.name, Seen())
        current = look.facts.release
        running = "" if look.facts.running is False else look.facts.running_release or current
        releases = dict.fromkeys((one for one in (current, running) if one), "")
        releases |= {
            known.release: known.version
            for known in past.releases
            if known.target == target.name and known.status != "pruned"
        }
        behaviour = Behaviour("sick") if look.healthy is False else Behaviour()
        host.begin_with(releases, current, running, behaviour)
        hosts[target.name] = host
    return hosts


def _healthy_until_s(settings: Environment) -> float:
    """Return for how long after its start a release serves that passes its verify and ends in its bake."""
    check = settings.health_check
    verified_s = check.initial_delay_s + (check.rise - 1) * check.interval_s if check else 0.0
    return verified_s + settings.rollout.min_healthy_time_s / 4
