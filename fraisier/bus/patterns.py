"""Patterns: event types with `*`, checked when they are given, because a mistyped one would stay silent for
ever."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence

from fraisier.errors import ConfigurationError
from fraisier.events import EVENT_PATTERNS, TYPE_OF, Event


def normalise(patterns: str | Sequence[str]) -> tuple[str, ...]:
    """Return the patterns as a tuple; none at all means every event."""
    return (patterns,) if isinstance(patterns, str) else tuple(patterns) or ("*",)


def event_classes(patterns: Sequence[str]) -> frozenset[type[Event]]:
    """Return the event classes that at least one pattern matches; `*` stands for any characters, dots
    included.

    Raises ConfigurationError for a pattern that matches no registered type, with the nearest one that does.
    """
    return frozenset().union(*map(_matching, patterns))


@functools.lru_cache(maxsize=256)
def _matching(pattern: str) -> frozenset[type[Event]]:
    matches = re.compile(".*".join(re.escape(part) for part in pattern.split("*"))).fullmatch
    classes = frozenset(cls for cls, name in TYPE_OF.items() if matches(name))
    if not classes:
        raise ConfigurationError(
            f"the pattern {pattern!r} matches no event type{_suggestion(pattern)}",
            context={"pattern": pattern},
            hint="use an event type, with * for any part of it",
        )
    return classes


def _suggestion(pattern: str) -> str:
    near = difflib.get_close_matches(pattern, EVENT_PATTERNS, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
