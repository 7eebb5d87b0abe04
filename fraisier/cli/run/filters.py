"""Words that a filter may hold: one that can match nothing is a slip, and must not look like an empty record."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase

from fraisier.config.problems import did_you_mean
from fraisier.errors import UsageError
from fraisier.events import EVENT_PATTERNS, EVENT_TYPES


def check_types(option: str, *globs: str) -> None:
    """Raise UsageError for the first of the globs that no event type matches."""
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in EVENT_TYPES):
            near = did_you_mean(glob, EVENT_PATTERNS)
            raise UsageError(
                f"{option}: no event type matches {glob!r}",
                hint=near or "docs/EVENTS.md has the types; `*` stands for any part of one",
            )


def check_word(option: str, word: str, known: Collection[str]) -> None:
    """Raise UsageError for a word that is not among the known ones."""
    if word not in known:
        near = did_you_mean(word, known)
        raise UsageError(
            f"{option}: {word!r} is not known", hint=near or f"it is one of {', '.join(sorted(known))}"
        )
