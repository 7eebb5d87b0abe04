"""A small real project for the command line: a service in a git repository, three local targets, and `run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_ports

FRAISIER = [sys.executable, "-m", "fraisier"]
PROCESS_S = 40

SERVICE = """\
import http.server, os, pathlib, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ok = not pathlib.Path("broken").exists()
        self.send_response(200 if ok else 500)
        self.end_headers()
        self.wfile.write(pathlib.Path("VERSION").read_bytes())
    def log_message(self, *args):
        print("served", self.path, flush=True)

print("listening", flush=True)
http.server.ThreadingHTTPServer.allow_reuse_address = True
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""

GATE = """\
import os, pathlib, time
gate = os.environ.get("GATE", "")
print("at the gate", flush=True)
while gate and not pathlib.Path(gate).exists():
    time.sleep(0.02)
"""


class Project:
    """A repository, a configuration over it, a store, and the command line as a process."""

    def __init__(self, root: Path, *, targets: int = 2) -> None:
        self.root = root
        self.repo = root / "repo"
        self.config = root / "fraises.yaml"
        self.store = f"sqlite:///{root}/state/fraisier.db"
        self.ports = free_ports(targets)
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "LANG": "C.UTF-8",
            "PYTHONWARNINGS": "error",
            "COLUMNS": "200",
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        self._started: list[subprocess.Popen[str]] = []
        self._make_repository()
        self.write_config()

    # the service

    def git(self, *arguments: str) -> str:
        """Run git in the repository."""
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=self.repo,
            env=self.environ,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def _make_repository(self) -> None:
        self.repo.mkdir()
        self.git("init", "-q", "-b", "main")
        (self.repo / "serve.py").write_text(SERVICE)
        (self.repo / "gate.py").write_text(GATE)
        self.commit("one")

    def commit(self, version: str, *, broken: bool = False) -> str:
        """Commit a version of the service and return its id; a broken one answers 500."""
        (self.repo / "VERSION").write_text(version)
        marker = self.repo / "broken"
        marker.write_text("yes") if broken else marker.unlink(missing_ok=True)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", version)
        return self.git("rev-parse", "HEAD")

    def environment(self, *, gate: str = "", **more: Any) -> dict[str, Any]:
        """Return the settings of one environment."""
        found: dict[str, Any] = {
            "provider": "local",
            "targets": [{"name": f"t{at}", "vars": {"port": port}} for at, port in enumerate(self.ports, 1)],
            "git_repo": str(self.repo),
            "branch": "main",
            "app_path": f"{self.root}/srv/{{{{ target.name }}}}",
            "env": {"PORT": "{{ target.vars.port }}", "PYTHONDONTWRITEBYTECODE": "1", "GATE": gate},
            "service": {"process": f"{sys.executable} serve.py", "stop_timeout": "2s"},
            "health_check": {
                "type": "http",
                "url": "http://127.0.0.1:{{ target.vars.port }}/health",
                "interval": "50ms",
                "timeout": "2s",
                "rise": 1,
                "deadline": "3s",
            },
            "rollout": {"max_unavailable": 1},
            "recovery": {"retry": {"base_delay": "10ms"}},
        }
        if gate:
            found["build"] = [f"{sys.executable} gate.py"]
        return found | more

    def write_config(self, fraises: dict[str, Any] | None = None, **settings: Any) -> None:
        """Write fraises.yaml (JSON is YAML): the fraise `shop` in `staging`, or what is given."""
        if fraises is None:
            environment = self.environment(**settings)
            fraises = {
                "shop": {"type": "api", "description": "A shop", "environments": {"staging": environment}}
            }
        self.config.write_text(json.dumps({"fraises": fraises}, indent=1))

    # the command line

    def command(self, *arguments: str) -> list[str]:
        """Return the argv of a command over this project."""
        return [*FRAISIER, "-c", str(self.config), "--store", self.store, *arguments]

    def run(self, *arguments: str, code: int | None = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command without a terminal; its exit code must be `code` unless that is None."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROCESS_S,
        )
        told = f"{arguments} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert code is None or done.returncode == code, told
        assert "Traceback" not in done.stderr, told
        return done

    def json(self, *arguments: str, code: int | None = 0) -> Any:
        """Run a command with --json and return its one document."""
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def lines(self, *arguments: str, code: int | None = 0) -> list[dict[str, Any]]:
        """Run a command with --json and return its lines."""
        return [json.loads(line) for line in self.run(*arguments, "--json", code=code).stdout.splitlines()]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command whose output is read while it runs; it ends with the project at the latest."""
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            env=self.environ,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """End the commands that still run, and every service left behind: whose working directory is below our root."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            with process:  # closes the pipes and waits
                pass
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                below = str((entry / "cwd").readlink()).startswith(f"{self.root}/")
            except OSError:
                continue
            if below:
                os.kill(int(entry.name), signal.SIGKILL)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project of its own for one test."""
    made = Project(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project for tests that change nothing of it."""
    made = Project(tmp_path_factory.mktemp("untouched"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project that is deployed once, for the tests of a module that only look at it."""
    made = Project(tmp_path_factory.mktemp("deployed"))
    try:
        made.run("deploy", "shop", "staging")
        yield made
    finally:
        made.close()


@pytest.fixture
def make_project(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Make a project with another number of targets."""
    made: list[Project] = []

    def make(**options: Any) -> Project:
        made.append(Project(tmp_path, **options))
        return made[-1]

    yield make
    for project in made:
        project.close()
