"""A deployment that ended without an end goes on, from what the journal and the targets say."""

from __future__ import annotations

import anyio

from fraisier import Orchestrator
from fraisier.config.schema import Rollout
from fraisier.rollout.result import DeploymentResult
from fraisier.testing.provider import commit
from tests.rollout.kit import Stage, environment, outcomes


async def stopped_after(o: Orchestrator, seconds: float, version: str) -> DeploymentResult:
    """Deploy, and ask for an orderly stop after a while."""
    found: list[DeploymentResult] = []

    async def deploy() -> None:
        found.append(await o.deploy("api", "production", version=version))

    async with anyio.create_task_group() as group:
        group.start_soon(deploy)
        await anyio.sleep(seconds)
        o.stop("interrupted by a test")
    return found[0]


def test_an_interrupted_rollout_goes_on_where_it_stopped() -> None:
    """What is updated stays, what was not begun is brought, and no step that succeeded is taken again."""
    stage = Stage(environment(4, rollout=Rollout(batch=("1",), max_unavailable="1")))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    stage.world.delays_s["restart"] = 5.0
    first = stage.play(lambda o: stopped_after(o, 8.0, "v2"))
    assert first.outcome == "interrupted"
    assert {"untouched", "updated"} < set(outcomes(first).values())
    before = list(stage.world.effects)
    result = stage.play(lambda o: o.resume())
    assert result is not None
    assert (result.outcome, result.deployment_id) == ("succeeded", first.deployment_id)
    assert set(stage.world.serving().values()) == {commit("v2")}
    again = stage.world.effects[len(before) :]
    assert "stage" not in {step for step, _, _ in again}
    assert len([1 for step, _, _ in stage.world.effects if step == "restart"]) == 8
    assert stage.play(lambda o: o.resume()) is None


def test_a_resumed_rollout_that_turns_out_bad_goes_back() -> None:
    """The rollback covers what the first process changed, too."""
    stage = Stage(environment(4, rollout=Rollout(batch=("1",), max_unavailable="1")))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    stage.world.delays_s["restart"] = 5.0
    assert stage.play(lambda o: stopped_after(o, 8.0, "v2")).outcome == "interrupted"
    stage.world.unhealthy.add(commit("v2"))
    result = stage.play(lambda o: o.resume())
    assert result is not None and result.outcome == "rolled_back"
    assert set(stage.world.serving().values()) == {commit("v1")}
    assert stage.play(lambda o: o.deploy("api", "production", version="v3")).outcome == "succeeded"
