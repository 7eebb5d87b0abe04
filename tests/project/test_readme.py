"""What README.md and docs/EMBEDDING.md tell people to type works as it is written."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.walk import Walk
from tests.ports import free_ports
from tests.project.test_project import ROOT, blocks

README = ROOT / "README.md"


def type_all(walk: Walk, block: str, *, last_code: int = 0) -> str:
    """Type every line of a block but requests; return what was said. Deployments may end with `last_code`."""
    said = ""
    for line in block.strip().splitlines():
        if line.startswith("curl "):
            url = walk.here(line.split()[1])
            said += urllib.request.urlopen(url, timeout=5).read().decode()
            continue
        done = walk.type(line)
        wanted = last_code if " deploy " in line else 0
        assert done.returncode == wanted, f"{line}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        said += done.stdout
    return said


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    """A walk through the tutorial; the services are removed at its end, whatever happened."""
    walk = Walk(tmp_path, dict(zip(("8101", "8102"), free_ports(2), strict=True)))
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
    type_all(walk, make)
    write_configuration(walk)
    said = type_all(walk, deploy)
    assert "is valid" in said
    assert "Hello, version 1" in said
    assert len(re.findall(r"web-[12] +[0-9a-f]{12} +healthy", said)) == 2
    said = type_all(walk, broken, last_code=3)
    assert "Hello, version 1" in said
    assert "rolled_back" in said
    type_all(walk, remove)
    assert not list(walk.directory.glob("servers/*/releases/*"))


@pytest.mark.once
def test_the_embedding_example_deploys(walk: Walk) -> None:
    """docs/examples/embed.py tells each target's news in order and ends with the result."""
    type_all(walk, blocks(README, "sh")[1])
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
