"""A deployment whose provider fails before anything is changed goes through another place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from fraisier import Orchestrator
from fraisier.config.schema import Environment, Fallback, Hooks, Rollout, Target
from fraisier.errors import (
    BuildError,
    FraisierError,
    ProviderConfigurationError,
    ProviderConnectionError,
    ProviderError,
    ProviderUnavailableError,
)
from fraisier.events import types as ev
from fraisier.rollout.result import DeploymentResult
from fraisier.testing.provider import commit
from tests.rollout.kit import NO_WAIT, Stage, environment, outcomes, replace
from tests.rollout.test_hooks import HookStage, here, there

V1, V2, V3 = commit("v1"), commit("v2"), commit("v3")


def place(name: str, count: int = 2, **keys: Any) -> Fallback:
    """A fallback whose targets are the namesakes of the environment's."""
    settings = environment(count, **keys)
    marked = tuple(Target(name=f"{target.name}~{name}") for target in settings.targets)
    return Fallback(name=name, settings=replace(settings, targets=marked))


def with_fallbacks(*places: Fallback, count: int = 2, **keys: Any) -> Environment:
    return environment(count, recovery=replace(NO_WAIT, fallback=places), **keys)


def no_room() -> FraisierError:
    return ProviderUnavailableError("no room", recoverable=False)


async def deploy(o: Orchestrator, version: str = "v1", **options: Any) -> DeploymentResult:
    return await o.deploy("api", "production", version=version, **options)


def decisions(stage: Stage) -> list[tuple[str, str]]:
    """Action and fallback of every decision about a whole deployment."""
    events = [record.event for record in stage.records()]
    return [
        (event.action, event.fallback)
        for event in events
        if isinstance(event, ev.RecoveryDecided) and not event.target
    ]


def test_the_decision_is_in_the_journal_before_the_second_plan() -> None:
    stage = Stage(with_fallbacks(place("standby")))
    stage.world.fail("stage", target="t2", error=no_room)
    result = stage.play(deploy)
    assert (result.outcome, result.fallback, result.provider) == ("succeeded", "standby", "local")
    told = [
        name
        for name, where in stage.told("deployment.planned", "recovery.decided", "recovery.succeeded")
        if where in ("", "prepare@")
    ]
    assert told == ["deployment.planned", "recovery.decided", "deployment.planned", "recovery.succeeded"]
    assert decisions(stage) == [("fallback", "standby")]


def test_the_environment_s_own_targets_are_left_as_they_were() -> None:
    stage = Stage(with_fallbacks(place("standby")))
    assert stage.play(deploy).outcome == "succeeded"
    before = dict(stage.world.serving())
    stage.world.fail("stage", target="t1", error=no_room)
    result = stage.play(lambda o: deploy(o, "v2"))
    serving = stage.world.serving()
    assert {name: serving[name] for name in before} == before == {"t1": V1, "t2": V1}
    assert (serving["t1~standby"], serving["t2~standby"]) == (V2, V2)
    assert outcomes(result) == {
        "t1": "failed",
        "t2": "untouched",
        "t1~standby": "updated",
        "t2~standby": "updated",
    }


@pytest.mark.parametrize("lost", [("t1",), ("t1", "t2")])
def test_what_cannot_be_reached_before_there_is_a_plan_counts_too(lost: tuple[str, ...]) -> None:
    stage = Stage(with_fallbacks(place("standby")))
    stage.world.unreachable.update(lost)
    result = stage.play(deploy)
    assert (result.outcome, result.fallback) == ("succeeded", "standby")
    assert [where for _, where in stage.told("target.unreachable")] == list(lost)


def test_the_version_that_was_found_out_first_is_the_one_that_is_deployed() -> None:
    stage = Stage(
        with_fallbacks(replace(place("standby"), settings=replace(place("standby").settings, branch="other")))
    )
    stage.world.fail("stage", target="t1", error=no_room)
    result = stage.play(lambda o: o.deploy("api", "production"))
    assert (result.version, stage.world.serving()["t1~standby"]) == (commit("main"), commit("main"))


def test_a_next_deployment_goes_to_the_environment_itself_again() -> None:
    stage = Stage(with_fallbacks(place("standby")))
    stage.world.fail("stage", target="t1", error=no_room)
    assert stage.play(deploy).fallback == "standby"
    result = stage.play(lambda o: deploy(o, "v2"))
    assert (result.outcome, result.fallback, outcomes(result)) == (
        "succeeded",
        None,
        {"t1": "updated", "t2": "updated"},
    )
    assert stage.world.serving()["t1~standby"] == V1


@pytest.mark.parametrize(
    "error",
    [
        lambda: ProviderConfigurationError("app_path is no directory"),
        lambda: BuildError("make: *** no rule"),
    ],
)
def test_what_another_provider_does_not_cure_is_a_failure(error: Callable[[], FraisierError]) -> None:
    stage = Stage(with_fallbacks(place("standby")))
    stage.world.fail("stage", target="t1", error=error, times=3)
    result = stage.play(deploy)
    assert (result.outcome, result.reason, result.fallback) == ("failed", "prepare_failed", None)
    assert decisions(stage) == [("fail", "")]
    assert not any("~" in name for name in stage.world.targets)


def test_one_failure_that_is_no_provider_s_is_enough_to_stay() -> None:
    stage = Stage(with_fallbacks(place("standby")))
    stage.world.delays_s["stage"] = 1.0
    stage.world.fail("stage", target="t1", error=no_room)
    stage.world.fail("stage", target="t2", error=lambda: BuildError("no rule"))
    assert stage.play(deploy).outcome == "failed"
    assert decisions(stage) == [("fail", "")]


def test_once_a_target_was_changed_it_is_rolled_back_instead() -> None:
    stage = Stage(with_fallbacks(place("standby")))
    assert stage.play(deploy).outcome == "succeeded"
    stage.world.fail("switch", target="t1", error=no_room, times=9)
    result = stage.play(lambda o: deploy(o, "v2"))
    assert result.outcome != "succeeded"
    assert ("fallback", "standby") not in decisions(stage)


@pytest.mark.parametrize("on_failure", ["hold", "stop"])
def test_on_failure_is_about_changed_targets_and_does_not_keep_it_from_going_on(on_failure: Any) -> None:
    stage = Stage(with_fallbacks(place("standby"), rollout=Rollout(on_failure=on_failure)))
    stage.world.fail("stage", target="t1", error=no_room)
    assert stage.play(deploy).fallback == "standby"


def test_fallbacks_are_tried_in_their_order() -> None:
    stage = Stage(with_fallbacks(place("second"), place("third")))
    stage.world.fail("stage", target="t1", error=no_room)
    stage.world.fail("stage", target="t2~second", error=no_room)
    result = stage.play(deploy)
    assert (result.outcome, result.fallback) == ("succeeded", "third")
    assert decisions(stage) == [("fallback", "second"), ("fallback", "third")]


def test_when_the_last_fallback_fails_too_the_deployment_failed_and_says_so() -> None:
    stage = Stage(with_fallbacks(place("standby")))
    stage.world.unreachable.update({"t1", "t1~standby"})
    result = stage.play(deploy)
    assert (result.outcome, result.fallback) == ("unreachable", "standby")
    assert ("recovery.failed", "prepare@") in stage.told("recovery.failed")


def test_a_fallback_that_turns_out_sick_goes_back_like_any_deployment() -> None:
    stage = Stage(with_fallbacks(place("standby")))
    stage.world.fail("stage", target="t1", error=no_room)
    assert stage.play(deploy).outcome == "succeeded"
    stage.world.fail("stage", target="t1", error=no_room)
    stage.world.unhealthy.add(V2)
    result = stage.play(lambda o: deploy(o, "v2"))
    assert (result.outcome, result.fallback) == ("rolled_back", "standby")
    assert stage.world.serving()["t1~standby"] == V1


def test_a_rollback_undoes_what_the_fallback_serves_and_nothing_else() -> None:
    stage = Stage(with_fallbacks(place("standby")))
    for version in ("v1", "v2"):
        stage.world.fail("stage", target="t1", error=no_room)
        assert stage.play(lambda o, v=version: deploy(o, v)).fallback == "standby"
    assert stage.play(lambda o: deploy(o, "v3")).fallback is None
    stage.world.fail("stage", target="t1", error=no_room)
    assert stage.play(lambda o: deploy(o, "v4")).fallback == "standby"
    result = stage.play(lambda o: o.rollback("api", "production"))
    serving = stage.world.serving()
    assert (result.outcome, result.fallback) == ("succeeded", "standby")
    assert serving == {"t1": V3, "t2": V3, "t1~standby": V2, "t2~standby": V2}


def test_a_rollback_of_one_of_the_environment_s_own_targets_passes_the_fallback_over() -> None:
    stage = Stage(with_fallbacks(place("standby")))
    for version in ("v1", "v2"):
        assert stage.play(lambda o, v=version: deploy(o, v)).outcome == "succeeded"
    stage.world.fail("stage", target="t1", error=no_room)
    assert stage.play(lambda o: deploy(o, "v3")).fallback == "standby"
    result = stage.play(lambda o: o.rollback("api", "production", limit=["t1"]))
    assert (result.outcome, stage.world.serving()["t1"], stage.world.serving()["t1~standby"]) == (
        "succeeded",
        V1,
        V3,
    )


def test_the_first_release_of_a_fallback_cannot_be_undone_and_the_hint_ends_it() -> None:
    stage = Stage(with_fallbacks(place("standby")))
    stage.world.fail("stage", target="t1", error=no_room)
    assert stage.play(deploy).fallback == "standby"
    result = stage.play(lambda o: o.rollback("api", "production"))
    assert result.reason == "nothing_to_roll_back"
    assert "fraisier remove api production --limit '*~standby'" in (result.hint or "")
    removed = stage.play(lambda o: o.control("remove", "api", "production", limit=["*~standby"]))
    assert removed == {"t1~standby": None, "t2~standby": None}
    assert stage.world.targets["t1~standby"].current == ""


def test_services_of_a_fallback_can_be_stopped_by_name() -> None:
    stage = Stage(with_fallbacks(place("standby")))
    stage.world.fail("stage", target="t1", error=no_room)
    assert stage.play(deploy).fallback == "standby"
    assert stage.play(lambda o: o.control("stop", "api", "production", limit=["t1~standby"])) == {
        "t1~standby": None
    }
    assert (stage.world.targets["t1~standby"].running, stage.world.targets["t2~standby"].running != "") == (
        "",
        True,
    )


def test_retry_brings_the_version_to_the_environment_s_own_targets() -> None:
    stage = Stage(with_fallbacks(place("standby")))
    stage.world.fail("stage", target="t1", error=no_room)
    first = stage.play(deploy)
    result = stage.play(lambda o: o.retry(first.deployment_id))
    assert (result.outcome, outcomes(result)) == ("succeeded", {"t1": "updated", "t2": "updated"})


def test_limit_means_the_namesakes() -> None:
    stage = Stage(with_fallbacks(place("standby")))
    stage.world.fail("stage", target="t2", error=no_room)
    result = stage.play(lambda o: deploy(o, limit=["t2"]))
    assert outcomes(result) == {"t2": "failed", "t2~standby": "updated"}


def test_a_fallback_with_targets_of_its_own_is_taken_whole() -> None:
    stage = Stage(with_fallbacks(place("standby", count=3)))
    stage.world.fail("stage", target="t2", error=no_room)
    result = stage.play(lambda o: deploy(o, limit=["t2"]))
    assert [name for name in outcomes(result) if "~" in name] == ["t1~standby", "t2~standby", "t3~standby"]


def test_status_and_history_tell_which_place_served() -> None:
    stage = Stage(with_fallbacks(place("standby")))
    stage.world.fail("stage", target="t1", error=no_room)
    stage.play(deploy)

    async def look(o: Orchestrator) -> tuple[dict[str, Any], dict[str, Any]]:
        return await o.history(), await o.status("api", "production")

    history, status = stage.play(look)
    assert [(row["provider"], row["fallback"]) for row in history["deployments"]] == [("local", "standby")]
    rows = {row["name"]: (row["version"], row["orphaned"]) for row in status["fraises"][0]["targets"]}
    assert rows == {
        "t1": (None, False),
        "t2": (None, False),
        "t1~standby": (V1, False),
        "t2~standby": (V1, False),
    }


def test_an_abort_while_it_looks_for_another_way_ends_it() -> None:
    stage = Stage(with_fallbacks(place("standby")))
    stage.world.fail("stage", target="t1", error=no_room)
    stage.world.delays_s["inspect"] = 5.0

    async def story(o: Orchestrator) -> str:
        ended: list[DeploymentResult] = []

        async def run() -> None:
            ended.append(await deploy(o))

        async with o.subscribe("recovery.decided") as told, anyio.create_task_group() as group:
            group.start_soon(run)
            async for record in told:
                if not record.event.target:
                    await o.abort(record.event.deployment_id)
                    break
        return ended[0].outcome

    assert stage.play(story) == "aborted"
    assert not any(target.current for target in stage.world.targets.values())


def test_hooks_of_the_whole_deployment_that_ran_do_not_run_again() -> None:
    hooks = Hooks(before_deploy=(here("warn"),), before_fetch=(there("note"),), always=(here("log"),))
    standby = place("standby")
    standby = replace(standby, settings=replace(standby.settings, hooks=hooks))
    stage = HookStage(with_fallbacks(standby, hooks=hooks))
    stage.world.fail("stage", target="t1", error=no_room)
    assert stage.play(deploy).fallback == "standby"
    started = [(name, target) for type, name, target in stage.told_of_hooks() if type == "hook.started"]
    assert sorted(started) == [
        ("log", ""),
        ("note", "t1"),
        ("note", "t1~standby"),
        ("note", "t2"),
        ("note", "t2~standby"),
        ("warn", ""),
    ]


@pytest.mark.parametrize(
    "error", [ProviderError("broken"), ProviderConnectionError("gone", recoverable=False)]
)
def test_every_provider_error_but_a_wrong_setting_counts(error: FraisierError) -> None:
    stage = Stage(with_fallbacks(place("standby")))
    stage.world.fail("preflight", target="t1", error=lambda: error)
    assert stage.play(deploy).fallback == "standby"
