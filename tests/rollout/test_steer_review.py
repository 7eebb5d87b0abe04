"""What a reviewer broke: pauses that held back too little, and deployments that could not be ended or resumed any more."""

from __future__ import annotations

import anyio

from fraisier import Orchestrator
from fraisier.config.schema import Rollout
from fraisier.rollout.result import DeploymentResult
from fraisier.testing.provider import commit
from tests.rollout.kit import Stage, environment
from tests.rollout.test_steering import slow_stage, steered


def test_a_pause_holds_back_who_waits_for_a_permit() -> None:
    """The other targets of the wave had passed the gate already, and waited for the first one to come back."""
    stage = slow_stage(Rollout(batch=("100%",), max_unavailable="1"))
    seen: list[int] = []

    async def story(o: Orchestrator) -> DeploymentResult:
        async def wait_and_go_on(deployment_id: str) -> None:
            await anyio.sleep(600.0)
            seen.append(sum(version == commit("v2") for version in stage.world.serving().values()))
            assert (await o.show_state(deployment_id)).state == "paused"
            await o.promote(deployment_id)

        return (await steered(o, 2.0, o.pause, wait_and_go_on))[0]

    assert stage.play(story).outcome == "succeeded"
    assert seen == [1]


def test_who_turns_sick_in_a_pause_is_the_reason_also_when_others_wait_for_a_permit() -> None:
    """Not an internal error at a target that only waited."""
    stage = slow_stage(Rollout(batch=("100%",), max_unavailable="1"))

    async def sicken(deployment_id: str) -> None:
        await anyio.sleep(60.0)
        stage.world.unhealthy.add(commit("v2"))

    result, _ = stage.play(lambda o: steered(o, 2.0, o.pause, sicken))
    assert result.outcome == "rolled_back"
    assert "internal error" not in (result.detail or "")
    assert result.reason != "deployment_error"
    assert set(stage.world.serving().values()) == {commit("v1")}


def test_no_deadline_passes_in_a_pause_that_began_before_the_waves() -> None:
    """The waves have a deadline of their own, which began to run in the middle of the pause."""
    stage = slow_stage(Rollout(batch=("1",), max_unavailable="1", progress_deadline_s=60.0))
    stage.world.delays_s["stage"] = 5.0

    async def story(o: Orchestrator) -> DeploymentResult:
        async def wait_and_go_on(deployment_id: str) -> None:
            await anyio.sleep(3600.0)
            assert (await o.promote(deployment_id)).effect == "done"

        return (await steered(o, 2.0, o.pause, wait_and_go_on))[0]

    assert stage.play(story).outcome == "succeeded"


def test_a_rollback_that_was_stopped_before_its_plan_can_be_aborted() -> None:
    """Nothing was begun, so an abort ends it; it was interrupted anew by every resume."""
    stage = Stage(environment(2))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    stage.play(lambda o: o.deploy("api", "production", version="v2"))

    async def story(o: Orchestrator) -> tuple[str, str]:
        with anyio.move_on_after(0.01):
            await o.rollback("api", "production")
        left = (await o.journal.deployments(limit=1))[0]
        assert (left.kind, left.plan, left.outcome) == ("rollback", b"", "interrupted")
        return left.id, (await o.abort(left.id)).state

    stage.world.delays_s["inspect"] = 1.0
    assert stage.play(story)[1] == "aborted"
    assert set(stage.world.serving().values()) == {commit("v2")}


def test_a_deployment_that_cannot_begin_replaces_nothing() -> None:
    """A target is down and the room is used up: the new one refuses, and the old one can still be resumed."""
    stage = slow_stage(Rollout(batch=("1", "100%"), max_unavailable="1", on_failure="hold"))
    stage.world.unhealthy.add(commit("v2"))
    held = stage.play(lambda o: o.deploy("api", "production", version="v2"))
    assert held.outcome == "paused"
    refused = stage.play(lambda o: o.deploy("api", "production", version="v3"))
    assert (refused.outcome, refused.reason) == ("failed", "capacity")
    assert f"fraisier resume {held.deployment_id}" in (refused.hint or "")
    assert stage.play(lambda o: o.abort(held.deployment_id)).state == "aborted"
    assert set(stage.world.serving().values()) == {commit("v1")}
    assert stage.play(lambda o: o.deploy("api", "production", version="v3")).outcome == "succeeded"


def test_a_rollback_after_a_switch_in_doubt_undoes_that_deployment() -> None:
    """And not the good one before it, on every target."""
    stage = slow_stage(Rollout(batch=("1",), max_unavailable="1"), count=2)
    stage.world.delays_s.clear()
    stage.play(lambda o: o.deploy("api", "production", version="v2"))
    stage.world.delays_s["switch"] = 5.0

    async def cut_off(o: Orchestrator) -> None:
        with anyio.move_on_after(4.0):
            await o.deploy("api", "production", version="v3")

    stage.play(cut_off)
    assert any("switch" in told for _, told in stage.told("target.in_doubt"))
    stage.world.delays_s.clear()
    stage.play(lambda o: o.rollback("api", "production"))
    assert set(stage.world.serving().values()) == {commit("v2")}
