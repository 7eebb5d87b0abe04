"""Abort, pause, promote and resume, asked of a deployment that is under way and of one whose process is gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from fraisier import Orchestrator
from fraisier.config.schema import Hook, Hooks, Migrate, Rollout
from fraisier.events import Event, Record
from fraisier.events import types as ev
from fraisier.journal.base import Guard
from fraisier.journal.memory import MemoryJournal
from fraisier.rollout.result import DeploymentResult
from fraisier.rollout.steer import Steered
from fraisier.testing import SeededIds, VirtualClock
from fraisier.testing.provider import commit
from tests.rollout.kit import Stage, environment, outcomes

ONE_BY_ONE = Rollout(batch=("1",), max_unavailable="1")


def slow_stage(rollout: Rollout = ONE_BY_ONE, count: int = 4) -> Stage:
    """Targets that serve v1 and take five seconds to restart."""
    stage = Stage(environment(count, rollout=rollout))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    stage.world.delays_s["restart"] = 5.0
    return stage


async def steered(
    o: Orchestrator,
    at_s: float,
    ask: Callable[[str], Awaitable[Steered]],
    then: Callable[[str], Awaitable[None]] | None = None,
) -> tuple[DeploymentResult, Steered]:
    """Deploy v2; after `at_s` ask for something, then do what comes after."""
    ends: list[DeploymentResult] = []
    answers: list[Steered] = []

    async def deploy() -> None:
        ends.append(await o.deploy("api", "production", version="v2"))

    async with anyio.create_task_group() as group:
        group.start_soon(deploy)
        await anyio.sleep(at_s)
        running = (await o.journal.deployments(limit=1))[0]
        answers.append(await ask(running.id))
        if then is not None:
            await then(running.id)
    return ends[0], answers[0]


def test_an_abort_puts_back_what_was_begun() -> None:
    """Aborted in mid-way, every target serves its old version, and the deployment ends as aborted."""
    stage = slow_stage()
    result, answer = stage.play(lambda o: steered(o, 8.0, o.abort))
    assert (answer.effect, result.outcome) == ("done", "aborted")
    assert set(stage.world.serving().values()) == {commit("v1")}
    assert {"rolled_back", "untouched"} == set(outcomes(result).values())
    assert stage.play(lambda o: o.abort(result.deployment_id)).effect == "already"


def test_a_target_that_was_stopped_before_its_first_step_is_in_nobodys_way() -> None:
    """It has its permit and nothing was done to it: the way back of the others needs that permit."""
    hooks = Hooks(before_switch=(Hook(command="./wait", name="wait", on="target"),))
    stage = Stage(environment(3, rollout=ONE_BY_ONE, hooks=hooks))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    stage.world.delays_s["hook:wait"] = 5.0
    result, answer = stage.play(lambda o: steered(o, 8.0, o.abort))
    assert answer.effect == "done"
    assert outcomes(result) == {"t1": "rolled_back", "t2": "untouched", "t3": "untouched"}
    assert (result.outcome, set(stage.world.serving().values())) == ("aborted", {commit("v1")})


@pytest.mark.parametrize("on_failure", ["hold", "stop"])
def test_an_abort_without_rollback_leaves_no_target_half_way(on_failure: str) -> None:
    """What is updated stays, what was begun goes back, the rest is untouched."""
    stage = slow_stage(Rollout(batch=("1",), max_unavailable="1", on_failure=on_failure))
    result, answer = stage.play(lambda o: steered(o, 8.0, o.abort))
    assert (answer.effect, result.outcome) == ("done", "aborted")
    assert {"updated", "rolled_back", "untouched"} == set(outcomes(result).values())
    assert set(stage.world.serving().values()) == {commit("v1"), commit("v2")}


@pytest.mark.parametrize("at_s", [0.0, 0.001])
def test_an_abort_before_anything_was_touched(at_s: float) -> None:
    """Nothing was begun, so nothing goes back."""
    stage = slow_stage()
    stage.world.delays_s["stage"] = 5.0
    before = dict(stage.world.serving())
    result, answer = stage.play(lambda o: steered(o, at_s, o.abort))
    assert (answer.effect, result.outcome) == ("done", "aborted")
    assert stage.world.serving() == before
    assert set(outcomes(result).values()) <= {"untouched"}


def test_a_pause_lets_nothing_begin_until_somebody_goes_on() -> None:
    """Paused, the running target comes to its end, no other begins, and no deadline passes; then it goes on."""
    stage = slow_stage(Rollout(batch=("1",), max_unavailable="1", progress_deadline_s=60.0))

    async def story(o: Orchestrator) -> tuple[DeploymentResult, list[str]]:
        seen: list[str] = []

        async def wait_and_go_on(deployment_id: str) -> None:
            await anyio.sleep(3600.0)
            state = await o.show_state(deployment_id)
            seen.append(state.state)
            seen.append(str(sum(1 for version in stage.world.serving().values() if version == commit("v2"))))
            seen.append((await o.pause(deployment_id)).effect)
            seen.append((await o.promote(deployment_id)).effect)
            seen.append((await o.promote(deployment_id)).effect)

        result, answer = await steered(o, 8.0, o.pause, wait_and_go_on)
        return result, [answer.effect, *seen]

    result, seen = stage.play(story)
    assert seen == ["done", "paused", "2", "already", "done", "refused"]
    assert result.outcome == "succeeded"
    assert set(stage.world.serving().values()) == {commit("v2")}


def test_health_is_acted_on_while_paused() -> None:
    """A target that turns sick in a pause takes the deployment back."""
    stage = slow_stage()

    async def sicken(deployment_id: str) -> None:
        await anyio.sleep(60.0)
        stage.world.unhealthy.add(commit("v2"))

    result, _ = stage.play(lambda o: steered(o, 8.0, o.pause, sicken))
    assert result.outcome == "rolled_back"
    assert set(stage.world.serving().values()) == {commit("v1")}


def test_an_abort_of_a_paused_deployment() -> None:
    """A pause is no shelter from an abort."""
    stage = slow_stage()

    async def abort(o: Orchestrator, deployment_id: str) -> None:
        await anyio.sleep(60.0)
        assert (await o.abort(deployment_id)).effect == "done"

    result, _ = stage.play(lambda o: steered(o, 8.0, o.pause, lambda name: abort(o, name)))
    assert result.outcome == "aborted"
    assert set(stage.world.serving().values()) == {commit("v1")}


def test_promote_ends_the_pause_between_two_waves() -> None:
    """An hour was configured, a person decided after a minute."""
    stage = slow_stage(Rollout(batch=("1", "100%"), max_unavailable="4", pause_s=3600.0))

    async def story(o: Orchestrator) -> tuple[str, str, float]:
        began = anyio.current_time()
        result, answer = await steered(o, 60.0, o.promote)
        return result.outcome, answer.effect, anyio.current_time() - began

    outcome, effect, took_s = stage.play(story)
    assert (outcome, effect) == ("succeeded", "done")
    assert took_s < 120.0


def test_a_rollback_is_not_aborted() -> None:
    """To leave it half-way would help nobody: it says so and goes on."""
    stage = slow_stage()
    stage.world.unhealthy.add(commit("v2"))

    async def story(o: Orchestrator) -> tuple[DeploymentResult, list[str]]:
        said: list[str] = []

        async def while_going_back(deployment_id: str) -> Steered:
            with anyio.fail_after(600):
                while (await o.show_state(deployment_id)).state != "rolling_back":
                    await anyio.sleep(0.5)
            for ask in (o.pause, o.promote, o.abort):
                answer = await ask(deployment_id)
                said.append(answer.effect)
            return answer

        result, _ = await steered(o, 1.0, while_going_back)
        return result, said

    result, said = stage.play(story)
    assert (result.outcome, said) == ("rolled_back", ["refused"] * 3)


async def cancelled_after(o: Orchestrator, seconds: float) -> None:
    """Deploy v2 and cancel the task in mid-way."""
    with anyio.move_on_after(seconds):
        await o.deploy("api", "production", version="v2")


def test_the_asker_carries_out_what_a_dead_runner_cannot() -> None:
    """Interrupted, then paused, promoted and aborted by somebody else."""
    stage = slow_stage()
    stage.play(lambda o: cancelled_after(o, 8.0))

    async def story(o: Orchestrator) -> list[str]:
        (left,) = await o.unfinished()
        found = [
            (await o.pause(left.id)).effect,
            (await o.pause(left.id)).effect,
            (await o.promote(left.id)).effect,
        ]
        ended = await o.abort(left.id)
        return [*found, ended.effect, ended.state]

    assert stage.play(story) == ["done", "already", "refused", "done", "aborted"]
    assert set(stage.world.serving().values()) == {commit("v1")}
    assert stage.play(lambda o: o.deploy("api", "production", version="v3")).outcome == "succeeded"


def test_a_migration_in_doubt_is_resumed_to_a_person() -> None:
    """A migration that was cut off is not repeated, and its doubt does not vanish: deploy, resume and abort say that a person
    must look. Who has looked ends it by an abort."""
    stage = Stage(environment(2, migrate=Migrate(command="up", rollback_command="down")))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    stage.world.hanging.add(("migrate", "t1"))
    stage.play(lambda o: cancelled_after(o, 30.0))
    stage.world.hanging.clear()
    refused = stage.play(lambda o: o.deploy("api", "production", version="v3"))
    assert refused.outcome == "needs_attention"
    (left,) = stage.play(lambda o: o.unfinished())[:1]
    looked = stage.play(lambda o: o.abort(left.id))
    assert (looked.effect, looked.state) == ("refused", "needs_attention")
    again = stage.play(lambda o: o.resume(left.id))
    assert again is not None and (again.outcome, again.reason) == ("needs_attention", "in_doubt")
    assert stage.play(lambda o: o.abort(left.id)).state == "aborted"
    assert set(stage.world.serving().values()) == {commit("v1")}


def test_an_abort_during_the_last_step_is_still_an_abort() -> None:
    """What was answered with `done` is done: an abort that arrives while old releases are removed takes all back."""
    stage = slow_stage()
    for version in ("w1", "w2", "w3", "w4", "w5", "w6"):
        stage.play(lambda o, version=version: o.deploy("api", "production", version=version))  # type: ignore[misc]
    stage.world.delays_s["cleanup"] = 30.0

    async def while_cleaning(o: Orchestrator, deployment_id: str) -> Steered:
        with anyio.fail_after(600):
            while not stage.journal_says("step.started", "cleanup", deployment_id):
                await anyio.sleep(0.5)
        return await o.abort(deployment_id)

    result, answer = stage.play(lambda o: steered(o, 1.0, lambda name: while_cleaning(o, name)))
    assert (answer.effect, result.outcome) == ("done", "aborted")
    assert set(stage.world.serving().values()) == {commit("w6")}


def test_a_pause_holds_back_who_waits_for_a_permit() -> None:
    """Within one wave, targets that wait for their turn do not begin while it is paused."""
    stage = slow_stage(Rollout(batch=("100%",), max_unavailable="1"))

    async def story(o: Orchestrator) -> tuple[str, int]:
        begun: list[int] = []

        async def wait_and_go_on(deployment_id: str) -> None:
            await anyio.sleep(600.0)
            begun.append(sum(1 for version in stage.world.serving().values() if version == commit("v2")))
            await o.promote(deployment_id)

        result, _ = await steered(o, 2.0, o.pause, wait_and_go_on)
        return result.outcome, begun[0]

    assert stage.play(story) == ("succeeded", 1)


class SlowToLease(MemoryJournal):
    """Takes a second to tell who asked that the lease of a second deployment is theirs."""

    async def append(self, event: Event, guard: Guard | None = None) -> Record:
        record = await super().append(event, guard)
        if isinstance(event, ev.LeaseAcquired) and event.epoch > 1:
            await anyio.sleep(1.0)
        return record


@pytest.mark.parametrize("ask", ["abort", "pause"])
def test_what_is_asked_in_the_moment_of_the_lease_is_answered_and_so_is_what_follows(ask: str) -> None:
    clock = VirtualClock()
    stage = Stage(environment(2), journal=SlowToLease(clock=clock, ids=SeededIds(1, clock)))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))

    async def story(o: Orchestrator) -> tuple[DeploymentResult, str, list[str]]:
        later: list[str] = []

        async def go_on(deployment_id: str) -> None:
            if ask == "pause":
                await anyio.sleep(60.0)
                later.append((await o.promote(deployment_id)).effect)

        result, answer = await steered(o, 0.5, getattr(o, ask), go_on)
        return result, answer.effect, later

    result, effect, later = stage.play(story)
    assert (effect, result.outcome) == ("done", "succeeded" if ask == "pause" else "aborted")
    assert later == (["done"] if ask == "pause" else [])
    told = [record.event for record in stage.records() if isinstance(record.event, ev.DeploymentAcknowledged)]
    assert [(event.action, event.effect) for event in told] == [(ask, "done"), ("promote", "done")][
        : 1 + len(later)
    ]
