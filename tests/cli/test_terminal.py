"""On a terminal: the plan and the question, the live screen, and the signals that a person types."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from fraisier.cli.board import Board
from fraisier.cli.live import render
from fraisier.events import Record
from fraisier.events import types as ev
from tests.cli.conftest import PROCESS_S, Project

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A process on a pseudo-terminal of 100 columns and 30 lines."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.seen = ""
        self._master = master

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until the text was on the screen."""
        deadline = time.monotonic() + PROCESS_S
        while text not in self.plain:
            assert time.monotonic() < deadline, f"{text!r} was not shown:\n{self.plain}"
            assert self._read(), f"ended without {text!r}:\n{self.plain}"

    def end(self) -> int:
        """Read until the process ends and return its exit code."""
        while self._read():
            pass
        return self.process.wait(PROCESS_S)

    def hang_up(self) -> None:
        """Close the terminal: what runs on it is sent SIGHUP and can write no more."""
        os.dup2(os.open(os.devnull, os.O_RDONLY), self._master)

    @property
    def plain(self) -> str:
        """What was shown, without escape codes."""
        return ESCAPES.sub("", self.seen)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], PROCESS_S)
        try:
            found = os.read(self._master, 65536) if ready else b""
        except OSError:  # Linux reports the end of a terminal's last user as EIO
            found = b""
        self.seen += found.decode(errors="replace")
        return bool(found)


@contextmanager
def terminal(project: Project, *arguments: str, **environ: str) -> Iterator[Terminal]:
    """Run a command on a terminal, as the leader of its session, so that Ctrl-C reaches it."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    settings = {key: value for key, value in project.environ.items() if key != "COLUMNS"} | {
        "TERM": "xterm-256color"
    }

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        project.command(*arguments),
        cwd=project.root,
        env=settings | environ,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        preexec_fn=own_terminal,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(PROCESS_S)
        os.close(master)


def test_the_plan_is_shown_and_anything_but_yes_changes_nothing(project: Project) -> None:
    for answer in ("n\r", "\r", "\x04"):
        with terminal(project, "deploy", "shop", "staging") as screen:
            screen.wait_for("change 2 targets? [y/N]")
            assert "2 of 2 targets change, 2 waves, rolling" in screen.plain
            screen.type(answer)
            assert screen.end() == 0
            assert "nothing was done" in screen.plain
    assert not (project.root / "srv").exists()


def test_ctrl_c_at_the_question_exits_with_130_and_changes_nothing(project: Project) -> None:
    with terminal(project, "deploy", "shop", "staging") as screen:
        screen.wait_for("[y/N]")
        screen.type("\x03")
        assert screen.end() == 130
    assert not (project.root / "srv").exists()


def test_a_terminal_that_is_closed_interrupts_in_order(project: Project) -> None:
    gate = project.root / "gate-open"
    project.write_config(gate=str(gate))
    with terminal(project, "deploy", "shop", "staging", "--yes") as screen:
        screen.wait_for("at the gate")
        screen.hang_up()
        gate.touch()
        assert screen.process.wait(PROCESS_S) == 130
    assert project.json("history")["deployments"][0]["outcome"] == "interrupted"


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(project: Project) -> None:
    with terminal(project, "deploy", "shop", "staging", "--yes", TERM="dumb") as screen:
        assert screen.end() == 0
    assert "shop/staging t1: stage done" in screen.plain
    assert "\x1b" not in screen.seen


def test_yes_deploys_with_a_live_screen_that_stays(project: Project) -> None:
    with terminal(project, "deploy", "shop", "staging") as screen:
        screen.wait_for("[y/N]")
        screen.type("y\r")
        screen.wait_for("SUCCEEDED shop in staging")
        assert screen.end() == 0
    assert "\x1b[" in screen.seen
    last = screen.plain.rpartition("TARGET")[2]
    assert "2 updated" in last
    assert "audit head" in last
    assert "\x1b[?25h" in screen.seen  # the cursor is back


def test_the_yes_option_does_not_ask(project: Project) -> None:
    with terminal(project, "deploy", "shop", "staging", "-y", NO_COLOR="1") as screen:
        assert screen.end() == 0
    assert "[y/N]" not in screen.plain
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", screen.seen)


def test_json_on_a_terminal_does_not_ask_either(project: Project) -> None:
    with terminal(project, "deploy", "shop", "staging", "--json") as screen:
        assert screen.end() == 0
    assert json.loads(screen.seen.splitlines()[-1])["outcome"] == "succeeded"


def test_ctrl_c_on_the_live_screen_stops_in_an_orderly_way(project: Project) -> None:
    gate = project.root / "gate-open"
    project.write_config(gate=str(gate))
    with terminal(project, "deploy", "shop", "staging", "-y") as screen:
        screen.wait_for("at the gate")
        screen.type("\x03")
        screen.wait_for("finishing the running step")
        gate.touch()
        assert screen.end() == 130
    assert "INTERRUPTED shop in staging" in screen.plain
    assert "next: fraisier resume " in screen.plain


def test_removing_asks_first(project: Project) -> None:
    project.run("deploy", "shop", "staging")
    with terminal(project, "remove", "shop", "staging") as screen:
        screen.wait_for("remove shop in staging on t1, t2? [y/N]")
        screen.type("n\r")
        assert screen.end() == 0
    assert (project.root / "srv" / "t1" / "current").exists()


def test_a_screen_that_is_too_small_shows_the_busy_targets_first() -> None:
    board = Board(0.0)
    about = {"fraise": "shop", "environment": "staging"}
    for at in range(60):
        event = (
            ev.TargetUpdated(**about, target=f"done-{at}")
            if at < 50
            else ev.StepStarted(**about, target=f"busy-{at}", step="verify")
        )
        board.apply(Record(at + 1, "", 0, event), 1.0)
    console = Console(width=100, height=20, record=True, file=io.StringIO())
    console.print(render(board, 5.0, 20))
    shown = console.export_text()
    assert all(f"busy-{at}" in shown for at in range(50, 60))
    assert "4.0s" in shown
    assert "10 busy, 50 updated" in shown
    assert re.search(r"… and \d+ more", shown)
    assert len(shown.splitlines()) <= 20
