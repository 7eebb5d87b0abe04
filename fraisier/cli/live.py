"""The live screen: a row a target, redrawn a few times a second, left as it was at the end."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from typing import Self

import anyio
import anyio.to_thread
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fraisier.cli.board import Board, Head, Row
from fraisier.cli.context import Call
from fraisier.cli.render import one_line, short, took
from fraisier.events import Record

_REDRAW_S = 0.1
_LAST_DRAW_S = 2.0
_STYLES = {
    "updated": "green",
    "unchanged": "green",
    "healthy": "green",
    "failed": "bold red",
    "in_doubt": "bold red",
    "unhealthy": "red",
    "unreachable": "yellow",
    "rolled_back": "yellow",
}


class LiveTeller:
    """Keeps the board and draws it. Drawing happens in a thread: a terminal that was stopped does not stop us."""

    deaf = True
    """What is on the screen is the newest state; no line of it needs to be waited for."""

    def __init__(self, call: Call) -> None:
        self._console = Console(file=call.stderr, no_color=not call.color, highlight=False)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._board = Board(0.0)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._board.started_s = anyio.current_time()
        async with AsyncExitStack() as stack:
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(group.cancel_scope.cancel)
            stack.callback(self._stop)
            self._live.start()
            group.start_soon(self._redraw, name="cli:screen")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        with anyio.move_on_after(_LAST_DRAW_S, shield=True):
            await self._draw()
        await self._stack.aclose()

    def _stop(self) -> None:
        with suppress(OSError):  # a terminal that is gone has no cursor to put back
            self._live.stop()

    async def tell(self, record: Record) -> None:
        """Take in an event; the next redraw shows it."""
        self._board.apply(record, anyio.current_time())

    def recall(self, record: Record) -> None:
        """Take in an event of the past: where a resumed deployment stood."""
        self._board.apply(record, anyio.current_time())

    def say(self, text: str) -> None:
        """Show a sentence at the foot of the screen."""
        self._board.footer = text

    async def _redraw(self) -> None:
        while True:
            await self._draw()
            await anyio.sleep(_REDRAW_S)

    async def _draw(self) -> None:
        screen = render(self._board, anyio.current_time(), self._console.size.height)
        with suppress(OSError):
            await anyio.to_thread.run_sync(self._update, screen, abandon_on_cancel=True)

    def _update(self, screen: Group) -> None:
        self._live.update(screen, refresh=True)


def render(board: Board, now_s: float, height: int) -> Group:
    """Return the screen for a terminal of `height` lines."""
    heads = [_head(head, now_s - board.started_s) for head in board.heads.values()]
    room = max(3, height - len(heads) - 5)
    rows, left_out = board.visible(room)
    parts: list[Text | Table] = [*heads, _table(rows, now_s, several=len(board.heads) > 1)]
    if left_out:
        parts.append(Text(f"… and {left_out} more", style="dim", no_wrap=True))
    counts = ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in sorted(board.counts().items()))
    parts.append(Text(counts, style="dim", no_wrap=True, overflow="ellipsis"))
    parts.append(Text(one_line(board.footer), no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _head(head: Head, elapsed_s: float) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{head.fraise} in {head.environment}", style="bold")
    if head.version:
        before = f"{short(head.previous_version)} -> " if head.previous_version else ""
        line.append(f"  {before}{short(head.version)}")
    line.append(f"  {head.state}  {took(elapsed_s)}")
    if head.waves:
        line.append(f"  wave {head.wave}/{head.waves}")
    return line


def _table(rows: list[Row], now_s: float, *, several: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    for name, width in (
        ("TARGET", None),
        ("WAVE", 4),
        ("STEP", 14),
        ("TIME", 6),
        ("HEALTH", 18),
        ("OUTCOME", 11),
    ):
        table.add_column(name, width=width, no_wrap=True, overflow="ellipsis")
    table.add_column("SAYS", ratio=1, no_wrap=True, overflow="ellipsis")
    for row in rows:
        step = f"{row.step} #{row.attempt}" if row.attempt > 1 and row.step else row.step
        table.add_row(
            f"{row.fraise} {row.name}" if several else row.name,
            str(row.wave or "-"),
            step,
            took(now_s - row.since_s) if row.busy else "",
            _styled(row.probes),
            _styled(row.outcome),
            Text(one_line(row.line)),
        )
    return table


def _styled(word: str) -> Text:
    return Text(one_line(word).replace("_", " "), style=_STYLES.get(word, ""))
