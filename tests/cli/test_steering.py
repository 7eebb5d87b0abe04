"""`resume`, `abort`, `pause` and `promote`: which deployment is meant, what is printed, and the exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import PROCESS_S, Project
from tests.cli.test_signals import finish, read_until
from tests.cli.test_terminal import terminal

pytestmark = pytest.mark.slow
ACTIONS = ("abort", "pause", "promote")
FIELDS = ["action", "deployment_id", "detail", "effect", "state"]


def at_the_gate(project: Project, *options: str) -> tuple[subprocess.Popen[str], Path, str]:
    """Start a deployment whose build waits for a file; return it, the file and its id once it waits."""
    gate = project.root / "gate-open"
    gate.unlink(missing_ok=True)
    project.write_config(gate=str(gate), rollout={"max_unavailable": 1, "batch": [1, "100%"], "pause": "60s"})
    process = project.start("deploy", "shop", "staging", "--json", *options)
    waiting = read_until(process, "step.output", step="stage", target="t1")
    return process, gate, waiting["deployment_id"]


def killed(project: Project) -> str:
    """Leave a deployment behind whose process was killed in its build; return its id."""
    process, gate, deployment_id = at_the_gate(project)
    process.kill()
    process.communicate(timeout=PROCESS_S)
    gate.touch()
    return deployment_id


def events_of(lines: list[dict[str, Any]]) -> list[str]:
    return [line["type"] for line in lines]


def test_without_anything_unfinished_resume_is_content_and_the_others_are_not(project: Project) -> None:
    project.run("deploy", "shop", "staging")
    assert project.run("resume").stdout == ""
    assert "nothing to resume" in project.run("resume").stderr
    assert project.json("resume")["resumed"] == []
    assert project.json("resume", "--all")["resumed"] == []
    for action in ACTIONS:
        error = project.json(action, code=2)["error"]
        assert error["code"] == "NOT_FOUND"
        assert f"no deployment to {action}" in error["message"]


def test_an_id_that_is_not_known_is_told(project: Project) -> None:
    project.run("deploy", "shop", "staging")
    for action in ("resume", *ACTIONS):
        assert project.json(action, "0000", code=2)["error"]["code"] == "NOT_FOUND"


def test_resume_tells_the_events_of_what_another_process_began_and_one_result_line(project: Project) -> None:
    deployment_id = killed(project)
    project.write_config()
    process = project.start("resume", "--json")
    read_until(process, "wave.succeeded")
    promoted = project.json("promote")
    assert sorted(promoted) == FIELDS
    assert (promoted["effect"], promoted["action"]) == ("done", "promote")
    lines, stderr = finish(process)
    assert (process.returncode, stderr) == (0, "")
    assert {line["deployment_id"] for line in lines} == {deployment_id}
    assert "deployment.promoted" in events_of(lines)
    assert (lines[-1]["type"], lines[-1]["outcome"]) == ("result", "succeeded")


def test_resume_without_json_tells_lines_and_the_summary(project: Project) -> None:
    deployment_id = killed(project)
    process = project.start("resume", deployment_id)
    assert process.stderr is not None
    shown = ""
    for line in process.stderr:
        shown += line
        if "pausing for" in line:
            break
    project.run("promote", deployment_id)
    _, stderr = process.communicate(timeout=PROCESS_S)
    assert process.returncode == 0
    assert "RESUMED by" in shown
    assert "PROMOTED by" in stderr
    assert "SUCCEEDED shop in staging" in stderr


def test_the_live_screen_of_a_resume_knows_what_was_before(project: Project) -> None:
    deployment_id = killed(project)
    with terminal(project, "resume") as screen:
        screen.wait_for("pausing for")
        assert "wave 1/2" in screen.plain
        assert re.search(r"^\s*t2 +2", screen.plain, re.MULTILINE), screen.plain
        project.run("promote", deployment_id)
        assert screen.end() == 0
    assert "SUCCEEDED shop in staging" in screen.plain


def test_a_rollback_that_another_process_began_is_told_too(project: Project) -> None:
    project.run("deploy", "shop", "staging")
    project.commit("two", broken=True)
    process = project.start("deploy", "shop", "staging", "--json")
    started = read_until(process, "rollback.started")
    process.kill()
    process.communicate(timeout=PROCESS_S)
    lines = project.lines("resume", code=3)
    told = {line["deployment_id"] for line in lines}
    assert {started["deployment_id"], started["data"]["child_id"]} == told
    assert [line["outcome"] for line in lines if line["type"] == "result"] == ["rolled_back"]


def test_several_unfinished_ones_are_listed_or_resumed_in_turn(project: Project) -> None:
    gate = project.root / "gate"
    environment = project.environment()
    environment["env"] = {**environment["env"], "GATE": str(gate)}
    bad = environment | {"app_path": f"{project.root}/srv/bad-{{{{ target.name }}}}"}
    wait = f"{sys.executable} gate.py"
    kinds = {"staging": environment | {"build": [wait]}, "test": bad | {"build": [wait, "false"]}}
    project.write_config({"shop": {"type": "api", "environments": kinds}})
    left = []
    for name in kinds:
        process = project.start("deploy", "shop", name, "--json")
        left.append(read_until(process, "step.output", step="stage")["deployment_id"])
        process.kill()
        process.communicate(timeout=PROCESS_S)
    gate.touch()
    for action in ("resume", *ACTIONS):
        error = project.json(action, code=2)["error"]
        assert [row["deployment_id"] for row in error["context"]["deployments"]] == left
        assert all(one in error["message"] for one in left)
    lines = project.lines("resume", "--all", code=1)
    results = [line for line in lines if line["type"] == "result"]
    assert [line["deployment_id"] for line in results] == left
    assert [line["outcome"] for line in results] == ["succeeded", "failed"]


def test_resume_takes_an_id_or_all_not_both(project: Project) -> None:
    assert "not both" in project.json("resume", "0192", "--all", code=2)["error"]["message"]


def test_an_abort_that_is_carried_out_here_is_told_like_a_deployment(project: Project) -> None:
    deployment_id = killed(project)
    done = project.run("abort")
    assert "ABORTED shop in staging" in done.stderr
    assert done.stdout == f"abort done, deployment {deployment_id} is aborted\n"
    again = project.json("abort", deployment_id)
    assert (again["effect"], again["state"]) == ("already", "aborted")


def test_an_abort_with_json_is_one_document_with_the_result(project: Project) -> None:
    deployment_id = killed(project)
    found = project.json("abort")
    assert sorted(found) == sorted([*FIELDS, "result"])
    assert (found["effect"], found["state"]) == ("done", "aborted")
    assert (found["result"]["outcome"], found["result"]["deployment_id"]) == ("aborted", deployment_id)


def test_a_deployment_that_runs_is_aborted_from_another_terminal(project: Project) -> None:
    process, gate, deployment_id = at_the_gate(project)
    nothing = project.json("resume")
    assert [row["deployment_id"] for row in nothing["running"]] == [deployment_id]
    assert f"{deployment_id} (shop in staging) runs" in project.run("resume").stderr
    assert project.lines("resume", deployment_id, code=5)[-1]["error"]["code"] == "DEPLOYMENT_LOCKED"
    told = project.json("abort")
    assert sorted(told) == FIELDS
    assert (told["deployment_id"], told["effect"]) == (deployment_id, "done")
    gate.touch()
    lines, _ = finish(process)
    assert (process.returncode, lines[-1]["outcome"]) == (130, "aborted")


def test_a_deployment_is_paused_and_resumed_where_it_runs(project: Project) -> None:
    process, gate, deployment_id = at_the_gate(project)
    assert "pause done" in project.run("pause").stdout
    assert project.json("pause")["effect"] == "already"
    assert project.json("history")["deployments"][0]["outcome"] in (None, "", "paused")
    went_on = project.lines("resume")[-1]
    assert (went_on["deployment_id"], went_on["outcome"]) == (deployment_id, "running")
    gate.touch()
    read_until(process, "wave.succeeded")
    project.run("promote")
    finish(process)
    assert process.returncode == 0


def test_what_has_ended_is_refused_with_the_reason(project: Project) -> None:
    project.run("deploy", "shop", "staging")
    deployment_id = project.json("history")["deployments"][0]["deployment_id"]
    for action in ACTIONS:
        found = project.json(action, deployment_id, code=1)
        assert (found["effect"], found["state"]) == ("refused", "succeeded")
        assert "it has ended" in found["detail"]
    assert "has ended already" in project.lines("resume", deployment_id)[-1]["hint"]


def test_nobody_promotes_what_nobody_carries_out(project: Project) -> None:
    deployment_id = killed(project)
    found = project.json("promote", code=1)
    assert f"fraisier resume {deployment_id}" in found["detail"]
    paused = project.json("pause")
    assert (paused["effect"], paused["state"]) == ("done", "paused")
    assert project.json("abort")["state"] == "aborted"
