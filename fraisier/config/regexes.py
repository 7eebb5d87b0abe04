"""Which regular expressions may be matched: matching holds the whole process, and no timeout ends it."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

NESTED = "a repeat inside of a repeat, as in `(a+)+`, can take forever"
NESTED_HINT = "leave one of the two away, or make the inner one possessive, as in `(a++)+`"

_MANY = 8
"""From so many times on a repeat counts as one without an end: below it, 2 to the power of that is not much."""


class Repeats(NamedTuple):
    """What is repeated in an expression: anything at all, and something inside of something that is repeated."""

    any: bool
    nested: bool


@functools.lru_cache(maxsize=256)
def repeats_of(pattern: str) -> Repeats:
    """Return what is repeated in an expression. Raises what `re.compile` raises."""
    re.compile(pattern)
    # Not documented, but there since long before 3.11; nothing else tells the parts of an expression.
    parsed = importlib.import_module("re._parser").parse(pattern)
    return Repeats(any(_repeats(parsed)), any(_is_nested(body) for body in _repeats(parsed)))


def _is_nested(repeat: tuple[str, int, int, Any]) -> bool:
    name, _, most, body = repeat
    # What is possessive gives nothing back, so inside of another one it is not tried again.
    return (
        name != "POSSESSIVE_REPEAT"
        and most >= _MANY
        and any(
            inner != "POSSESSIVE_REPEAT" and least != most_inside and most_inside >= _MANY
            for inner, least, most_inside, _ in _repeats(body, atomic=False)
        )
    )


def _repeats(parsed: Any, *, atomic: bool = True) -> Iterator[tuple[str, int, int, Any]]:
    """Yield (kind, least, most, what is repeated) of each repeat, at any depth; without `atomic` not those inside of an
    atomic group."""
    for code, argument in parsed:
        name = str(code)
        if name == "ATOMIC_GROUP" and not atomic:
            continue
        if name.endswith("_REPEAT"):
            least, most, body = argument
            if int(most) > 1:
                yield name, int(least), int(most), body
        for inner in _parts(argument):
            if name != "POSSESSIVE_REPEAT" or atomic:
                yield from _repeats(inner, atomic=atomic)


def _parts(argument: Any) -> Iterator[Any]:
    """Yield the expressions inside of an argument of a parsed expression."""
    if hasattr(argument, "getwidth"):
        yield argument
    elif isinstance(argument, list | tuple):
        for one in argument:
            yield from _parts(one)
