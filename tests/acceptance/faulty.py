"""Faults under the store of a real project, and what its targets show against what its journal says."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.acceptance.kit import SERVICE, Project, Run

STORE_BYTES = "6m"
_WAIT_S = 20.0
_EFFECTS = {"releases": "stage", "current": "switch", "pid": "restart"}


class Shown(NamedTuple):
    """What a target shows to somebody who knows nothing of the journal."""

    releases: frozenset[str]
    current: str
    pid: str
    answer: str


class Served(Project):
    """A project whose store may have a disk of its own, and whose versions may wait at a gate."""

    def __init__(self, root: Path, **options: Any) -> None:
        super().__init__(root, extra="        build: [sh build.sh]\n", **options)
        self.state = root / "state"
        self.db = self.state / "fraisier.db"
        self.number = 0

    def next_version(self, gate: str = "") -> str:
        """Commit one more version and return its name. It waits at its `gate`: in its build, or when its service starts."""
        self.number += 1
        version, service = f"v{self.number}", SERVICE.read_text()
        self.reached, self.go = self.root / f"reached{self.number}", self.root / f"go{self.number}"
        wait = f"touch {self.reached}\nuntil [ -e {self.go} ]; do sleep 0.02; done\n"
        (self.repo / "build.sh").write_text(wait if gate == "build" else "true\n")
        if gate == "service":
            first = f"import os, subprocess\nsubprocess.run(['sh', '-c', {wait!r}])\n"
            service = first + service
        (self.repo / "service.py").write_text(service)
        self.commit(version)
        return version

    def shown(self) -> dict[str, Shown]:
        """What every target shows now."""
        found = {}
        for number, port in enumerate(self.ports, 1):
            where, answer = self.root / "srv" / f"t{number}", self.ask(port).split()
            releases = frozenset(path.name for path in (where / "releases").iterdir())
            found[f"t{number}"] = Shown(releases, os.readlink(where / "current"), answer[-1], answer[0])
        return found

    def intents(self, after: int) -> set[tuple[str, str]]:
        """Targets and steps whose beginning the journal has behind the row `after`."""
        return {
            (line["target"], line["step"])
            for line in self.run("events", "--json").lines
            if line["type"] == "step.started" and line["seq"] > after
        }

    @property
    def head(self) -> int:
        rows: int = self.run("audit", "verify", "--json").document["rows"]
        return rows


def unjournalled(
    before: Mapping[str, Shown], after: Mapping[str, Shown], intents: set[tuple[str, str]]
) -> list[str]:
    """Every effect on a target whose step is not in the journal."""
    return [
        f"{what} of {name} changed: {getattr(before[name], what)} -> {getattr(after[name], what)}"
        for name in before
        for what, step in _EFFECTS.items()
        if getattr(before[name], what) != getattr(after[name], what) and (name, step) not in intents
    ]


# disks


def may_mount() -> bool:
    """Whether a disk can be made for a test."""
    if os.getuid() != 0 or not shutil.which("unshare"):
        return False
    argv = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(argv, capture_output=True).returncode == 0


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """A small file system of its own at `path`."""
    path.mkdir(mode=0o700, parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={STORE_BYTES},mode=0700", "tmpfs", str(path)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@contextmanager
def filled(web: Served) -> Iterator[None]:
    """Not one more byte goes onto the disk of the store."""
    filler = web.state / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(web: Served) -> Iterator[None]:
    """The disk of the store takes no writes."""
    subprocess.run(["mount", "-o", "remount,ro", str(web.state)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(web.state)], check=True)


# processes


class Running:
    """A command that is under way. Its output goes to files, so that no pipe holds anybody up."""

    def __init__(self, web: Served, *argv: str, env: Mapping[str, str] | None = None) -> None:
        self.out, self.err = web.root / "running.out", web.root / "running.err"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                argv, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}
            )

    def end(self) -> Run:
        """Wait for its end."""
        try:
            code = self.process.wait(_WAIT_S)
        finally:
            self.process.kill()
        return Run(code, self.out.read_text(), self.err.read_text())


def until(done: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + _WAIT_S
    while not done():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


class Tracer:
    """Makes system calls on the files of the store fail, in a process and its threads, but not in what it starts."""

    def __init__(self, web: Served, inject: str) -> None:
        self.log = web.root / "strace.out"
        files = [str(web.db) + suffix for suffix in ("", "-wal", "-shm", "-journal")]
        self.argv = ["strace", "-f", "-qq", "-b", "execve", "-o", str(self.log)]
        self.argv += [word for file in files for word in ("-P", file)]
        self.argv += ["-e", f"trace={inject.partition(':')[0]}", "-e", f"inject={inject}"]

    @property
    def fired(self) -> int:
        """How many calls it made fail."""
        return self.log.read_text().count("(INJECTED)")

    @contextmanager
    def attached(self, pid: int) -> Iterator[None]:
        """Trace a process that runs already; it has ended when the block ends."""
        with open(self.log.with_suffix(".err"), "w") as err:
            tracer = subprocess.Popen([*self.argv, "-p", str(pid)], stderr=err)
        try:
            until(lambda: _is_traced(pid), "strace to attach")
            yield
        finally:
            try:
                tracer.wait(_WAIT_S)
            finally:
                tracer.kill()


def _is_traced(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").glob("*/status")
    return all("TracerPid:\t0\n" not in status.read_text() for status in threads)
