"""Killed with `kill -9` anywhere, a deployment goes on with `resume`, and every promise holds."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.acceptance.killing import ROLLOUT, SPEEDY, Killing
from tests.acceptance.kit import Project

Make = Callable[..., Project]
pytestmark = pytest.mark.once


def killing(project: Make, seed: int) -> Killing:
    made = project(count=6, rollout=ROLLOUT, check=SPEEDY, env="LIFE_S: 0.25")
    return Killing(made, seed)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_killed_at_twelve_moments_each_deployment_is_brought_to_its_end(project: Make) -> None:
    """Good and bad releases of six targets; most kills hit in mid-deployment."""
    figures = killing(project, 3).run(12)
    assert figures.mid >= 0.8 * figures.kills, figures.text()


@pytest.mark.long
@pytest.mark.timeout(6000)
def test_killed_at_two_hundred_moments(project: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """The same, more often (`KILLS=60` for fewer, `SEED=7` for others); prints the figures."""
    figures = killing(project, int(os.environ.get("SEED", "1"))).run(int(os.environ.get("KILLS", "200")))
    with capsys.disabled():
        print(f"\n{figures.text()}")  # noqa: T201
    assert figures.mid >= 0.8 * figures.kills
