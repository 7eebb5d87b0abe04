"""Where the demonstration plays: a temporary directory, three ports, a configuration; and how all of it goes away."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio

from fraisier.demo.versions import make_repository
from fraisier.errors import FraisierError

FRAISE, ENVIRONMENT = "hello", "demo"
TARGETS = ("web-1", "web-2", "web-3")
PORTS = range(18_000, 29_000)
"""Below the range from which systems take the ports of outgoing connections: a client of the demonstration must not
come to sit on the port of a server that is just being restarted."""

CONFIGURATION = """\
# The configuration of `fraisier demo`. Three "machines" are three directories here, each with its own port.
store: {{url: {store}}}
fraises:
  hello:
    type: api
    description: A small HTTP service
    environments:
      demo:
        provider: local
        targets:
{targets}
        git_repo: {repository}
        branch: main
        app_path: {servers}
        env: {{PORT: "{{{{ target.vars.port }}}}"}}
        service: {{process: {command}}}
        health_check: {{type: http, url: "http://127.0.0.1:{{{{ target.vars.port }}}}/health", interval: 100ms, deadline: 2s}}
        rollout: {{strategy: rolling, batch: [1, 100%]}}
"""


@dataclass(frozen=True)
class Stage:
    """Everything that the demonstration made. `commits` has the commit id of each tag; `ports` is in the order of TARGETS."""

    directory: Path
    ports: dict[str, int]
    commits: dict[str, str]

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.directory / "fraises.yaml"

    @property
    def store_url(self) -> str:
        """The URL of the journal's store, which the configuration names too."""
        return f"sqlite:///{self.directory}/fraisier.db"

    def url(self, target: str, path: str = "/") -> str:
        """Return where a target answers."""
        return f"http://127.0.0.1:{self.ports[target]}{path}"


def make_directory() -> Path:
    """Make the directory that everything lives in, readable by nobody else."""
    return Path(os.path.realpath(tempfile.mkdtemp(prefix="fraisier-demo-")))


async def set_stage(directory: Path, environ: Mapping[str, str]) -> Stage:
    """Put repository and configuration into the directory. Raises FraisierError."""
    repository = directory / "repository"
    commits = await make_repository(repository, environ)
    ports = dict(zip(TARGETS, free_ports(ports_for(os.getpid()), len(TARGETS)), strict=True))
    stage = Stage(directory, ports, commits)
    text = CONFIGURATION.format(
        store=json.dumps(stage.store_url),
        repository=json.dumps(str(repository)),
        servers=json.dumps(f"{directory}/servers/{{{{ target.name }}}}"),
        command=json.dumps(f"{shlex.quote(sys.executable)} hello.py"),
        targets="\n".join(
            f"          - {{name: {name}, vars: {{port: {port}}}}}" for name, port in ports.items()
        ),
    )
    await anyio.Path(stage.config).write_text(text, encoding="utf-8")
    return stage


def ports_for(process: int) -> Iterator[int]:
    """Yield the ports that a demonstration may take, beginning at a place of its own: two at the same time would both find
    a port free that neither has bound yet."""
    first = process * 16 % len(PORTS)
    yield from PORTS[first:]
    yield from PORTS[:first]


def free_ports(among: Iterable[int], count: int) -> list[int]:
    """Return the first ports of 127.0.0.1 that nobody has bound. Raises FraisierError when there are not enough."""
    found: list[int] = []
    for port in among:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise FraisierError(f"there are no {count} free ports, only {len(found)}")


async def clear_stage(directory: Path) -> None:
    """End every process that lives in the directory, then remove it. Takes a few seconds at most; call it shielded."""
    for number, wait_s in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
        with anyio.move_on_after(wait_s):
            while pids := processes_in(directory):
                for pid in pids:
                    send(pid, number)
                await anyio.sleep(0.02)
    await anyio.to_thread.run_sync(lambda: shutil.rmtree(directory, ignore_errors=True))


def processes_in(directory: Path) -> list[int]:
    """Return the processes, apart from this one, whose working directory is in a directory (or was, and is deleted)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            cwd = str((entry / "cwd").readlink())
            state = (
                (entry / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
            )
        except OSError:  # it ended meanwhile, or belongs to somebody else
            continue
        inside = cwd == str(directory) or cwd.startswith(f"{directory}/")
        if inside and state != "Z" and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
