"""A target whose connection keeps failing is left alone for a while, by one orchestrator that lives on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from fraisier import Orchestrator
from fraisier.config.schema import CircuitBreaker, Environment, Recovery, Retry, Rollout, Target
from fraisier.errors import DatabaseTransactionError, ProviderError
from fraisier.events import types as ev
from fraisier.rollout.result import DeploymentResult
from fraisier.testing.provider import commit
from tests.rollout.kit import Stage, environment, replace
from tests.rollout.test_fallback import place

V1 = commit("v1")
ONCE = Retry(max_attempts=1)


def guarded(count: int = 1, *, rollout: Rollout | None = None, **keys: Any) -> Environment:
    """Targets that are left alone for 100 s after 2 failures in a row."""
    breaker = CircuitBreaker(**{"failure_threshold": 2, "recovery_timeout_s": 100.0, **keys})
    return environment(count, rollout=rollout, recovery=Recovery(retry=ONCE, circuit_breaker=breaker))


async def deploy(o: Orchestrator, version: str = "v1") -> DeploymentResult:
    return await o.deploy("api", "production", version=version)


def circuits(stage: Stage) -> list[str]:
    """Every change of a circuit, in the journal's order."""
    return [name for name, _ in stage.told("circuit.opened", "circuit.half_opened", "circuit.closed")]


def inspected(stage: Stage) -> Callable[[], int]:
    """Count how often a target was really asked."""
    asked: list[str] = []
    meet = stage.world.factory

    def factory(services: Any) -> Any:
        provider = meet(services)
        inspect = provider.inspect

        async def counted(context: Any) -> Any:
            asked.append(context.target.name)
            return await inspect(context)

        provider.inspect = counted
        return provider

    stage.world.factory = factory  # type: ignore[method-assign]
    return lambda: len(asked)


def test_after_the_threshold_a_target_is_not_asked_and_the_message_says_until_when() -> None:
    stage = Stage(guarded())
    asked = inspected(stage)
    stage.world.unreachable.add("t1")

    async def story(o: Orchestrator) -> tuple[list[DeploymentResult], int]:
        results = [await deploy(o) for _ in range(2)]
        before = asked()
        results.append(await deploy(o))
        return results, asked() - before

    results, more = stage.play(story)
    assert [(r.outcome, r.reason) for r in results] == [("unreachable", "unreachable")] * 3
    assert more == 0
    opened = next(r.event for r in stage.records() if isinstance(r.event, ev.CircuitOpened))
    assert (opened.resource, opened.provider, opened.previous) == ("scripted t1", "scripted", "closed")
    assert "scripted t1 could not be reached too often, and is left alone until " in (results[2].detail or "")
    lost = [r.event for r in stage.records() if isinstance(r.event, ev.TargetUnreachable)]
    assert [event.reason for event in lost] == ["unreachable", "unreachable", "provider_unavailable"]


def test_when_its_time_is_over_one_call_finds_that_it_is_back() -> None:
    stage = Stage(guarded())
    stage.world.unreachable.add("t1")

    async def story(o: Orchestrator) -> tuple[str, str]:
        for _ in range(2):
            await deploy(o)
        stage.world.mend()
        refused = (await deploy(o)).outcome
        await anyio.sleep(101)
        return refused, (await deploy(o)).outcome

    assert stage.play(story) == ("unreachable", "succeeded")
    assert circuits(stage) == ["circuit.opened", "circuit.half_opened", "circuit.closed"]


def test_a_trial_that_fails_leaves_it_alone_for_another_whole_time() -> None:
    stage = Stage(guarded())
    asked = inspected(stage)
    stage.world.unreachable.add("t1")

    async def story(o: Orchestrator) -> int:
        for _ in range(2):
            await deploy(o)
        await anyio.sleep(101)
        await deploy(o)
        before = asked()
        await anyio.sleep(50)
        await deploy(o)
        return asked() - before

    assert stage.play(story) == 0
    assert circuits(stage) == ["circuit.opened", "circuit.half_opened", "circuit.opened"]


def test_targets_at_one_address_share_a_circuit_and_others_do_not() -> None:
    settings = guarded(3)
    places = ("10.0.0.1", "10.0.0.1", "10.0.0.2")
    settings = replace(
        settings, targets=tuple(Target(name=f"t{n}", address=place) for n, place in enumerate(places, 1))
    )
    stage = Stage(settings)
    stage.world.unreachable.update({"t1", "t2"})
    stage.play(deploy)
    opened = [r.event.resource for r in stage.records() if isinstance(r.event, ev.CircuitOpened)]
    assert opened == ["scripted 10.0.0.1"]


def test_a_target_that_answers_with_a_refusal_was_reached() -> None:
    stage = Stage(guarded())
    stage.world.fail("inspect", times=9, error=lambda: ProviderError("no such directory"))

    async def story(o: Orchestrator) -> None:
        for _ in range(4):
            await deploy(o)

    stage.play(story)
    assert circuits(stage) == []


def test_a_rollback_goes_through_the_circuit_that_its_cause_opened() -> None:
    """One lost connection opens it here, in the middle of a change; the target goes back all the same."""
    stage = Stage(guarded(2, rollout=Rollout(batch=("100%",), max_unavailable="100%"), failure_threshold=1))
    assert stage.play(deploy).outcome == "succeeded"
    stage.world.fail("switch", target="t1", after_effect=True)
    result = stage.play(lambda o: deploy(o, "v2"))
    assert (result.outcome, stage.world.serving()) == ("rolled_back", {"t1": V1, "t2": V1})
    assert circuits(stage) == ["circuit.opened"]


def test_what_a_person_asks_of_a_service_goes_through_an_open_circuit() -> None:
    """Deployments are refused meanwhile."""
    stage = Stage(guarded())
    assert stage.play(deploy).outcome == "succeeded"
    stage.world.unreachable.add("t1")

    async def story(o: Orchestrator) -> tuple[Any, Any, str]:
        for _ in range(2):
            await deploy(o, "v2")
        stage.world.mend()
        refused = await deploy(o, "v2")
        controlled = await o.control("restart", "api", "production")
        health = await o.health("api", "production")
        return controlled, health["healthy"], refused.outcome

    controlled, healthy, refused = stage.play(story)
    assert (controlled, healthy, refused) == ({"t1": None}, True, "unreachable")


def test_a_probe_is_asked_through_an_open_circuit_and_does_not_count() -> None:
    stage = Stage(guarded())
    assert stage.play(deploy).outcome == "succeeded"
    stage.world.unreachable.add("t1")

    async def story(o: Orchestrator) -> list[bool]:
        healthy = []
        for _ in range(6):
            healthy.append((await o.health("api", "production"))["healthy"])
        return healthy

    assert stage.play(story) == [False] * 6
    assert circuits(stage) == []


def test_a_cancelled_look_is_neither_a_failure_nor_a_success() -> None:
    stage = Stage(guarded())

    async def story(o: Orchestrator) -> None:
        for _ in range(4):
            stage.world.hanging.add(("inspect", "t1"))
            with anyio.move_on_after(5):
                await deploy(o)

    stage.play(story)
    assert circuits(stage) == []


def test_each_orchestrator_has_circuits_of_its_own() -> None:
    stage = Stage(guarded())
    stage.world.unreachable.add("t1")

    async def twice(o: Orchestrator) -> None:
        for _ in range(2):
            await deploy(o)

    stage.play(twice)
    stage.world.mend()
    assert stage.play(deploy).outcome == "succeeded"


def test_an_open_circuit_is_a_reason_to_go_through_a_fallback() -> None:
    settings = guarded()
    standby = place("standby", count=1)
    settings = replace(settings, recovery=replace(settings.recovery, fallback=(standby,)))
    stage = Stage(settings)
    stage.world.unreachable.add("t1")

    async def story(o: Orchestrator) -> list[str | None]:
        return [(await deploy(o, version)).fallback for version in ("v1", "v2", "v3")]

    assert stage.play(story) == ["standby"] * 3
    decided = [r.event for r in stage.records() if isinstance(r.event, ev.RecoveryRequested)]
    assert {event.error_type for event in decided} == {"ProviderConnectionError"}


def test_a_rate_of_failures_opens_it_as_configured() -> None:
    stage = Stage(guarded(failure_rate=0.5, window_s=1000.0, minimum_calls=4))

    async def story(o: Orchestrator) -> None:
        for number in range(4):
            stage.world.mend()
            if number % 2:
                stage.world.unreachable.add("t1")
            await o.status("api", "production", live=True)

    stage.play(story)
    assert circuits(stage) == ["circuit.opened"]


def test_a_store_that_takes_nothing_hears_of_the_circuit_later() -> None:
    """The change of a circuit never ends what it happened in."""
    stage = Stage(guarded())
    stage.world.unreachable.add("t1")
    refused: list[Any] = []

    async def story(o: Orchestrator) -> list[str]:
        inner = o.bus.publish

        async def deaf(event: Any, **keys: Any) -> Any:
            if isinstance(event, ev.CircuitOpened) and not refused:
                refused.append(event)
                raise DatabaseTransactionError("the disk is full")
            return await inner(event, **keys)

        o.bus.publish = deaf  # type: ignore[method-assign,assignment]
        return [(await deploy(o)).outcome for _ in range(3)]

    assert stage.play(story) == ["unreachable"] * 3
    assert (len(refused), circuits(stage)) == (1, ["circuit.opened"])
