"""After a bad deploy the old version still serves on every target."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from fraisier import Orchestrator
from fraisier.config.schema import Migrate, Rollout, Target
from fraisier.errors import DeploymentError, ProviderError, UsageError
from fraisier.rollout.result import DeploymentResult
from fraisier.testing.provider import commit
from tests.rollout.kit import Stage, environment, outcomes, replace

V1, V2, V3 = commit("v1"), commit("v2"), commit("v3")


def deploy(version: str, **options: Any) -> Callable[[Orchestrator], Awaitable[DeploymentResult]]:
    return lambda o: o.deploy("api", "production", version=version, **options)


def upgraded(stage: Stage, *, to: str = "v2", seed: int | None = None) -> DeploymentResult:
    """v1 everywhere, then the deployment under test."""
    assert stage.play(deploy("v1")).outcome == "succeeded"
    return stage.play(deploy(to), seed=seed)


@pytest.mark.parametrize("seed", range(6))
def test_one_sick_target_brings_every_changed_target_back_and_leaves_later_waves_alone(seed: int) -> None:
    stage = Stage(environment(8, rollout=Rollout(batch=("1", "50%", "100%"), max_unavailable="4")))
    stage.world.unhealthy_on.add(("t3", V2))
    stage.play(deploy("v1"))
    before = {name: target.started for name, target in stage.world.targets.items()}
    result = stage.play(deploy("v2"), seed=seed)
    assert (result.outcome, result.reason) == ("rolled_back", "health_check_failed")
    assert set(stage.world.serving().values()) == {V1}
    told = outcomes(result)
    assert [told[f"t{n}"] for n in (1, 3)] == ["rolled_back", "rolled_back"]
    for name in ("t5", "t6", "t7", "t8"):
        assert told[name] == "untouched"
        assert stage.world.targets[name].started == before[name]
        steps = [
            what
            for kind, what in stage.told("step.started", deployment_id=result.deployment_id)
            if what.endswith(f"@{name}")
        ]
        assert (
            steps == [f"preflight@{name}", f"fetch@{name}", f"stage@{name}", f"cleanup@{name}"][: len(steps)]
        )
        assert set(steps) <= {f"{step}@{name}" for step in ("preflight", "fetch", "stage")}


def test_the_decision_to_roll_back_is_in_the_journal_before_the_rollback_begins() -> None:
    stage = Stage(environment(2))
    stage.world.unhealthy.add(V2)
    result = upgraded(stage)
    order = [
        kind
        for kind, _ in stage.told(
            "recovery.decided",
            "rollback.started",
            "rollback.succeeded",
            "deployment.rolled_back",
            deployment_id=result.deployment_id,
        )
    ]
    assert order[-4:] == [
        "recovery.decided",
        "rollback.started",
        "rollback.succeeded",
        "deployment.rolled_back",
    ]


def test_a_first_deployment_that_fails_is_stopped_and_leaves_no_current() -> None:
    stage = Stage(environment(2))
    stage.world.unhealthy.add(V1)
    result = stage.play(deploy("v1"))
    assert (result.outcome, result.reason) == ("failed", "health_check_failed")
    assert stage.world.target("t1").current == ""
    assert stage.world.target("t1").running == ""


def test_a_failed_release_is_removed_from_disk_unless_it_is_kept_to_look_at() -> None:
    for kept, expected in ((0, [V1]), (1, [V1, V2])):
        stage = Stage(environment(2, keep_failed=kept))
        stage.world.unhealthy.add(V2)
        upgraded(stage)
        assert sorted(stage.world.target("t1").staged.values()) == sorted(expected)


def test_failures_within_max_failures_go_back_alone_and_the_rest_goes_on() -> None:
    stage = Stage(environment(5, rollout=Rollout(max_failures=1, batch=("2",), max_unavailable="2")))
    stage.world.unhealthy_on.add(("t2", V2))
    result = upgraded(stage)
    assert (result.outcome, result.reason) == ("failed", "partial")
    assert outcomes(result) == {
        "t1": "updated",
        "t2": "rolled_back",
        "t3": "updated",
        "t4": "updated",
        "t5": "updated",
    }
    assert stage.world.serving() == {"t1": V2, "t2": V1, "t3": V2, "t4": V2, "t5": V2}


def test_after_a_partial_deployment_last_good_moved_only_where_it_was_updated() -> None:
    stage = Stage(environment(3, rollout=Rollout(max_failures=1)))
    stage.world.unhealthy_on.add(("t2", V2))
    upgraded(stage)
    stage.world.unhealthy.add(V3)
    result = stage.play(deploy("v3"))
    assert result.outcome == "failed" or result.outcome == "rolled_back"
    assert stage.world.serving() == {"t1": V2, "t2": V1, "t3": V2}


@pytest.mark.parametrize(
    ("policy", "outcome", "state"), [("stop", "failed", "failed"), ("hold", "paused", "paused")]
)
def test_on_failure_stop_and_hold_leave_things_where_they_are(policy: str, outcome: str, state: str) -> None:
    stage = Stage(environment(2, rollout=Rollout(on_failure=policy)))
    stage.world.unhealthy.add(V2)
    result = upgraded(stage)
    assert result.outcome == outcome
    assert stage.world.serving() == {"t1": V2, "t2": V1}


def test_after_a_hold_the_next_deploy_supersedes_it_and_last_good_is_still_the_old_one() -> None:
    stage = Stage(environment(2, rollout=Rollout(on_failure="hold")))
    stage.world.unhealthy.add(V2)
    held = upgraded(stage)
    rolling = environment(2)
    stage.world.unhealthy.add(V3)
    result = stage.play(deploy("v3", limit=["t1"]), settings=rolling)
    assert result.outcome == "rolled_back"
    assert stage.world.serving() == {"t1": V1, "t2": V1}
    assert ("deployment.superseded", "") in stage.told(
        "deployment.superseded", deployment_id=held.deployment_id
    )


def test_a_hanging_step_ends_at_the_deadline_which_says_what_was_waited_for() -> None:
    stage = Stage(environment(3, timeout_s=120.0))
    stage.play(deploy("v1"))
    stage.world.hanging.add(("switch", "t1"))

    async def story(o: Orchestrator) -> DeploymentResult:
        async def free() -> None:
            async with o.subscribe("rollback.started") as started:
                async for _ in started:
                    stage.world.hanging.clear()
                    return

        async with anyio.create_task_group() as group:
            group.start_soon(free)
            await anyio.sleep(0)
            return await o.deploy("api", "production", version="v2")

    result = stage.play(story)
    assert result.outcome == "rolled_back"
    assert "switch on t1" in (result.detail or "")
    assert set(stage.world.serving().values()) == {V1}


def test_progress_deadline_ends_a_rollout_that_gets_nowhere() -> None:
    slow = Rollout(batch=("1",), progress_deadline_s=30.0)
    stage = Stage(environment(3, rollout=slow, check=None))
    stage.play(deploy("v1"))
    stage.world.delays_s["restart"] = 40.0
    result = stage.play(deploy("v2"))
    assert (result.outcome, result.reason) in {
        ("rolled_back", "progress_deadline"),
        ("needs_attention", "rollback_failed"),
    }
    assert "progress_deadline" in (result.detail or "")


def test_a_rollback_that_fails_needs_attention_and_blocks_the_next_deploy_until_forced() -> None:
    stage = Stage(environment(2))
    stage.world.unhealthy.add(V2)
    stage.play(deploy("v1"))

    async def story(o: Orchestrator) -> DeploymentResult:
        async def spoil() -> None:
            async with o.subscribe("rollback.started") as started:
                async for _ in started:
                    stage.world.fail(
                        "switch", target="t1", times=9, error=lambda: ProviderError("read-only file system")
                    )
                    return

        async with anyio.create_task_group() as group:
            group.start_soon(spoil)
            await anyio.sleep(0)
            return await o.deploy("api", "production", version="v2")

    result = stage.play(story)
    assert (result.outcome, result.reason) == ("needs_attention", "rollback_failed")
    assert "t1" in (result.detail or "")
    blocked = stage.play(deploy("v3"))
    assert (blocked.outcome, blocked.reason) == ("needs_attention", "unfinished")
    forced = Stage.play(stage, lambda o: _forced(o, stage))
    assert forced.outcome == "succeeded"
    assert set(stage.world.serving().values()) == {V3}


def test_a_rollback_without_a_permit_leaves_the_healthy_target_and_says_so_at_once() -> None:
    stage = Stage(environment(3, rollout=Rollout(batch=("1",), max_unavailable="1")))
    stage.world.unhealthy_on.add(("t2", V2))
    stage.play(deploy("v1"))

    async def story(o: Orchestrator) -> DeploymentResult:
        async def spoil() -> None:
            async with o.subscribe("rollback.started") as started:
                async for _ in started:
                    stage.world.fail("switch", target="t2", times=9, error=lambda: ProviderError("disk full"))
                    return

        async with anyio.create_task_group() as group:
            group.start_soon(spoil)
            await anyio.sleep(0)
            return await o.deploy("api", "production", version="v2")

    result = stage.play(story)
    assert (result.outcome, result.reason) == ("needs_attention", "rollback_failed")
    assert stage.world.serving()["t1"] == V2
    assert result.duration_s < 120


async def _forced(o: Orchestrator, stage: Stage) -> DeploymentResult:
    stage.world._faults.clear()
    return await o.deploy(
        "api", "production", version="v3", force=True, limit=["t1", "t2"], strategy="all_at_once"
    )


def test_rollback_undoes_the_latest_deployment_and_repeated_goes_further_back() -> None:
    stage = Stage(environment(2))

    async def story(o: Orchestrator) -> list[str]:
        for version in ("v1", "v2", "v3"):
            await o.deploy("api", "production", version=version)
        seen = []
        for _ in range(3):
            result = await o.rollback("api", "production")
            seen.append(f"{result.outcome}:{stage.world.serving()['t1'][:4]}")
        return seen

    first, second, third = stage.play(story)
    assert first == f"succeeded:{V2[:4]}"
    assert second == f"succeeded:{V1[:4]}"
    assert third.startswith("failed:")
    assert set(stage.world.serving().values()) == {V1}


def test_rollback_touches_only_what_the_latest_deployment_changed() -> None:
    stage = Stage(environment(3))

    async def story(o: Orchestrator) -> DeploymentResult:
        await o.deploy("api", "production", version="v1")
        await o.deploy("api", "production", version="v2", limit=["t2"])
        return await o.rollback("api", "production")

    result = stage.play(story)
    assert outcomes(result) == {"t2": "updated"}
    assert set(stage.world.serving().values()) == {V1}


@pytest.mark.parametrize("name", ["version", "release"])
def test_rollback_to_a_named_release_or_version(name: str) -> None:
    stage = Stage(environment(2, keep_releases=5))

    async def story(o: Orchestrator) -> DeploymentResult:
        for version in ("v1", "v2", "v3"):
            await o.deploy("api", "production", version=version)
        release = next(
            r.release for r in await stage.journal.releases("api", "production") if r.version == V1
        )
        return await o.rollback("api", "production", to=V1 if name == "version" else release)

    result = stage.play(story)
    assert (result.outcome, result.version) == ("succeeded", V1)
    assert set(stage.world.serving().values()) == {V1}


def test_rollback_to_a_pruned_release_stages_it_again() -> None:
    stage = Stage(environment(1, keep_releases=1))

    async def story(o: Orchestrator) -> DeploymentResult:
        for version in ("v1", "v2", "v3"):
            await o.deploy("api", "production", version=version)
        return await o.rollback("api", "production", to="v1")

    assert stage.play(story).outcome == "succeeded"
    assert stage.world.serving() == {"t1": V1}


def test_an_automatic_rollback_never_chooses_a_release_known_to_be_bad() -> None:
    stage = Stage(environment(1, rollout=Rollout(on_failure="stop")))
    stage.world.unhealthy.add(V2)
    upgraded(stage)
    assert stage.world.serving() == {"t1": V2}
    stage.world.unhealthy.add(V3)
    result = stage.play(deploy("v3"), settings=environment(1))
    assert result.outcome == "rolled_back"
    assert stage.world.serving() == {"t1": V1}


def test_a_store_that_was_lost_does_not_cost_the_release_that_serves() -> None:
    old = Stage(environment(2))
    old.play(deploy("v1"))
    new = Stage(environment(2), seed=2)
    new.world = old.world
    new.world.unhealthy.add(V2)
    result = new.play(deploy("v2"))
    assert result.outcome == "rolled_back"
    assert set(new.world.serving().values()) == {V1}


def test_a_restored_release_runs_with_the_settings_that_it_was_planned_with() -> None:
    stage = Stage(environment(1))
    stage.play(deploy("v1"))
    stage.world.unhealthy.add(V2)
    edited = environment(1, env={"MODE": "new"})
    edited = replace(edited, targets=(Target(name="t1", vars={"port": 9}),))
    result = stage.play(deploy("v2"), settings=edited)
    assert result.outcome == "rolled_back"

    async def child_plan(o: Orchestrator) -> Any:
        shown = await o.show_state(result.deployment_id)
        child = await o.show_state(shown.child_id)
        return child.plan

    plan = stage.play(child_plan, settings=edited)
    assert b'"port":9' not in plan.split(b'"targets"')[-1]
    assert b'"MODE"' not in plan.split(b'"targets"')[-1]


def test_retry_deploys_the_same_version_over_what_the_deployment_left_behind() -> None:
    stage = Stage(environment(3, rollout=Rollout(max_failures=1)))
    stage.world.unhealthy_on.add(("t2", V2))
    failed = upgraded(stage)
    stage.world.unhealthy_on.clear()
    result = stage.play(lambda o: o.retry(failed.deployment_id))
    assert (result.outcome, outcomes(result)) == ("succeeded", {"t2": "updated"})
    assert set(stage.world.serving().values()) == {V2}


def test_retry_is_refused_while_the_deployment_has_not_ended() -> None:
    stage = Stage(environment(1, rollout=Rollout(on_failure="hold")))
    stage.world.unhealthy.add(V2)
    held = upgraded(stage)
    with pytest.raises(UsageError, match="is paused"):
        stage.play(lambda o: o.retry(held.deployment_id))


def test_a_migration_runs_once_before_the_first_switch_and_its_failure_changes_nothing() -> None:
    stage = Stage(environment(3, migrate=Migrate(command="migrate")))
    stage.play(deploy("v1"))
    assert [t for step, t, _ in stage.world.effects if step == "migrate"] == ["t1"]
    stage.world.fail("migrate", times=5, error=lambda: DeploymentError("exit code 1"))
    result = stage.play(deploy("v2"))
    assert (result.outcome, result.reason) == ("failed", "migrate_failed")
    assert set(stage.world.serving().values()) == {V1}


def test_a_bake_that_fails_goes_back() -> None:
    stage = Stage(environment(2, rollout=Rollout(min_healthy_time_s=10.0)))
    stage.play(deploy("v1"))

    async def story(o: Orchestrator) -> DeploymentResult:
        async def spoil() -> None:
            async with o.subscribe("step.started") as steps:
                async for record in steps:
                    if record.event.step == "bake":
                        stage.world.unhealthy.add(V2)
                        return

        async with anyio.create_task_group() as group:
            group.start_soon(spoil)
            await anyio.sleep(0)
            return await o.deploy("api", "production", version="v2")

    result = stage.play(story)
    assert result.outcome == "rolled_back"
    assert set(stage.world.serving().values()) == {V1}
