"""Hooks in virtual time: what their failures mean, what they are told, and that none runs twice."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from fraisier import Orchestrator
from fraisier.config.hooks import ENDINGS, hooks_at
from fraisier.config.schema import Environment, Hook, Hooks, Migrate, Rollout
from fraisier.errors import HookError, ProviderError
from fraisier.events import TYPE_OF, Actor
from fraisier.events import types as ev
from fraisier.rollout.processes import SystemProcesses
from fraisier.rollout.result import DeploymentResult
from fraisier.testing.hooks import ScriptedHooks
from fraisier.testing.provider import commit
from tests.rollout.kit import Stage, config, environment, outcomes

V1, V2 = commit("v1"), commit("v2")
STEPS = ("preflight", "fetch", "stage", "migrate", "switch", "restart", "verify", "bake")
AROUND = [f"{when}_{phase}" for phase in (*STEPS, "deploy", "prepare") for when in ("before", "after")]


class HookStage(Stage):
    """A stage whose orchestrator's hooks are scripted."""

    def __init__(self, settings: Environment) -> None:
        super().__init__(settings)
        self.hooks = ScriptedHooks()

    def orchestrator(self, settings: Environment | None = None, *, user: str = "ada") -> Orchestrator:
        return Orchestrator(
            self.config if settings is None else config(settings),
            self.journal,
            clock=self.clock,
            ids=self.ids,
            rng=random.Random(self.seed),
            processes=SystemProcesses(),
            environ={"AUDIT_KEY": "0123456789abcdef"},
            providers={"local": self.world.factory},
            actor=Actor(user=user, host="here", trigger="test"),
            hook_runner=self.hooks,
        )

    def upgraded(self, hooks: Hooks, *, first: bool = True, **keys: Any) -> DeploymentResult:
        """v1 everywhere without hooks, then v2 with them."""
        self.settings = environment(3, **{"rollout": Rollout(min_healthy_time_s=1.0), **keys})
        if first:
            assert self.play(deploy("v1"), settings=self.settings).outcome == "succeeded"
        self.settings = environment(3, hooks=hooks, **{"rollout": Rollout(min_healthy_time_s=1.0), **keys})
        return self.play(deploy("v2"), settings=self.settings)

    def told_of_hooks(self) -> list[tuple[str, str, str]]:
        """(type, name, target) of the hooks' events."""
        return [
            (TYPE_OF[record.event.__class__], record.event.name, record.event.target)
            for record in self.records()
            if isinstance(record.event, ev.HookEvent)
        ]


def deploy(version: str, **options: Any) -> Callable[[Orchestrator], Awaitable[DeploymentResult]]:
    return lambda o: o.deploy("api", "production", version=version, **options)


async def resume(o: Orchestrator) -> DeploymentResult:
    found = await o.resume()
    assert found is not None
    return found


def stage_of(**points: Hook) -> tuple[HookStage, Hooks]:
    return HookStage(environment(3)), Hooks(**{point: (hook,) for point, hook in points.items()})


def here(name: str, **keys: Any) -> Hook:
    return Hook(command="./hook", name=name, on="orchestrator", **keys)


def there(name: str, **keys: Any) -> Hook:
    return Hook(command="./hook", name=name, on="target", **keys)


ENDS = {point: (here(point),) for point in ENDINGS}


# what a failure means


@pytest.mark.parametrize("place", ["orchestrator", "target"])
@pytest.mark.parametrize("consequence", ["abort", "rollback", "warn", None])
@pytest.mark.parametrize("point", AROUND)
def test_a_failed_hook_has_its_consequence_and_the_old_version_still_serves(
    point: str, consequence: Any, place: Any
) -> None:
    """Before and after every phase, here and at a target; a warning is told, and the deployment goes on."""
    stage = HookStage(environment(3))
    stage.hooks.exit_codes["bad"] = 3
    stage.world.fail("hook:bad", times=9, error=lambda: HookError("it failed", context={"exit_code": 3}))
    hooks = Hooks(**{point: (Hook(command="x", name="bad", on=place, on_failure=consequence),)})
    result = stage.upgraded(hooks, migrate=Migrate(command="./migrate", on="all"))
    told = {kind for kind, _, _ in stage.told_of_hooks()}
    assert told == {"hook.started", "hook.failed"}
    if consequence == "warn":
        assert result.outcome == "succeeded"
        assert set(stage.world.serving().values()) == {V2}
        return
    begun = any(
        step in ("migrate", "switch", "restart") and release for step, _, release in new(stage, result)
    )
    assert (result.outcome, result.reason) == ("rolled_back" if begun else "failed", "hook_failed")
    assert set(stage.world.serving().values()) == {V1}
    assert stage.play(deploy("v2", skip_hooks=True), settings=stage.settings).outcome == "succeeded"


def new(stage: HookStage, result: DeploymentResult) -> list[tuple[str, str, str]]:
    short = result.deployment_id.replace("-", "")[-8:]
    return [effect for effect in stage.world.effects if effect[2].endswith(short)]


def test_without_a_word_what_came_before_aborts_and_what_came_after_a_change_goes_back() -> None:
    hooks = Hooks(**{point: (Hook(command="x"),) for point in Hooks.__struct_fields__})
    back = {f"after_{phase}" for phase in ("migrate", "switch", "restart", "verify", "bake", "deploy")}
    for point in Hooks.__struct_fields__:
        (hook,) = hooks_at(hooks, point)
        warns = point in ENDINGS or point == "after_cleanup"
        assert hook.on_failure == ("warn" if warns else "rollback" if point in back else "abort")
        of_steps = any(point.endswith(f"_{step}") for step in (*STEPS, "cleanup"))
        assert (hook.on, hook.name) == ("target" if of_steps else "orchestrator", f"{point}-1")


def test_an_abort_at_one_target_is_one_failure_of_those_that_may_be() -> None:
    """The target goes back by itself, and the others are updated."""
    stage, hooks = stage_of(after_restart=there("bad", on_failure="abort"))
    stage.world.fail("hook:bad", target="t2", error=lambda: HookError("no"))
    result = stage.upgraded(hooks, rollout=Rollout(max_failures=1))
    assert (result.outcome, result.reason) == ("failed", "partial")
    assert stage.world.serving() == {"t1": V2, "t2": V1, "t3": V2}


@pytest.mark.parametrize("policy", ["hold", "stop", "rollback"])
def test_a_hook_that_wants_everything_back_gets_it_whatever_else_is_configured(policy: Any) -> None:
    stage, hooks = stage_of(after_restart=there("bad", on_failure="rollback"))
    stage.world.fail("hook:bad", target="t2", error=lambda: HookError("no"))
    result = stage.upgraded(hooks, rollout=Rollout(max_failures=2, on_failure=policy))
    assert (result.outcome, result.reason) == ("rolled_back", "hook_failed")
    assert set(stage.world.serving().values()) == {V1}


@pytest.mark.parametrize("policy", ["rollback", "stop"])
def test_a_hook_after_the_one_migration_takes_the_migration_back(policy: Any) -> None:
    stage, hooks = stage_of(after_migrate=there("bad"))
    stage.world.fail("hook:bad", error=lambda: HookError("no"))
    migrate = Migrate(command="./up", rollback_command="./down", on="first")
    result = stage.upgraded(hooks, migrate=migrate, rollout=Rollout(on_failure=policy))
    assert (result.outcome, result.reason) == ("rolled_back", "hook_failed")
    assert [kind for kind, _ in stage.world.migrations] == ["do", "do", "undo"]
    assert set(stage.world.serving().values()) == {V1}


def test_hooks_around_the_cleanup_cannot_undo_what_serves() -> None:
    stage, _ = stage_of()
    hooks = Hooks(before_cleanup=(here("a"),), after_cleanup=(here("b"),))
    stage.hooks.exit_codes = {"a": 1, "b": 1}
    keys = {"keep_releases": 1}
    assert stage.upgraded(hooks, **keys).outcome == "succeeded"
    assert stage.play(deploy("v3"), settings=stage.settings).outcome == "succeeded"
    assert {name for _, name, _, _ in stage.hooks.calls} == {"a"}


def test_what_a_hook_of_the_end_comes_to_changes_nothing() -> None:
    stage = HookStage(environment(3))
    stage.hooks.exit_codes = dict.fromkeys(ENDINGS, 1)
    stage.world.unhealthy.add(V2)
    assert stage.upgraded(Hooks(**ENDS)).outcome == "rolled_back"
    assert [name for kind, name, _ in stage.told_of_hooks() if kind == "hook.failed"] == [
        "on_failure",
        "on_rollback",
        "always",
    ]


def test_a_hook_that_hangs_ends_with_its_timeout_and_is_a_failure() -> None:
    """Here and at a target."""
    for hook in (here("slow", timeout_s=30.0), there("slow", timeout_s=30.0)):
        stage, hooks = stage_of(before_switch=hook)
        stage.hooks.hanging.add("slow")
        stage.world.hanging |= {("hook:slow", name) for name in ("t1", "t2", "t3")}
        result = stage.upgraded(hooks)
        assert (result.outcome, result.reason) == ("failed", "hook_failed")
        assert set(stage.world.serving().values()) == {V1}
        assert 30.0 <= result.duration_s < 60.0
        failed = [r.event for r in stage.records() if isinstance(r.event, ev.HookFailed)]
        assert [(event.known, event.exit_code) for event in failed] == [(False, None)]


@pytest.mark.parametrize("point", ["before_deploy", "after_prepare", "before_switch", "after_deploy"])
def test_the_deadline_of_the_deployment_ends_a_hook_too(point: str) -> None:
    """It says for what was waited, and everything goes back."""
    stage, hooks = stage_of(**{point: here("slow")})
    stage.hooks.hanging.add("slow")
    result = stage.upgraded(hooks, timeout_s=100.0)
    assert result.reason == "timeout"
    assert result.outcome == ("rolled_back" if point == "after_deploy" else "failed")
    assert "slow" in result.detail or "before_switch" in result.detail
    assert set(stage.world.serving().values()) == {V1}


# what they are told


def told(stage: HookStage) -> list[tuple[str, str]]:
    return [(phase, outcome) for phase, _, _, outcome in stage.hooks.done if phase in ENDINGS]


def test_hooks_see_how_a_deployment_ends() -> None:
    """Only `always` does when it went well or nothing was to be done."""
    stage = HookStage(environment(3))
    assert stage.upgraded(Hooks(after_deploy=(here("after"),), **ENDS)).outcome == "succeeded"
    assert [(phase, outcome) for phase, _, _, outcome in stage.hooks.done] == [
        ("after_deploy", "succeeded"),
        ("always", "succeeded"),
    ]
    assert stage.play(deploy("v2"), settings=stage.settings).outcome == "unchanged"
    assert told(stage)[1:] == [("always", "unchanged")]


def test_hooks_see_a_failure_before_the_way_back_and_the_way_back_after_it() -> None:
    stage = HookStage(environment(3))
    stage.world.unhealthy.add(V2)
    assert stage.upgraded(Hooks(**ENDS)).outcome == "rolled_back"
    assert told(stage) == [
        ("on_failure", "failed"),
        ("on_rollback", "rolled_back"),
        ("always", "rolled_back"),
    ]
    order = [
        record.event.name if isinstance(record.event, ev.HookStarted) else TYPE_OF[record.event.__class__]
        for record in stage.records()
        if isinstance(
            record.event, (ev.HookStarted, ev.RollbackStarted, ev.RollbackSucceeded, ev.DeploymentRolledBack)
        )
    ]
    assert order == [
        "on_failure",
        "rollback.started",
        "rollback.succeeded",
        "on_rollback",
        "always",
        "deployment.rolled_back",
    ]


def test_hooks_see_a_failure_that_changed_nothing_and_one_that_is_left_as_it_is() -> None:
    for step, policy in (("stage", "rollback"), ("restart", "stop")):
        stage = HookStage(environment(3))
        stage.world.fail(step, times=99, error=lambda: ProviderError("no", recoverable=False))
        result = stage.upgraded(Hooks(**ENDS), first=False, rollout=Rollout(on_failure=policy))  # type: ignore[arg-type]
        assert result.outcome == "failed"
        assert told(stage) == [("on_failure", "failed"), ("always", "failed")]


def test_hooks_see_a_rollback_that_did_not_work_and_no_end_when_there_is_none() -> None:
    stage = HookStage(environment(3))
    assert stage.play(deploy("v1")).outcome == "succeeded"
    stage.world.unhealthy.add(V2)
    stage.world.fail("restart", target="t1", times=99, error=lambda: ProviderError("no", recoverable=False))
    result = stage.play(deploy("v2"), settings=environment(3, hooks=Hooks(**ENDS)))
    assert result.outcome == "needs_attention"
    assert told(stage) == [("on_failure", "failed"), ("on_rollback", "needs_attention")]


def test_hooks_see_an_abort_after_it_was_carried_out() -> None:
    stage = HookStage(environment(3))
    stage.world.delays_s["restart"] = 5.0
    assert stage.play(deploy("v1")).outcome == "succeeded"
    found: list[DeploymentResult] = []

    async def story(o: Orchestrator) -> None:
        async def run() -> None:
            found.append(await o.deploy("api", "production", version="v2"))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await anyio.sleep(8.0)
            (state,) = [one for one in await o.journal.deployments() if one.state == "running"]
            assert (await o.abort(state.id)).effect == "done"

    stage.play(story, settings=environment(3, hooks=Hooks(**ENDS)))
    assert found[0].outcome == "aborted"
    assert set(stage.world.serving().values()) == {V1}
    assert told(stage) == [("on_rollback", "rolled_back"), ("on_abort", "aborted"), ("always", "aborted")]


def test_a_rollback_by_a_person_runs_no_hook_of_a_step() -> None:
    every = Hooks(**{point: (here(point),) for point in Hooks.__struct_fields__})
    stage = HookStage(environment(3))
    assert stage.upgraded(every).outcome == "succeeded"
    before = len(stage.hooks.done)
    result = stage.play(lambda o: o.rollback("api", "production"), settings=stage.settings)
    assert (result.outcome, set(stage.world.serving().values())) == ("succeeded", {V1})
    assert [(phase, outcome) for phase, _, _, outcome in stage.hooks.done[before:]] == [
        ("on_rollback", "succeeded"),
        ("always", "succeeded"),
    ]


def test_no_hook_runs_for_somebody_who_wants_none() -> None:
    stage, hooks = stage_of(before_deploy=here("a"), before_switch=there("b"), always=here("c"))
    stage.hooks.exit_codes["a"] = 1
    result = stage.play(deploy("v1", skip_hooks=True), settings=environment(3, hooks=hooks))
    assert result.outcome == "succeeded"
    assert stage.told_of_hooks() == [] == stage.hooks.calls


# resume


def cut_off(stage: HookStage, settings: Environment, seconds: float) -> None:
    """Deploy, and cancel it after a while, as a second Ctrl-C does."""

    async def story(o: Orchestrator) -> None:
        with anyio.move_on_after(seconds):
            await o.deploy("api", "production", version="v1")

    stage.play(story, settings=settings)


@pytest.mark.parametrize(
    "point", ["before_deploy", "after_prepare", "before_switch", "after_verify", "after_deploy"]
)
@pytest.mark.parametrize(
    ("keys", "outcome", "runs"),
    [
        ({}, "needs_attention", 1),
        ({"resume": "rerun"}, "succeeded", 2),
        ({"on_failure": "warn"}, "succeeded", 1),
    ],
)
def test_a_hook_in_doubt_is_repeated_only_where_it_may_be(
    point: str, keys: dict[str, Any], outcome: str, runs: int
) -> None:
    """`manual` waits for a person, `rerun` runs again, one that only warns is passed over; it does not matter how often
    somebody resumes."""
    settings = environment(1, hooks=Hooks(**{point: (here("h", **keys),)}))
    stage = HookStage(settings)
    stage.hooks.hanging.add("h")
    cut_off(stage, settings, 100.0)
    assert len(stage.hooks.calls) == 1
    stage.hooks.hanging.clear()
    result = stage.play(resume)
    assert (result.outcome, len(stage.hooks.calls)) == (outcome, runs)
    if outcome == "needs_attention":
        assert stage.play(resume).outcome == "needs_attention"
        assert stage.play(deploy("v2")).outcome == "needs_attention"
        assert len(stage.hooks.calls) == 1
        assert stage.play(deploy("v2", force=True)).outcome == "succeeded"
    else:
        assert set(stage.world.serving().values()) == {V1}


def test_a_new_deployment_does_not_begin_while_nobody_knows_what_a_hook_did() -> None:
    """It may still run. With --force it is ended; one that may run again holds up nobody."""
    for keys, first in (({}, "needs_attention"), ({"resume": "rerun"}, "succeeded")):
        settings = environment(1, hooks=Hooks(before_deploy=(here("h", **keys),)))
        stage = HookStage(settings)
        stage.hooks.hanging.add("h")
        cut_off(stage, settings, 10.0)
        stage.hooks.hanging.clear()
        (cut,) = [
            record.event.deployment_id
            for record in stage.records()
            if isinstance(record.event, ev.HookStarted)
        ]
        assert stage.play(deploy("v2")).outcome == first
        assert stage.play(deploy("v3", force=True)).outcome == "succeeded"
        assert cut in stage.hooks.forgotten


@pytest.mark.parametrize("code", [0, 7])
def test_what_a_hook_came_to_while_nobody_looked_is_taken(code: int) -> None:
    settings = environment(2, hooks=Hooks(before_deploy=(here("h"),)))
    stage = HookStage(settings)
    stage.hooks.hanging.add("h")
    cut_off(stage, settings, 10.0)
    stage.hooks.exit_codes["h"] = code
    stage.hooks.land()
    result = stage.play(resume)
    assert (result.outcome, result.reason) == (
        ("succeeded", None) if code == 0 else ("failed", "hook_failed")
    )
    assert len(stage.hooks.calls) == 1


def test_hooks_that_succeeded_are_not_run_again_by_a_resume() -> None:
    """Nor is one whose end was awaited by an orderly stop."""
    every = Hooks(**{point: (here(point),) for point in AROUND})
    settings = environment(3, hooks=every, rollout=Rollout(batch=("1",)))
    stage = HookStage(settings)
    stage.hooks.delays_s["after_switch"] = 10.0

    async def stopped(o: Orchestrator) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: o.deploy("api", "production", version="v1"))
            while not any(phase == "after_switch" for phase, *_ in stage.hooks.calls):
                await anyio.sleep(0.5)
            o.stop("by a test")

    stage.play(stopped)
    assert ("after_switch", "after_switch", "t1", "") in stage.hooks.done
    assert ("before_restart", "before_restart", "t1", "") not in stage.hooks.calls
    assert stage.play(resume).outcome == "succeeded"
    assert len(stage.hooks.calls) == len(set(stage.hooks.calls)) == len(stage.hooks.done)
    assert len([1 for phase, *_ in stage.hooks.calls if phase == "before_switch"]) == 3


def test_a_failure_that_is_on_record_is_not_tried_again_by_a_resume_but_after_a_hold() -> None:
    stage, hooks = stage_of(before_switch=here("bad"), on_failure=here("told"))
    stage.hooks.exit_codes["bad"] = 1
    result = stage.upgraded(hooks, rollout=Rollout(on_failure="hold"))
    assert (result.outcome, result.reason) == ("paused", "hook_failed")
    stage.hooks.exit_codes.clear()
    assert stage.play(resume, settings=stage.settings).outcome == "succeeded"
    names = [name for _, name, _, _ in stage.hooks.calls]
    assert (names.count("told"), names.count("bad")) == (1, 4)


def test_an_abort_gets_past_a_hook_in_doubt() -> None:
    """Nobody needs to know how it ended to take everything back."""
    settings = environment(2, hooks=Hooks(after_switch=(here("h"),), always=(here("end"),)))
    stage = HookStage(environment(2))
    assert stage.play(deploy("v1")).outcome == "succeeded"
    stage.hooks.hanging.add("h")

    async def cut(o: Orchestrator) -> None:
        with anyio.move_on_after(10.0):
            await o.deploy("api", "production", version="v2")

    stage.play(cut, settings=settings)

    async def abort(o: Orchestrator) -> str:
        (state,) = await o.unfinished()
        return (await o.abort(state.id)).state

    assert stage.play(abort, settings=settings) == "aborted"
    assert set(stage.world.serving().values()) == {V1}
    assert told(stage) == [("always", "aborted")]


def test_what_a_hook_prints_is_told_with_its_name_and_place() -> None:
    settings = environment(1, hooks=Hooks(before_deploy=(here("a"),), before_switch=(here("b"),)))
    stage = HookStage(settings)
    stage.hooks.prints = {"a": ["one"], "b": ["two"]}
    lines: list[tuple[str, str, str]] = []

    async def story(o: Orchestrator) -> None:
        async with o.subscribe("step.output") as records, anyio.create_task_group() as group:

            async def listen() -> None:
                async for record in records:
                    assert isinstance(record.event, ev.StepOutput)
                    lines.append((record.event.step, record.event.target, record.event.line))

            group.start_soon(listen)
            await o.deploy("api", "production", version="v1")
            await anyio.sleep(1)
            group.cancel_scope.cancel()

    stage.play(story)
    assert lines == [("hook:a", "", "one"), ("hook:b", "t1", "two")]
    assert outcomes(stage.play(deploy("v1"))) == {"t1": "unchanged"}
