"""Tells the demonstration's story on a terminal or into a file: chapters, remarks, live lines, a table."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

from fraisier.cli.lines import format_line
from fraisier.events import Record
from fraisier.events import types as ev

WIDTH = 100
BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "31", "32", "33"

TOLD: dict[type[ev.Event], str] = {
    ev.WaveStarted: BOLD,
    ev.TargetUpdated: GREEN,
    ev.HealthPassed: DIM,
    ev.HealthFailed: RED,
    ev.TargetFailed: RED,
    ev.RecoveryDecided: YELLOW,
    ev.RollbackStarted: YELLOW,
    ev.TargetRolledBack: GREEN,
    ev.RollbackSucceeded: GREEN,
    ev.RollbackFailed: RED,
    ev.DeploymentSucceeded: GREEN,
    ev.DeploymentFailed: RED,
    ev.DeploymentRolledBack: YELLOW,
    ev.DeploymentNeedsAttention: RED,
}
"""The events that carry the story, with the colour of their line. `fraisier events` shows all of them."""


class Teller:
    """Writes the story through `write`, a line at a time; with `color` in ANSI colours."""

    def __init__(self, write: Callable[[str], None], *, color: bool) -> None:
        self._write = write
        self._color = color
        self._chapter = 0
        self._undoing = "-"

    def chapter(self, title: str, *text: str) -> None:
        """Begin a chapter: its number and title, then what is going to happen and why."""
        self._chapter += 1
        self._write("")
        self._write(self._paint(f"{self._chapter}. {title}", BOLD))
        for paragraph in text:
            self.say(paragraph)

    def say(self, text: str, style: str = "") -> None:
        """Say a sentence or a few, wrapped."""
        for line in textwrap.wrap(text, WIDTH - 3, break_long_words=False, break_on_hyphens=False):
            self._write("   " + self._paint(line, style))

    def show(self, line: str, style: str = "") -> None:
        """Show a line as it is: a command, an answer, a path."""
        self._write("     " + self._paint(line, style))

    def event(self, record: Record) -> None:
        """Show an event, if it belongs to the story."""
        event = record.event
        style = TOLD.get(event.__class__)
        line = format_line(record) if style is not None and not self._aside(event) else None
        if line is None:
            return
        place = f"{event.fraise}/{event.environment}"
        line = line.replace(f" {place}: ", " ", 1).replace(f" {place} ", " ", 1)
        if not isinstance(event, ev.HealthFailed):
            line = line.partition("; ")[
                0
            ]  # what follows repeats the verdict on health, which is told in full
        for number, part in enumerate(textwrap.wrap(line, WIDTH - 7, break_on_hyphens=False)):
            self.show(f"| {'' if number == 0 else '    '}{part}", style or "")

    def _aside(self, event: ev.Event) -> bool:
        """Say whether an event only repeats what the story tells already."""
        if isinstance(event, ev.HealthVerdict):
            return event.purpose != "verify"  # a look before the change is no news
        if isinstance(event, ev.RecoveryDecided):
            return event.action == "fail"  # the decision for the whole deployment follows
        if isinstance(event, ev.RollbackStarted):
            self._undoing = event.child_id
        return event.deployment_id == self._undoing and isinstance(
            event, ev.WaveStarted | ev.DeploymentSucceeded
        )

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show rows under heads, in columns as wide as their widest cell."""
        widths = [max(len(row[place]) for row in [heads, *rows]) for place in range(len(heads))]
        for number, row in enumerate([heads, *rows]):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.show("  ".join(cells).rstrip(), "" if number else BOLD)

    def _paint(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._color and style and text else text
