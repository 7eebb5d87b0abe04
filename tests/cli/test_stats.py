"""`stats`: the same figures from every store, over time, as panels, text and JSON, without a walk over the log."""

from __future__ import annotations

import re
import runpy
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest

from fraisier import figures
from fraisier.cli.render import Painter, sparkline
from fraisier.cli.run.stats import most, plain
from fraisier.events import Event, Record
from fraisier.events import types as ev
from fraisier.journal.queries import _COUNTED
from fraisier.journal.sqlite import SqliteJournal
from fraisier.journal.tally import COUNTED_TYPES
from fraisier.testing import MemoryJournal, SeededIds
from tests.cli.conftest import Project
from tests.cli.test_terminal import terminal

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "images" / "stats.py"))
DAY_US = 86_400_000_000
NOW_US = 1_782_820_800_000_000
A = {"deployment_id": "a", "fraise": "shop", "environment": "production"}
B = {**A, "deployment_id": "b"}
BACK = {**A, "deployment_id": "b-back"}
HAND = {**A, "deployment_id": "c"}
MAIL = {"deployment_id": "m", "fraise": "mail", "environment": "production"}
EARLY = {**A, "deployment_id": "e"}

STORY: tuple[tuple[float, Event], ...] = (
    (40, ev.DeploymentRequested(**EARLY)),
    (40, ev.DeploymentStarted(**EARLY)),
    (40, ev.StepFailed(**EARLY, error_type="HookError")),
    (9.5, ev.DeploymentRequested(**A)),
    (9.5, ev.DeploymentStarted(**A)),
    (9.5, ev.StepFailed(**A, error_type="ProviderConnectionError")),
    (
        9.5,
        ev.HealthPassed(**A, check_type="http", counts={"pass": 3, "error": 1}, buckets={"0.1": 3, "5": 1}),
    ),
    (9.5, ev.HookFailed(**A, code="HOOK_FAILED", on_failure="warn")),
    (9.5, ev.DeploymentSucceeded(**A, duration_s=10)),
    (2.5, ev.DeploymentRequested(**B)),
    (2.5, ev.DeploymentStarted(**B)),
    (2.5, ev.HealthFailed(**B, check_type="http", counts={"fail": 2}, buckets={"0.5": 2})),
    (2.5, ev.StepFailed(**B, error_type="HealthCheckError")),
    (2.5, ev.DeploymentRequested(**BACK, kind="rollback", rollback_of="b")),
    (2.5, ev.RollbackStarted(**B, child_id="b-back")),
    (2.5, ev.DeploymentSucceeded(**BACK, duration_s=4)),
    (2.5, ev.RollbackSucceeded(**B, child_id="b-back", reason="health_check_failed")),
    (2.5, ev.DeploymentRolledBack(**B, duration_s=30)),
    (1.5, ev.DeploymentRequested(**HAND, kind="rollback")),
    (1.5, ev.DeploymentSucceeded(**HAND, duration_s=4)),
    (1.5, ev.LeaseRefused(**{**A, "deployment_id": "a-restart"})),
    (0.5, ev.ProviderUnavailable(**MAIL, error_type="ProviderUnavailableError")),
    (0.5, ev.DeploymentRequested(**MAIL)),
    (0.5, ev.DeploymentStarted(**MAIL)),
    (0.5, ev.LeaseRefused(**HAND)),
)


class Calendar:
    """A clock that stands where it is put."""

    at_us = NOW_US

    def now_us(self) -> int:
        return self.at_us


async def told(kind: str, path: Path, **options: Any) -> dict[str, Any]:
    """Write the story into a store, and return its figures."""
    clock = Calendar()
    ids = SeededIds(1, clock)
    journal: Any = MemoryJournal(clock=clock, ids=ids)
    if kind == "sqlite":
        journal = SqliteJournal(path / "fraisier.db", clock=clock, ids=ids)
    await journal.open(ignore)
    try:
        for days_ago, event in STORY:
            clock.at_us = NOW_US - int(days_ago * DAY_US)
            await journal.append(event)
        return await figures.stats(journal, **{"days": 30, "now_us": NOW_US, **options})
    finally:
        await journal.close()


def ignore(records: list[Record]) -> None:
    """Tell nobody."""


async def test_both_stores_tell_the_same(tmp_path: Path) -> None:
    """Down to the last figure."""
    assert await told("sqlite", tmp_path) == await told("memory", tmp_path)


async def test_the_figures_of_a_story(tmp_path: Path) -> None:
    """Counts, percentiles, errors, probes and rollbacks of the window; what came before it counts as active only.

    A lock that was refused to somebody who restarts a service is no deployment's error."""
    found = await told("sqlite", tmp_path)
    assert found["deployments"] == 3
    assert found["outcomes"] == {"rolled_back": 1, "running": 1, "succeeded": 1}
    assert found["success_rate"] == 0.3333
    assert found["duration_s"] == {"median": 10, "p50": 10, "p95": 30, "p99": 30, "max": 30}
    assert found["active"] == 2
    assert found["errors"] == {
        "DeploymentLockError": 1,
        "HealthCheckError": 1,
        "HookError": 1,
        "ProviderConnectionError": 1,
        "ProviderUnavailableError": 1,
    }
    assert found["rollbacks"] == 2
    assert found["rollbacks_by_reason"] == {"health_check_failed": 1, "requested": 1}
    (checks,) = found["health_checks"]
    assert {key: checks[key] for key in ("check_type", "pass", "fail", "error")} == {
        "check_type": "http",
        "pass": 3,
        "fail": 2,
        "error": 1,
    }
    assert [row["name"] for row in found["fraises"]] == ["mail/production", "shop/production"]


async def test_the_figures_over_time(tmp_path: Path) -> None:
    """A value a day, oldest first; null where there is nothing to take it of."""
    moved = (await told("sqlite", tmp_path, days=10))["over_time"]
    assert moved["slot_s"] * len(moved["deployments"]) == 10 * 86_400
    assert (moved["slot_s"], moved["since"]) == (6 * 3600, "2026-06-20T12:00:00.000000Z")
    by_day = [sum(moved["deployments"][at : at + 4]) for at in range(0, 40, 4)]
    assert by_day == [1, 0, 0, 0, 0, 0, 0, 1, 0, 1]
    at = moved["deployments"].index(1)
    assert (moved["success_rate"][at], moved["duration_p95_s"][at]) == (1.0, 10)
    assert (moved["success_rate"][at + 1], moved["duration_p95_s"][at + 1]) == (None, None)
    assert (sum(moved["errors"]), sum(moved["failed_checks"]), sum(moved["rollbacks"])) == (5, 3, 2)


async def test_one_fraise_alone(tmp_path: Path) -> None:
    """Nothing of another one is in any figure."""
    found = await told("sqlite", tmp_path, fraise="mail")
    assert found["outcomes"] == {"running": 1}
    assert found["errors"] == {"ProviderUnavailableError": 1}
    assert (found["health_checks"], found["rollbacks_by_reason"], found["active"]) == ([], {}, 1)


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [
        (0, 50, None), (1, 50, 1), (2, 50, 1), (3, 50, 2), (4, 50, 2), (4, 95, 4), (20, 95, 19), (100, 99, 99),
        (9, 0, 1), (9, 100, 9),
    ],
)  # fmt: skip
def test_a_percentile_is_the_nearest_rank(count: int, percent: int, expected: float | None) -> None:
    """A value that there is, and no larger than it has to be: of two the median is the smaller."""
    assert figures.percentile([float(at + 1) for at in range(count)], percent) == expected


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [
        ({}, 0.95, None),
        ({"0.1": 100}, 0.5, 0.05),
        ({"0.5": 100}, 0.5, 0.3),
        ({"0.1": 90, "5": 10}, 0.95, 3.5),
        ({"0.1": 1, "+Inf": 1}, 0.95, 10.0),
    ],
)
def test_a_quantile_of_buckets(buckets: dict[str, int], share: float, expected: float | None) -> None:
    """Evenly spread within a bucket, from the bound below it; above all of them the highest one."""
    found = figures.quantile(buckets, share)
    assert found == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("days", [1, 2, 7, 30, 365, 3650, 100_000])
def test_slots_cover_the_days_and_are_few(days: int) -> None:
    """As wide as people count time."""
    slots = figures.slots_of(days, NOW_US)
    assert 0 < slots.count <= figures.SLOTS_MAX
    assert slots.since_us + slots.count * slots.width_us >= NOW_US
    assert slots.at(NOW_US) == min(slots.count - 1, (NOW_US - slots.since_us) // slots.width_us)
    assert slots.at(0) == 0


def test_the_log_is_not_walked_through(tmp_path: Path) -> None:
    """The rows that carry numbers are found by an index over their types and times."""
    anyio.run(told, "sqlite", tmp_path)
    with sqlite3.connect(tmp_path / "fraisier.db") as connection:
        plan = connection.execute(f"explain query plan {_COUNTED}", (0, "")).fetchall()
        (sql,) = connection.execute("select sql from sqlite_master where name = 'journal_tally'").fetchone()
    connection.close()
    assert plan[0][3] == "SEARCH journal USING INDEX journal_tally (type=? AND at>?)"
    assert not [row[3] for row in plan if "SCAN journal" in row[3]]
    (bound,) = re.findall(r"where type < '([^']+)'", sql)
    assert all(name < bound for name in COUNTED_TYPES)
    assert not [name for name in ("step.started", "step.succeeded", "step.output") if name < bound]


def test_the_picture_in_the_documentation_is_what_is_drawn() -> None:
    """Word for word; `python docs/images/stats.py` makes it anew."""
    drawn, kept = SCRIPT["render"](anyio.run(SCRIPT["invent"])), SCRIPT["PICTURE"].read_text()

    def words(picture: str) -> list[str]:
        return [" ".join(text.split()) for text in re.findall(r"<text[^>]*>([^<]*)</text>", picture)]

    assert words(drawn) == words(kept)
    assert "deployments" in " ".join(words(kept))
    assert not re.search(r"https?://(?!www\.w3\.org|www\.textualize)", kept)


def test_a_narrow_terminal_gets_narrow_panels() -> None:
    """No line is wider than the screen."""
    from rich.console import Console

    from fraisier.cli.run.panels import draw

    console = Console(width=60, height=200)
    with console.capture() as shown:
        console.print(draw(anyio.run(SCRIPT["invent"]), 60))
    lines = shown.get().splitlines()
    assert max(map(len, lines)) <= 60
    assert any("rollbacks by reason" in line for line in lines)


def test_the_panels_of_an_empty_store_say_that_there_is_nothing() -> None:
    """No division by nothing, no empty frame."""
    from rich.console import Console

    from fraisier.cli.run.panels import draw

    async def empty() -> dict[str, Any]:
        clock = Calendar()
        return await figures.stats(MemoryJournal(clock=clock, ids=SeededIds(1, clock)), days=7, now_us=NOW_US)

    found = anyio.run(empty)
    console = Console(width=110, height=100)
    with console.capture() as shown:
        console.print(draw(found, 110))
    assert shown.get().count("none") == 5
    assert (
        plain(found, Painter(color=False))
        == "0 deployments in 7 days\n0 rollbacks; success rate -; 0 active now"
    )


def test_what_is_too_much_to_show_is_summed_up() -> None:
    """The tenth and all after it."""
    counts = {f"E{number}": 20 - number for number in range(12)}
    assert most(counts)[:2] == [("E0", 20), ("E1", 19)]
    assert most(counts)[9:] == [("3 more", 11 + 10 + 9)]
    assert sparkline([None, 0, 4, 8]) == " ▁▅█"


@pytest.mark.once
def test_stats_of_a_real_store(project: Project) -> None:
    """As panels on a terminal, as text without one and under NO_COLOR, as JSON; all of the same deployments."""
    project.run("deploy", "shop", "staging")
    project.commit("two", broken=True)
    project.run("deploy", "shop", "staging", code=3)
    found = project.json("stats")
    assert found["outcomes"] == {"rolled_back": 1, "succeeded": 1}
    assert list(found["errors"]) == ["HealthCheckError"]
    assert found["rollbacks_by_reason"] == {"health_check_failed": 1}
    (http,) = found["health_checks"]
    assert (http["check_type"], http["pass"] > 0, http["fail"] > 0) == ("http", True, True)

    text = project.run("stats").stdout
    for word in ("success rate 50%", "HealthCheckError", "ROLLED BACK FOR", "95%", "█"):
        assert word in text
    assert "\x1b" not in text
    assert "╭" not in text

    with terminal(project, "stats") as screen:
        assert screen.end() == 0
    assert "╭" in screen.plain
    assert "errors by type" in screen.plain
    assert "HealthCheckError" in screen.plain
    assert "\x1b[" in screen.seen

    with terminal(project, "stats", NO_COLOR="1") as screen:
        assert screen.end() == 0
    assert "\x1b" not in screen.seen
    assert "success rate 50%" in screen.plain
