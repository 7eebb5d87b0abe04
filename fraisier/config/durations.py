"""Lengths of time as people write them."""

from __future__ import annotations

import re

DURATION_MAX_S = 10 * 366 * 86_400.0
EXPECTED = "a duration such as 30, 0.2, 200ms, 30s, 5m, 1h30m or 2d"

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?|\.[0-9]+")
_PARTS = re.compile(r"(?:{0}d)?(?:{0}h)?(?:{0}m)?(?:{0}s)?(?:{0}ms)?".format(r"([0-9]+(?:\.[0-9]+)?)"))
_UNITS_S = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)


def parse_duration(text: str) -> float:
    """Return seconds. A bare number means seconds; units go from the largest to the smallest, each once.

    Raises ValueError with a sentence for anything else, and for more than ten years.
    """
    word = text.strip()
    if _NUMBER.fullmatch(word):
        seconds = float(word)
    elif word and (match := _PARTS.fullmatch(word)) is not None:
        seconds = sum(float(part) * unit for part, unit in zip(match.groups(), _UNITS_S, strict=True) if part)
    else:
        raise ValueError(f"expected {EXPECTED}, found {text!r}")
    if seconds > DURATION_MAX_S:
        raise ValueError(f"expected a duration of at most ten years, found {text!r}")
    return seconds


def format_duration(seconds: float) -> str:
    """Return a duration as `parse_duration` reads it, to the millisecond."""
    left_ms = round(seconds * 1000)
    words = []
    for name, unit_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left_ms = divmod(left_ms, unit_ms)
        if count:
            words.append(f"{count}{name}")
    return "".join(words) or "0s"
