"""Signals and closed terminals, in every phase of a deployment: it stops in order, says so, and can be resumed."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.killing import PROCESS_S, Watched, environ, none_left, own_processes
from tests.acceptance.kit import Project, Run, outcomes

Make = Callable[..., Project]
pytestmark = [pytest.mark.once, pytest.mark.timeout(120)]

CHECK = "interval: 30ms, timeout: 2s, rise: 1, fall: 2, deadline: 5s"
PHASES = {
    "before the lease": ("deployment.requested", {}),
    "preflight": ("step.started", {"step": "preflight", "target": "t2"}),
    "build": ("step.output", {"step": "stage", "target": "t1"}),
    "migrate": ("step.output", {"step": "migrate"}),
    "restart": ("step.started", {"step": "restart", "target": "t1"}),
    "verify": ("step.started", {"step": "verify", "target": "t1"}),
    "bake": ("step.started", {"step": "bake", "target": "t1"}),
    "pause between waves": ("wave.succeeded", {}),
}
EXTRA = """\
        build: ["echo building; sleep 0.4"]
        migrate: {command: "echo migrating; sleep 0.4", on: first}
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """One project for all phases: each test leaves it on the version that it deployed."""
    rollout = "{strategy: rolling, batch: [1, 100%], pause: 400ms, min_healthy_time: 400ms}"
    made = Project(
        tmp_path_factory.mktemp("signals"),
        count=2,
        rollout=rollout,
        check=CHECK,
        env="LIFE_S: 0.4",
        extra=EXTRA,
    )
    made.commit("v0")
    assert made.deploy("v0").code == 0
    yield made
    made.end()


def begin(project: Project, version: str, mode: str = "slow", *options: str) -> Watched:
    project.commit(version, mode)
    return Watched(project, "deploy", "web", "production", "--version", version, "--json", *options)


def locks(project: Project) -> list[object]:
    found: list[object] = project.run("lock", "status", "--json").document["leases"]
    return found


def resume(project: Project, *words: str) -> Run:
    return project.run("resume", *words, "--json", env=environ(project))


def served(project: Project) -> set[str]:
    return set(project.answers().values())


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_sigterm_stops_in_order_and_resume_goes_on(shared: Project, phase: str) -> None:
    """It is recorded as interrupted, exits with 130, leaves no lock and no process, and `resume` ends it."""
    version = phase.replace(" ", "-")
    type, wanted = PHASES[phase]
    command = begin(shared, version)
    command.wait_for(type, **wanted)
    command.process.send_signal(signal.SIGTERM)
    ended = command.end()
    assert (ended.code, ended.result["outcome"]) == (130, "interrupted"), (ended.out[-2000:], ended.err)
    assert "Traceback" not in ended.err
    assert locks(shared) == []
    none_left(shared)
    resumed = resume(shared)
    assert (resumed.code, resumed.result["outcome"]) == (0, "succeeded"), resumed.out[-2000:]
    assert served(shared) == {version}
    none_left(shared)


@pytest.mark.slow
def test_sigterm_while_waiting_for_the_lease_ends_the_waiting(shared: Project) -> None:
    """The deployment that holds it is not disturbed; the one that waited has begun nothing, and can be aborted."""
    first = begin(shared, "first")
    first.wait_for("wave.started")
    second = begin(shared, "second", "slow", "--lock-wait", "60s")
    second.wait_for("lease.waiting")
    second.process.send_signal(signal.SIGTERM)
    waited = second.end()
    assert (waited.code, waited.result["outcome"]) == (130, "interrupted")
    done = first.end()
    assert done.result["outcome"] == "succeeded"
    ended = shared.run("abort", "--json")
    assert (ended.code, ended.document["state"]) == (0, "aborted"), ended.out
    assert served(shared) == {"first"}


@pytest.mark.slow
def test_sigterm_in_a_rollback_lets_it_go_on_to_its_end(shared: Project) -> None:
    """Half-way back would help nobody."""
    before = served(shared)
    command = begin(shared, "bad", "exit")
    command.wait_for("rollback.started")
    command.process.send_signal(signal.SIGTERM)
    ended = command.end()
    assert (ended.code, ended.result["outcome"]) == (3, "rolled_back")
    assert served(shared) == before


@pytest.mark.slow
def test_ctrl_c_twice_kills_what_was_started_and_marks_the_target(shared: Project) -> None:
    """The processes of the build are gone when the command is; `resume` finds out what is there."""
    before = served(shared)
    shared.extra = EXTRA.replace("sleep 0.4", "sleep 30", 1)
    shared.write()
    command = begin(shared, "twice")
    command.wait_for("step.output", step="stage", target="t1")
    until_s = time.monotonic() + PROCESS_S
    while not any(argv.startswith("sleep 30") for argv in own_processes(shared).values()):
        assert time.monotonic() < until_s, own_processes(shared)
        time.sleep(0.02)
    command.process.send_signal(signal.SIGINT)
    time.sleep(0.2)  # two signals in one moment may arrive as one
    asked = time.monotonic()
    command.process.send_signal(signal.SIGINT)
    ended = command.end()
    assert time.monotonic() - asked < 10
    assert (ended.code, ended.result["outcome"]) == (130, "interrupted"), ended.err
    assert "in_doubt" in outcomes(ended.result).values()
    assert [line["target"] for line in ended.lines if line["type"] == "target.in_doubt"]
    none_left(shared, within_s=1.0)
    assert served(shared) == before
    done = shared.run("abort", "--json", env=environ(shared))
    assert (done.code, done.document["effect"]) == (0, "done"), done.out
    shared.extra = EXTRA
    shared.write()
    assert served(shared) == before


class Screen:
    """A command on a terminal of its own, whose Ctrl-C reaches the whole group in the foreground."""

    def __init__(self, project: Project, *words: str) -> None:
        self.pid, self._master = pty.fork()
        if self.pid == 0:  # pragma: no cover - the child
            argv = project.argv(*words)
            os.execve(argv[0], argv, {**environ(project), "TERM": "xterm-256color"})
        self._open = True
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def close(self) -> None:
        """Close the terminal, as a window does."""
        os.close(self._master)
        self._open = False

    def end(self) -> int:
        """Return the exit code."""
        until = time.monotonic() + PROCESS_S
        while time.monotonic() < until:
            try:
                if self._open and (data := os.read(self._master, 65536)):
                    self.seen += data.decode(errors="replace")
                    continue
            except OSError:
                pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                if self._open:
                    self.close()
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError("it did not end")


def appears(path: Path) -> None:
    until = time.monotonic() + PROCESS_S
    while not path.exists():
        assert time.monotonic() < until, f"{path} does not appear"
        time.sleep(0.02)


def heeds_all(command: Watched) -> None:
    """Wait until the interpreter has begun and its program says what SIGHUP does, the last of them."""
    until = time.monotonic() + PROCESS_S
    status = Path(f"/proc/{command.process.pid}/status")
    while not int(status.read_text().partition("SigCgt:")[2].split()[0], 16) >> (signal.SIGHUP - 1) & 1:
        assert time.monotonic() < until, "SIGHUP is not heeded"
        time.sleep(0.005)


@pytest.fixture
def gated(project: Make, tmp_path: Path) -> Project:
    """A project whose build tells when it began, and takes half a second."""
    made = project(count=2, check=CHECK)
    made.commit("v1")
    assert made.deploy("v1").code == 0
    made.extra = f'        build: ["touch {made.root}/building; sleep 0.5; echo whole > WHOLE"]'
    made.write()
    made.commit("v2")
    return made


def test_ctrl_c_at_the_keyboard_finishes_the_step_and_names_the_resume_command(gated: Project) -> None:
    """The build is not in the foreground's process group: it ends well, and is not repeated."""
    screen = Screen(gated, "deploy", "web", "production", "-y")
    appears(gated.root / "building")
    screen.type("\x03")
    assert screen.end() == 130
    assert "fraisier resume" in screen.seen
    assert "Traceback" not in screen.seen
    assert list(gated.root.glob("srv/t1/releases/*/WHOLE"))
    none_left(gated)
    assert resume(gated).result["outcome"] == "succeeded"
    assert served(gated) == {"v2"}


@pytest.mark.parametrize("options", [[], ["--json"], ["-v"]], ids=["screen", "json", "log"])
def test_a_closed_terminal_interrupts_in_order_whatever_was_written_to_it(
    gated: Project, options: list[str]
) -> None:
    """Nobody can be told any more; the journal is, and `resume` goes on."""
    screen = Screen(gated, "deploy", "web", "production", "-y", *options)
    appears(gated.root / "building")
    screen.close()
    assert screen.end() == 130
    assert gated.run("history", "--json").document["deployments"][0]["outcome"] == "interrupted"
    assert locks(gated) == []
    none_left(gated)
    assert resume(gated).result["outcome"] == "succeeded"
    assert served(gated) == {"v2"}


def test_under_nohup_a_hang_up_changes_nothing(gated: Project) -> None:
    """Who ignores the signal for us meant it."""
    command = subprocess.Popen(
        ["nohup", *gated.argv("deploy", "web", "production", "--json")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    appears(gated.root / "building")
    command.send_signal(signal.SIGHUP)
    command.communicate(timeout=PROCESS_S)
    assert command.returncode == 0
    assert served(gated) == {"v2"}


def test_a_deadline_ends_a_build_and_all_its_processes(gated: Project) -> None:
    """`timeout: 2s` on a build that sleeps for a minute: failed within 3 s, and nothing runs on."""
    gated.extra = '        timeout: 2s\n        build: ["sleep 60 & sleep 60"]'
    gated.write()
    ended = gated.deploy("v2")
    assert (ended.code, ended.result["outcome"]) == (1, "failed"), ended.out[-1500:]
    assert ended.result["duration_s"] < 3
    none_left(gated, within_s=0.5)
    assert served(gated) == {"v1"}


def test_a_signal_while_the_program_starts_ends_it_without_a_trace(gated: Project) -> None:
    """130, no traceback, and nothing to resume but what was recorded."""
    gate = gated.root / "gate"
    gated.extra = f'        build: ["until [ -e {gate} ]; do sleep 0.05; done"]'
    gated.write()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for wait_s in (0, 0.12, 0.25, 0.4):
            gate.unlink(missing_ok=True)
            command = Watched(gated, "deploy", "web", "production", "--json")
            heeds_all(command)
            time.sleep(wait_s)
            command.process.send_signal(number)
            gate.touch()
            ended = command.end()
            assert ended.code == 130, (number, wait_s, ended.err)
            assert "Traceback" not in ended.err
    assert served(gated) == {"v1"}
    assert locks(gated) == []
    for left in gated.run("history", "--status", "interrupted", "--json").document["deployments"]:
        assert gated.run("abort", left["deployment_id"]).code == 0
    assert gated.deploy("v2").result["outcome"] == "succeeded"


@pytest.mark.slow
def test_sigterm_while_a_person_has_paused_it_interrupts_the_pause(project: Make) -> None:
    """The pause is over with the process; `resume` goes on."""
    made = project(count=2, rollout="{strategy: rolling}")
    gate = made.root / "gate"
    made.extra = f'        hooks: {{before_switch: [{{name: gate, command: "until [ -e {gate} ]; do sleep 0.05; done"}}]}}\n'
    made.write()
    command = begin(made, "paused-by-hand", "ok")
    command.wait_for("hook.started")
    assert made.run("pause", "--json").document["effect"] == "done"
    gate.touch()
    command.wait_for("deployment.paused")
    command.process.send_signal(signal.SIGTERM)
    ended = command.end()
    assert (ended.code, ended.result["outcome"]) == (130, "interrupted")
    assert resume(made).result["outcome"] == "succeeded"
    assert served(made) == {"paused-by-hand"}
