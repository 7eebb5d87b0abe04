"""An embedder's recovery strategies are asked in rollouts, before those of the environment, and what they did is counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fraisier import Orchestrator
from fraisier.config.schema import Environment, Recovery, Retry
from fraisier.error_handler import ErrorHandler
from fraisier.errors import DeploymentError, FraisierError, ProviderConnectionError
from fraisier.events import types as ev
from fraisier.recovery import RecoveryStrategy
from fraisier.rollout.result import DeploymentResult
from fraisier.testing.provider import ScriptedWorld
from tests.rollout.kit import Stage, environment, now_s

SLOW = Recovery(retry=Retry(max_attempts=3, base_delay_s=1000.0, max_delay_s=1000.0))


class Mending(RecoveryStrategy):
    """Brings the connection back, as a program would that dials in again."""

    name = "mending"

    def __init__(self, world: ScriptedWorld | None = None) -> None:
        self.world = world
        self.asked: list[dict[str, Any]] = []

    def can_recover(self, error: BaseException) -> bool:
        return isinstance(error, ProviderConnectionError)

    async def execute_recovery(self, context: Mapping[str, Any]) -> bool:
        self.asked.append({key: context[key] for key in ("step", "target", "attempt", "fraise")})
        if self.world is None:
            raise ConnectionResetError("the modem is gone")
        self.world.mend()
        return True


def settings(count: int = 1) -> Environment:
    return environment(count, recovery=SLOW)


async def deploy(o: Orchestrator, version: str = "v1") -> DeploymentResult:
    return await o.deploy("api", "production", version=version)


@pytest.mark.parametrize(
    "key", [ProviderConnectionError, "ProviderError", "PROVIDER_CONNECTION_ERROR"], ids=str
)
@pytest.mark.parametrize("step", ["resolve", "stage"])
def test_it_is_asked_about_a_failed_step_and_a_source_and_the_next_try_follows_at_once(
    key: type[BaseException] | str, step: str
) -> None:
    stage = Stage(settings())
    mending = Mending(stage.world)
    stage.world.fail(step, times=1)

    async def story(o: Orchestrator) -> tuple[DeploymentResult, float, dict[str, Any]]:
        o.error_handler.register_strategy(key, mending)
        result = await deploy(o)
        return result, await now_s(), o.error_handler.statistics()

    result, at_s, statistics = stage.play(story)
    assert (result.outcome, at_s < 100) == ("succeeded", True)
    target = "" if step == "resolve" else "t1"
    assert mending.asked == [{"step": step, "target": target, "attempt": 1, "fraise": "api"}]
    (decided,) = [r.event for r in stage.records() if isinstance(r.event, ev.RecoveryDecided)]
    assert (decided.action, decided.strategy, decided.delay_s) == ("retry", "mending", 0.0)
    (helped,) = [r.event for r in stage.records() if isinstance(r.event, ev.RecoverySucceeded)]
    assert (helped.step, helped.strategy) == (step, "mending")
    assert statistics["strategies"] == {"mending": {"asked": 1, "helped": 1}}
    assert statistics["errors_by_type"] == {"ProviderConnectionError": 1}


def test_a_handler_of_one_s_own_serves_all_deployments_of_an_orchestrator() -> None:
    """Side by side, too: the questions share nothing but the counts."""
    stage = Stage(settings(4))
    mending = Mending(stage.world)
    handler = ErrorHandler(clock=stage.clock)
    handler.register_strategy("FraisierError", mending)
    stage.error_handler = handler

    async def story(o: Orchestrator) -> bool:
        for version in ("v1", "v2"):
            for target in ("t1", "t2", "t3"):
                stage.world.fail("fetch", target=target, times=1)
            assert (await deploy(o, version)).outcome == "succeeded"
        return o.error_handler is handler

    assert stage.play(story)
    assert {asked["target"] for asked in mending.asked} <= {"t1", "t2", "t3"}
    statistics = handler.statistics()
    assert statistics["total_errors"] == len(mending.asked) == statistics["strategies"]["mending"]["helped"]
    assert statistics["recent_errors"][0]["context"]["deployment_id"]


def test_one_that_raises_leaves_the_rollout_to_the_environment_s() -> None:
    stage = Stage(settings())
    stage.world.fail("stage", times=1)

    async def story(o: Orchestrator) -> tuple[str, dict[str, Any]]:
        o.error_handler.register_strategy(ProviderConnectionError, Mending())
        return (await deploy(o)).outcome, o.error_handler.statistics()

    outcome, statistics = stage.play(story)
    assert (outcome, statistics["strategies"]) == ("succeeded", {"mending": {"asked": 1, "helped": 0}})
    (decided,) = [r.event for r in stage.records() if isinstance(r.event, ev.RecoveryDecided)]
    assert decided.strategy == "retry"


def test_without_a_registered_strategy_the_errors_of_all_deployments_count() -> None:
    """Also those that nothing is tried for."""
    stage = Stage(settings())

    def sick() -> FraisierError:
        return DeploymentError("no such user", code="NO_USER")

    async def story(o: Orchestrator) -> dict[str, Any]:
        for _ in range(2):
            stage.world.fail("stage", times=1, error=sick)
            assert (await deploy(o)).outcome == "failed"
        return o.error_handler.get_error_stats()

    statistics = stage.play(story)
    assert statistics["total_errors"] == 2
    assert [one["code"] for one in statistics["recent_errors"]] == ["NO_USER", "NO_USER"]
    assert statistics["recent_errors"][0]["context"]["step"] == "stage"
