"""`fraisier demo` as a person runs it: a process that tells a true story and leaves nothing behind."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraisier.demo.stage import PORTS, free_ports, ports_for, processes_in
from fraisier.errors import FraisierError
from tests.ports import free_port

DEMO = [sys.executable, "-m", "fraisier"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory for temporary files of its own; whatever still runs in it is ended after the test."""
    yield tmp_path
    for pid in processes_in(tmp_path):
        os.kill(pid, signal.SIGKILL)


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(place), "HOME": str(place), "NO_COLOR": "1"}


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, *arguments],
        env=environment(place),
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def assert_nothing_left(place: Path) -> None:
    assert [str(path) for path in place.iterdir()] == []
    assert processes_in(place) == []


def test_the_story_is_told_and_nothing_is_left(place: Path) -> None:
    """Version 2 serves on every target at the end, after version 3 failed, and every process and file is gone."""
    done = run(place, "demo")
    assert done.returncode == 0, done.stderr
    told = done.stdout
    assert re.search(r"v1 +[0-9a-f]{12} +succeeded +0 ", told)
    assert re.search(r"v2 +[0-9a-f]{12} +succeeded +0 ", told)
    assert re.search(r"v3 +[0-9a-f]{12} +rolled_back +3 ", told)
    _, _, after_v3 = told.partition("which is broken")
    assert re.findall(r"(web-\d) +GET \S+ +-> +(.*)", after_v3) == [
        (name, "A warm hello from v2") for name in ("web-1", "web-2", "web-3")
    ]
    assert "NOT HEALTHY" in after_v3
    assert "intact" in after_v3
    assert done.stderr == ""
    assert_nothing_left(place)


@pytest.mark.once
def test_json_is_one_document_with_the_facts(place: Path) -> None:
    """With --json the facts come as one document, and they agree with each other."""
    done = run(place, "--json", "demo")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["ok"] is True
    assert facts["faults"] == []
    assert [(one["tag"], one["outcome"], one["exit_code"]) for one in facts["deployments"]] == [
        ("v1", "succeeded", 0),
        ("v2", "succeeded", 0),
        ("v3", "rolled_back", 3),
    ]
    assert [one["version"] for one in facts["deployments"]] == list(facts["versions"].values())
    assert facts["deployments"][2]["targets"] == {
        "web-1": "rolled_back",
        "web-2": "untouched",
        "web-3": "untouched",
    }
    assert facts["traffic"]["dark"] == 0
    assert facts["traffic"]["most_away"] <= 1
    assert set(facts["traffic"]["greetings"]) == {"Hello from v1", "A warm hello from v2"}
    assert {one["answer"] for one in facts["targets"]} == {"A warm hello from v2"}
    assert facts["audit"]["ok"] is True
    assert facts["directory"] is None
    assert_nothing_left(place)


@pytest.mark.once
def test_what_is_kept_can_be_looked_at_and_removed_as_told(place: Path) -> None:
    """With --keep the services stay, every command that is printed works, and the last one removes everything."""
    done = run(place, "demo", "--keep")
    assert done.returncode == 0, done.stderr
    urls = re.findall(r"GET (http://\S+)", done.stdout)[-3:]
    for url in urls:
        assert urllib.request.urlopen(url, timeout=5).read() == b"A warm hello from v2\n"
    commands = [line.strip() for line in done.stdout.splitlines() if " --config " in line]
    assert [one.split(" --config ")[1].split()[1] for one in commands] == [
        "status",
        "history",
        "audit",
        "deploy",
        "stop",
    ]
    for command in commands:
        again = subprocess.run(
            ["sh", "-c", command],
            env=environment(place),
            cwd=place,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert again.returncode == (3 if " deploy " in command else 0), (
            f"{command}\n{again.stdout}\n{again.stderr}"
        )
    assert_nothing_left(place)


@pytest.mark.once
@pytest.mark.parametrize("chapter", ["Version 1,", "Version 3,"])
def test_ctrl_c_leaves_nothing(place: Path, chapter: str) -> None:
    """Ctrl-C in the middle of a deployment ends with 130, and no process and no file is left."""
    with subprocess.Popen(
        [*DEMO, "demo"],
        env=environment(place),
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if chapter in line:
                break
        for line in process.stdout:
            if "wave 1" in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert_nothing_left(place)


@pytest.mark.once
def test_a_reader_who_goes_away_ends_it_cleanly(place: Path) -> None:
    """`fraisier demo | head -1` ends soon, and nothing is left."""
    line = f"{shlex.join(DEMO)} demo | head -1"
    done = subprocess.run(
        ["sh", "-c", line], env=environment(place), cwd=place, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    assert_nothing_left(place)


@pytest.mark.once
def test_without_git_it_says_so(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A missing git is told with what to do about it, and nothing is left."""
    empty = tmp_path_factory.mktemp("no-programs")
    done = subprocess.run(
        [*DEMO, "demo"],
        env={**environment(place), "PATH": str(empty)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "needs git" in done.stderr
    assert "install git" in done.stderr
    assert_nothing_left(place)


def test_demonstrations_at_the_same_time_look_for_ports_in_different_places() -> None:
    """Processes that began one after the other do not find the same ports first, and each may come to all of them."""
    first = [tuple(itertools.islice(ports_for(process), 10)) for process in range(1000, 1600)]
    assert len(set(itertools.chain.from_iterable(first))) == 600 * 10
    assert sorted(ports_for(1)) == list(PORTS)


def test_ports_that_are_taken_are_passed_over() -> None:
    """With too few others it says so."""
    taken, free = free_port(), free_port()
    with socket.create_server(("127.0.0.1", taken)):
        assert free_ports([taken, free], 1) == [free]
        with pytest.raises(FraisierError, match="no 2 free ports, only 1"):
            free_ports([taken, free], 2)


def test_commands_are_printed_in_a_form_that_a_shell_reads() -> None:
    """The command that is shown starts this very fraisier."""
    from fraisier.demo.ending import fraisier_command

    words = shlex.split(fraisier_command())
    assert shutil.which(words[0]) is not None
    answer = subprocess.run([*words, "--version"], capture_output=True, text=True, timeout=30)
    assert answer.returncode == 0
