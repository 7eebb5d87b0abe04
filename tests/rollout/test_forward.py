"""A rollout forward: preparation, barrier, waves, gates, capacity, limits."""

from __future__ import annotations

import anyio
import pytest

from fraisier import Orchestrator
from fraisier.config.schema import Rollout, Target
from fraisier.errors import DeploymentError, ProviderConnectionError
from fraisier.events import Record
from fraisier.events import types as ev
from fraisier.rollout.result import DeploymentResult
from fraisier.rollout.scribe import Scribe
from fraisier.testing.provider import commit
from tests.bus.world import bus_over
from tests.rollout.kit import Stage, environment, outcomes, replace


def test_a_first_deployment_updates_every_target_with_evidence() -> None:
    stage = Stage(environment(4))
    result = stage.play(lambda o: o.deploy("api", "production", version="v1"))
    assert (result.outcome, result.version) == ("succeeded", commit("v1"))
    assert set(outcomes(result).values()) == {"updated"}
    assert set(stage.world.serving().values()) == {commit("v1")}
    verified = [target for kind, target in stage.told("health.passed") if kind]
    assert set(verified) == {"t1", "t2", "t3", "t4"}


def test_nothing_is_switched_before_everything_is_staged() -> None:
    stage = Stage(environment(6, rollout=Rollout(strategy="all_at_once")))
    stage.world.delays_s["stage"] = 3.0
    stage.play(lambda o: o.deploy("api", "production", version="v1"), seed=4)
    steps = [step for step, _, _ in stage.world.effects]
    assert steps.index("switch") > max(i for i, step in enumerate(steps) if step == "stage")


def test_every_intent_is_in_the_journal_before_its_effect_and_every_outcome_after() -> None:
    stage = Stage(environment(3))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    told = [(kind, what) for kind, what in stage.told("step.started", "step.succeeded")]
    for step, target, _ in stage.world.effects:
        assert told.index(("step.started", f"{step}@{target}")) < told.index(
            ("step.succeeded", f"{step}@{target}")
        )


@pytest.mark.parametrize("seed", range(8))
def test_the_next_wave_begins_only_after_the_previous_one_is_verified(seed: int) -> None:
    stage = Stage(environment(6, rollout=Rollout(batch=("2",), max_unavailable="2")))
    stage.play(lambda o: o.deploy("api", "production", version="v1"), seed=seed)
    passed: set[str] = set()
    for kind, target in stage.told("health.passed", "target.started"):
        if kind == "health.passed":
            passed.add(target)
            continue
        wave = (int(target[1:]) - 1) // 2
        assert {f"t{n}" for n in range(1, 2 * wave + 1)} <= passed


@pytest.mark.parametrize("seed", range(8))
def test_never_more_targets_are_away_than_max_unavailable(seed: int) -> None:
    stage = Stage(environment(8, rollout=Rollout(batch=("100%",), max_unavailable="3")))

    async def story(o: Orchestrator) -> int:
        await o.deploy("api", "production", version="v1")
        worst = 0

        async def watch() -> None:
            nonlocal worst
            while True:
                worst = max(worst, sum(1 for name in stage.world.targets if not stage.world.is_healthy(name)))
                await anyio.sleep(0.25)

        stage.world.delays_s["restart"] = 2.0
        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            result = await o.deploy("api", "production", version="v2")
            group.cancel_scope.cancel()
        assert result.outcome == "succeeded"
        return worst

    assert 1 <= stage.play(story, seed=seed) <= 3


def test_max_parallel_bounds_the_prepare_phase() -> None:
    stage = Stage(environment(9, rollout=Rollout(max_parallel=3)))
    stage.world.delays_s["fetch"] = 1.0
    running, most = 0, 0
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    for kind, what in stage.told("step.started", "step.succeeded"):
        if what.startswith("fetch@"):
            running += 1 if kind == "step.started" else -1
            most = max(most, running)
    assert most == 3


def test_who_waits_for_a_permit_keeps_no_turn_from_those_that_could_give_one_back() -> None:
    """One target comes back after the look and needs a permit; the others, which hold all permits, need their turns."""
    rollout = Rollout(batch=("100%",), max_parallel=1, max_unavailable="1")
    stage = Stage(environment(3, rollout=rollout))

    async def story(o: Orchestrator) -> DeploymentResult:
        await o.deploy("api", "production", version="v1")
        stage.world.unhealthy_on.update((name, commit("v1")) for name in ("t1", "t2", "t3"))

        async def comes_back(_record: Record) -> None:
            stage.world.unhealthy_on.discard(("t1", commit("v1")))

        o.bus.subscribe("comes back", "deployment.planned", comes_back)
        return await o.deploy("api", "production", version="v2")

    result = stage.play(story)
    assert (result.outcome, set(outcomes(result).values())) == ("succeeded", {"updated"})
    assert result.duration_s is not None
    assert result.duration_s < 60


async def test_a_fact_is_known_once_it_is_durable_whatever_deadline_passes_meanwhile() -> None:
    """Else a step that succeeded would be recorded as cut off, too, and taken again."""
    async with bus_over() as bus:
        scribe = Scribe(bus)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await scribe.say(
                ev.DeploymentRequested(deployment_id="d-1", fraise="api", environment="production")
            )
        assert scope.cancelled_caught
        assert bus.statistics().published == 1
        assert scribe.deployment("d-1").first_seq == 1


def test_a_preparation_that_fails_changes_nothing_and_removes_what_was_staged() -> None:
    stage = Stage(environment(3))

    async def story(o: Orchestrator) -> object:
        await o.deploy("api", "production", version="v1")
        stage.world.fail("stage", target="t3", times=9, error=lambda: DeploymentError("build: exit code 2"))
        return await o.deploy("api", "production", version="v2")

    result = stage.play(story)
    assert (result.outcome, result.reason) == ("failed", "prepare_failed")
    assert outcomes(result) == {"t1": "untouched", "t2": "untouched", "t3": "failed"}
    assert set(stage.world.serving().values()) == {commit("v1")}
    assert all(list(target.staged.values()) == [commit("v1")] for target in stage.world.targets.values())


def test_what_is_there_already_is_unchanged_and_an_edited_env_is_a_change() -> None:
    settings = environment(2)
    stage = Stage(settings)

    async def story(o: Orchestrator) -> list[str]:
        first = await o.deploy("api", "production", version="v1")
        second = await o.deploy("api", "production", version="v1")
        third = await o.deploy("api", "production", version="v1", force=True)
        return [r.outcome for r in (first, second, third)]

    assert stage.play(story) == ["succeeded", "unchanged", "succeeded"]
    edited = replace(settings, env={"MODE": "new"})
    assert (
        stage.play(lambda o: o.deploy("api", "production", version="v1"), settings=edited).outcome
        == "succeeded"
    )
    assert sum(1 for step, _, _ in stage.world.effects if step == "restart") == 6


def test_a_recorded_release_that_does_not_answer_is_not_unchanged() -> None:
    stage = Stage(environment(2))

    async def story(o: Orchestrator) -> object:
        await o.deploy("api", "production", version="v1")
        stage.world.target("t2").running = ""
        return await o.deploy("api", "production", version="v1")

    result = stage.play(story)
    assert outcomes(result) == {"t1": "unchanged", "t2": "updated"}


def test_limit_and_exclude_choose_targets() -> None:
    stage = Stage(environment(4))
    result = stage.play(lambda o: o.deploy("api", "production", version="v1", limit=["t*"], exclude=["t4"]))
    assert sorted(outcomes(result)) == ["t1", "t2", "t3"]
    assert "t4" not in stage.world.serving() or not stage.world.serving()["t4"]


def test_too_many_down_refuses_unless_exactly_those_are_repaired() -> None:
    stage = Stage(environment(4))

    async def story(o: Orchestrator) -> tuple[str, str, str]:
        await o.deploy("api", "production", version="v1")
        stage.world.target("t1").running = ""
        refused = await o.deploy("api", "production", version="v2")
        repaired = await o.deploy("api", "production", version="v2", limit=["t1"])
        whole = await o.deploy("api", "production", version="v2")
        return f"{refused.outcome}/{refused.reason}", repaired.outcome, whole.outcome

    assert stage.play(story) == ("failed/capacity", "succeeded", "succeeded")


def test_a_pause_between_waves_and_a_bake_take_their_time() -> None:
    rollout = Rollout(batch=("1",), pause_s=60.0, min_healthy_time_s=10.0)
    stage = Stage(environment(3, rollout=rollout))
    result = stage.play(lambda o: o.deploy("api", "production", version="v1"))
    assert result.outcome == "succeeded"
    assert result.duration_s >= 2 * 60 + 3 * 10


def test_a_recoverable_failure_is_retried_with_a_journalled_decision() -> None:
    stage = Stage(environment(2))
    stage.world.fail("restart", target="t2", times=2)
    result = stage.play(lambda o: o.deploy("api", "production", version="v1"))
    assert result.outcome == "succeeded"
    assert [
        attempt for step, target, attempt in stage.world.calls if (step, target) == ("restart", "t2")
    ] == [1, 2, 3]
    assert stage.told("recovery.decided", "recovery.succeeded").count(("recovery.decided", "restart@t2")) == 2
    assert ("recovery.succeeded", "restart@t2") in stage.told("recovery.succeeded")


def test_targets_out_of_reach_end_as_unreachable_before_anything_is_touched() -> None:
    stage = Stage(environment(3))
    stage.world.unreachable = {"t2"}
    result = stage.play(lambda o: o.deploy("api", "production", version="v1"))
    assert (result.outcome, result.reason) == ("unreachable", "unreachable")
    assert not stage.world.effects


def test_skipping_what_is_out_of_reach_is_at_best_partial() -> None:
    stage = Stage(environment(3, rollout=Rollout(on_unreachable="skip")))
    stage.world.unreachable = {"t2"}
    result = stage.play(lambda o: o.deploy("api", "production", version="v1"))
    assert (result.outcome, result.reason) == ("failed", "partial")
    assert outcomes(result) == {"t1": "updated", "t2": "unreachable", "t3": "updated"}


def test_a_new_target_does_not_use_up_the_capacity_of_the_old_ones() -> None:
    settings = environment(3)
    stage = Stage(settings)
    grown = replace(settings, targets=(Target(name="t0"), *settings.targets, Target(name="t9")))

    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    result = stage.play(lambda o: o.deploy("api", "production", version="v2"), settings=grown)
    assert result.outcome == "succeeded"


def test_old_releases_are_removed_and_the_way_back_is_kept() -> None:
    stage = Stage(environment(1, keep_releases=2))

    async def story(o: Orchestrator) -> None:
        for version in ("v1", "v2", "v3", "v4"):
            assert (await o.deploy("api", "production", version=version)).outcome == "succeeded"

    stage.play(story)
    assert sorted(stage.world.target("t1").staged.values()) == sorted([commit("v3"), commit("v4")])


def test_a_dry_run_plans_and_touches_nothing() -> None:
    stage = Stage(environment(3))
    plan = stage.play(lambda o: o.plan("api", "production", version="v1"))
    assert [target.name for target in plan.changes] == ["t1", "t2", "t3"]
    assert plan.waves == (("t1",), ("t2", "t3"))
    assert not stage.world.effects
    assert not stage.told("deployment.requested")


def test_an_earlier_wave_that_turns_sick_fails_the_deployment() -> None:
    stage = Stage(environment(2, rollout=Rollout(batch=("1",), pause_s=30.0)))

    async def story(o: Orchestrator) -> object:
        await o.deploy("api", "production", version="v1")

        async def spoil() -> None:
            async with o.subscribe("wave.started") as waves:
                async for record in waves:
                    if record.event.wave == 2:
                        stage.world.unhealthy_on.add(("t1", commit("v2")))
                        return

        async with anyio.create_task_group() as group:
            group.start_soon(spoil)
            await anyio.sleep(0)
            return await o.deploy("api", "production", version="v2")

    result = stage.play(story)
    assert result.outcome == "rolled_back"
    assert set(stage.world.serving().values()) == {commit("v1")}


def test_connection_errors_of_a_step_say_unreachable_not_failed() -> None:
    stage = Stage(environment(2, rollout=Rollout(batch=("1",), on_failure="stop")))

    async def story(o: Orchestrator) -> object:
        await o.deploy("api", "production", version="v1")
        stage.world.fail("switch", target="t1", times=9, error=lambda: ProviderConnectionError("gone"))
        return await o.deploy("api", "production", version="v2")

    result = stage.play(story)
    assert outcomes(result) == {"t1": "unreachable", "t2": "untouched"}
