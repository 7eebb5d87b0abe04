"""Leases, interruption, strangers on the bus, several fraises, several orchestrators."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import TaskStatus

from fraisier import Orchestrator
from fraisier.config.schema import Fraise, Recovery, Retry, Rollout
from fraisier.errors import UsageError
from fraisier.events import Record
from fraisier.rollout.result import DeploymentResult
from fraisier.testing.provider import commit
from tests.rollout.kit import Stage, environment, now_s, outcomes

V1, V2 = commit("v1"), commit("v2")


async def at(o: Orchestrator, pattern: str) -> None:
    """Return once an event of the type was seen."""
    async with o.subscribe(pattern) as events:
        async for _ in events:
            return


def test_a_second_deploy_is_locked_and_does_not_disturb_the_first() -> None:
    stage = Stage(environment(3))
    stage.world.delays_s["stage"] = 20.0

    async def story(o: Orchestrator) -> tuple[DeploymentResult, DeploymentResult]:
        results: list[DeploymentResult] = []

        async def first() -> None:
            results.append(await o.deploy("api", "production", version="v1"))

        async with anyio.create_task_group() as group:
            group.start_soon(first)
            await at(o, "deployment.started")
            second = await o.deploy("api", "production", version="v2")
        return results[0], second

    first, second = stage.play(story)
    assert (second.outcome, second.reason) == ("locked", "locked")
    assert "ada@here" in (second.detail or "")
    assert first.outcome == "succeeded"
    assert set(stage.world.serving().values()) == {V1}


def test_lock_wait_lets_the_second_go_on_when_the_first_has_ended() -> None:
    stage = Stage(environment(2))
    stage.world.delays_s["stage"] = 5.0

    async def story(o: Orchestrator) -> DeploymentResult:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: o.deploy("api", "production", version="v1"))
            await at(o, "deployment.started")
            return await o.deploy("api", "production", version="v2", lock_wait_s=300)

    assert stage.play(story).outcome == "succeeded"
    assert set(stage.world.serving().values()) == {V2}
    epochs = [r.event.epoch for r in stage.records() if type(r.event).__name__ == "LeaseAcquired"]
    assert epochs == [1, 2]


def test_cancelling_the_embedding_task_ends_in_an_orderly_state() -> None:
    stage = Stage(environment(3))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    stage.world.delays_s["restart"] = 30.0

    async def story(o: Orchestrator) -> str:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: o.deploy("api", "production", version="v2"))
            await at(o, "target.started")
            group.cancel_scope.cancel()
        return (await o.journal.deployments(limit=1))[0].state

    assert stage.play(story) == "interrupted"
    kinds = [kind for kind, _ in stage.told("deployment.interrupted", "lease.released")]
    assert kinds[-2:] == ["deployment.interrupted", "lease.released"]
    stage.world.delays_s.clear()
    again = stage.play(lambda o: o.deploy("api", "production", version="v2"))
    assert again.outcome == "succeeded"
    assert set(stage.world.serving().values()) == {V2}


def test_a_stop_lets_running_steps_finish_and_begins_no_new_one() -> None:
    stage = Stage(environment(3))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    stage.world.delays_s["restart"] = 5.0

    async def story(o: Orchestrator) -> DeploymentResult:
        async def stop() -> None:
            async with o.subscribe("step.started") as steps:
                async for record in steps:
                    if record.event.step == "restart":
                        o.stop("Ctrl-C")
                        return

        async with anyio.create_task_group() as group:
            group.start_soon(stop)
            await anyio.sleep(0)
            return await o.deploy("api", "production", version="v2")

    result = stage.play(story)
    assert result.outcome == "interrupted"
    assert stage.told("step.started", deployment_id=result.deployment_id)[-1] == (
        "step.started",
        "restart@t1",
    )
    assert ("step.succeeded", "restart@t1") in stage.told(
        "step.succeeded", deployment_id=result.deployment_id
    )


def test_a_stop_between_two_steps_is_never_taken_for_success() -> None:
    """Whatever the moment of the stop, what was not updated is not called updated."""
    for moment in range(1, 40):
        stage = Stage(environment(3, rollout=Rollout(strategy="all_at_once", max_unavailable="1")))
        stage.play(lambda o: o.deploy("api", "production", version="v1"))

        async def story(o: Orchestrator, moment: int = moment) -> DeploymentResult:
            async def stop() -> None:
                left = moment
                async with o.subscribe("step.*") as steps:
                    async for _ in steps:
                        left -= 1
                        if not left:
                            o.stop("Ctrl-C")
                            return

            async with anyio.create_task_group() as group:
                group.start_soon(stop)
                await anyio.sleep(0)
                result = await o.deploy("api", "production", version="v2")
                group.cancel_scope.cancel()
                return result

        result = stage.play(story)
        everywhere = set(stage.world.serving().values()) == {V2}
        assert result.outcome in ("succeeded", "interrupted")
        assert (result.outcome == "succeeded") == everywhere or result.outcome == "interrupted"


def test_a_stop_ends_the_wait_for_the_lock_a_pause_and_a_retry_delay_at_once() -> None:
    waits = {
        "lease.waiting": (environment(2), {"lock_wait_s": 3000}),
        "wave.succeeded": (environment(2, rollout=Rollout(batch=("1",), pause_s=3000)), {}),
        "recovery.decided": (
            environment(2, recovery=Recovery(retry=Retry(base_delay_s=3000, max_delay_s=3000))),
            {},
        ),
    }
    for event, (settings, options) in waits.items():
        stage = Stage(settings)
        if event == "recovery.decided":
            stage.world.fail("fetch", times=2)

        async def story(
            o: Orchestrator, event: str = event, options: dict[str, float] = options
        ) -> tuple[str, float]:
            async def stop() -> None:
                await at(o, event)
                o.stop("Ctrl-C")

            async with anyio.create_task_group() as group:
                if event == "lease.waiting":
                    await group.start(_hold_lease, o)
                group.start_soon(stop)
                await anyio.sleep(0)
                result = await o.deploy("api", "production", version="v1", **options)
                ended = result.outcome, await now_s()
                group.cancel_scope.cancel()
            return ended

        outcome, ended_s = stage.play(story)
        assert outcome == "interrupted", event
        assert ended_s < 100, event


async def _hold_lease(o: Orchestrator, *, task_status: TaskStatus[None]) -> None:
    async with o._world.leases.hold("api", "production", "somebody"):
        task_status.started()
        await anyio.sleep(4000)


def test_a_target_that_left_the_configuration_is_orphaned_until_it_is_removed() -> None:
    stage = Stage(environment(2))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))

    async def story(o: Orchestrator) -> tuple[list[object], list[object]]:
        before = (await o.status("api", "production"))["fraises"][0]["targets"]
        await o.control("remove", "api", "production", limit=["t2"])
        after = (await o.status("api", "production"))["fraises"][0]["targets"]
        return [(t["name"], t["orphaned"]) for t in before], [t["name"] for t in after]

    before, after = stage.play(story, settings=environment(1))
    assert before == [("t1", False), ("t2", True)]
    assert after == ["t1"]
    assert stage.world.serving() == {"t1": V1, "t2": ""}


def run_with(count: int, *strangers: str) -> tuple[str, float]:
    stage = Stage(environment(count, rollout=Rollout(batch=("1", "100%"), pause_s=5.0)))
    stage.world.unhealthy_on.add(("t3", V2))

    async def raises(record: Record) -> None:
        raise RuntimeError("a broken observer")

    async def sleeps(record: Record) -> None:
        await anyio.sleep_forever()

    async def lags(record: Record) -> None:
        await anyio.sleep(1000)

    async def story(o: Orchestrator) -> tuple[str, float]:
        for name in strangers:
            o.bus.subscribe(name, "*", {"raises": raises, "sleeps": sleeps, "lags": lags}[name], capacity=8)
        await o.deploy("api", "production", version="v1")
        result = await o.deploy("api", "production", version="v2")
        return result.outcome, await now_s()

    return stage.play(story)


def test_broken_slow_and_hung_observers_change_neither_outcome_nor_duration() -> None:
    outcome, took_s = run_with(6)
    disturbed, disturbed_s = run_with(6, "raises", "sleeps", "lags")
    assert outcome == disturbed == "rolled_back"
    assert disturbed_s == pytest.approx(took_s)
    assert took_s < 60


def test_fraises_run_in_the_order_of_depends_on_and_a_failure_skips_dependants() -> None:
    settings = environment(1)
    others = {
        "db": Fraise(name="db", environments={"production": environment(1)}),
        "web": Fraise(name="web", depends_on=("api",), environments={"production": environment(1)}),
    }
    stage = Stage(settings, **others)
    stage.config = stage.config.__class__(
        fraises={
            **stage.config.fraises,
            "api": Fraise(name="api", depends_on=("db",), environments={"production": settings}),
        }
    )

    async def story(o: Orchestrator) -> list[tuple[str, str]]:
        results = await o.deploy_many(["web", "api", "db"], "production", version="v1")
        return [(result.fraise, result.outcome) for result in results]

    assert stage.play(story) == [("db", "succeeded"), ("api", "succeeded"), ("web", "succeeded")]
    stage.world.fail("fetch", times=99, error=lambda: UsageError("no such thing"))
    failed = dict(stage.play(lambda o: _deploy_all(o)))
    assert failed == {"db": "failed", "api": "skipped", "web": "skipped"}


async def _deploy_all(o: Orchestrator) -> list[tuple[str, str]]:
    results = await o.deploy_many(["web", "api", "db"], "production", version="v2")
    return [(result.fraise, result.outcome) for result in results]


def test_two_orchestrators_in_one_process_do_not_disturb_each_other() -> None:
    one, two = Stage(environment(2)), Stage(environment(2), seed=9)
    two.world.unhealthy.add(V2)

    async def story(o: Orchestrator) -> tuple[str, str]:
        async with two.orchestrator() as other:
            await o.deploy("api", "production", version="v1")
            await other.deploy("api", "production", version="v1")
            outcomes_found: dict[str, str] = {}

            async def run(name: str, which: Orchestrator) -> None:
                outcomes_found[name] = (await which.deploy("api", "production", version="v2")).outcome

            async with anyio.create_task_group() as group:
                group.start_soon(run, "one", o)
                group.start_soon(run, "two", other)
            return outcomes_found["one"], outcomes_found["two"]

    assert one.play(story) == ("succeeded", "rolled_back")
    assert set(one.world.serving().values()) == {V2}
    assert set(two.world.serving().values()) == {V1}


def test_unknown_names_are_refused_with_the_nearest_one() -> None:
    stage = Stage(environment(1))
    with pytest.raises(UsageError, match="did you mean 'api'"):
        stage.play(lambda o: o.deploy("apy", "production"))
    with pytest.raises(UsageError, match="did you mean 'production'"):
        stage.play(lambda o: o.deploy("api", "productoin"))
    assert not stage.records()


def test_the_folded_journal_equals_what_the_runner_saw_live() -> None:
    stage = Stage(environment(4))
    stage.world.unhealthy_on.add(("t2", V2))

    async def story(o: Orchestrator) -> tuple[DeploymentResult, dict[str, str]]:
        await o.deploy("api", "production", version="v1")
        result = await o.deploy("api", "production", version="v2")
        state = await o.show_state(result.deployment_id)
        return result, {name: target.outcome for name, target in state.targets.items()}

    result, stored = stage.play(story)
    assert outcomes(result) == stored


def test_services_are_stopped_and_started_with_journalled_intent() -> None:
    stage = Stage(environment(2))

    async def story(o: Orchestrator) -> list[object]:
        await o.deploy("api", "production", version="v1")
        await o.control("stop", "api", "production", limit=["t1"])
        stopped = dict(stage.world.serving())
        await o.control("start", "api", "production")
        return [stopped, dict(stage.world.serving())]

    stopped, started = stage.play(story)
    assert stopped == {"t1": "", "t2": V1}
    assert started == {"t1": V1, "t2": V1}
    assert stage.told("service.requested", "service.succeeded")[:2] == [
        ("service.requested", "t1"),
        ("service.succeeded", "t1"),
    ]
