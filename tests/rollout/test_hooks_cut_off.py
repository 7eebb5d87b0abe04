"""A deployment with hooks, cut off at its appends and within each hook: none runs twice that must not, and the outcome is
true."""

from __future__ import annotations

import asyncio
import copy
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from fraisier import Orchestrator
from fraisier.config.schema import Environment, Hook, Hooks, Rollout
from fraisier.events import Actor
from fraisier.providers.base import StepCall
from fraisier.simulation.crash import CrashPoint
from fraisier.simulation.loop import VirtualLoop
from fraisier.testing.hooks import ScriptedHooks
from fraisier.testing.provider import commit
from tests.rollout.kit import config, environment
from tests.simulation.crashes import resume
from tests.simulation.scenarios import deploy
from tests.simulation.stage import SimulatedFleet

V1, V2, V3 = commit("v1"), commit("v2"), commit("v3")


class CountedHooks(ScriptedHooks):
    """Hooks that note during which stretches between two awaits they were under way."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[tuple[int, int]] = []

    async def run(self, call: StepCall) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        began = loop.handles
        try:
            return await super().run(call)
        finally:
            self.spans.append((began, loop.handles))


class FleetWithHooks(SimulatedFleet):
    """A fleet whose orchestrators run their hooks on one machine, which outlives them."""

    def __init__(self, settings: Environment, *, seed: int) -> None:
        super().__init__(settings, seed=seed)
        self.hooks = CountedHooks()

    def _orchestrator(self) -> Orchestrator:
        return Orchestrator(
            config(self.settings),
            self.journal,
            clock=self.clock,
            ids=self.ids,
            rng=random.Random(self.seed),
            processes=self.processes,
            environ={"AUDIT_KEY": "0123456789abcdef"},
            providers={"local": self.world.factory},
            hook_runner=self.hooks,
            actor=Actor(user="ada", host="here", trigger="test"),
        )


def hook(name: str, **keys: object) -> tuple[Hook]:
    return (Hook(command="./hook", name=name, on="orchestrator", **keys),)  # type: ignore[arg-type]


HOOKS = Hooks(
    before_deploy=hook("backup"),
    after_stage=hook("warm", resume="rerun"),
    after_prepare=hook("ready"),
    before_switch=hook("leave"),
    after_restart=hook("tell", on_failure="warn"),
    after_verify=hook("smoke"),
    after_deploy=hook("check"),
    on_failure=hook("failed"),
    on_rollback=hook("back"),
    always=hook("end"),
)
MAY_DOUBT = {"backup", "ready", "leave", "smoke", "check"}
"""Hooks that a person must look at when nobody knows how they ended."""


@dataclass(frozen=True)
class Story:
    """What breaks in the deployment, and how it ends."""

    name: str
    outcome: str
    exit_codes: dict[str, int]
    sick: bool = False


STORIES = [
    Story("all is well", "succeeded", {}),
    Story("a target is sick", "rolled_back", {}, sick=True),
    Story("a hook fails at the end", "rolled_back", {"check": 3}),
    Story("the hooks of the end fail", "rolled_back", {"smoke": 3, "failed": 1, "back": 1, "end": 1}),
    Story("a hook fails before anything", "failed", {"backup": 3}),
]


def rehearsed(story: Story) -> FleetWithHooks:
    """A fleet on v1, about to be deployed to."""
    rollout = Rollout(batch=("1", "100%"), max_unavailable="1")
    fleet = FleetWithHooks(environment(2, rollout=rollout), seed=5)
    fleet.world.delays_s.update({"stage": 0.2, "restart": 0.5})
    fleet.hooks.delays_s.update(dict.fromkeys(("backup", "leave", "check", "end"), 0.3))
    assert fleet.live(deploy("v1")).value.outcome == "succeeded"
    fleet.settings = environment(2, rollout=rollout, hooks=HOOKS)
    fleet.hooks.exit_codes = story.exit_codes
    if story.sick:
        fleet.world.unhealthy_on.add(("t2", V2))
    return fleet


@pytest.mark.slow
@pytest.mark.virtual
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_crash_anywhere_repeats_no_hook_that_must_not_be(story: Story) -> None:
    """Killed with us, a hook is in doubt; where it goes on alone, what it comes to is taken, and each runs exactly once."""
    fresh = rehearsed(story)
    whole = copy.deepcopy(fresh)
    lived = whole.live(deploy("v2"))
    assert lived.value.outcome == story.outcome
    wanted = Counter(whole.hooks.calls)
    assert set(wanted.values()) == {1}
    within = sorted({n + 1 for began, ended in whole.hooks.spans for n in range(began, ended)})
    places = [CrashPoint("after append", number) for number in range(1, whole.journal.appends + 1)]
    broken, doubted = [], 0
    for number, place in enumerate([*places, *(CrashPoint("handle", n) for n in within)]):
        fleet = copy.deepcopy(fresh)
        faults = judged(fleet, story, place, wanted, landed=number % 2 == 0)
        broken += [f"died {place}: {fault}" for fault in faults]
        doubted += bool(fleet.hooks.in_doubt)
    assert not broken, "\n".join(broken[:10])
    assert doubted, "no hook was ever cut off"


def judged(
    fleet: FleetWithHooks,
    story: Story,
    place: CrashPoint,
    wanted: Counter[tuple[str, str, str, str]],
    *,
    landed: bool,
) -> list[str]:
    """Let a deployment die, resume it, and return what is wrong then."""
    if not fleet.live(deploy("v2"), crash=place).died:
        return []
    if landed:
        fleet.hooks.land()
    doubted = fleet.hooks.in_doubt & MAY_DOUBT
    outcomes = fleet.live(resume).value or []
    faults = []
    may_be = {story.outcome, *(["needs_attention"] if doubted else [])}
    if not set(outcomes) <= may_be:
        faults.append(f"outcomes {outcomes}, in doubt {doubted}")
    for call, times in Counter(fleet.hooks.calls).items():
        if times > 1 and (landed or call[1] != "warm"):
            faults.append(f"{call} ran {times} times")
    if landed and outcomes and Counter(fleet.hooks.calls) != wanted:
        faults.append(f"{fleet.hooks.calls} instead of {sorted(wanted)}")
    serving = set(fleet.world.serving().values())
    if outcomes == [story.outcome] and serving != {V2 if story.outcome == "succeeded" else V1}:
        faults.append(f"{outcomes}, but serving {serving}")
    faults += fleet.faults()
    fleet.hooks.exit_codes = {}
    result = fleet.live(deploy("v3", force="needs_attention" in outcomes)).value
    if result.outcome != "succeeded" or set(fleet.world.serving().values()) != {V3}:
        faults.append(f"the next one: {result.outcome} ({result.detail})")
    return faults
