"""`abort`, `pause` and `promote` from a second process, at any moment, with the runner alive or dead."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from tests.acceptance.killing import Watched, environ, none_left, services
from tests.acceptance.kit import Project, Run

Make = Callable[..., Project]
pytestmark = pytest.mark.once

ROLLOUT = "{strategy: rolling, batch: [1, 100%], max_unavailable: 1, pause: 500ms, min_healthy_time: 100ms}"
CHECK = "interval: 30ms, timeout: 2s, rise: 1, fall: 2, deadline: 1500ms"
WITHIN_S = 1.0
PLAN = (
    ("pause", True),
    ("abort", True),
    ("promote", True),
    ("abort", False),
    ("pause", False),
    ("promote", False),
    ("abort", True),
    ("pause", True),
    ("abort", False),
    ("promote", True),
)
"""What is asked, and whether the runner still lives then."""


class Steering:
    """Rounds of: a deployment of a good version, a request at a random moment, its effect, and an end."""

    def __init__(self, project: Project, seed: int) -> None:
        self.project = project
        self.rng = random.Random(seed)
        self.effects: Counter[str] = Counter()
        self.longest_s = 0.0
        self._count = 0
        self._events = 0
        self.version = self.commit()
        assert self.run("deploy", "web", "production").code == 0
        command, self.version = self.start()
        command.wait_for("deployment.succeeded")
        command.end()
        self._events = len(command.durable)

    def commit(self) -> str:
        self._count += 1
        version = f"v{self._count}"
        self.project.commit(version)
        return version

    def run(self, *words: str) -> Run:
        return self.project.run(*words, "--json", env=environ(self.project))

    def start(self) -> tuple[Watched, str]:
        version = self.commit()
        return Watched(self.project, "deploy", "web", "production", "--version", version, "--json"), version

    def events(self, deployment_id: str) -> list[dict[str, Any]]:
        return self.run("events", deployment_id).lines

    def round(self, action: str, *, alive: bool) -> None:
        """Ask once, and see what comes of it."""
        command, version = self.start()
        command.wait_for_events(self.rng.randint(2, self._events - 4))
        if not alive:
            command.kill()
        asked = self.run(action, command.deployment_id)
        told = (action, alive, asked.out, asked.err)
        assert asked.code in (0, 1), told
        answer = asked.document
        assert (asked.code == 0) == (answer["effect"] != "refused"), told
        assert answer["deployment_id"] == command.deployment_id
        assert answer["detail"], told
        how = "alive" if alive else "dead"
        self.effects[f"{action} {how}: {answer['effect']}"] += 1
        facts = self.events(command.deployment_id)
        if answer["effect"] == "done":
            self.soon(action, alive, facts)
        self.follow(action, alive, answer, command, version)
        self.look()

    def soon(self, action: str, alive: bool, facts: list[dict[str, Any]]) -> None:
        """Assert that the effect began within a second of the request being in the journal."""
        at = next(n for n, fact in enumerate(facts) if fact["type"] == f"deployment.{action}_requested")
        effect = {
            ("abort", False): "deployment.resumed",
            ("pause", False): "deployment.paused",
        }.get((action, alive), "deployment.acknowledged")
        seen = next(fact for fact in facts[at:] if fact["type"] == effect)
        took = _moment(seen) - _moment(facts[at])
        self.longest_s = max(self.longest_s, took)
        assert took < WITHIN_S, (action, alive, took)

    def follow(
        self, action: str, alive: bool, answer: dict[str, Any], command: Watched, version: str
    ) -> None:
        """Bring the deployment to its end, and assert that it is the one that was asked for."""
        done = answer["effect"] == "done"
        if action == "pause" and done:
            self.stands_still(command.deployment_id)
        if action == "pause" and done and alive:
            went_on = self.run("promote", command.deployment_id)
            # A pause while the last target was being changed had nothing left to hold back.
            over = went_on.document["detail"] == "it has ended: succeeded"
            assert over or went_on.document["effect"] == "done", went_on.out
        ended = command.end()
        if alive:
            expected = "aborted" if (action, done) == ("abort", True) else "succeeded"
            assert ended.result["outcome"] == expected, (action, answer, ended.out[-2000:])
            assert ended.code == (130 if expected == "aborted" else 0)
        elif action == "abort":
            expected = "aborted" if done else "succeeded"
        else:
            resumed = self.run("resume")
            expected = "succeeded"
            if resumed.result["type"] == "result":
                assert resumed.result["outcome"] == expected, resumed.out[-2000:]
        shown = self.run("show", command.deployment_id).document
        assert shown["outcome"] == expected, (action, alive, answer, shown["outcome"])
        if expected == "succeeded":
            self.version = version

    def stands_still(self, deployment_id: str) -> None:
        """Assert that a paused deployment begins no further target."""
        facts = self.events(deployment_id)
        at = [n for n, fact in enumerate(facts) if fact["type"] == "deployment.paused"]
        begun = [fact["target"] for fact in facts[at[-1] :] if fact["type"] == "target.started"] if at else []
        assert not begun, begun

    def look(self) -> None:
        """Assert what must hold after every round."""
        answers = self.project.answers()
        assert set(answers.values()) == {self.version}, answers
        none_left(self.project)
        assert len(services(self.project)) == self.project.count
        assert self.run("resume").document["type"] == "nothing"

    def finish(self) -> str:
        """Assert that nothing blocks what comes next; return the figures."""
        command, _ = self.start()
        assert command.end().result["outcome"] == "succeeded"
        assert self.run("audit", "verify").document["ok"] is True
        return f"{sum(self.effects.values())} requests, longest {self.longest_s:.2f} s: {dict(sorted(self.effects.items()))}"


def _moment(fact: dict[str, Any]) -> float:
    return datetime.fromisoformat(fact["time"].replace("Z", "+00:00")).timestamp()


def steering(project: Make, seed: int) -> Steering:
    return Steering(project(count=3, rollout=ROLLOUT, check=CHECK), seed)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_ten_requests_from_another_process_have_their_effect_or_say_why_not(project: Make) -> None:
    """Within a second of being in the journal; the end is the one that was asked for, and nothing is left behind."""
    one = steering(project, 5)
    for action, alive in PLAN:
        one.round(action, alive=alive)
    one.finish()
    done = {told for told in one.effects if told.endswith("done")}
    assert {"abort dead: done", "pause dead: done"} <= done, one.effects
    # How many of the living still run when they are asked is up to the machine.
    assert any("alive" in told for told in done), one.effects


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_hundred_requests_from_another_process(project: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """The same, more often (`STEERS=30` for fewer, `SEED=7` for others); prints the figures."""
    one = steering(project, int(os.environ.get("SEED", "1")))
    for at in range(int(os.environ.get("STEERS", "100"))):
        action, alive = PLAN[at % len(PLAN)]
        one.round(action, alive=alive)
    figures = one.finish()
    assert one.longest_s < WITHIN_S
    with capsys.disabled():
        print(f"\n{figures}")  # noqa: T201


def test_what_was_held_after_a_failure_is_tried_again_or_put_back(project: Make) -> None:
    """`on_failure: hold` leaves all as it is; `resume` tries the failed target again, `abort` takes that one back."""
    one = project(count=2, rollout="{strategy: rolling, batch: [1, 100%], on_failure: hold}", check=CHECK)
    one.commit("v1")
    assert one.deploy("v1").code == 0
    one.commit("v2", "sick:t2")
    held = one.deploy("v2")
    assert (held.code, held.result["outcome"]) == (1, "paused"), held.out[-1500:]
    again = one.run("resume", "--json")
    assert (again.code, again.result["outcome"]) == (1, "paused"), again.out[-1500:]
    said = one.run("resume")
    assert "next: fraisier resume " in said.err
    assert "fraisier abort " in said.err
    ended = one.run("abort", "--json")
    assert (ended.code, ended.document["state"]) == (0, "aborted"), ended.out
    assert one.answers() == {"t1": "v2", "t2": "v1"}
    none_left(one)
