"""The deployments whose every step is cut off once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fraisier import Orchestrator
from fraisier.config.schema import Environment, Fallback, Migrate, Rollout, Target
from fraisier.errors import ProviderUnavailableError
from fraisier.rollout.result import DeploymentResult
from fraisier.testing.provider import ScriptedWorld, commit
from tests.rollout.kit import NO_WAIT, environment, replace
from tests.simulation.stage import Story

TARGETS = 3
V1, V2, V3 = commit("v1"), commit("v2"), commit("v3")


def settings(*, max_failures: int = 0, **keys: Any) -> Environment:
    """Three targets, one and then the others, at most one away; a migration that can be undone."""
    rollout = Rollout(batch=("1", "100%"), max_unavailable="1", max_failures=max_failures)
    migrate = Migrate(command="migrate up", rollback_command="migrate down")
    return environment(TARGETS, rollout=rollout, migrate=migrate, **keys)


def with_standby() -> Environment:
    """The same, with another place for all of it."""
    other = settings()
    marked = tuple(Target(name=f"{target.name}~standby") for target in other.targets)
    standby = Fallback(name="standby", settings=replace(other, targets=marked, app_path="/standby"))
    return settings(recovery=replace(NO_WAIT, fallback=(standby,)))


def deploy(version: str, *, force: bool = False) -> Story[DeploymentResult]:
    """The story of one deployment."""

    async def story(o: Orchestrator) -> DeploymentResult:
        return await o.deploy("api", "production", version=version, force=force)

    return story


async def rollback(o: Orchestrator) -> DeploymentResult:
    """The story of a rollback that a person asks for."""
    return await o.rollback("api", "production")


def _nothing(world: ScriptedWorld) -> None:
    pass


@dataclass(frozen=True, eq=False)
class Scenario:
    """A deployment `act` after those of `before`, in a world that `arrange` has spoilt.

    `ends` names the outcomes that it may come to, crash or not; `version` is what every target serves when it
    `succeeded`; `superseded`: a new deployment is sent after it instead of a resume."""

    name: str
    act: Story[DeploymentResult]
    ends: frozenset[str]
    version: str = V2
    before: tuple[str, ...] = (V1,)
    arrange: Callable[[ScriptedWorld], None] = _nothing
    settings: Environment = field(default_factory=settings)
    superseded: bool = False

    @property
    def previous(self) -> str:
        """What the targets serve before (empty: nothing)."""
        return self.before[-1] if self.before else ""


def _sick_on_the_second(world: ScriptedWorld) -> None:
    world.unhealthy_on.add(("t2", V2))


def _sick_everywhere(world: ScriptedWorld) -> None:
    world.unhealthy.add(V2)


def _no_room_on_the_second(world: ScriptedWorld) -> None:
    world.fail("stage", target="t2", error=lambda: ProviderUnavailableError("no room", recoverable=False))


def _first_out_of_reach(world: ScriptedWorld) -> None:
    world.unreachable.add("t1")


HAPPY = Scenario("happy", deploy("v2"), frozenset({"succeeded"}))
ROLLED_BACK = Scenario("rolled back", deploy("v2"), frozenset({"rolled_back"}), arrange=_sick_on_the_second)
TOLERATED = Scenario(
    "one failure tolerated",
    deploy("v2"),
    frozenset({"failed"}),
    arrange=_sick_on_the_second,
    settings=settings(max_failures=1),
)
FIRST_FAILS = Scenario(
    "a first deployment that fails", deploy("v2"), frozenset({"failed"}), before=(), arrange=_sick_everywhere
)
ASKED_BACK = Scenario(
    "a rollback that a person asked for", rollback, frozenset({"succeeded"}), version=V1, before=(V1, V2)
)
FALLBACK = Scenario(
    "through the fallback",
    deploy("v2"),
    frozenset({"succeeded"}),
    arrange=_no_room_on_the_second,
    settings=with_standby(),
)
FALLBACK_UNSEEN = Scenario(
    "through the fallback before there is a plan",
    deploy("v2"),
    frozenset({"succeeded"}),
    arrange=_first_out_of_reach,
    settings=with_standby(),
)
SUPERSEDED = Scenario("deployed again", deploy("v2"), frozenset({"succeeded", "unchanged"}), superseded=True)
NEVER_RIGHT = Scenario("judged by a promise that cannot be kept", deploy("v2"), frozenset({"perfect"}))

ALL = (HAPPY, ROLLED_BACK, TOLERATED, FIRST_FAILS, ASKED_BACK, FALLBACK, FALLBACK_UNSEEN)
