"""Deployments that are killed with `kill -9`, what `resume` makes of them, and what must hold afterwards."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.kit import Project, Run

MARK = "PROJECT_OF_TEST"
ENDS = frozenset(
    f"deployment.{word}"
    for word in (
        "succeeded",
        "failed",
        "rolled_back",
        "aborted",
        "superseded",
        "needs_attention",
        "interrupted",
    )
)
BUILD = '        build: ["sleep 1 && echo done > BUILT"]'
SPEEDY = "interval: 30ms, timeout: 2s, rise: 1, fall: 2, deadline: 1500ms"
ROLLOUT = "{strategy: rolling, batch: [1, 100%], max_unavailable: 50%, min_healthy_time: 250ms}"
PROCESS_S = 60.0


@dataclass
class Release:
    """A version to deploy: how it behaves, whether it must be rolled back, and whether it takes a second to build."""

    mode: str
    good: bool = False
    built: bool = False


RELEASES = (
    Release("ok", good=True),
    Release("sick"),
    Release("ok", good=True, built=True),
    Release("sick:t5"),
    Release("exit"),
    Release("dies"),
)


class Watched:
    """A command whose JSON lines are read while it runs."""

    def __init__(self, project: Project, *words: str) -> None:
        self.process = subprocess.Popen(
            project.argv(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ(project),
        )
        self.lines: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._ended = False
        self._err = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def durable(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("seq")]

    def wait_for_events(self, count: int) -> None:
        """Return when so many durable events were told, or the command has ended."""
        self._wait(lambda: len(self.durable) >= count)

    def wait_for(self, type: str, **wanted: str) -> dict[str, Any]:
        """Return the first event of a type."""

        def found() -> list[dict[str, Any]]:
            return [
                line
                for line in self.lines
                if line["type"] == type and all(line.get(key) == value for key, value in wanted.items())
            ]

        self._wait(lambda: bool(found()))
        assert found(), (type, wanted, self.lines[-3:])
        return found()[0]

    def _wait(self, done: Any) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self._ended or done(), timeout=PROCESS_S), "nothing is told"

    @property
    def deployment_id(self) -> str:
        found: str = self.wait_for("deployment.requested")["deployment_id"]
        return found

    def kill(self) -> bool:
        """Kill it with SIGKILL; return whether it was alive."""
        alive = self.process.poll() is None
        self.process.kill()
        self.end()
        return alive

    def end(self) -> Run:
        """Wait for its end and return it."""
        code = self.process.wait(PROCESS_S)
        self._reader.join(PROCESS_S)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        if not self.process.stderr.closed:
            self._err = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        return Run(code, "".join(json.dumps(line) + "\n" for line in self.lines), self._err)


def environ(project: Project) -> dict[str, str]:
    """The environment that marks a command, and whatever it starts, as this project's."""
    return {**os.environ, MARK: str(project.root)}


def own_processes(project: Project) -> dict[int, str]:
    """Every process that we started or that was started for us, but the services, as pid and command line."""
    found = {}
    wanted = f"{MARK}={project.root}\0"
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            marked = wanted.encode() in (entry / "environ").read_bytes() + b"\0"
            argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            below = os.readlink(entry / "cwd").startswith(str(project.root))
        except OSError:
            continue
        if (marked or below) and argv and "service.py" not in argv:
            found[int(entry.name)] = argv
    return found


def services(project: Project) -> list[int]:
    """The processes of the service, on whatever target."""
    found = []
    for pid in project.processes():
        try:
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"service.py" in argv:
            found.append(pid)
    return found


def none_left(project: Project, within_s: float = 3.0) -> None:
    """Assert that no process of ours is left but the services; what is just ending has a moment to do so."""
    until = time.monotonic() + within_s
    while (left := own_processes(project)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not left, left


@dataclass
class Figures:
    """What many kills came to."""

    kills: int = 0
    mid: int = 0
    again: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    resume_s: list[float] = field(default_factory=list)
    took_s: float = 0.0

    def text(self) -> str:
        """Return them as lines."""
        times = sorted(self.resume_s) or [0.0]
        return (
            f"kills {self.kills}, in mid-deployment {self.mid} ({100 * self.mid // max(1, self.kills)} %), "
            f"of the resume as well {self.again}, {self.took_s:.0f} s\n"
            f"outcomes after resume: {dict(self.outcomes.most_common())}\n"
            f"last fact before the kill: {dict(self.phases.most_common())}\n"
            f"resume: median {times[len(times) // 2]:.2f} s, longest {times[-1]:.2f} s"
        )


class Killing:
    """Rounds of: a deployment that is killed, `resume`, what must hold, and a deployment that must succeed."""

    def __init__(self, project: Project, seed: int) -> None:
        self.project = project
        self.rng = random.Random(seed)
        self.figures = Figures()
        self.version = ""
        self._count = 0
        self._events: dict[str, int] = {}
        self._began = time.monotonic()

    def begin(self) -> None:
        """Deploy a first good version, twice: the second time tells how many facts a deployment has."""
        self.succeed()
        told = self.succeed()
        usual = len([line for line in told.lines if line.get("seq")])
        for release in RELEASES:
            # Only one target fails, or the first one does: there are fewer facts than in a good one, or some more.
            self._events[release.mode] = usual if release.good or ":" in release.mode else usual // 2

    def name(self, word: str) -> str:
        self._count += 1
        return f"{word}{self._count}"

    def succeed(self) -> Run:
        """Deploy a good version; nothing may be in its way."""
        version = self.name("good")
        self.project.extra = ""
        self.project.write()
        self.project.commit(version)
        done = self.project.run(
            "deploy", "web", "production", "--version", version, "--json", env=environ(self.project)
        )
        assert (done.code, done.result["outcome"]) == (0, "succeeded"), (done.out[-2000:], done.err)
        self.version = version
        assert set(self.project.answers().values()) == {version}
        return done

    def start(self, release: Release) -> tuple[Watched, str]:
        """Begin to deploy a release; return the command and the version."""
        version = self.name(release.mode.replace(":", "-"))
        self.project.extra = BUILD if release.built else ""
        self.project.write()
        self.project.commit(version, release.mode)
        return Watched(self.project, "deploy", "web", "production", "--version", version, "--json"), version

    def moment(self, release: Release, command: Watched) -> None:
        """Return at a random moment of the deployment: after so many facts, and some time more."""
        most = self._events[release.mode]
        command.wait_for_events(self.rng.randint(1, most - 2))
        until = time.monotonic() + self.rng.uniform(0, 1.0 if release.built else 0.15)
        while time.monotonic() < until and command.process.poll() is None:
            time.sleep(0.002)

    def round(self, release: Release) -> None:
        """Kill one deployment, resume it, and look at everything."""
        before = self.version
        command, version = self.start(release)
        self.moment(release, command)
        command.kill()
        last = command.durable[-1]
        ended = bool({line["type"] for line in command.durable if not _linked(line, command)} & ENDS)
        self.figures.kills += 1
        self.figures.mid += not ended
        self.figures.phases[" ".join(filter(None, (last["type"], last["step"])))] += 1
        if not ended:
            # It may have ended in the journal in the moment before the kill, untold.
            resumed = self.resume()
            about = f"{release} after {last['type']} {last['target']} {last['step']} (fact {len(command.durable)})"
            self.check(release, resumed, version, before, about)
        self.look(release, version, before)
        self.succeed()

    def resume(self) -> Run:
        """Resume to the end; every third resume is killed as well, and resumed in its turn."""
        if self.rng.random() < 1 / 3:
            first = Watched(self.project, "resume", "--json")
            first.wait_for_events(self.rng.randint(1, 20))
            if first.kill():
                self.figures.again += 1
        began = time.monotonic()
        done = self.project.run("resume", "--json", env=environ(self.project))
        self.figures.resume_s.append(time.monotonic() - began)
        return done

    def check(self, release: Release, resumed: Run, version: str, before: str, about: str) -> None:
        """Assert that a resume ended in a named outcome, with the exit code that it promises."""
        told = f"{about}\n{resumed.out[-3000:]}\n{resumed.err}"
        assert "Traceback" not in resumed.err, told
        if resumed.result["type"] == "nothing":
            self.figures.outcomes["(had just ended)"] += 1
            return
        expected = ({"succeeded"}, 0) if release.good else ({"rolled_back"}, 3)
        assert resumed.result["outcome"] in expected[0], told
        assert resumed.code == expected[1], told
        self.figures.outcomes[resumed.result["outcome"]] += 1

    def look(self, release: Release, version: str, before: str) -> None:
        """Assert that every target answers what it must, that nothing runs twice and nothing is left."""
        expected = version if release.good else before
        answers = self.project.answers()
        assert set(answers.values()) == {expected}, (release, version, before, answers)
        none_left(self.project)
        assert len(services(self.project)) == self.project.count
        verified = self.project.run("audit", "verify", "--json")
        assert verified.document["ok"] is True, verified.out

    def run(self, rounds: int) -> Figures:
        """Do many rounds, the releases in turn."""
        self.begin()
        for at in range(rounds):
            self.round(RELEASES[at % len(RELEASES)])
        self.figures.took_s = time.monotonic() - self._began
        return self.figures


def _linked(line: dict[str, Any], command: Watched) -> bool:
    """Whether an event belongs to the rollback that undoes the deployment."""
    return bool(line["deployment_id"] != command.durable[0]["deployment_id"])


def stop(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
