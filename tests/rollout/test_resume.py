"""A deployment that ended without an end goes on, from what the journal and the targets say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import anyio
import pytest

from fraisier import Orchestrator
from fraisier.config.schema import Rollout
from fraisier.errors import DatabaseTransactionError
from fraisier.events import Event, Record
from fraisier.events import types as ev
from fraisier.journal.base import Guard
from fraisier.journal.memory import MemoryJournal
from fraisier.rollout.result import DeploymentResult
from fraisier.testing import SeededIds, VirtualClock
from fraisier.testing.provider import commit
from tests.rollout.kit import Stage, environment, outcomes


async def stopped_after(o: Orchestrator, seconds: float, version: str) -> DeploymentResult:
    """Deploy, and ask for an orderly stop after a while."""
    found: list[DeploymentResult] = []

    async def deploy() -> None:
        found.append(await o.deploy("api", "production", version=version))

    async with anyio.create_task_group() as group:
        group.start_soon(deploy)
        await anyio.sleep(seconds)
        o.stop("interrupted by a test")
    return found[0]


def test_an_interrupted_rollout_goes_on_where_it_stopped() -> None:
    """What is updated stays, what was not begun is brought, and no step that succeeded is taken again."""
    stage = Stage(environment(4, rollout=Rollout(batch=("1",), max_unavailable="1")))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    stage.world.delays_s["restart"] = 5.0
    first = stage.play(lambda o: stopped_after(o, 8.0, "v2"))
    assert first.outcome == "interrupted"
    assert {"untouched", "updated"} < set(outcomes(first).values())
    before = list(stage.world.effects)
    result = stage.play(lambda o: o.resume())
    assert result is not None
    assert (result.outcome, result.deployment_id) == ("succeeded", first.deployment_id)
    assert set(stage.world.serving().values()) == {commit("v2")}
    again = stage.world.effects[len(before) :]
    assert "stage" not in {step for step, _, _ in again}
    assert len([1 for step, _, _ in stage.world.effects if step == "restart"]) == 8
    assert stage.play(lambda o: o.resume()) is None


def test_a_resumed_rollout_that_turns_out_bad_goes_back() -> None:
    """The rollback covers what the first process changed, too."""
    stage = Stage(environment(4, rollout=Rollout(batch=("1",), max_unavailable="1")))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    stage.world.delays_s["restart"] = 5.0
    assert stage.play(lambda o: stopped_after(o, 8.0, "v2")).outcome == "interrupted"
    stage.world.unhealthy.add(commit("v2"))
    result = stage.play(lambda o: o.resume())
    assert result is not None and result.outcome == "rolled_back"
    assert set(stage.world.serving().values()) == {commit("v1")}
    assert stage.play(lambda o: o.deploy("api", "production", version="v3")).outcome == "succeeded"


class FullAfterALook(MemoryJournal):
    """Takes nothing more, until somebody makes room for good, once it was told that a target is out of reach."""

    fills, has_room = True, True

    async def append_all(self, events: Sequence[Event], guard: Guard | None = None) -> list[Record]:
        if not self.has_room:
            raise DatabaseTransactionError("the disk is full", recoverable=False)
        records = await super().append_all(events, guard)
        self.has_room = not (self.fills and any(isinstance(event, ev.TargetUnreachable) for event in events))
        return records


@pytest.mark.parametrize(("version", "outcome"), [("v1", "unchanged"), ("v2", "updated")])
@pytest.mark.parametrize("on_unreachable", ["abort", "skip"])
def test_who_was_out_of_reach_before_there_was_a_plan_counts_as_the_new_look_found_it(
    version: str, outcome: str, on_unreachable: Literal["abort", "skip"]
) -> None:
    clock = VirtualClock()
    journal = FullAfterALook(clock=clock, ids=SeededIds(1, clock))
    stage = Stage(environment(2, rollout=Rollout(on_unreachable=on_unreachable)), journal=journal)
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    stage.world.unreachable.add("t1")
    with pytest.raises(DatabaseTransactionError):
        stage.play(lambda o: o.deploy("api", "production", version=version))
    assert stage.told("target.unreachable") == [("target.unreachable", "t1")]
    journal.fills, journal.has_room = False, True
    stage.world.unreachable.clear()
    result = stage.play(lambda o: o.resume())
    assert result is not None
    assert result.outcome == ("unchanged" if outcome == "unchanged" else "succeeded")
    assert outcomes(result) == {"t1": outcome, "t2": outcome}
    assert set(stage.world.serving().values()) == {commit(version)}


def test_who_is_still_out_of_reach_when_a_resume_plans_is_left_out() -> None:
    clock = VirtualClock()
    journal = FullAfterALook(clock=clock, ids=SeededIds(1, clock))
    stage = Stage(
        environment(2, rollout=Rollout(on_unreachable="skip", max_unavailable="2")), journal=journal
    )
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    stage.world.unreachable.add("t1")
    with pytest.raises(DatabaseTransactionError):
        stage.play(lambda o: o.deploy("api", "production", version="v2"))
    journal.fills, journal.has_room = False, True
    result = stage.play(lambda o: o.resume())
    assert result is not None and (result.outcome, result.reason) == ("failed", "partial")
    assert outcomes(result) == {"t1": "unreachable", "t2": "updated"}
