"""Crash points of the simulation on real processes: killed after the k-th fact of a deployment and of its rollback."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.acceptance.killing import RELEASES, ROLLOUT, SPEEDY, Killing, Release, Watched
from tests.acceptance.kit import Project

Make = Callable[..., Project]
pytestmark = pytest.mark.once

GOOD = RELEASES[0]


class AfterFact(Killing):
    """Kills as soon as a fact of a given number was told."""

    number = 0
    on_the_way_back = 0

    def moment(self, release: Release, command: Watched) -> None:
        """Return when the fact was told."""
        command.wait_for_events(self.number)
        self.on_the_way_back += "rollback.started" in {line["type"] for line in command.durable}


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("release", "numbers"), [(GOOD, (2, 6, 13, 21, 30)), (Release("sick:t2"), (40, 52, 60, 68, 76))]
)
def test_killed_after_the_kth_fact(project: Make, release: Release, numbers: tuple[int, ...]) -> None:
    """Three targets: five points on the way forward, five in the rollback; each ends as it must."""
    rounds = AfterFact(project(count=3, rollout=ROLLOUT, check=SPEEDY, env="LIFE_S: 0.25"), 1)
    rounds.begin()
    for rounds.number in numbers:
        rounds.round(release)
    assert rounds.figures.kills == len(numbers)
    assert rounds.figures.mid >= len(numbers) - 1, rounds.figures.text()
    assert len(rounds.figures.phases) > 2, rounds.figures.text()
    assert rounds.on_the_way_back >= (0 if release.good else 3)
