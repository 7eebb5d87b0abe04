"""A real project on this machine: a git repository, a configuration, real processes, and the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ports import free_ports

SERVICE = Path(__file__).with_name("service.py")
GIT = {
    "GIT_AUTHOR_NAME": "t",
    "GIT_AUTHOR_EMAIL": "t@example.com",
    "GIT_COMMITTER_NAME": "t",
    "GIT_COMMITTER_EMAIL": "t@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


@dataclass
class Run:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def result(self) -> dict[str, Any]:
        return self.lines[-1]

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass
class Project:
    """A fraise `web` in `production` with `count` local targets."""

    root: Path
    count: int = 3
    rollout: str = "{strategy: rolling, batch: [1, 100%]}"
    check: str = "interval: 50ms, timeout: 2s, rise: 1, fall: 2, deadline: 10s"
    extra: str = ""
    env: str = ""
    ports: list[int] = field(default_factory=list)
    places: tuple[str, ...] = ("srv",)

    def __post_init__(self) -> None:
        self.ports = free_ports(self.count)
        self.repo = self.root / "repo"
        self.repo.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        shutil.copy(SERVICE, self.repo / "service.py")
        self.write()

    @property
    def store(self) -> str:
        return f"sqlite:///{self.root}/state/fraisier.db"

    def write(self) -> None:
        """Write the configuration."""
        targets = ", ".join(f"{{name: t{n}, vars: {{port: {port}}}}}" for n, port in enumerate(self.ports, 1))
        (self.root / "fraises.yaml").write_text(f"""\
fraises:
  web:
    type: api
    environments:
      production:
        provider: local
        targets: [{targets}]
        git_repo: {self.repo}
        branch: main
        app_path: {self.root}/srv/{{{{ target.name }}}}
        env: {{PORT: "{{{{ target.vars.port }}}}", {self.env}}}
        service: {{process: "{sys.executable} -I -S service.py", stop_timeout: 2s}}
        health_check: {{type: http, url: "http://127.0.0.1:{{{{ target.vars.port }}}}/health", {self.check}}}
        rollout: {self.rollout}
        recovery: {{retry: {{max_attempts: 2, base_delay: 50ms}}}}
{self.extra}
""")

    def git(self, *argv: str) -> str:
        done = subprocess.run(
            ["git", *argv],
            cwd=self.repo,
            env={**os.environ, **GIT},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, version: str, mode: str = "ok") -> str:
        """Commit a version of the service and return its full id."""
        (self.repo / "VERSION").write_text(version)
        (self.repo / "MODE").write_text(mode)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", version)
        self.git("tag", "-f", version)
        return self.git("rev-parse", "HEAD")

    def argv(self, *words: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "fraisier",
            "-c",
            str(self.root / "fraises.yaml"),
            "--store",
            self.store,
            *words,
        ]

    def run(self, *words: str, timeout_s: float = 90, env: dict[str, str] | None = None) -> Run:
        """Run the command line to its end."""
        done = subprocess.run(
            self.argv(*words),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
        )
        return Run(done.returncode, done.stdout, done.stderr)

    def deploy(self, version: str, *options: str, timeout_s: float = 90) -> Run:
        return self.run(
            "deploy", "web", "production", "--version", version, "--json", *options, timeout_s=timeout_s
        )

    def answers(self) -> dict[str, str]:
        """What each target answers to a real request: the version, or the error's name."""
        return {f"t{n}": self.ask(port).split()[0] for n, port in enumerate(self.ports, 1)}

    def pids(self) -> dict[str, str]:
        """The process id that answers on each target."""
        return {f"t{n}": self.ask(port).split()[-1] for n, port in enumerate(self.ports, 1)}

    def ask(self, port: int) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError as error:
            return type(error).__name__

    def processes(self) -> list[int]:
        """Every process that lives in a release of this project, or was started from one."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    there = os.readlink(entry / "cwd") + (entry / "cmdline").read_bytes().decode(
                        errors="replace"
                    )
                except OSError:
                    continue
                if any(str(self.root / place) in there for place in self.places):
                    found.append(int(entry.name))
        return found

    def end(self) -> None:
        """Kill what is left."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def outcomes(result: dict[str, Any]) -> dict[str, str]:
    return {target["name"]: target["outcome"] for target in result["targets"]}


def steps_of(run: Run, target: str, deployment_id: str) -> list[str]:
    return [
        line["step"]
        for line in run.lines
        if line["type"] == "step.started"
        and line["target"] == target
        and line["deployment_id"] == deployment_id
    ]


def run_all(commands: Sequence[list[str]], timeout_s: float) -> list[Run]:
    """Run commands at the same time."""
    started = [
        subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
        )
        for argv in commands
    ]
    ended = []
    for process in started:
        out, err = process.communicate(timeout=timeout_s)
        ended.append(Run(process.returncode, out, err))
    return ended
