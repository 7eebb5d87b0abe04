"""Cuts a scenario off at one place, repairs it, and judges what is left."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fraisier import Orchestrator
from fraisier.rollout.fallback import is_beside
from fraisier.simulation.crash import CrashPoint
from fraisier.testing.provider import Landing
from tests.simulation.promises import Aftermath, broken
from tests.simulation.scenarios import TARGETS, V3, Scenario, deploy
from tests.simulation.stage import SimulatedFleet, Story

DELAYS_S = {"stage": 0.2, "migrate": 1.0, "restart": 0.5, "switch": 0.05}
LANDINGS: tuple[Landing, ...] = ("lost", "at once", "late", "too late")
SEED = 7


async def resume(o: Orchestrator) -> list[str]:
    """Finish whatever is unfinished, oldest first, and return the outcomes."""
    return [(await o.resume(state.id)).outcome for state in await o.unfinished()]


async def deploy_again(o: Orchestrator, *, force: bool = False) -> list[str]:
    """Deploy over what is unfinished instead, doing as the hint says where too many targets are down."""
    result = await deploy("v2", force=force)(o)
    if result.reason != "capacity":
        return [result.outcome]
    named = re.search(r"--limit (\S+),", result.hint or "")
    assert named, result.hint
    await o.deploy("api", "production", version="v2", limit=named[1].split(","))
    return [(await deploy("v2")(o)).outcome]


@dataclass(frozen=True)
class Failure:
    """A promise that a crash broke, with all that is needed to see it again."""

    scenario: str
    crashes: tuple[CrashPoint, ...]
    landing: Landing
    faults: tuple[str, ...]
    trace: str

    def __str__(self) -> str:
        places = ", then ".join(map(str, self.crashes))
        return "\n".join(
            [f"{self.scenario}, seed {SEED}, died {places}, commands {self.landing}:", *self.faults]
        )


@dataclass(frozen=True)
class Judgement:
    """What is broken, if anything, and the steps whose commands were under way when somebody died."""

    failure: Failure | None
    under_way: frozenset[str]


class Rehearsal:
    """A scenario up to the moment at which its deployment begins."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.fleet = SimulatedFleet(scenario.settings, seed=SEED)
        self.fleet.world.delays_s.update(DELAYS_S)
        for version in scenario.before:
            assert self.fleet.live(deploy(version)).value.outcome == "succeeded"
        scenario.arrange(self.fleet.world)
        self.fewest = TARGETS
        self.fleet.world.on_change = self._count

    def _count(self) -> None:
        self.fewest = min(self.fewest, self.fleet.healthy())


@functools.cache
def _rehearsed(scenario: Scenario) -> Rehearsal:
    return Rehearsal(scenario)


def rehearse(scenario: Scenario) -> Rehearsal:
    """Return a rehearsal of its own; what came before is played only once."""
    return copy.deepcopy(_rehearsed(scenario))


def measure(scenario: Scenario) -> tuple[int, int]:
    """Return how many handles and appends the scenario has when nobody dies."""
    rehearsal = rehearse(scenario)
    lived = rehearsal.fleet.live(scenario.act)
    assert lived.value is not None
    assert lived.value.outcome in scenario.ends, lived.value
    return lived.handles, rehearsal.fleet.journal.appends


def crash(
    scenario: Scenario,
    crashes: Sequence[CrashPoint],
    landing: Landing,
    *,
    repair: Story[list[str]] = resume,
) -> Judgement:
    """Let the deployment die at the first crash and each repair but the last at the next; return what is broken then."""
    rehearsal = rehearse(scenario)
    fleet = rehearsal.fleet
    faults: list[str] = []
    try:
        lived = fleet.live(scenario.act, crash=crashes[0], landing=landing)
        for again in crashes[1:]:
            lived = fleet.live(repair, crash=again, landing=landing) if lived.died else lived
        outcomes = fleet.live(repair).value or [] if lived.died else []
        fleet.world.settle()
        faults += broken(Aftermath(scenario, fleet, tuple(outcomes), rehearsal.fewest))
        faults += _next_one_succeeds(fleet, force="needs_attention" in outcomes)
    except Exception as error:  # any error of a repair is a finding of its own
        faults.append(f"raised {error!r}")
    failure = (
        Failure(scenario.name, tuple(crashes), landing, tuple(faults), fleet.trace()) if faults else None
    )
    return Judgement(failure, frozenset(fleet.under_way))


def every_landing(
    scenario: Scenario, crashes: Sequence[CrashPoint], first: Landing, *, repair: Story[list[str]] = resume
) -> list[Failure]:
    """Judge these deaths with what was under way landing as `first` says; a migration that was, in all the other ways
    too."""
    judged = [crash(scenario, crashes, first, repair=repair)]
    if "migrate" in judged[0].under_way:
        others = (landing for landing in LANDINGS if landing != first)
        judged += [crash(scenario, crashes, landing, repair=repair) for landing in others]
    return [one.failure for one in judged if one.failure]


def _next_one_succeeds(fleet: SimulatedFleet, *, force: bool) -> list[str]:
    """Nothing that a crash left may block the next deployment, which goes to the environment's own targets again."""
    fleet.world.mend()
    result = fleet.live(deploy("v3", force=force)).value
    serving = {name: v for name, v in fleet.world.serving().items() if not is_beside(name)}
    if result.outcome == "succeeded" and set(serving.values()) == {V3}:
        return []
    return [f"the next deployment: {result.outcome} ({result.reason}: {result.detail}), serving {serving}"]
