"""What a version means is asked of its source as often as recovery says, before anything else is tried."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import anyio
import pytest

from fraisier import Orchestrator
from fraisier.config.schema import Environment, Recovery, Retry
from fraisier.errors import (
    FraisierError,
    GitProviderError,
    ProviderConfigurationError,
    ProviderConnectionError,
    ProviderError,
)
from fraisier.events import types as ev
from fraisier.metrics import MetricsRecorder, MetricsSubscriber
from fraisier.rollout.result import DeploymentResult
from tests.rollout.kit import Stage, environment, now_s, outcomes, replace
from tests.rollout.test_fallback import place

PATIENT = Retry(max_attempts=3, base_delay_s=4.0, backoff_factor=2.0)


def settings(retry: Retry = PATIENT, **keys: Any) -> Environment:
    return environment(2, recovery=Recovery(retry=retry), **keys)


def cut_off() -> FraisierError:
    return ProviderConnectionError("cannot fetch https://git.example.com/app.git")


def asked_to_wait() -> FraisierError:
    return ProviderConnectionError("it answered 503", context={"retry_after": 90})


async def deploy(o: Orchestrator, version: str = "v1") -> DeploymentResult:
    return await o.deploy("api", "production", version=version)


def told(stage: Stage) -> list[tuple[Any, ...]]:
    """Type, attempt or error, and action of everything about the source, in the journal's order."""
    found: list[tuple[Any, ...]] = []
    for record in stage.records():
        match record.event:
            case ev.ProviderUnavailable(error_type=error_type):
                found.append(("unavailable", error_type))
            case ev.RecoveryDecided(step="resolve", attempt=attempt, action=action):
                found.append(("decided", attempt, action))
            case ev.RecoverySucceeded(step="resolve", attempt=attempt):
                found.append(("succeeded", attempt))
            case ev.RecoveryFailed(step="resolve", attempt=attempt):
                found.append(("failed", attempt))
    return found


def totals(stage: Stage) -> dict[str, Any]:
    """What the journal says in metrics."""
    recorder = MetricsRecorder()
    MetricsSubscriber(recorder).from_records(stage.records())
    return recorder.get_metrics_summary()


def test_a_source_that_comes_back_is_asked_again() -> None:
    """Each failure and each decision is in the journal before the wait; the waits are those of the decisions."""
    stage = Stage(settings())
    stage.world.fail("resolve", times=2, error=cut_off)
    result, took_s = stage.play(lambda o: timed(o, deploy))
    assert (result.outcome, outcomes(result)) == ("succeeded", {"t1": "updated", "t2": "updated"})
    assert told(stage) == [
        ("unavailable", "ProviderConnectionError"),
        ("decided", 1, "retry"),
        ("unavailable", "ProviderConnectionError"),
        ("decided", 2, "retry"),
        ("succeeded", 3),
    ]
    waits = [r.event.delay_s for r in stage.records() if isinstance(r.event, ev.RecoveryDecided)]
    assert 0 < sum(waits) <= took_s
    records = stage.records()
    at = {r.event.attempt: r for r in records if isinstance(r.event, ev.RecoveryDecided)}
    second = [r for r in records if isinstance(r.event, ev.ProviderUnavailable)][1]
    assert (second.at_us - at[1].at_us) / 1e6 == pytest.approx(at[1].event.delay_s, abs=0.001)


async def timed(o: Orchestrator, work: Callable[..., Any]) -> tuple[Any, float]:
    began = await now_s()
    return await work(o), await now_s() - began


def test_when_the_attempts_are_used_up_the_last_failure_is_the_deployment_s() -> None:
    stage = Stage(settings())
    stage.world.fail("resolve", times=9, error=cut_off)
    result = stage.play(deploy)
    assert (result.outcome, result.reason) == ("failed", "prepare_failed")
    assert result.detail == "cannot fetch https://git.example.com/app.git"
    assert told(stage)[-3:] == [
        ("unavailable", "ProviderConnectionError"),
        ("decided", 3, "fail"),
        ("failed", 3),
    ]
    assert stage.world.calls == []


@pytest.mark.parametrize("error", [GitProviderError, ProviderConfigurationError, ProviderError])
def test_what_no_patience_can_change_is_not_asked_again(error: type[FraisierError]) -> None:
    """No such tag, a wrong digest: nothing is decided, and the provider is not called unavailable."""
    stage = Stage(settings())
    stage.world.fail("resolve", times=1, error=lambda: error("there is no v1"))
    assert stage.play(deploy).reason == "prepare_failed"
    assert told(stage) == []


def test_a_fallback_is_tried_after_the_retries() -> None:
    own = settings()
    stage = Stage(replace(own, recovery=replace(own.recovery, fallback=(place("standby"),))))
    stage.world.fail("resolve", times=3, error=cut_off)
    result = stage.play(deploy)
    assert (result.outcome, result.fallback) == ("succeeded", "standby")
    decided = [
        (r.event.step, r.event.action) for r in stage.records() if isinstance(r.event, ev.RecoveryDecided)
    ]
    assert decided == [
        ("resolve", "retry"),
        ("resolve", "retry"),
        ("resolve", "fail"),
        ("prepare", "fallback"),
    ]


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    """The deployment's timeout bounds all attempts; what ends it is the failure, not the deadline."""
    stage = Stage(settings(timeout_s=60.0))
    stage.world.fail("resolve", times=9, error=asked_to_wait)
    result, took_s = stage.play(lambda o: timed(o, deploy))
    assert (result.reason, result.detail) == ("prepare_failed", "it answered 503")
    assert took_s < 1


@pytest.mark.parametrize("step", ["resolve", "stage"])
@pytest.mark.parametrize("form", ["number", "text", "date"])
def test_the_other_side_says_how_long_to_wait(step: str, form: str) -> None:
    """Dates are read on the orchestrator's clock."""
    stage = Stage(settings())

    def busy() -> FraisierError:
        date = datetime.fromtimestamp(stage.clock.now_us() / 1e6 + 95, UTC)
        said = {"number": 95, "text": "95", "date": format_datetime(date, usegmt=True)}[form]
        return ProviderConnectionError("it answered 503", context={"retry_after": said})

    stage.world.fail(step, times=1, error=busy)
    result, took_s = stage.play(lambda o: timed(o, deploy))
    assert (result.outcome, took_s >= 90) == ("succeeded", True)


def test_a_stop_ends_the_wait_at_once() -> None:
    stage = Stage(settings())
    stage.world.fail("resolve", times=1, error=asked_to_wait)

    async def story(o: Orchestrator) -> tuple[str, float]:
        async def stop() -> None:
            await anyio.sleep(10)
            o.stop("enough")

        async with anyio.create_task_group() as group:
            group.start_soon(stop)
            result = await deploy(o)
        return result.outcome, await now_s()

    outcome, at_s = stage.play(story)
    assert (outcome, at_s < 11) == ("interrupted", True)
    assert told(stage) == [("unavailable", "ProviderConnectionError"), ("decided", 1, "retry")]


def test_who_cancels_the_deployment_cancels_the_wait() -> None:
    stage = Stage(settings())
    stage.world.fail("resolve", times=1, error=asked_to_wait)

    async def story(o: Orchestrator) -> bool:
        async with anyio.create_task_group() as group:
            group.start_soon(deploy, o)
            await anyio.sleep(10)
            group.cancel_scope.cancel()
        return group.cancel_scope.cancelled_caught

    assert stage.play(story)
    assert stage.told("deployment.interrupted") == [("deployment.interrupted", "")]
    deployment_id = stage.records()[0].event.deployment_id
    assert stage.play(lambda o: o.resume(deployment_id)).outcome == "succeeded"


def test_a_plan_asks_again_too_and_records_nothing() -> None:
    stage = Stage(settings())
    stage.world.fail("resolve", times=2, error=cut_off)
    plan, took_s = stage.play(lambda o: timed(o, lambda o: o.plan("api", "production", version="v1")))
    assert (len(plan.changes), took_s > 0) == (2, True)
    assert told(stage) == []


def test_a_plan_gives_up_as_a_deployment_does() -> None:
    stage = Stage(settings(timeout_s=60.0))
    stage.world.fail("resolve", times=9, error=asked_to_wait)
    with pytest.raises(ProviderConnectionError, match="503"):
        stage.play(lambda o: o.plan("api", "production", version="v1"))


def test_targets_that_cannot_be_looked_at_end_the_wait_for_the_source() -> None:
    """There would be no plan, whatever the source says."""
    stage = Stage(settings())
    stage.world.fail("resolve", times=1, error=asked_to_wait)
    stage.world.delays_s["inspect"] = 2.0
    stage.world.fail("inspect", target="t1", error=lambda: ProviderError("no such directory"))
    result, took_s = stage.play(lambda o: timed(o, deploy))
    assert ("no such directory" in (result.detail or ""), took_s < 5) == (True, True)


def test_a_rollback_to_a_version_asks_again() -> None:
    stage = Stage(settings())
    assert stage.play(deploy).outcome == "succeeded"
    stage.world.fail("resolve", times=1, error=cut_off)
    result = stage.play(lambda o: o.rollback("api", "production", to="v2"))
    assert result.outcome == "succeeded"
    assert told(stage) == [
        ("unavailable", "ProviderConnectionError"),
        ("decided", 1, "retry"),
        ("succeeded", 2),
    ]


def test_it_counts_as_an_error_of_the_provider_which_is_unavailable_until_it_works_again() -> None:
    stage = Stage(settings())
    stage.world.fail("resolve", times=3, error=cut_off)
    stage.play(deploy)
    summary = totals(stage)
    assert summary["errors"]["ProviderConnectionError"] == 3
    assert summary["provider_availability"] == {"local": False}
    assert stage.play(deploy).outcome == "succeeded"
    assert totals(stage)["provider_availability"] == {"local": True}
    stage.world.fail("resolve", times=1, error=cut_off)
    assert stage.play(deploy).outcome == "unchanged"
    assert totals(stage)["provider_availability"] == {"local": True}
