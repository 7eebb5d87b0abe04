"""The project that the pages talk about, made real: repositories, ports, a store, and the states that things get into."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from fraisier.journal.state import OPEN_STATES
from tests.acceptance.kit import SERVICE, Project
from tests.docs.pages import Block, Section
from tests.docs.walk import ENDS_WITHIN_S, Typed, Walk
from tests.ports import free_ports

PORTS = ("8101", "8102", "8103", "8104", "8201", "8202")
TARGETS = ("web-1", "web-2", "web-3", "web-4")
OF_THE_FILE = {"defaults", "store", "lease", "audit", "logging"}


class _Loader(yaml.SafeLoader):
    """Reads `on` as a word, as Fraisier does for a key."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, found) for tag, found in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), list("tf"))


def load(text: str) -> dict[str, Any]:
    """Return what a block of YAML holds."""
    return dict(yaml.load(text, _Loader))


def configuration(base: dict[str, Any], block: Block) -> dict[str, Any]:
    """Return the file that a block of a page stands for: itself when it is whole, else `base` with the block's keys."""
    fragment = load(block.text)
    if "fraises" in fragment:
        return dict(fragment)
    environment = {**base["fraises"]["api"]["environments"]["production"]}
    environment |= {key: value for key, value in fragment.items() if key not in OF_THE_FILE}
    api = {**base["fraises"]["api"], "environments": {"production": environment}}
    top = {key: value for key, value in fragment.items() if key in OF_THE_FILE}
    return {**base, **top, "fraises": {**base["fraises"], "api": api}}


class Yards:
    """Lends yards. What one section has left in order, with all targets on one version, is where the next one begins:
    a third of the time would go into deploying v1 otherwise."""

    def __init__(self, make: Callable[[], Path], base: Block) -> None:
        self._make, self._base = make, base
        self._kept: Yard | None = None

    @contextmanager
    def lend(self, *, fresh: bool = False) -> Iterator[Yard]:
        """Give a yard where v1 may serve already; a `fresh` one has no past, and no future."""
        kept = None if fresh else self._kept
        if kept is not None:
            self._kept = None
            if not kept.again():
                kept.end()
                kept = None
        yard = kept or Yard(self._make(), self._base)
        try:
            yield yard
        except BaseException:
            yard.end()
            raise
        yard.end_background()
        if fresh:
            yard.end()
        else:
            self._kept = yard

    def end(self) -> None:
        """End the one that is kept."""
        if self._kept is not None:
            self._kept.end()


class Yard(Project):
    """The directory of the pages: `fraises.yaml`, a repository `api`, and what a test does behind the reader's back."""

    def __init__(self, root: Path, base: Block) -> None:
        self.root, self.places = root, ("deploy/servers", "deploy/standby")
        self.walk = Walk(root, dict(zip(PORTS, free_ports(len(PORTS)), strict=True)))
        self.ports = [self.walk.ports[port] for port in PORTS[:4]]
        self.base = load(base.text)
        self.typed: list[Typed] = []
        self.background: list[subprocess.Popen[bytes]] = []
        self.file = self.walk.directory / "fraises.yaml"
        self.names: dict[str, str] = {}
        self.served = False
        self.use(self.base)
        self.repository("api")
        self.commit("v1")

    def repository(self, name: str) -> None:
        """Make a repository and mean it from now on."""
        self.repo = self.walk.directory / name
        self.repo.mkdir()
        self.git("init", "-q", "-b", "main")
        shutil.copy(SERVICE, self.repo / "service.py")

    def commit(self, version: str, mode: str = "ok") -> str:
        """Commit what a page calls so, with a tag of that name. What it answers is different each time, see `names`."""
        self.names[version] = f"{version}.{time.monotonic_ns()}"
        made = super().commit(self.names[version], mode)
        self.git("tag", "-f", version)
        return made

    def again(self) -> bool:
        """Begin another section where one has ended, with what serves now as its v1. False when it did not end calmly."""
        rows = self.query("select distinct version from placements where version = good_version")
        placed = self.query("select count(*) from placements where health = 'healthy'")[0][0]
        answers = set(self.answers().values())
        if len(rows) != 1 or placed != len(TARGETS) or len(answers) != 1 or self.open():
            return False
        self.git("reset", "-q", "--hard", str(rows[0][0]))
        for tag in self.git("tag").split():
            self.git("tag", "-d", tag)
        self.git("tag", "v1")
        self.names = {"v1": (self.repo / "VERSION").read_text()}
        for path in self.walk.directory.iterdir():
            if path.is_file():
                path.unlink()
        for path in [*self.walk.place.glob("*.yaml"), self.walk.place / "typed"]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.use(self.base)
        self.served = answers == {self.names["v1"]}
        return self.served

    def use(self, document: dict[str, Any], **settings: Any) -> None:
        """Write a configuration, with other settings of the environment."""
        text = yaml.safe_dump(configuration(document, Block("yaml", yaml.safe_dump(settings or {"x-": 0}))))
        self.file.write_text(self.walk.here(text), encoding="utf-8")

    def fraisier(self, *words: str, code: int = 0) -> str:
        """Run a command that is not on the page."""
        done = subprocess.run(
            ["fraisier", *words],
            executable=str(self.walk.place / "bin" / "fraisier"),
            cwd=self.walk.directory,
            env=self.walk.environ,
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN_S,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def bring(self, version: str = "v1", code: int = 0) -> None:
        """Deploy a version everywhere at once, where it does not serve already."""
        if version == "v1" and self.served:
            return
        self.fraisier(
            *("-q", "deploy", "api", "production", "--version", version, "--strategy", "all_at_once", "-y"),
            code=code,
        )

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command of somebody else, at another terminal."""
        started = subprocess.Popen(
            [str(self.walk.place / "bin" / "fraisier"), *words],
            cwd=self.walk.directory,
            env=self.walk.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.background.append(started)
        return started

    def sleeps(self) -> list[int]:
        """The jobs at the targets that sleep, by their pids."""
        found = []
        for pid in self.processes():
            try:
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\0"):
                    found.append(pid)
            except OSError:
                continue
        return found

    def end_job(self) -> None:
        """Kill the job that sleeps, with all that belongs to it, as a machine does that is switched off."""
        for pid in self.sleeps():
            os.killpg(os.getpgid(pid), signal.SIGKILL)

    def until(self, what: Callable[[], bool]) -> None:
        """Wait for something to be so."""
        until_s = time.monotonic() + 60
        while not what():
            assert time.monotonic() < until_s, what
            time.sleep(0.02)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the store."""
        with closing(sqlite3.connect(f"file:{self.walk.store}?mode=ro", uri=True)) as store:
            return store.execute(sql).fetchall()

    def follow(self, section: Section) -> None:
        """Do what a section says, from its first block to its last."""
        steps: list[Any] = []
        wanted: list[tuple[int, str]] = []
        for number, block in enumerate(section.blocks):
            if block.language == "yaml":
                path = self.walk.place / f"{number}.yaml"
                text = yaml.safe_dump(configuration(self.base, block))
                path.write_text(self.walk.here(text), encoding="utf-8")
                steps.append(path)
            elif block.commands:
                steps += block.commands
            else:
                wanted += [(len(steps), line) for line in block.text.splitlines()]
        self.typed = self.walk.type_in_one_shell(steps)
        for one in self.typed:
            assert one.code == one.command.code, f"{one.command}: {one.code}\n{one.out}\n{one.err}"
        assert [one.command for one in self.typed] == section.commands, "a line was left out"
        expect_told(self.typed, steps, wanted)

    def open(self) -> list[str]:
        """The states of the deployments that have not ended."""
        states = [state for (state,) in self.query("select state from deployments")]
        return [state for state in states if state in OPEN_STATES]

    def answers(self) -> dict[str, str]:
        """What each target answers: the version, or the error's name."""
        return {f"web-{n}": self.ask(port).split()[0] for n, port in enumerate(self.ports, 1)}

    def end_background(self) -> None:
        """End what was begun at other terminals."""
        for process in self.background:
            process.kill()
            process.wait(30)
        self.background.clear()

    def end(self) -> None:
        """End what was begun here, and every service."""
        self.end_background()
        super().end()
        for pid in self.typed_processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def typed_processes(self) -> list[int]:
        """Every process that a line of the page, or something that it began, left behind."""
        mark = f"FRAISIER_STORE=sqlite:///{self.walk.store}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found


def expect_told(typed: list[Typed], steps: list[Any], wanted: list[tuple[int, str]]) -> None:
    """Find each line of the pages' `text` blocks in what the commands before it said. `…` is any text."""
    for upto, line in wanted:
        count = sum(not isinstance(step, Path) for step in steps[:upto])
        said = "\n".join(one.out + one.err for one in typed[:count])
        parts = [r"\s+".join(map(re.escape, part.split(" "))) for part in line.strip().split("…")]
        assert re.search(".*".join(parts), said), f"{line!r} was not said:\n{said}"
