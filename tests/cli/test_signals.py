"""Signals in the middle of a deployment, another deployment beside it, and following the journal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import FRAISIER, PROCESS_S, Project


def read_until(process: subprocess.Popen[str], type: str, **wanted: Any) -> dict[str, Any]:
    """Read JSON lines until one of that type with those fields comes."""
    assert process.stdout is not None
    for line in process.stdout:
        event: dict[str, Any] = json.loads(line)
        if event["type"] == type and all(event.get(key) == value for key, value in wanted.items()):
            return event
    raise AssertionError(f"{type} did not come")


def at_the_gate(project: Project) -> tuple[subprocess.Popen[str], Path]:
    """Start a deployment whose build waits for a file, and return once it waits."""
    gate = project.root / "gate-open"
    project.write_config(gate=str(gate))
    process = project.start("deploy", "shop", "staging", "--json")
    read_until(process, "step.output", step="stage", target="t1")
    return process, gate


def finish(process: subprocess.Popen[str]) -> tuple[list[dict[str, Any]], str]:
    """Return what was still to be read."""
    stdout, stderr = process.communicate(timeout=PROCESS_S)
    assert "Traceback" not in stderr
    return [json.loads(line) for line in stdout.splitlines()], stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_finishes_the_running_step_and_records_the_interruption(
    project: Project, number: signal.Signals
) -> None:
    process, gate = at_the_gate(project)
    process.send_signal(number)
    assert process.stderr is not None
    assert "finishing the running step" in process.stderr.readline()
    gate.touch()
    lines, _ = finish(process)
    assert process.returncode == 130
    assert lines[-1]["outcome"] == "interrupted"
    staged = [
        line["target"] for line in lines if line["type"] == "step.succeeded" and line["step"] == "stage"
    ]
    assert "t1" in staged
    assert not [line for line in lines if line["type"] == "step.started" and line["step"] == "switch"]
    if number is signal.SIGINT:
        again = project.run("deploy", "shop", "staging")
        assert "SUCCEEDED" in again.stderr
        assert [row["outcome"] for row in project.json("history")["deployments"]] == [
            "succeeded",
            "superseded",
        ]


def test_what_a_service_manager_sends_in_one_moment_is_one_wish(project: Project) -> None:
    """SIGTERM, and SIGHUP for shells that hear nothing else: the running step is still finished."""
    process, gate = at_the_gate(project)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGHUP)
    assert process.stderr is not None
    assert "finishing the running step" in process.stderr.readline()
    gate.touch()
    lines, stderr = finish(process)
    assert (process.returncode, lines[-1]["outcome"]) == (130, "interrupted")
    assert "stopping now" not in stderr
    assert [line["target"] for line in lines if line["type"] == "step.succeeded" and line["step"] == "stage"]


def test_the_second_ctrl_c_stops_at_once_and_leaves_no_process(project: Project) -> None:
    process, _ = at_the_gate(project)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    lines, stderr = finish(process)
    assert process.returncode == 130
    assert "stopping now" in stderr
    assert lines[-1]["type"] == "result"
    assert lines[-1]["outcome"] == "interrupted"
    left = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and b"gate.py" in _argv(entry)]
    assert [entry for entry in left if str(project.root) in _cwd(entry)] == []


def _argv(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def _cwd(entry: Path) -> str:
    try:
        return str((entry / "cwd").readlink())
    except OSError:
        return ""


def test_without_json_an_interruption_says_how_to_go_on(project: Project) -> None:
    gate = project.root / "gate-open"
    project.write_config(gate=str(gate))
    process = project.start("deploy", "shop", "staging")
    assert process.stderr is not None
    for line in process.stderr:
        if "at the gate" in line:
            break
    process.send_signal(signal.SIGINT)
    gate.touch()
    _, stderr = process.communicate(timeout=PROCESS_S)
    assert process.returncode == 130
    assert "INTERRUPTED shop in staging" in stderr
    assert "next: fraisier resume " in stderr


def test_a_second_deployment_is_locked_out_and_followers_see_the_first(project: Project) -> None:
    process, gate = at_the_gate(project)
    try:
        locked = project.lines("deploy", "shop", "staging", code=5)[-1]
        assert locked["outcome"] == "locked"
        told = project.run("deploy", "shop", "staging", code=5).stderr
        assert "--lock-wait" in told
        refused = project.json("stop", "shop", "staging", code=5)
        assert refused["error"]["code"] == "DEPLOYMENT_LOCKED"
        running = (
            project.json("history", "--status", "running")["deployments"]
            or project.json("history")["deployments"]
        )
        first = running[-1]["deployment_id"]
        follower = project.start("events", first, "--follow", "--json")
        read_until(follower, "step.started", step="stage")
    finally:
        gate.touch()
    finish(process)
    assert process.returncode == 0
    rest, stderr = finish(follower)
    assert "deployment.succeeded" in [line["type"] for line in rest]
    assert (follower.returncode, stderr) == (0, "")


def test_following_everything_ends_with_ctrl_c(project: Project) -> None:
    project.run("db", "upgrade")
    follower = project.start("events", "--follow", "--json")
    project.run("deploy", "shop", "staging")
    read_until(follower, "deployment.succeeded")
    follower.send_signal(signal.SIGINT)
    finish(follower)
    assert follower.returncode == 130


def test_lock_wait_waits_for_the_other_deployment(project: Project) -> None:
    process, gate = at_the_gate(project)
    waiting = project.start("deploy", "shop", "staging", "--lock-wait", "30s", "--json")
    read_until(waiting, "lease.waiting")
    gate.touch()
    finish(process)
    lines, _ = finish(waiting)
    assert lines[-1]["outcome"] == "unchanged"
    assert waiting.returncode == 0


def test_a_reader_that_stops_reading_does_not_hold_up_the_deployment_and_loses_nothing(
    project: Project,
) -> None:
    project.run("db", "upgrade")
    follower = project.start("events", "--follow", "--json")
    process = project.start("deploy", "shop", "staging", "--json")
    assert process.stdout is not None
    fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    ended = read_until(follower, "deployment.succeeded")
    follower.send_signal(signal.SIGINT)
    finish(follower)
    lines, _ = finish(process)
    assert lines[-1]["outcome"] == "succeeded"
    durable = [line["seq"] for line in lines if line.get("seq") and line["seq"] <= ended["seq"]]
    recorded = [
        line["seq"] for line in project.lines("events", ended["deployment_id"]) if line["seq"] <= ended["seq"]
    ]
    assert durable == recorded


SIGNALS = """\
import asyncio, atexit, os, signal, sys, weakref
from fraisier.__main__ import main

wanted, numbers = sys.argv[1], [int(number) for number in sys.argv[2].split(",")]

def send(*_, numbers=numbers, write=os.write, raise_signal=signal.raise_signal):
    write(2, b"sent\\n")
    for number in numbers:
        raise_signal(number)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            reference = weakref.ref(Finder(), send)

class Last:
    def __del__(self, send=send):
        send()

class Runner(asyncio.Runner):
    def __exit__(self, *raised):
        send()
        super().__exit__(*raised)

if sys.argv[3] == "ignoring":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
if wanted == "exit":
    atexit.register(send)
if wanted == "cleared":
    last = Last()
if wanted == "loop":
    asyncio.Runner = Runner
sys.meta_path.insert(0, Finder())
sys.argv[1:4] = []
main()
"""


def signalled(
    project: Project, module: str, numbers: str, *words: str, ignoring: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command that gets signals where a module is looked for, when its loop has ended, or when it exits."""
    argv = project.command(*words)[len(FRAISIER) :]
    begin = [sys.executable, "-c", SIGNALS, module, numbers, "ignoring" if ignoring else "-"]
    return subprocess.run(
        [*begin, *argv], env=project.environ, capture_output=True, text=True, timeout=PROCESS_S
    )


@pytest.mark.parametrize("numbers", ["2", "15", "1", "15,1"])
@pytest.mark.parametrize(
    "module",
    [
        "fraisier.cli.main",
        "fraisier.cli.run.rollout",
        "fraisier.config.loader",
        "fraisier.cli.declare.rollout",
        "anyio._backends._asyncio",
    ],
)
def test_a_signal_where_an_exception_would_be_dropped_is_heeded(
    project: Project, module: str, numbers: str
) -> None:
    """The callback of a weak reference, as imports have them: what a handler raises there goes nowhere."""
    ended = signalled(project, module, numbers, "deploy", "shop", "staging", "--json")
    assert ended.returncode == 130, ended.stderr
    assert ended.stderr in ("sent\n", "sent\ninterrupted\n")
    assert project.json("history")["deployments"] == []


def test_sigterm_is_heeded_in_the_background_of_a_script_too(project: Project) -> None:
    """A shell without job control lets what it starts with `&` ignore SIGINT."""
    words = ("deploy", "shop", "staging", "--json")
    for module in ("fraisier.cli.run.rollout", "fraisier.rollout.deployer", "anyio._backends._asyncio"):
        ended = signalled(project, module, "2,15", *words, ignoring=True)
        assert (ended.returncode, ended.stderr) == (130, "sent\ninterrupted\n")
    ended = signalled(project, "fraisier.cli.run.rollout", "2", *words, ignoring=True)
    assert (ended.returncode, ended.stderr) == (0, "sent\n")


@pytest.mark.parametrize("numbers", ["2", "15", "1", "15,1,2"])
@pytest.mark.parametrize("moment", ["exit", "cleared"])
def test_a_signal_at_the_exit_changes_neither_the_code_nor_the_output(
    deployed: Project, moment: str, numbers: str
) -> None:
    """All is done and told by then."""
    ended = signalled(deployed, moment, numbers, "history", "--json")
    assert (ended.returncode, ended.stderr) == (0, "sent\n")
    assert json.loads(ended.stdout) == deployed.json("history")


def test_what_came_of_a_deployment_is_told_to_who_asks_it_to_end_then(project: Project) -> None:
    """It has ended, and the code says how."""
    ended = signalled(project, "loop", "15,1", "deploy", "shop", "staging", "--json")
    assert (ended.returncode, ended.stderr) == (0, "sent\n")
    assert json.loads(ended.stdout.splitlines()[-1])["outcome"] == "succeeded"


def test_an_error_is_told_to_who_asks_it_to_end_then(deployed: Project) -> None:
    """Somebody who asks for the end of what has failed wants to know why it did."""
    ended = signalled(deployed, "loop", "15", "deploy", "nosuch", "staging", "--json")
    assert (ended.returncode, ended.stderr) == (2, "sent\n")
    assert "nosuch" in json.loads(ended.stdout)["error"]["message"]


def test_what_only_looks_may_end_unseen(deployed: Project) -> None:
    """Another loop, or a question, might follow, and nothing is lost but an answer."""
    ended = signalled(deployed, "loop", "15", "history", "--json")
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "sent\ninterrupted\n")


@pytest.mark.parametrize("command", [("list",), ("metrics", "--port", "0"), ("events", "-f")])
def test_a_signal_while_what_a_command_needs_is_loaded_ends_it(
    deployed: Project, command: tuple[str, ...]
) -> None:
    """Commands that go on until somebody ends them would do so for ever."""
    modules = {
        "list": "fraisier.config.loader",
        "metrics": "prometheus_client.metrics_core",
        "events": "aiosqlite",
    }
    ended = signalled(deployed, modules[command[0]], "15", *command)
    assert (ended.returncode, ended.stderr) == (130, "sent\ninterrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", [("audit", "export"), ("events", "--json"), ("events", "-f")])
def test_a_command_whose_output_nobody_reads_is_ended(
    deployed: Project, words: tuple[str, ...], number: signal.Signals
) -> None:
    """A pager that was stopped, say: the pipe is full, and the command waits for it."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    command = subprocess.Popen(
        deployed.command(*words), stdout=writer, stderr=subprocess.PIPE, env=deployed.environ
    )
    os.close(writer)
    until_s = time.monotonic() + PROCESS_S
    while not unread(reader):
        assert time.monotonic() < until_s
        time.sleep(0.02)
    command.send_signal(number)
    _, told = command.communicate(timeout=PROCESS_S)
    os.close(reader)
    assert (command.returncode, told) == (130, b"interrupted\n")


def unread(reader: int) -> int:
    """How many bytes wait in a pipe."""
    waiting = bytearray(4)
    fcntl.ioctl(reader, termios.FIONREAD, waiting)
    return int.from_bytes(waiting, sys.byteorder)


def insist(command: subprocess.Popen[Any]) -> int:
    """Send SIGTERM, and again after more than a second, until the process ends; return how often that was."""
    sent = 0
    while command.poll() is None:
        assert sent < 20
        command.terminate()
        sent += 1
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.wait(1.5)
    return sent


STUCK = """\
import sys, threading, time, types
import anyio
from fraisier.__main__ import main
from fraisier.cli.run import reading

async def late(on_commit):
    with anyio.CancelScope(shield=True):
        print("stuck", flush=True)
        await anyio.sleep(60)

if sys.argv.pop(1) == "thread":
    threading.Thread(target=time.sleep, args=(60,)).start()
else:
    reading.open_journal = lambda *_, **__: types.SimpleNamespace(open=late)
main()
"""


@pytest.mark.parametrize("where", ["thread", "loop"])
def test_who_insists_ends_a_program_that_is_stuck(deployed: Project, where: str) -> None:
    """In a thread that ends too late, or in clearing away that takes too long."""
    words = deployed.command("history", "--json")[len(FRAISIER) :]
    command = subprocess.Popen(
        [sys.executable, "-c", STUCK, where, *words],
        env=deployed.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    assert command.stdout.readline()
    assert insist(command) >= 2
    _, told = command.communicate()
    assert command.returncode == 130
    assert told in ("", "interrupted\n")


LAST_ACT = """\
import signal, sys
from fraisier.cli.ending import heed
from fraisier.cli.listening import run_async

async def last():
    signal.raise_signal(int(sys.argv[1]))

heed()
try:
    run_async(last)
except KeyboardInterrupt:
    print("heard")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_last_moment_of_a_loop_is_heeded(number: signal.Signals) -> None:
    """The question whether to deploy may follow."""
    argv = [sys.executable, "-c", LAST_ACT, str(int(number))]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=PROCESS_S)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "heard\n", "")


def full_pipe() -> tuple[int, int]:
    """A pipe that nobody reads, and its end for writing."""
    reader, writer = os.pipe()
    os.write(writer, bytes(fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)))
    return reader, writer


def full_terminal() -> tuple[int, int]:
    """A terminal that shows nothing, as at the other end of a dead connection, but has room for a few characters."""
    screen, writer = pty.openpty()
    room = fill(writer, sys.maxsize)
    os.close(screen)
    os.close(writer)
    screen, writer = pty.openpty()
    fill(writer, room - 64)
    return screen, writer


def fill(writer: int, room: int) -> int:
    """Write until nothing more fits, not even after a while, or for so many characters; return how many that were."""
    os.set_blocking(writer, False)
    filled = idle = 0
    while filled < room and idle < 10:
        try:
            filled += os.write(writer, b"x" * min(64, room - filled))
            idle = 0
        except BlockingIOError:
            time.sleep(0.02)  # the kernel passes on what was written
            idle += 1
    os.set_blocking(writer, True)
    return filled


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("words", [("--json",), ()], ids=["json", "lines"])
@pytest.mark.parametrize("full", [full_pipe, full_terminal])
def test_a_deployment_whose_output_nobody_reads_comes_to_its_end(
    project: Project, full: Callable[[], tuple[int, int]], words: tuple[str, ...]
) -> None:
    """What it came to is in the journal, and who insists gets the process to end."""
    reader, writer = full()
    command = subprocess.Popen(
        project.command("deploy", "shop", "staging", *words),
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
        env=project.environ | {"TERM": "dumb"},
    )
    os.close(writer)
    until_s = time.monotonic() + PROCESS_S
    while [row["outcome"] for row in project.json("history")["deployments"]] != ["succeeded"]:
        assert time.monotonic() < until_s
        time.sleep(0.1)
    insist(command)
    os.close(reader)
    assert command.returncode == 130
    assert project.json("lock", "status")["leases"] == []
