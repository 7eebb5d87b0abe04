"""`stats`: how deployments went, in figures and over time; as panels on a terminal, as plain text elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fraisier import figures
from fraisier.cli.context import Call
from fraisier.cli.ending import load_module
from fraisier.cli.listening import run_async
from fraisier.cli.render import Painter, count, sparkline, table, took
from fraisier.cli.run.reading import reading
from fraisier.clock import SystemClock

NAMES_MAX = 10
"""So many errors, reasons and types of checks are shown; the JSON form has all."""


def stats(call: Call, *, fraise: str, days: int) -> int:
    """Print the figures of the last days."""

    async def read() -> dict[str, Any]:
        async with reading(call) as journal:
            return await figures.stats(journal, fraise=fraise, days=days, now_us=SystemClock().now_us())

    found = run_async(read)
    if call.json:
        call.document(found)
    elif call.color and call.stdout.isatty():
        # The library that draws takes a tenth of a second to load.
        load_module("fraisier.cli.run.panels").show(call, found)
    else:
        call.data(plain(found, call.painter()))
    return 0


def plain(found: dict[str, Any], painter: Painter) -> str:
    """Return the figures as lines of text."""
    outcomes = ", ".join(f"{number} {painter.state(name)}" for name, number in found["outcomes"].items())
    moved = found["over_time"]
    lines = [
        f"{count(found['deployments'], 'deployment')} in {count(found['days'], 'day')}{': ' + outcomes if outcomes else ''}",
        f"{count(found['rollbacks'], 'rollback')}; success rate {percent(found['success_rate'])}; "
        f"{found['active']} active now",
    ]
    spent = found["duration_s"]
    if spent["max"]:
        lines.append(
            f"took {took(spent['p50'])} (median), {took(spent['p95'])} (95%), {took(spent['p99'])} (99%), "
            f"{took(spent['max'])} (longest)"
        )
    if found["deployments"]:
        lines += ["", *_trends(moved)]
    if found["fraises"]:
        lines += ["", table(FRAISE_HEADS, fraise_rows(found), painter)]
    if found["health_checks"]:
        lines += ["", table(CHECK_HEADS, check_rows(found), painter)]
    for title, counts in (("ERROR", found["errors"]), ("ROLLED BACK FOR", found["rollbacks_by_reason"])):
        if counts:
            lines += [
                "",
                table((title, "TIMES"), [(name, str(number)) for name, number in most(counts)], painter),
            ]
    return "\n".join(lines)


def _trends(moved: dict[str, Any]) -> Iterator[str]:
    for title, values, last in trends(moved):
        if any(values):
            yield f"{title:<14} {sparkline(values)}  {last}"
    yield f"{'':<14} a bar is {width(moved)}, from {moved['since'][:16].replace('T', ' ')} UTC"


def trends(moved: dict[str, Any]) -> list[tuple[str, list[float | None], str]]:
    """Return what is drawn over time: its name, a value for each slot, and what the highest bar means."""
    rows: list[tuple[str, list[float | None], str]] = []
    for title, key, say in (
        ("deployments", "deployments", str),
        ("success rate", "success_rate", percent),
        ("median time", "duration_p50_s", took),
        ("95% time", "duration_p95_s", took),
        ("rollbacks", "rollbacks", str),
        ("errors", "errors", str),
        ("failed checks", "failed_checks", str),
    ):
        top = max((value for value in moved[key] if value is not None), default=0)
        rows.append((title, moved[key], f"at most {say(top)}"))
    return rows


def width(moved: dict[str, Any]) -> str:
    """Return how much time a slot is, in words."""
    hours = moved["slot_s"] // 3600
    return count(hours // 24, "day") if hours % 24 == 0 else count(hours, "hour")


def most(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Return the counts that are shown; those of the rest together under their number."""
    pairs = list(counts.items())
    if len(pairs) <= NAMES_MAX:
        return pairs
    rest = pairs[NAMES_MAX - 1 :]
    return [*pairs[: NAMES_MAX - 1], (f"{len(rest)} more", sum(number for _, number in rest))]


FRAISE_HEADS = ("FRAISE/ENV", "DEPLOYMENTS", "SUCCESS", "MEDIAN", "95%", "99%")


def fraise_rows(found: dict[str, Any]) -> Sequence[Sequence[str]]:
    """Return a line for each fraise in its environment."""
    return [
        (
            row["name"],
            str(row["deployments"]),
            percent(row["success_rate"]),
            *(took(row["duration_s"][key]) for key in ("p50", "p95", "p99")),
        )
        for row in found["fraises"]
    ]


CHECK_HEADS = ("CHECK", "PASS", "FAIL", "ERROR", "95%")


def check_rows(found: dict[str, Any]) -> Sequence[Sequence[str]]:
    """Return a line for each type of health check."""
    return [
        (row["check_type"], *(str(row[status]) for status in ("pass", "fail", "error")), brief(row["p95_s"]))
        for row in found["health_checks"]
    ]


def brief(duration_s: float | None) -> str:
    """Return the duration of a probe, to the millisecond below a second."""
    if duration_s is None:
        return "-"
    return f"{duration_s * 1000:.0f}ms" if duration_s < 1 else took(duration_s)


def percent(share: float | None) -> str:
    """Return a share as people say it; a dash for that of nothing."""
    return "-" if share is None else f"{share * 100:.0f}%"
