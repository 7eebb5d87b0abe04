"""What happens when nobody takes the output: closed streams, a full disk, a reader that went; and what is never in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import PROCESS_S, Project

FULL = Path("/dev/full")


def run_with(project: Project, redirection: str, *arguments: str) -> tuple[int, str]:
    """Run a command under a shell that redirects its streams; return the exit code and all that was read."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *project.command(*arguments)],
        cwd=project.root,
        env=project.environ,
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_traceback(untouched: Project, redirection: str) -> None:
    code, said = run_with(untouched, redirection, "list")
    assert code == 0
    assert "Traceback" not in said
    assert run_with(untouched, redirection, "lst")[0] == 2


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_message_and_never_success(untouched: Project) -> None:
    code, said = run_with(untouched, ">/dev/full", "list", "--json")
    assert code == 1
    assert said.count("error:") == 1
    assert "the output cannot be written: No space left on device" in said


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("redirection", "code"), [(">/dev/full", 1), ("2>/dev/full", 0)])
def test_a_full_disk_below_the_output_does_not_end_a_deployment(
    project: Project, redirection: str, code: int
) -> None:
    options = ("--json",) if redirection.startswith(">") else ()
    assert run_with(project, redirection, "deploy", "shop", "staging", *options)[0] == code
    assert project.json("history")["deployments"][0]["outcome"] == "succeeded"


def test_a_signal_stops_in_order_even_when_nobody_reads_what_is_said(project: Project) -> None:
    gate = project.root / "gate-open"
    project.write_config(gate=str(gate))
    process = project.start("deploy", "shop", "staging")
    assert process.stderr is not None
    while "at the gate" not in (line := process.stderr.readline()):
        assert line
    process.stderr.close()
    process.stderr = None
    process.send_signal(signal.SIGINT)
    gate.touch()
    assert process.wait(PROCESS_S) == 130
    found = project.json("history")["deployments"][0]
    assert (found["outcome"], found["reason"]) == ("interrupted", "interrupted")


@pytest.mark.parametrize("options", [(), ("--json",), ("-vv",)])
def test_an_error_of_a_command_that_only_looks_has_no_secret_in_it(
    project: Project, options: tuple[str, ...]
) -> None:
    project.write_config(git_repo="./${REPOSITORY_TOKEN}/x.git")
    environ = project.environ | {"REPOSITORY_TOKEN": "hush-hush-token"}
    command = project.command("plan", "shop", "staging", *options)
    done = subprocess.run(
        command, cwd=project.root, env=environ, capture_output=True, text=True, timeout=PROCESS_S
    )
    assert done.returncode == 1
    assert "cannot fetch" in done.stdout + done.stderr
    assert "hush-hush-token" not in done.stdout + done.stderr
    assert os.fspath(project.root) in done.stdout + done.stderr


def test_logs_mask_the_secrets_that_a_service_prints(project: Project) -> None:
    (project.root / "key").write_text("quiet-quiet-key\n")
    environment = project.environment()
    environment["env"] |= {"TOKEN": "${SERVICE_TOKEN}", "KEY": "${file:key}", "GONE": "${NOT_SET:-}"}
    environment["service"]["process"] = f"sh -c 'echo $TOKEN and $KEY; exec {sys.executable} serve.py'"
    project.write_config({"shop": {"environments": {"staging": environment}}})
    project.run("deploy", "shop", "staging", SERVICE_TOKEN="hush-hush-token")
    assert (
        "t1 | *** and ***" in project.run("logs", "shop", "staging", SERVICE_TOKEN="hush-hush-token").stdout
    )
    assert "t1 | hush-hush-token and ***" in project.run("logs", "shop", "staging").stdout
