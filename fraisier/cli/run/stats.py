"""`stats`: how deployments went."""

from __future__ import annotations

from typing import Any

import anyio

from fraisier import reports
from fraisier.cli.context import Call
from fraisier.cli.render import Painter, count, sparkline, table, took
from fraisier.cli.run.reading import reading
from fraisier.clock import SystemClock

_DAY_US = 86_400_000_000
_BARS = 30


def stats(call: Call, *, fraise: str, days: int) -> int:
    """Print counts, success rate and durations of the last days."""
    since_us = SystemClock().now_us() - days * _DAY_US

    async def read() -> tuple[dict[str, Any], list[float]]:
        async with reading(call) as journal:
            figures = await reports.stats(journal, fraise=fraise, since_us=since_us)
            latest = await journal.deployments(fraise=fraise, since_us=since_us, limit=_BARS)
            durations = [
                row.duration_s for row in reversed(latest) if row.kind == "deploy" and row.duration_s > 0
            ]
            return figures, durations

    figures, durations = anyio.run(read)
    if call.json:
        call.document({"days": days, **figures})
    else:
        call.data(_text(figures, durations, days, call.painter()))
    return 0


def _text(figures: dict[str, Any], durations: list[float], days: int, painter: Painter) -> str:
    outcomes = ", ".join(f"{number} {painter.state(name)}" for name, number in figures["outcomes"].items())
    lines = [
        f"{count(figures['deployments'], 'deployment')} in {count(days, 'day')}{': ' + outcomes if outcomes else ''}",
        f"{count(figures['rollbacks'], 'rollback')}; success rate {_percent(figures['success_rate'])}",
    ]
    if durations:
        spent = figures["duration_s"]
        lines.append(
            f"took {took(spent['median'])} (median), {took(spent['p95'])} (95%), {took(spent['max'])} (longest)"
            f"   {sparkline(durations)}"
        )
    if figures["fraises"]:
        heads = ("FRAISE/ENV", "DEPLOYMENTS", "SUCCESS", "MEDIAN", "95%")
        rows = [
            (
                row["name"],
                str(row["deployments"]),
                _percent(row["success_rate"]),
                took(row["duration_s"]["median"]),
                took(row["duration_s"]["p95"]),
            )
            for row in figures["fraises"]
        ]
        lines += ["", table(heads, rows, painter)]
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.0f}%"
