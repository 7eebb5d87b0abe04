"""A deployment, and its rollback, cut off at every append and at every await: whatever was under way, `resume` ends it.

Handles (stretches between two awaits) and appends are counted in one run without a crash; the same seed then dies at each
of them in turn, so a number means the same place every time. A failure prints all that is needed to see it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import pytest

from fraisier.simulation.crash import CrashPoint, every_crash_point
from tests.simulation import scenarios
from tests.simulation.crashes import LANDINGS, Failure, crash, deploy_again, every_landing, measure, resume
from tests.simulation.scenarios import Scenario
from tests.simulation.stage import Story

PARTS = 4
SHOWN = 5
SOME = 8
"""Of the scenarios that say less, one handle out of so many (and every append)."""
SECONDS = (
    CrashPoint("handle", 60),
    CrashPoint("before append", 5),
    CrashPoint("handle", 110),
    CrashPoint("after append", 9),
    CrashPoint("handle", 180),
    CrashPoint("after append", 17),
    CrashPoint("handle", 240),
)
"""Where a resume dies in its turn, if it comes so far."""


def points(scenario: Scenario, *, stride: int = 1, part: int = 0, parts: int = 1) -> list[CrashPoint]:
    """The places at which a scenario is cut off; every `parts`-th of them, beginning with `part`. With a stride, one handle
    out of so many, and each append only after its commit: before the next one is almost the same."""
    handles, appends = measure(scenario)
    every = every_crash_point(handles=handles, appends=appends, stride=stride)
    return [place for place in every if stride == 1 or place.kind != "before append"][part::parts]


def broken_by(
    scenario: Scenario, deaths: Sequence[Sequence[CrashPoint]], *, repair: Story[list[str]] = resume
) -> str:
    """Return in words what is broken after these deaths; what they had under way lands in each of the ways in turn."""
    failures: list[Failure] = []
    for number, places in enumerate(deaths):
        failures += every_landing(scenario, places, LANDINGS[number % len(LANDINGS)], repair=repair)
    assert deaths, "nobody died"
    return told(failures, len(deaths))


def told(failures: list[Failure], crashes: int) -> str:
    """The failures in words, the first one with its trace."""
    if not failures:
        return ""
    shown = "\n\n".join(map(str, failures[:SHOWN]))
    return f"{len(failures)} of {crashes} crashes broke a promise\n\n{shown}\n\n{failures[0].trace}"


@pytest.mark.slow
@pytest.mark.virtual
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(
    "scenario", [scenarios.HAPPY, scenarios.ROLLED_BACK], ids=lambda scenario: scenario.name
)
def test_a_crash_at_every_append_and_every_await_is_mended_by_resume(scenario: Scenario, part: int) -> None:
    """After `resume` the outcome is true, nothing happened twice, and the next deployment succeeds."""
    assert broken_by(scenario, [[place] for place in points(scenario, part=part, parts=PARTS)]) == ""


@pytest.mark.slow
@pytest.mark.virtual
@pytest.mark.parametrize(
    "scenario",
    [
        scenarios.TOLERATED,
        scenarios.FIRST_FAILS,
        scenarios.ASKED_BACK,
        scenarios.FALLBACK,
        scenarios.FALLBACK_UNSEEN,
    ],
    ids=lambda scenario: scenario.name,
)
def test_a_crash_of_other_deployments_is_mended_by_resume(scenario: Scenario) -> None:
    """The same for a tolerated failure, a first deployment that fails, a rollback that a person asked for, and deployments
    that go through a fallback."""
    assert broken_by(scenario, [[place] for place in points(scenario, stride=SOME)]) == ""


@pytest.mark.slow
@pytest.mark.virtual
@pytest.mark.parametrize("scenario", scenarios.ALL, ids=lambda scenario: scenario.name)
def test_a_crash_of_the_resume_itself_is_mended_by_the_next_one(scenario: Scenario) -> None:
    """Two processes die, the second one while it mends what the first one left."""
    firsts = points(scenario, stride=SOME)[::3]
    assert broken_by(scenario, list(zip(firsts, cycle(SECONDS), strict=False))) == ""


@pytest.mark.slow
@pytest.mark.virtual
def test_a_deployment_over_a_dead_one_finds_its_way_from_what_is_there() -> None:
    """Who deploys again instead of resuming gets the new version everywhere."""
    scenario = scenarios.SUPERSEDED
    assert (
        broken_by(scenario, [[place] for place in points(scenario, stride=SOME)], repair=deploy_again) == ""
    )


def test_the_same_crash_leaves_the_same_trace_every_time() -> None:
    """A number means the same place in every run: what was found once can be looked at again."""
    place = [CrashPoint("handle", 200)]
    found = [crash(scenarios.NEVER_RIGHT, place, "late").failure for _ in range(2)]
    assert found[0] is not None
    assert found[0] == found[1]
