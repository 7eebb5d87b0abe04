"""Hooks with real processes: their order, environment, place, output, and what becomes of them when we are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.kit import Project

Make = Callable[..., Project]
pytestmark = pytest.mark.once
VARIABLES = (
    "FRAISE",
    "ENVIRONMENT",
    "VERSION",
    "PREVIOUS_VERSION",
    "TARGET",
    "RELEASE_PATH",
    "DEPLOYMENT_ID",
    "HOOK",
)
STEPS = ("preflight", "fetch", "stage", "migrate", "switch", "restart", "verify", "bake", "cleanup")


def hooks(**points: list[Any]) -> str:
    """The `hooks` of a configuration; every value is also YAML."""
    return f"        hooks: {json.dumps(points)}\n"


def log(project: Project) -> str:
    """A command that appends what it knows to the project's log, with its directory."""
    told = " ".join(f'{name}="$FRAISIER_{name}"' for name in (*VARIABLES, "OUTCOME"))
    return f'echo "PHASE=@ {told} CWD=$(pwd) OWN=$PORT" >>{project.root}/hooks.log'


def logged(project: Project) -> list[dict[str, str]]:
    path = project.root / "hooks.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [dict(word.partition("=")[::2] for word in line.split()) for line in lines]


def points_of(rows: list[dict[str, str]], target: str = "") -> list[str]:
    return [row["PHASE"] for row in rows if row["TARGET"] == target]


def wait_for(what: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_hooks_of_every_phase_run_in_order_with_the_right_environment(project: Make) -> None:
    """Of the deployment here, of the steps at each target; in the release once it is staged."""
    p = project(count=2, rollout="{batch: [1, 100%], min_healthy_time: 100ms}")
    every = [f"{when}_{step}" for step in STEPS for when in ("before", "after")]
    whole = ["before_deploy", "before_prepare", "after_prepare", "after_deploy", "always"]
    command = log(p)
    p.extra = hooks(**{point: [command.replace("@", point)] for point in (*every, *whole, "on_failure")})
    p.extra += "        migrate: {command: 'true', on: all}\n"
    p.write()
    first = p.commit("v1")
    assert p.deploy("v1").code == 0
    second = p.commit("v2")
    (p.root / "hooks.log").unlink()
    run = p.deploy("v2")
    assert (run.code, run.result["outcome"]) == (0, "succeeded")
    rows = logged(p)
    assert points_of(rows) == whole
    for n, port in enumerate(p.ports, 1):
        # There is nothing to clean up after the second deployment.
        assert points_of(rows, f"t{n}") == [point for point in every if not point.endswith("cleanup")]
        app = p.root / "srv" / f"t{n}"
        for row in rows:
            if row["TARGET"] != f"t{n}":
                continue
            assert row["OWN"] == str(port)
            assert row["RELEASE_PATH"].startswith(f"{app}/releases/")
            staged = every.index(row["PHASE"]) > every.index("before_stage")
            assert row["CWD"] == (row["RELEASE_PATH"] if staged else str(app))
    for row in rows:
        assert (row["FRAISE"], row["ENVIRONMENT"]) == ("web", "production")
        assert (row["VERSION"], row["PREVIOUS_VERSION"]) == (second, first)
        assert row["DEPLOYMENT_ID"] == run.result["deployment_id"]
        assert row["HOOK"] == f"{row['PHASE']}-1"
        assert row["TARGET"] or (row["CWD"], row["RELEASE_PATH"], row["OWN"]) == (str(p.root), "", "")
    assert {row["PHASE"]: row["OUTCOME"] for row in rows if row["OUTCOME"]} == {
        "after_deploy": "succeeded",
        "always": "succeeded",
    }
    assert not list((p.root / "state" / "jobs").iterdir())


def test_output_is_in_the_events_and_no_secret_is(project: Make) -> None:
    """Of what a hook prints, and of what it says when it fails."""
    p = project(count=1)
    p.extra = hooks(
        before_switch=[
            {"name": "loud", "command": 'echo hello ${WORD_OF_HONOUR}; echo "$HIDDEN" >&2; exit 3'}
        ],
        on_failure=[{"name": "told", "command": "echo it was ${WORD_OF_HONOUR}"}],
    )
    p.env = "HIDDEN: '${WORD_OF_HONOUR}'"
    p.write()
    p.commit("v1")
    word = "correct-horse-battery"
    run = p.run("deploy", "web", "production", "--json", env={"WORD_OF_HONOUR": word})
    assert (run.code, run.result["reason"]) == (1, "hook_failed")
    said = [
        (x["step"], x["target"], x["data"]["stream"], x["data"]["line"])
        for x in run.lines
        if x["type"] == "step.output"
    ]
    assert ("hook:loud", "t1", "stdout", "hello ***") in said
    assert ("hook:loud", "t1", "stderr", "***") in said
    assert ("hook:told", None, "stdout", "it was ***") in said
    (failed,) = (x for x in run.lines if x["type"] == "hook.failed")
    assert (failed["data"]["exit_code"], failed["data"]["known"], failed["data"]["on_failure"]) == (
        3,
        True,
        "abort",
    )
    assert "hello ***" in failed["data"]["output_tail"]
    kept = b"".join(path.read_bytes() for path in (p.root / "state").rglob("*") if path.is_file())
    assert word not in run.out + run.err and word.encode() not in kept


def test_a_failing_hook_leaves_the_old_version_serving_everywhere(project: Make) -> None:
    """After the last target was updated everything goes back; hooks of steps do not run on the way back."""
    p = project(count=3)
    p.commit("v1")
    assert p.deploy("v1").code == 0
    p.commit("v2")
    command = log(p)
    p.extra = hooks(
        after_deploy=[{"name": "smoke", "command": "exit 1"}],
        before_switch=[command.replace("@", "before_switch")],
        **{
            point: [command.replace("@", point)]
            for point in ("on_failure", "on_rollback", "on_abort", "always")
        },
    )
    p.write()
    run = p.deploy("v2")
    assert (run.code, run.result["outcome"], run.result["reason"]) == (3, "rolled_back", "hook_failed")
    assert set(p.answers().values()) == {"v1"}
    rows = logged(p)
    assert len([row for row in rows if row["PHASE"] == "before_switch"]) == 3
    ends = [(row["PHASE"], row["OUTCOME"]) for row in rows if not row["TARGET"]]
    assert ends == [("on_failure", "failed"), ("on_rollback", "rolled_back"), ("always", "rolled_back")]
    assert p.run("audit", "verify").code == 0


def test_a_hook_that_takes_too_long_is_killed_with_all_that_it_started(project: Make) -> None:
    """Here and at a target; the deployment has failed then."""
    for point, place in (("before_deploy", "orchestrator"), ("before_switch", "target")):
        p = project(count=1)
        mark = f"mark-{point}"
        p.extra = hooks(
            **{
                point: [
                    {
                        "command": f"sh -c 'sleep 61; : {mark}' & sleep 62; : {mark}",
                        "timeout": "500ms",
                        "on": place,
                    }
                ]
            }
        )
        p.write()
        p.commit("v1")
        before = time.monotonic()
        run = p.deploy("v1")
        assert time.monotonic() - before < 15
        assert (run.code, run.result["reason"]) == (1, "hook_failed")
        (failed,) = (x for x in run.lines if x["type"] == "hook.failed")
        assert (failed["data"]["known"], failed["data"]["exit_code"]) == (False, None)
        assert "timeout (0.5 s)" in failed["data"]["message"]
        assert not with_mark(mark)


def test_no_hook_runs_when_nobody_wants_them(project: Make) -> None:
    """The journal tells that it was asked for."""
    p = project(count=1)
    p.extra = hooks(before_deploy=["exit 1"], after_switch=["exit 1"], always=["exit 1"])
    p.write()
    p.commit("v1")
    run = p.deploy("v1", "--skip-hooks")
    assert run.code == 0
    assert not [x for x in run.lines if x["type"].startswith("hook.")]
    assert (
        next(x for x in run.lines if x["type"] == "deployment.requested")["data"]["request"]["skip_hooks"]
        is True
    )


def with_mark(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(mark.encode() in word for word in words):
                found.append(int(entry.name))
    return found


def killed_in_hook(p: Project, started: Path) -> None:
    """Deploy, and kill the command line once the hook has begun."""
    process = subprocess.Popen(
        p.argv("deploy", "web", "production", "--json"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: started.exists() and bool(started.read_text()))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_hook_that_still_runs_after_a_kill_is_attached_to(project: Make) -> None:
    """Here and at a target: it ran once, and its output is complete."""
    for point in ("before_deploy", "after_switch"):
        p = project(count=1)
        ran, go = p.root / "ran", p.root / "go"
        p.extra = hooks(
            **{point: [f"echo first; echo x >>{ran}; until [ -e {go} ]; do sleep 0.05; done; echo last"]}
        )
        p.write()
        p.commit("v1")
        killed_in_hook(p, ran)
        go.touch()
        run = p.run("resume", "--json")
        assert (run.code, run.result["outcome"]) == (0, "succeeded")
        assert ran.read_text() == "x\n"
        said = [
            x["data"]["line"]
            for x in run.lines
            if x["type"] == "step.output" and x["step"].startswith("hook:")
        ]
        assert said == ["first", "last"]
        assert set(p.answers().values()) == {"v1"}


def test_a_hook_in_doubt_is_repeated_only_where_it_may_be(project: Make) -> None:
    """It was killed with us. `manual` needs a person, `rerun` runs again, and one that only warns is passed over."""
    for extra, code, outcome, times in (
        ({}, 4, "needs_attention", 1),
        ({"resume": "rerun"}, 0, "succeeded", 2),
        ({"on_failure": "warn"}, 0, "succeeded", 1),
    ):
        p = project(count=1)
        ran, mark = p.root / "ran", f"mark-{len(extra)}-{code}-{times}-doubt"
        command = f"echo x >>{ran}; : {mark}; [ $(wc -l <{ran}) -gt 1 ] || sleep 61"
        p.extra = hooks(before_switch=[{"name": "once", "command": command, **extra}])
        p.write()
        p.commit("v1")
        killed_in_hook(p, ran)
        for pid in with_mark(mark):
            with suppress(ProcessLookupError):  # the end of one may be the end of another
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda mark=mark: not with_mark(mark))
        run = p.run("resume", "--json")
        assert (run.code, run.result["outcome"]) == (code, outcome)
        assert ran.read_text() == "x\n" * times
        if code == 4:
            again = p.deploy("v1")
            assert (again.code, again.result["outcome"]) == (4, "needs_attention")
            assert p.deploy("v1", "--force").code == 0
