"""What the live screen shows, folded from events: plain data, without drawing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fraisier.cli.lines import format_line
from fraisier.events import Record
from fraisier.events import types as ev

_IMPORTANT = (
    ev.DeploymentQueued,
    ev.DeploymentPaused,
    ev.DeploymentSucceeded,
    ev.DeploymentFailed,
    ev.DeploymentRolledBack,
    ev.DeploymentNeedsAttention,
    ev.DeploymentInterrupted,
    ev.DeploymentAborted,
    ev.DeploymentResumed,
    ev.DeploymentPromoted,
    ev.DeploymentAcknowledged,
    ev.WaveStarted,
    ev.WaveSucceeded,
    ev.WaveFailed,
    ev.TargetFailed,
    ev.TargetUnreachable,
    ev.TargetInDoubt,
    ev.RecoveryDecided,
    ev.HookFailed,
    ev.RollbackStarted,
    ev.RollbackSucceeded,
    ev.RollbackFailed,
    ev.LeaseWaiting,
    ev.LeaseLost,
)


@dataclass
class Row:
    """One target. Times are those of the event loop's clock, in seconds."""

    fraise: str
    name: str
    wave: int = 0
    step: str = ""
    since_s: float = 0.0
    attempt: int = 1
    probes: str = ""
    line: str = ""
    outcome: str = ""

    @property
    def busy(self) -> bool:
        """Whether something happens to the target now."""
        return bool(self.step) and not self.outcome

    @property
    def rank(self) -> int:
        """Which rows matter most when not all fit: the busy ones, then trouble, then those that wait, then the done."""
        if self.busy:
            return 0
        if self.outcome not in ("", "updated", "unchanged"):
            return 1
        return 3 if self.outcome else 2


@dataclass
class Head:
    """One fraise of the deployment."""

    fraise: str
    environment: str
    version: str = ""
    previous_version: str = ""
    wave: int = 0
    waves: int = 0
    state: str = "looking"


@dataclass
class Board:
    """Everything on the screen."""

    started_s: float
    heads: dict[str, Head] = field(default_factory=dict)
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    footer: str = ""

    def apply(self, record: Record, now_s: float) -> None:
        """Take in one event."""
        event = record.event
        if isinstance(event, _IMPORTANT):
            self.footer = format_line(record) or self.footer
        head = self.heads.setdefault(event.fraise, Head(event.fraise, event.environment))
        change = _HEAD.get(event.__class__)
        if change is not None:
            change(self, head, event)
        if event.target:
            key = (event.fraise, event.target)
            row = self.rows.setdefault(key, Row(event.fraise, event.target))
            touch = _ROW.get(event.__class__)
            if touch is not None:
                touch(row, event, now_s)

    def counts(self) -> dict[str, int]:
        """Return how many targets there are in each condition."""
        found: dict[str, int] = {}
        for row in self.rows.values():
            word = row.outcome or ("busy" if row.step else "waiting")
            found[word] = found.get(word, 0) + 1
        return found

    def visible(self, room: int) -> tuple[list[Row], int]:
        """Return the rows to show in `room` lines, and how many are left out."""
        rows = list(self.rows.values())
        if len(rows) <= room:
            return rows, 0
        room = max(1, room - 1)
        return sorted(rows, key=lambda row: row.rank)[:room], len(rows) - room


# what events do to the head --------------------------------------------------------------------------------------------


def _planned(board: Board, head: Head, event: ev.DeploymentPlanned) -> None:
    plan: dict[str, Any] = msgspec.json.decode(event.plan)
    head.version, head.previous_version = event.version, event.previous_version
    head.waves, head.state = len(plan.get("waves", ())), "planned"
    # Targets were looked at in any order; from the plan on they stand in that of their waves.
    for target in sorted(plan.get("targets", ()), key=lambda target: target.get("wave", 0)):
        key = (event.fraise, target["name"])
        earlier = board.rows.get(key)
        if earlier is None or not earlier.wave:
            board.rows.pop(key, None)
            board.rows[key] = earlier or Row(*key)
        board.rows[key].wave = target.get("wave", 0)


def _state(word: str) -> Callable[[Board, Head, Any], None]:
    def change(board: Board, head: Head, event: Any) -> None:
        head.state = word

    return change


def _wave(board: Board, head: Head, event: ev.WaveStarted) -> None:
    head.wave = event.wave


_HEAD: dict[type[ev.Event], Callable[[Board, Head, Any], None]] = {
    ev.DeploymentPlanned: _planned,
    ev.DeploymentQueued: _state("waiting for the lock"),
    ev.DeploymentStarted: _state("running"),
    ev.RollbackStarted: _state("rolling back"),
    ev.DeploymentPaused: _state("paused"),
    ev.DeploymentSucceeded: _state("succeeded"),
    ev.DeploymentFailed: _state("failed"),
    ev.DeploymentRolledBack: _state("rolled back"),
    ev.DeploymentNeedsAttention: _state("needs attention"),
    ev.DeploymentInterrupted: _state("interrupted"),
    ev.DeploymentAborted: _state("aborted"),
    ev.DeploymentResumed: _state("running"),
    ev.DeploymentPromoted: _state("running"),
    ev.WaveStarted: _wave,
}


# what events do to a row -----------------------------------------------------------------------------------------------


def _started(row: Row, event: ev.TargetStarted, now_s: float) -> None:
    # A rollback begins at targets that had an outcome already.
    row.outcome, row.probes = "", ""


def _step_started(row: Row, event: ev.StepEvent, now_s: float) -> None:
    row.step, row.attempt, row.since_s = event.step, event.attempt, now_s


def _step_ended(row: Row, event: ev.StepEvent, now_s: float) -> None:
    row.step = ""


def _step_failed(row: Row, event: ev.StepFailed | ev.HookFailed, now_s: float) -> None:
    row.step, row.line = "", event.message


def _output(row: Row, event: ev.StepOutput, now_s: float) -> None:
    if event.line.strip():
        row.line = event.line


def _sampled(row: Row, event: ev.HealthSampled, now_s: float) -> None:
    row.probes = f"{event.status} {event.message}".strip()


def _verdict(word: str) -> Callable[[Row, Any, float], None]:
    def touch(row: Row, event: Any, now_s: float) -> None:
        row.probes = word

    return touch


def _ended(word: str) -> Callable[[Row, Any, float], None]:
    def touch(row: Row, event: Any, now_s: float) -> None:
        row.outcome, row.step = word, ""
        row.line = getattr(event, "detail", "") or row.line

    return touch


def _updated(row: Row, event: ev.TargetUpdated, now_s: float) -> None:
    row.outcome, row.step, row.line = "updated", "", ""


_ROW: dict[type[ev.Event], Callable[[Row, Any, float], None]] = {
    ev.TargetStarted: _started,
    ev.StepStarted: _step_started,
    ev.StepSucceeded: _step_ended,
    ev.StepFailed: _step_failed,
    ev.StepOutput: _output,
    ev.HookStarted: _step_started,
    ev.HookSucceeded: _step_ended,
    ev.HookFailed: _step_failed,
    ev.HealthSampled: _sampled,
    ev.HealthPassed: _verdict("healthy"),
    ev.HealthFailed: _verdict("unhealthy"),
    ev.TargetUpdated: _updated,
    ev.TargetUnchanged: _ended("unchanged"),
    ev.TargetFailed: _ended("failed"),
    ev.TargetUnreachable: _ended("unreachable"),
    ev.TargetRolledBack: _ended("rolled_back"),
    ev.TargetInDoubt: _ended("in_doubt"),
}
