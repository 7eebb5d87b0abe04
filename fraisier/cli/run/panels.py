"""The figures of `stats` as panels, for a terminal that has colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import ROUNDED
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fraisier.cli.context import Call
from fraisier.cli.render import one_line, sparkline, took
from fraisier.cli.run.stats import (
    CHECK_HEADS,
    FRAISE_HEADS,
    check_rows,
    fraise_rows,
    most,
    percent,
    trends,
    width,
)

_BAR_CELLS = 16
_EMPTY = "▁"
_OUTCOMES = {
    "succeeded": "green",
    "unchanged": "cyan",
    "running": "blue",
    "rolled_back": "yellow",
    "interrupted": "yellow",
    "aborted": "yellow",
    "paused": "yellow",
    "failed": "red",
    "needs_attention": "bold red",
}
_TRENDS = {
    "deployments": "blue",
    "success rate": "green",
    "median time": "cyan",
    "95% time": "cyan",
    "rollbacks": "yellow",
    "errors": "red",
    "failed checks": "magenta",
}


def show(call: Call, found: dict[str, Any]) -> None:
    """Draw the figures on stdout."""
    console = Console(file=call.stdout, highlight=False)
    with console.capture() as drawn:
        console.print(draw(found, console.width))
    call.data(drawn.get().rstrip("\n"))


def draw(found: dict[str, Any], columns: int) -> RenderableType:
    """Return the panels, laid out for a terminal of so many columns."""
    moved = found["over_time"]
    side = [
        _panel("how they ended", _bars(found["outcomes"], _OUTCOMES)),
        _panel("errors by type", _bars(dict(most(found["errors"])), {}, "red")),
        _panel("rollbacks by reason", _bars(dict(most(found["rollbacks_by_reason"])), {}, "yellow")),
        _panel("health checks by type", _table(CHECK_HEADS, check_rows(found))),
    ]
    since = moved["since"][:16].replace("T", " ")
    return Group(
        _beside(_numbers(found), (3, 3, 3, 3, 4) if columns >= 100 else (1,)),
        _panel(f"over time: a bar is {width(moved)}, from {since} UTC", _sparks(moved, columns)),
        _beside(side, (1, 1) if columns >= 70 else (1,)),
        _panel("fraises", _table(FRAISE_HEADS, fraise_rows(found))),
    )


def _beside(panels: Sequence[RenderableType], widths: Sequence[int]) -> Table:
    """Put panels in rows, as many in each as there are relative widths."""
    grid = Table.grid(expand=True)
    for share in widths:
        grid.add_column(ratio=share)
    for at in range(0, len(panels), len(widths)):
        grid.add_row(*panels[at : at + len(widths)])
    return grid


def _numbers(found: dict[str, Any]) -> list[RenderableType]:
    """Return the large numbers of the first row."""
    spent = found["duration_s"]
    rate = found["success_rate"]
    colour = "dim" if rate is None else "green" if rate >= 0.95 else "yellow" if rate >= 0.8 else "red"
    times = f"95% {took(spent['p95'])}, 99% {took(spent['p99'])}"
    good = sum(found["outcomes"].get(name, 0) for name in ("succeeded", "unchanged"))
    per_day = found["deployments"] / found["days"]
    return [
        _number(
            "deployments",
            str(found["deployments"]),
            "blue",
            f"{per_day:.1f} a day",
        ),
        _number("success rate", percent(rate), colour, f"{good} of {found['deployments']}"),
        _number("active now", str(found["active"]), "blue", "as recorded"),
        _number(
            "rollbacks",
            str(found["rollbacks"]),
            "yellow" if found["rollbacks"] else "dim",
            "also by hand",
        ),
        _number("median time", took(spent["p50"]), "cyan", times),
    ]


def _number(title: str, value: str, colour: str, below: str) -> Panel:
    return _panel(title, Text.assemble((value, f"bold {colour}"), "\n", (below, "dim")))


def _sparks(moved: dict[str, Any], columns: int) -> Table:
    grid = Table.grid(padding=(0, 2))
    for _ in range(3):
        grid.add_column(no_wrap=True)
    # Where there is room a slot is drawn two cells wide.
    wide = 2 if columns >= 2 * len(moved["deployments"]) + 40 else 1
    for title, values, highest in trends(moved):
        line = sparkline(values) or _EMPTY * len(values)
        grid.add_row(
            title, Text("".join(bar * wide for bar in line), style=_TRENDS[title]), Text(highest, "dim")
        )
    return grid


def _bars(counts: Mapping[str, int], colours: Mapping[str, str], other: str = "white") -> RenderableType:
    if not counts:
        return Text("none", style="dim")
    grid = Table.grid(padding=(0, 1))
    grid.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    top = max(counts.values())
    for name, number in counts.items():
        bar = Text("█" * max(1, round(number / top * _BAR_CELLS)), style=colours.get(name, other))
        grid.add_row(one_line(name), bar, str(number))
    return grid


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    if not rows:
        return Text("none", style="dim")
    made = Table(box=None, header_style="dim", pad_edge=False)
    for at, head in enumerate(heads):
        made.add_column(head, justify="right" if at else "left", no_wrap=True, overflow="ellipsis")
    for row in rows:
        made.add_row(*(Text(one_line(cell)) for cell in row))
    return made


def _panel(title: str, inside: RenderableType) -> Panel:
    return Panel(inside, title=Text(title, "bold"), title_align="left", box=ROUNDED, border_style="dim")
