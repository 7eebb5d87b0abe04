"""What README.md and docs/EMBEDDING.md tell people to type works as it is written."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraisier.demo.stage import free_ports
from tests.project.test_project import ROOT, blocks

README = ROOT / "README.md"


class Walk:
    """Somebody who follows the tutorial in an empty directory, on ports that are free here."""

    def __init__(self, place: Path, ports: list[int]) -> None:
        self.place = place
        self._ports = {"8101": str(ports[0]), "8102": str(ports[1])}
        programs = place / "bin"
        programs.mkdir()
        (programs / "fraisier").write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -m fraisier "$@"\n', encoding="utf-8"
        )
        (programs / "fraisier").chmod(0o755)
        self.directory = place / "empty"
        self.directory.mkdir()
        self.environ = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(place),
            "FRAISIER_STORE": f"sqlite:///{place}/state/fraisier.db",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "A reader",
            "GIT_AUTHOR_EMAIL": "reader@localhost",
            "GIT_COMMITTER_NAME": "A reader",
            "GIT_COMMITTER_EMAIL": "reader@localhost",
        }

    def here(self, text: str) -> str:
        """Return a text with the ports of the page replaced by free ones."""
        return re.sub("810[12]", lambda found: self._ports[found.group()], text)

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """Type one line of the page."""
        return subprocess.run(
            ["sh", "-c", self.here(line)],
            cwd=self.directory,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=90,
            stdin=subprocess.DEVNULL,
        )

    def type_all(self, block: str, *, last_code: int = 0) -> str:
        """Type every line of a block but requests; return what was said. Deployments may end with `last_code`."""
        said = ""
        for line in block.strip().splitlines():
            if line.startswith("curl "):
                url = self.here(line.split()[1])
                said += urllib.request.urlopen(url, timeout=5).read().decode()
                continue
            done = self.type(line)
            wanted = last_code if " deploy " in line else 0
            assert done.returncode == wanted, f"{line}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            said += done.stdout
        return said


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    """A walk through the tutorial; the services are removed at its end, whatever happened."""
    walk = Walk(tmp_path, free_ports(2, random.Random()))
    yield walk
    walk.type("fraisier stop site staging --yes")


def write_configuration(walk: Walk) -> None:
    store = f'store: {{url: "{walk.environ["FRAISIER_STORE"]}"}}\n'
    text = store + walk.here(blocks(README, "yaml")[0])
    (walk.directory / "fraises.yaml").write_text(text, encoding="utf-8")


@pytest.mark.once
def test_the_tutorial_works_as_it_is_written(walk: Walk) -> None:
    """Make, deploy, look, break, see it come back, remove: each block does what the text around it says."""
    _demo, make, deploy, broken, remove, _tests = blocks(README, "sh")
    walk.type_all(make)
    write_configuration(walk)
    said = walk.type_all(deploy)
    assert "is valid" in said
    assert "Hello, version 1" in said
    assert len(re.findall(r"web-[12] +[0-9a-f]{12} +healthy", said)) == 2
    said = walk.type_all(broken, last_code=3)
    assert "Hello, version 1" in said
    assert "rolled_back" in said
    walk.type_all(remove)
    assert not list(walk.directory.glob("servers/*/releases/*"))


@pytest.mark.once
def test_the_embedding_example_deploys(walk: Walk) -> None:
    """docs/examples/embed.py tells each target's news in order and ends with the result."""
    walk.type_all(blocks(README, "sh")[1])
    write_configuration(walk)
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "examples" / "embed.py"), "fraises.yaml", "site", "staging"],
        cwd=walk.directory,
        env=walk.environ,
        capture_output=True,
        text=True,
        timeout=90,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "deployment.requested -"
    assert lines.index("target.updated web-1") < lines.index("target.updated web-2")
    assert re.fullmatch(r"succeeded [0-9a-f]{40} web-1=updated web-2=updated", lines[-1])
