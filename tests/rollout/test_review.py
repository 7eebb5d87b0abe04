"""Corners of the rules: what is awkward to reach, and must hold all the same."""

from __future__ import annotations

import gc
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from fraisier import Orchestrator
from fraisier.bus import Bus
from fraisier.config.schema import Fraise, Migrate, Rollout
from fraisier.errors import DatabaseError, DeploymentError, LeaseLostError, ProviderError
from fraisier.events import Event, Record
from fraisier.events import types as ev
from fraisier.journal.base import Guard
from fraisier.journal.memory import MemoryJournal
from fraisier.rollout.result import DeploymentResult
from fraisier.testing.provider import commit
from tests.rollout.kit import Stage, environment, outcomes

V1, V2, V3 = commit("v1"), commit("v2"), commit("v3")


def deploy(version: str, **options: Any) -> Callable[[Orchestrator], Awaitable[DeploymentResult]]:
    return lambda o: o.deploy("api", "production", version=version, **options)


async def on_event(o: Orchestrator, pattern: str, act: Callable[[Any], bool]) -> None:
    """Call `act` with every event of the pattern until it returns True."""
    async with o.subscribe(pattern) as events:
        async for record in events:
            if act(record.event):
                return


async def meanwhile(
    o: Orchestrator, pattern: str, act: Callable[[Any], bool], work: Callable[[], Awaitable[Any]]
) -> Any:
    async with anyio.create_task_group() as group:
        group.start_soon(on_event, o, pattern, act)
        await anyio.sleep(0)
        result = await work()
        group.cancel_scope.cancel()
    return result


def test_a_tolerated_failure_whose_restore_fails_lets_nobody_wait_for_ever_and_needs_attention() -> None:
    stage = Stage(environment(3, rollout=Rollout(batch=("100%",), max_unavailable="1", max_failures=1)))
    stage.play(deploy("v1"))
    stage.world.unhealthy_on.add(("t1", V2))

    async def story(o: Orchestrator) -> DeploymentResult:
        def spoil(event: Any) -> bool:
            stage.world.fail("switch", target="t1", times=9, error=lambda: ProviderError("disk full"))
            return True

        return await meanwhile(
            o, "rollback.started", spoil, lambda: o.deploy("api", "production", version="v2")
        )

    result = stage.play(story)
    assert result.duration_s < 120
    assert (result.outcome, result.reason) == ("needs_attention", "rollback_failed")
    assert outcomes(result)["t1"] == "failed"


def test_a_first_target_out_of_reach_does_not_take_the_migration_with_it() -> None:
    settings = environment(3, migrate=Migrate(command="m"), rollout=Rollout(on_unreachable="skip"))
    stage = Stage(settings)
    stage.world.fail("preflight", target="t1", times=9)
    result = stage.play(deploy("v1"))
    assert (result.outcome, result.reason) == ("failed", "partial")
    assert [t for step, t, _ in stage.world.effects if step == "migrate"] == ["t2"]


def test_a_target_whose_migration_failed_goes_back_without_a_restart_and_its_release_stays_good() -> None:
    stage = Stage(environment(3, migrate=Migrate(command="m", on="all")))
    stage.play(deploy("v1"))
    stage.world.fail("migrate", target="t2", times=9, error=lambda: DeploymentError("exit code 1"))
    result = stage.play(deploy("v2"))
    assert result.outcome == "rolled_back"
    assert set(stage.world.serving().values()) == {V1}


def test_a_failed_migration_reports_the_version_that_still_serves() -> None:
    stage = Stage(environment(2, migrate=Migrate(command="m")))
    stage.play(deploy("v1"))
    stage.world.fail("migrate", times=5, error=lambda: DeploymentError("exit code 1"))
    result = stage.play(deploy("v2"))
    assert [target.version for target in result.targets] == [V1, V1]


def test_a_look_that_fails_in_an_unexpected_way_ends_the_deployment_with_a_terminal_row() -> None:
    stage = Stage(environment(2))
    stage.world.fail("inspect", target="t2", times=1, error=lambda: ProviderError("systemctl: no such unit"))
    result = stage.play(deploy("v1"))
    assert (result.outcome, result.reason) == ("failed", "prepare_failed")
    assert "no such unit" in (result.detail or "")


@pytest.mark.parametrize("kind", [ProviderError, RuntimeError])
def test_a_look_that_fails_does_not_keep_the_rollback_from_happening(kind: type[Exception]) -> None:
    stage = Stage(environment(2))
    stage.play(deploy("v1"))
    stage.world.unhealthy.add(V2)

    async def story(o: Orchestrator) -> DeploymentResult:
        def spoil(event: Any) -> bool:
            stage.world.fail("inspect", times=1, error=lambda: kind("cannot look"))
            return True

        return await meanwhile(
            o, "rollback.started", spoil, lambda: o.deploy("api", "production", version="v2")
        )

    assert stage.play(story).outcome == "rolled_back"
    assert set(stage.world.serving().values()) == {V1}


@pytest.mark.parametrize("step", ["preflight", "stage", "switch", "restart"])
def test_an_error_that_no_provider_should_raise_is_that_targets_failure(step: str) -> None:
    stage = Stage(environment(3, rollout=Rollout(batch=("100%",), max_unavailable="3")))
    stage.play(deploy("v1"))
    stage.world.fail(step, target="t2", times=1, error=lambda: KeyError("boom"))
    result = stage.play(deploy("v2"))
    expected = "failed" if step in ("preflight", "stage") else "rolled_back"
    assert result.outcome == expected
    assert "boom" in (result.detail or "")
    assert set(stage.world.serving().values()) == {V1}
    assert outcomes(result)["t2"] == expected
    if expected == "failed":
        assert all(list(target.staged.values()) == [V1] for target in stage.world.targets.values())


def test_an_unexpected_error_at_one_target_of_a_rollback_lets_the_others_finish() -> None:
    stage = Stage(environment(3, rollout=Rollout(batch=("100%",), max_unavailable="3")))
    stage.play(deploy("v1"))
    stage.world.unhealthy.add(V2)

    async def story(o: Orchestrator) -> DeploymentResult:
        def spoil(event: Any) -> bool:
            stage.world.fail("switch", target="t1", times=1, error=lambda: KeyError("boom"))
            return True

        return await meanwhile(
            o, "rollback.started", spoil, lambda: o.deploy("api", "production", version="v2")
        )

    result = stage.play(story)
    assert result.outcome == "needs_attention"
    assert {n: stage.world.serving()[n] for n in ("t2", "t3")} == {"t2": V1, "t3": V1}


def test_an_updated_target_that_turned_sick_goes_back_without_a_permit() -> None:
    stage = Stage(environment(3, rollout=Rollout(batch=("1",), max_unavailable="1")))
    stage.play(deploy("v1"))
    stage.world.unhealthy_on.add(("t2", V2))

    async def story(o: Orchestrator) -> DeploymentResult:
        def spoil(event: Any) -> bool:
            stage.world.unhealthy_on.add(("t1", V2))
            stage.world.fail("switch", target="t2", times=9, error=lambda: ProviderError("disk full"))
            return True

        return await meanwhile(
            o, "rollback.started", spoil, lambda: o.deploy("api", "production", version="v2")
        )

    result = stage.play(story)
    assert result.outcome == "needs_attention"
    assert stage.world.serving()["t1"] == V1


def test_who_waits_for_the_lease_is_not_superseded_by_who_gets_it_first() -> None:
    stage = Stage(environment(1))
    stage.world.delays_s["stage"] = 5.0

    async def story(o: Orchestrator) -> list[str]:
        ended: list[str] = []

        async def one(version: str) -> None:
            ended.append((await o.deploy("api", "production", version=version, lock_wait_s=300)).outcome)

        async with anyio.create_task_group() as group:
            for version in ("v1", "v2", "v3"):
                group.start_soon(one, version)
        return ended

    assert stage.play(story) == ["succeeded"] * 3
    assert not stage.told("deployment.superseded")


def test_what_was_interrupted_and_is_found_unchanged_later_becomes_the_last_good_one() -> None:
    stage = Stage(environment(2, rollout=Rollout(batch=("1",))))
    stage.play(deploy("v1"))

    async def story(o: Orchestrator) -> DeploymentResult:
        def halt(event: Any) -> bool:
            o.stop("Ctrl-C")
            return True

        return await meanwhile(o, "target.updated", halt, lambda: o.deploy("api", "production", version="v2"))

    assert stage.play(story).outcome == "interrupted"
    again = stage.play(deploy("v2"))
    assert outcomes(again) == {"t1": "unchanged", "t2": "updated"}
    stage.world.unhealthy_on.add(("t2", V3))
    assert stage.play(deploy("v3")).outcome == "rolled_back"
    assert stage.world.serving() == {"t1": V2, "t2": V2}


def test_a_rollback_after_one_to_a_named_release_never_goes_forward() -> None:
    stage = Stage(environment(1, keep_releases=9))

    async def story(o: Orchestrator) -> list[str]:
        for version in ("v1", "v2", "v3"):
            await o.deploy("api", "production", version=version)
        await o.rollback("api", "production", to=V2)
        first = (await o.rollback("api", "production")).outcome
        served = stage.world.serving()["t1"]
        second = (await o.rollback("api", "production")).outcome
        return [first, served, second, stage.world.serving()["t1"]]

    assert stage.play(story) == ["succeeded", V1, "failed", V1]


def test_a_rollback_of_targets_out_of_reach_changes_nothing_and_says_unreachable() -> None:
    stage = Stage(environment(2))
    stage.play(deploy("v1"))
    stage.play(deploy("v2"))
    stage.world.unreachable = {"t1"}
    result = stage.play(lambda o: o.rollback("api", "production"))
    assert (result.outcome, result.reason) == ("unreachable", "unreachable")


def test_a_rollback_that_cannot_stage_what_was_pruned_has_changed_nothing_and_failed() -> None:
    stage = Stage(environment(1, keep_releases=1))

    async def story(o: Orchestrator) -> DeploymentResult:
        for version in ("v1", "v2", "v3"):
            await o.deploy("api", "production", version=version)
        stage.world.fail("stage", times=9, error=lambda: DeploymentError("build failed"))
        return await o.rollback("api", "production", to="v1")

    result = stage.play(story)
    assert (result.outcome, result.reason) == ("failed", "prepare_failed")
    assert stage.world.serving() == {"t1": V3}


def test_a_rollback_counts_every_target_of_the_fleet_that_is_down() -> None:
    stage = Stage(environment(4))
    stage.play(deploy("v1"))
    stage.play(deploy("v2", limit=["t1", "t2"]))
    stage.world.target("t4").running = ""
    result = stage.play(lambda o: o.rollback("api", "production"))
    assert (result.outcome, result.reason) == ("failed", "capacity")


def test_a_bake_longer_than_the_progress_deadline_is_not_a_lack_of_progress() -> None:
    rollout = Rollout(batch=("1",), min_healthy_time_s=90.0, progress_deadline_s=60.0)
    stage = Stage(environment(2, rollout=rollout))
    assert stage.play(deploy("v1")).outcome == "succeeded"


def test_a_rollback_is_bounded_by_its_own_timeout_not_by_the_progress_deadline() -> None:
    stage = Stage(environment(2, rollout=Rollout(batch=("1",), progress_deadline_s=30.0)))
    stage.play(deploy("v1"))
    stage.world.delays_s["restart"] = 40.0
    result = stage.play(deploy("v2"))
    assert (result.outcome, result.reason) == ("rolled_back", "progress_deadline")
    assert set(stage.world.serving().values()) == {V1}


def test_a_timeout_during_a_tolerated_restore_still_brings_everything_back() -> None:
    settings = environment(2, rollout=Rollout(batch=("1",), max_failures=1), timeout_s=100.0)
    stage = Stage(settings)
    stage.play(deploy("v1"))
    stage.world.unhealthy_on.add(("t1", V2))

    async def story(o: Orchestrator) -> DeploymentResult:
        def spoil(event: Any) -> bool:
            if event.whole:
                stage.world.delays_s.clear()
                return True
            stage.world.delays_s["switch"] = 55.0
            stage.world.delays_s["restart"] = 55.0
            return False

        return await meanwhile(
            o, "rollback.started", spoil, lambda: o.deploy("api", "production", version="v2")
        )

    result = stage.play(story)
    assert (result.outcome, result.reason) == ("rolled_back", "timeout")
    assert set(stage.world.serving().values()) == {V1}

    async def states(o: Orchestrator) -> set[str]:
        return {d.state for d in await o.journal.deployments(limit=50)}

    assert "running" not in stage.play(states)


def test_the_attempts_of_a_step_share_its_timeout() -> None:
    stage = Stage(environment(1))
    stage.world.delays_s["switch"] = 50.0
    stage.world.fail("switch", times=9)
    result = stage.play(deploy("v1"))
    assert result.outcome in ("failed", "needs_attention")
    started = [
        r for r in stage.records() if type(r.event).__name__ == "StepStarted" and r.event.step == "switch"
    ]
    ended = [
        r for r in stage.records() if type(r.event).__name__ == "StepFailed" and r.event.step == "switch"
    ]
    first = [r for r in ended if r.event.deployment_id == result.deployment_id]
    assert (first[-1].at_us - started[0].at_us) / 1e6 <= 61


def test_a_good_release_that_turned_bad_is_passed_over_for_the_one_before() -> None:
    stage = Stage(environment(1, keep_releases=5))
    stage.play(deploy("v1"))
    stage.play(deploy("v2"))
    stage.world.unhealthy |= {V2, V3}
    assert stage.play(deploy("v3")).outcome == "needs_attention"
    result = stage.play(deploy("v3", force=True))
    assert result.outcome == "rolled_back"
    assert stage.world.serving() == {"t1": V1}


def test_a_migration_that_timed_out_is_in_doubt_and_needs_attention() -> None:
    stage = Stage(environment(2, migrate=Migrate(command="m", timeout_s=30.0)))
    stage.play(deploy("v1"))
    stage.world.hanging.add(("migrate", "t1"))
    result = stage.play(deploy("v2"))
    assert (result.outcome, result.reason) == ("needs_attention", "in_doubt")
    assert outcomes(result) == {"t1": "in_doubt", "t2": "untouched"}
    assert set(stage.world.serving().values()) == {V1}
    assert stage.play(deploy("v3")).outcome == "needs_attention"


def test_a_lost_lease_of_one_fraise_does_not_disturb_the_others() -> None:
    stage = Stage(environment(1), web=Fraise(name="web", environments={"production": environment(1)}))
    stage.world.delays_s["stage"] = 30.0
    took = []

    async def story(o: Orchestrator) -> list[str]:
        def steal(event: Any) -> bool:
            if event.fraise != "api" or event.step != "stage":
                return False
            took.append(event)
            return True

        async def thief() -> None:
            await on_event(o, "step.started", steal)
            await o.bus.publish(
                ev.LeaseAcquired(
                    deployment_id="thief", fraise="api", environment="production", epoch=2, expires_at=2**62
                )
            )

        async with anyio.create_task_group() as group:
            group.start_soon(thief)
            await anyio.sleep(0)
            with pytest.raises(LeaseLostError):
                await o.deploy_many(["api", "web"], "production", version="v1")
        return [f"{d.fraise}:{d.state}" for d in await o.journal.deployments(limit=9)]

    assert "web:succeeded" in stage.play(story)


def test_a_stop_before_a_rollback_lets_it_not_begin() -> None:
    stage = Stage(environment(1))
    stage.play(deploy("v1"))
    stage.play(deploy("v2"))

    async def story(o: Orchestrator) -> DeploymentResult:
        o.stop("Ctrl-C")
        return await o.rollback("api", "production")

    assert stage.play(story).outcome == "interrupted"
    assert stage.world.serving() == {"t1": V2}


def test_status_names_the_deployment_that_a_person_asked_for() -> None:
    stage = Stage(environment(1))
    stage.play(deploy("v1"))
    stage.world.unhealthy.add(V2)
    result = stage.play(deploy("v2"))

    async def told(o: Orchestrator) -> Any:
        return (await o.status("api", "production"))["fraises"][0]["deployment"]

    assert stage.play(told) == {"id": result.deployment_id, "state": "rolled_back"}


def test_a_stop_during_a_linked_rollback_lets_it_go_on() -> None:
    stage = Stage(environment(3, rollout=Rollout(batch=("100%",), max_unavailable="3")))
    stage.play(deploy("v1"))
    stage.world.unhealthy.add(V2)

    async def story(o: Orchestrator) -> DeploymentResult:
        def halt(event: Any) -> bool:
            o.stop("Ctrl-C")
            return True

        return await meanwhile(
            o, "rollback.started", halt, lambda: o.deploy("api", "production", version="v2")
        )

    result = stage.play(story)
    assert result.outcome == "rolled_back"
    assert set(stage.world.serving().values()) == {V1}


def test_who_goes_on_without_a_target_out_of_reach_is_staged_all_the_same() -> None:
    stage = Stage(environment(4, rollout=Rollout(on_unreachable="skip")))
    stage.world.fail("preflight", target="t1", times=9)
    result = stage.play(deploy("v1"))
    assert (result.outcome, result.reason) == ("failed", "partial")
    assert outcomes(result) == {"t1": "unreachable", "t2": "updated", "t3": "updated", "t4": "updated"}
    assert {n: stage.world.serving()[n] for n in ("t2", "t3", "t4")} == dict.fromkeys(("t2", "t3", "t4"), V1)


def test_a_tolerated_failure_that_cannot_be_brought_back_is_never_called_partial() -> None:
    stage = Stage(environment(5, rollout=Rollout(batch=("100%",), max_unavailable="2", max_failures=1)))
    stage.play(deploy("v1"))
    stage.world.unhealthy_on.add(("t1", V2))

    async def story(o: Orchestrator) -> DeploymentResult:
        def spoil(event: Any) -> bool:
            stage.world.fail("switch", target="t1", times=9, error=lambda: ProviderError("disk full"))
            return True

        return await meanwhile(
            o, "rollback.started", spoil, lambda: o.deploy("api", "production", version="v2")
        )

    result = stage.play(story)
    assert (result.outcome, result.reason) == ("needs_attention", "rollback_failed")
    assert outcomes(result) == {"t1": "failed", **dict.fromkeys(("t2", "t3", "t4", "t5"), "updated")}


def test_who_waits_for_a_permit_waits_for_a_restore_that_is_under_way() -> None:
    """One restore failed and frees nothing; the other one is slow, and gives its permit back."""
    rollout = Rollout(batch=("100%",), max_unavailable="2", max_failures=2)
    stage = Stage(environment(4, rollout=rollout))
    stage.play(deploy("v1"))
    stage.world.unhealthy_on |= {("t1", V2), ("t2", V2)}

    async def story(o: Orchestrator) -> DeploymentResult:
        def spoil(event: Any) -> bool:
            stage.world.fail("switch", target="t1", times=9, error=lambda: ProviderError("disk full"))
            stage.world.delays_s["restart"] = 5.0
            return True

        return await meanwhile(
            o, "rollback.started", spoil, lambda: o.deploy("api", "production", version="v2")
        )

    result = stage.play(story)
    assert outcomes(result) == {"t1": "failed", "t2": "rolled_back", "t3": "updated", "t4": "updated"}


def test_an_untouched_target_reports_what_it_serves_not_what_it_would_go_back_to() -> None:
    stage = Stage(environment(2, rollout=Rollout(on_failure="stop", max_unavailable="2")))
    stage.play(deploy("v1"))
    stage.world.unhealthy_on.add(("t1", V2))
    stage.play(deploy("v2"))
    stage.world.fail("stage", target="t2", times=9, error=lambda: DeploymentError("build failed"))
    result = stage.play(deploy("v3"))
    assert result.reason == "prepare_failed"
    assert {target.name: target.version for target in result.targets} == stage.world.serving()


@pytest.mark.parametrize("moment", [1, 2, 3, 5, 9])
def test_a_cancellation_at_the_very_beginning_leaves_no_lease_and_no_open_deployment(moment: int) -> None:
    stage = Stage(environment(1))

    async def story(o: Orchestrator) -> tuple[str, bool]:
        left = moment

        def count(event: Any) -> bool:
            nonlocal left
            left -= 1
            if not left:
                group.cancel_scope.cancel()
            return not left

        async with anyio.create_task_group() as group:
            group.start_soon(on_event, o, "*", count)
            await anyio.sleep(0)
            await o.deploy("api", "production", version="v1")
        lease = await o.journal.lease("api", "production")
        return (await o.journal.deployments(limit=1))[0].state, lease is not None and lease.held

    assert stage.play(story) == ("interrupted", False)
    assert stage.play(deploy("v2")).outcome == "succeeded"


def test_a_lost_lease_writes_nothing_more() -> None:
    stage = Stage(environment(2))
    stage.play(deploy("v1"))
    stage.world.unhealthy.add(V2)
    stage.world.delays_s["restart"] = 60.0

    async def story(o: Orchestrator) -> None:
        async def thief() -> None:
            await on_event(o, "step.started", lambda event: bool(event.step == "restart"))
            await o.bus.publish(
                ev.LeaseAcquired(
                    deployment_id="thief", fraise="api", environment="production", epoch=9, expires_at=2**62
                )
            )

        async with anyio.create_task_group() as group:
            group.start_soon(thief)
            await anyio.sleep(0)
            with pytest.raises(LeaseLostError):
                await o.deploy("api", "production", version="v2")

    stage.play(story)
    told = [kind for kind, _ in stage.told()]
    assert told[told.index("lease.lost") + 1 :] == []


@pytest.mark.parametrize("policy", ["stop", "hold"])
def test_a_rollback_after_a_stop_or_a_hold_undoes_what_was_left_half_way_and_nothing_else(
    policy: str,
) -> None:
    stage = Stage(environment(3, rollout=Rollout(on_failure=policy)))
    stage.play(deploy("v1"))
    stage.play(deploy("v2"))
    stage.world.unhealthy_on.add(("t1", V3))
    stage.play(deploy("v3"))
    assert stage.world.serving() == {"t1": V3, "t2": V2, "t3": V2}
    result = stage.play(lambda o: o.rollback("api", "production"))
    assert (result.outcome, outcomes(result)) == ("succeeded", {"t1": "updated"})
    assert set(stage.world.serving().values()) == {V2}
    stage.play(lambda o: o.rollback("api", "production"))
    assert set(stage.world.serving().values()) == {V1}


def test_a_rollback_after_an_interruption_undoes_what_was_interrupted() -> None:
    stage = Stage(environment(2, rollout=Rollout(batch=("1",))))
    stage.play(deploy("v1"))
    stage.play(deploy("v2"))

    async def story(o: Orchestrator) -> DeploymentResult:
        def halt(event: Any) -> bool:
            o.stop("Ctrl-C")
            return True

        return await meanwhile(o, "target.updated", halt, lambda: o.deploy("api", "production", version="v3"))

    assert stage.play(story).outcome == "interrupted"
    assert stage.world.serving() == {"t1": V3, "t2": V2}
    assert stage.play(lambda o: o.rollback("api", "production")).outcome == "succeeded"
    assert stage.world.serving() == {"t1": V2, "t2": V2}


def test_a_named_version_that_was_deployed_twice_means_the_newest_release() -> None:
    stage = Stage(environment(1, keep_releases=9))

    async def story(o: Orchestrator) -> tuple[str, str]:
        for version in ("v1", "v2", "v1", "v3"):
            await o.deploy("api", "production", version=version)
        newest = max(
            (r for r in await o.journal.releases("api", "production") if r.version == V1), key=lambda r: r.seq
        )
        await o.rollback("api", "production", to=V1)
        return newest.release, stage.world.target("t1").running

    newest, running = stage.play(story)
    assert running == newest


def test_a_rollback_that_undoes_a_migration_puts_the_old_release_back() -> None:
    settings = environment(
        3, migrate=Migrate(command="m", rollback_command="u"), rollout=Rollout(batch=("1",))
    )
    stage = Stage(settings)
    stage.play(deploy("v1"))
    stage.world.unhealthy_on.add(("t1", V2))
    stage.world.effects.clear()
    result = stage.play(deploy("v2"))
    assert result.outcome == "rolled_back"
    assert set(stage.world.serving().values()) == {V1}
    new, old = (
        next(rel for step, _, rel in stage.world.effects if step == "stage"),
        stage.world.target("t1").current,
    )
    back = [(step, release) for step, target, release in stage.world.effects if target == "t1"][-4:]
    assert back == [("migrate", new), ("switch", old), ("restart", old), ("cleanup", old)]


def test_a_first_deployment_that_undoes_its_migration_leaves_nothing_running() -> None:
    stage = Stage(environment(1, migrate=Migrate(command="m", rollback_command="u")))
    stage.world.unhealthy.add(V1)
    assert stage.play(deploy("v1")).outcome == "failed"
    assert (stage.world.target("t1").current, stage.world.target("t1").running) == ("", "")


class _Full(MemoryJournal):
    """A journal that takes no more renewals."""

    async def append(self, event: Event, guard: Guard | None = None) -> Record:
        if isinstance(event, ev.LeaseRenewed):
            raise DatabaseError("disk full")
        return await super().append(event, guard)


def test_a_heartbeat_that_cannot_be_written_ends_the_deployment_with_that_error() -> None:
    stage = Stage(environment(1))
    stage.journal = _Full(clock=stage.clock, ids=stage.ids)
    stage.world.delays_s["stage"] = 60.0
    with pytest.raises(DatabaseError, match="disk full"):
        stage.play(deploy("v1"))
    assert not [step for step, _, _ in stage.world.effects if step == "switch"]


def test_what_is_left_out_in_the_preparation_counts_as_away() -> None:
    """One of four is left out, so that none may be taken away; the rest stays as it was."""
    stage = Stage(environment(4, rollout=Rollout(on_unreachable="skip", max_unavailable="1")))
    stage.play(deploy("v1"))
    stage.world.fail("preflight", target="t1", times=9)
    result = stage.play(deploy("v2"))
    assert (result.outcome, result.reason) == ("failed", "capacity")
    assert set(stage.world.serving().values()) == {V1}


def test_a_defect_at_one_target_does_not_keep_the_others_from_being_stopped() -> None:
    stage = Stage(environment(3))
    stage.play(deploy("v1"))
    stage.world.fail("stop", target="t1", error=lambda: KeyError("boom"))
    found = stage.play(lambda o: o.control("stop", "api", "production"))
    assert [name for name, error in found.items() if error is not None] == ["t1"]
    assert stage.world.serving() == {"t1": V1, "t2": "", "t3": ""}


def test_retry_after_a_rollback_brings_every_target_that_went_back() -> None:
    stage = Stage(environment(2))
    stage.play(deploy("v1"))
    first = stage.play(deploy("v2"))
    stage.play(lambda o: o.rollback("api", "production", limit=["t2"]))
    result = stage.play(lambda o: o.retry(first.deployment_id))
    assert (result.outcome, outcomes(result)) == ("succeeded", {"t2": "updated"})


def test_a_forced_deploy_of_the_same_version_that_fails_goes_back_to_the_release_that_served() -> None:
    stage = Stage(environment(1))
    stage.play(deploy("v1"))
    served = stage.world.target("t1").running
    stage.world.fail("restart", times=1, error=lambda: ProviderError("exit code 1"))
    result = stage.play(deploy("v1", force=True))
    assert result.outcome == "rolled_back"
    assert stage.world.target("t1").running == served
    assert list(stage.world.target("t1").staged) == [served]


def test_many_orchestrators_in_one_process_leave_nothing_behind() -> None:
    """A daemon or an embedder may make one for each configuration that it reads."""
    stage = Stage(environment(1))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    logger = logging.getLogger("fraisier")

    def left() -> tuple[int, int]:
        gc.collect()
        return len(logger.handlers), sum(type(thing) in (Orchestrator, Bus) for thing in gc.get_objects())

    stage.play(lambda o: o.status())
    before = left()
    for _ in range(20):
        stage.play(lambda o: o.status())
    handlers, objects = left()
    assert handlers == before[0]
    assert objects <= before[1]
