"""What becomes durable together while a target is walked through its steps, and what never waits for the next fact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fraisier.config.schema import Hook, Hooks, Rollout
from fraisier.events import TYPE_OF, Event, Record
from fraisier.events.types import TargetFailed
from fraisier.journal.base import Guard
from fraisier.journal.memory import MemoryJournal
from fraisier.providers.base import ProviderServices, StepCall
from fraisier.testing.provider import ScriptedProvider, ScriptedWorld
from tests.rollout.kit import Stage, environment
from tests.rollout.test_back import deploy
from tests.rollout.test_hooks import HookStage
from tests.rollout.test_steering import steered


class Watched(MemoryJournal):
    """Remembers which events about a target were appended together: their type with the step or hook."""

    def __init__(self, **ports: Any) -> None:
        super().__init__(**ports)
        self.appends: list[list[Event]] = []

    async def append_all(self, events: Sequence[Event], guard: Guard | None = None) -> list[Record]:
        self.appends.append(list(events))
        return await super().append_all(events, guard)

    def of(self, target: str) -> list[str]:
        """What was appended about a target, `+` between what became durable in one commit."""
        return [
            " + ".join(
                " ".join(filter(None, (TYPE_OF[type(e)], getattr(e, "step", "") or getattr(e, "hook", ""))))
                for e in events
            )
            for events in self.appends
            if events[0].target == target
        ]


def watch(stage: Stage) -> Watched:
    stage.journal = journal = Watched(clock=stage.clock, ids=stage.ids)
    return journal


def test_a_success_and_what_follows_it_at_once_are_one_commit() -> None:
    """Before a barrier, a wave, or another target's turn everything that it depends on is durable by itself."""
    stage = Stage(environment(2))
    journal = watch(stage)
    assert stage.play(deploy("v1")).outcome == "succeeded"
    assert journal.of("t1") == [
        "step.started preflight",
        "step.succeeded preflight + step.started fetch",
        "step.succeeded fetch + step.started stage",
        "step.succeeded stage",
        "target.started + step.started switch",
        "step.succeeded switch + step.started restart",
        "step.succeeded restart + step.started verify",
        "step.succeeded verify + target.updated",
    ]


def test_a_permit_is_given_back_only_with_the_success_on_the_disk() -> None:
    """With a bake to come, the target serves again as soon as it is verified: others may go away because of that."""
    stage = Stage(environment(2, rollout=Rollout(min_healthy_time_s=5.0)))
    journal = watch(stage)
    assert stage.play(deploy("v1")).outcome == "succeeded"
    assert journal.of("t1")[-3:] == [
        "step.succeeded verify",
        "step.started bake",
        "step.succeeded bake + target.updated",
    ]


def test_a_step_is_on_the_disk_as_done_before_a_hook_after_it_begins() -> None:
    hooks = Hooks(after_fetch=(Hook(command="h", on="orchestrator", name="h"),))
    stage = HookStage(environment(1, hooks=hooks))
    journal = watch(stage)
    assert stage.play(deploy("v1")).outcome == "succeeded"
    told = journal.of("t1")
    at = told.index("step.succeeded fetch")
    assert told[at + 1 : at + 4] == ["hook.started hook:h", "hook.succeeded hook:h", "step.started stage"]


def test_a_success_is_recorded_when_the_next_step_is_not_begun() -> None:
    """Somebody aborts the deployment while a step is taken: the step that was done is known as done."""
    stage = Stage(environment(1))
    journal = watch(stage)
    stage.world.delays_s["fetch"] = 5.0

    result, _ = stage.play(lambda o: steered(o, 2.0, o.abort))
    assert result.outcome == "aborted"
    assert journal.of("t1")[:4] == [
        "step.started preflight",
        "step.succeeded preflight + step.started fetch",
        "step.succeeded fetch",
    ]


class Strange(ScriptedProvider):
    """Gives evidence that no journal can hold."""

    async def perform(self, call: StepCall) -> dict[str, Any]:
        evidence = await super().perform(call)
        return {"found": object()} if call.step == "fetch" else evidence


class StrangeWorld(ScriptedWorld):
    def factory(self, services: ProviderServices) -> ScriptedProvider:
        return Strange(self)


def test_evidence_that_cannot_be_written_is_the_failure_of_its_own_step() -> None:
    """The next step is not begun, and is not blamed."""
    stage = Stage(environment(1))
    stage.world = StrangeWorld()
    journal = watch(stage)
    result = stage.play(deploy("v1"))
    assert result.outcome == "failed" and "step.succeeded cannot be encoded" in result.detail
    assert [text for text in journal.of("t1") if "stage" in text] == []
    assert [e.step for events in journal.appends for e in events if isinstance(e, TargetFailed)] == ["fetch"]
