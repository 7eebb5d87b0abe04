"""Plain text for people: tables, colours, times. It needs no library, so that listing something stays quick."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

RESET = "\x1b[0m"
_COLOURS = {
    "red": "\x1b[31m",
    "green": "\x1b[32m",
    "yellow": "\x1b[33m",
    "blue": "\x1b[34m",
    "dim": "\x1b[2m",
    "bold": "\x1b[1m",
}

_GOOD = frozenset({"succeeded", "unchanged", "updated", "passed", "healthy", "yes", "running", "ok", "pass"})
_BAD = frozenset({"failed", "needs_attention", "in_doubt", "unhealthy", "no", "lost", "fail"})
_WARNING = frozenset(
    {
        "rolled_back",
        "interrupted",
        "paused",
        "locked",
        "unreachable",
        "skipped",
        "orphaned",
        "rolling_back",
        "error",
    }
)
_BARS = "▁▂▃▄▅▆▇█"


class Painter:
    """Puts colour on words, or leaves them alone."""

    def __init__(self, *, color: bool) -> None:
        self._color = color

    def paint(self, text: str, *styles: str) -> str:
        """Return `text` in the styles red, green, yellow, blue, dim or bold."""
        if not self._color or not text:
            return text
        return f"{''.join(_COLOURS[style] for style in styles)}{text}{RESET}"

    def state(self, word: str) -> str:
        """Return the word of an outcome, a state or a verdict in the colour of its meaning."""
        key = word.strip()
        if key in _GOOD:
            return self.paint(word, "green")
        if key in _BAD:
            return self.paint(word, "red")
        return self.paint(word, "yellow") if key in _WARNING else word


def width_of(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if char.isascii():
        return 1
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], painter: Painter, *, states: Sequence[int] = ()
) -> str:
    """Return rows under heads, in columns. The columns in `states` hold outcomes and are coloured."""
    cleaned = [[one_line(cell) for cell in row] for row in rows]
    widths = [max([width_of(head), *(width_of(row[at]) for row in cleaned)]) for at, head in enumerate(heads)]
    lines = [painter.paint(_line(heads, widths), "bold")]
    for row in cleaned:
        padded = [_pad(cell, width) for cell, width in zip(row, widths, strict=True)]
        lines.append(
            "  ".join(
                painter.state(cell) if at in states else cell for at, cell in enumerate(padded)
            ).rstrip()
        )
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(_pad(cell, width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _pad(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))


def one_line(text: str) -> str:
    """Return the text on one line, with nothing in it that a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in text)


def age(at: str | None, now: datetime | None = None) -> str:
    """Return how long ago an RFC 3339 time was: 5s, 12m, 3h, 4d; a dash for never."""
    if not at:
        return "-"
    passed_s = int(((now or datetime.now(UTC)) - datetime.fromisoformat(at)).total_seconds())
    for unit, size_s in (("d", 86_400), ("h", 3600), ("m", 60)):
        if passed_s >= size_s:
            return f"{passed_s // size_s}{unit}"
    return f"{max(0, passed_s)}s"


def took(duration_s: float | None) -> str:
    """Return a duration as people say it: 0.4s, 12s, 3m05s, 2h10m; a dash when there is none."""
    if not duration_s:
        return "-"
    if duration_s < 9.95:
        return f"{duration_s:.1f}s"
    whole = round(duration_s)
    if whole < 60:
        return f"{whole}s"
    return (
        f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    )


def short(version: str | None) -> str:
    """Return a version as people read it: a commit id or digest shortened, a name whole, a dash for none."""
    if not version:
        return "-"
    is_hex = len(version) >= 20 and all(char in "0123456789abcdef" for char in version)
    return version[:12] if is_hex else one_line(version)


def count(number: int, noun: str) -> str:
    """Return `1 target`, `2 targets`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def sparkline(values: Sequence[float | None]) -> str:
    """Return one bar for each value, the highest for the largest, and a gap where there is none."""
    top = max((value for value in values if value is not None), default=0.0)
    if top <= 0:
        return ""
    return "".join(
        " " if value is None else _BARS[min(len(_BARS) - 1, int(value / top * (len(_BARS) - 1) + 0.5))]
        for value in values
    )
