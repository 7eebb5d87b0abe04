"""Killed with `kill -9` anywhere, a deployment goes on with `resume`, and every promise holds."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from tests.acceptance.killing import ROLLOUT, SPEEDY, Killing, Watched, environ, none_left, services
from tests.acceptance.kit import Project

Make = Callable[..., Project]
pytestmark = pytest.mark.once


def killing(project: Make, seed: int) -> Killing:
    made = project(count=6, rollout=ROLLOUT, check=SPEEDY, env="LIFE_S: 0.15")
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


def runs_of_a_build(project: Project, *, takes_s: int, after_s: float) -> int:
    """Kill a deployment that long into its build, resume it, look at what was built, and return how often it was begun."""
    project.commit("v1")
    assert project.deploy("v1").code == 0
    ran = project.root / "builds"
    lines = takes_s * 5
    count = f"i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo line $i; sleep 0.2; done"
    script = f"echo run >> {ran}; {count}; echo whole > WHOLE"
    project.extra = f'        build: ["{script}"]'
    project.write()
    project.commit("v2")
    command = Watched(project, "deploy", "web", "production", "--version", "v2", "--json")
    command.wait_for("step.output", step="stage")
    time.sleep(after_s)
    assert command.kill()
    resumed = project.run("resume", "--json", env=environ(project))
    assert (resumed.code, resumed.result["outcome"]) == (0, "succeeded"), (resumed.out[-2000:], resumed.err)
    for target in ("t1", "t2"):
        told = [
            line["data"]["line"]
            for line in resumed.lines
            if line["type"] == "step.output" and line["target"] == target and line["step"] == "stage"
        ]
        assert [line for line in told if line.startswith("line ")] == [
            f"line {n}" for n in range(1, lines + 1)
        ]
    assert set(project.answers().values()) == {"v2"}
    none_left(project)
    return len(ran.read_text().split())


@pytest.mark.slow
def test_a_build_whose_orchestrator_was_killed_is_gone_on_with(project: Make) -> None:
    """The new process attaches to it: it ran once on each target, and its output is complete from the first line on."""
    assert runs_of_a_build(project(count=2), takes_s=4, after_s=1.0) == 2


@pytest.mark.long
def test_a_long_build_whose_orchestrator_was_killed_is_gone_on_with(project: Make) -> None:
    """The same with 20 s and a kill after 5."""
    assert runs_of_a_build(project(count=2), takes_s=20, after_s=5.0) == 2


def killed_rollbacks(made: Project, rng: random.Random, count: int) -> list[str]:
    """Kill `fraisier rollback` at random moments and resume it; return how each of those that were hit ended."""
    ended = []
    for at in range(count):
        for version in (f"old{at}", f"new{at}"):
            made.commit(version)
            assert made.deploy(version).code == 0
        command = Watched(made, "rollback", "web", "production", "--json")
        command.wait_for_events(rng.randint(2, 40))
        hit = command.kill()
        resumed = made.run("resume", "--json", env=environ(made))
        assert resumed.code == 0, (command.durable[-1], resumed.out[-2000:], resumed.err)
        if hit and resumed.result["type"] == "result":
            ended.append(resumed.result["outcome"])
        assert set(made.answers().values()) == {f"old{at}"}
        none_left(made)
        assert len(services(made)) == made.count
    return ended


@pytest.mark.slow
def test_a_rollback_that_was_killed_is_gone_on_with(project: Make) -> None:
    """Every target is back on its own last good release."""
    made = project(count=3, rollout=ROLLOUT, check=SPEEDY)
    assert set(killed_rollbacks(made, random.Random(3), 2)) == {"succeeded"}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_many_killed_rollbacks_are_gone_on_with(project: Make) -> None:
    """The same, thirty times; most of them were hit before their end."""
    made = project(count=4, rollout=ROLLOUT, check=SPEEDY)
    ended = killed_rollbacks(made, random.Random(1), 30)
    assert set(ended) == {"succeeded"}
    assert len(ended) >= 20


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "outcome", "code"), [("ok", "succeeded", 0), ("sick", "failed", 1)])
def test_a_first_deployment_that_was_killed_ends_as_it_would_have(
    project: Make, mode: str, outcome: str, code: int
) -> None:
    """Good: it serves everywhere. Sick: there is nothing to go back to, so nothing runs and no release is current."""
    made = project(count=3, rollout=ROLLOUT, check=SPEEDY)
    made.commit("v1", mode)
    command = Watched(made, "deploy", "web", "production", "--json")
    command.wait_for("step.started", step="verify")
    assert command.kill()
    resumed = made.run("resume", "--json", env=environ(made))
    assert (resumed.code, resumed.result["outcome"]) == (code, outcome), resumed.out[-2000:]
    assert len(services(made)) == (3 if code == 0 else 0)
    assert len(list(made.root.glob("srv/*/current"))) == (3 if code == 0 else 0)
    none_left(made)
    made.commit("v2")
    assert made.deploy("v2").code == 0
    assert set(made.answers().values()) == {"v2"}
