"""Makes the order in which anyio cancels repeatable.

anyio keeps the cancel scopes below a scope in a set, and objects in a set are ordered by where they lie in
memory. Under virtual time a scope's hash is its number instead. This reaches into anyio, so it is done only
while a virtual loop runs.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def ordered_cancellation() -> Iterator[None]:
    """Number the cancel scopes that are made inside, in this process."""
    backend: Any = importlib.import_module("anyio._backends._asyncio")
    original = backend.CancelScope
    begin = original.__init__
    numbers = itertools.count()

    class NumberedScope(original):  # type: ignore[misc,valid-type]
        __slots__ = ("_number",)

        def __init__(self, deadline: float = math.inf, shield: bool = False) -> None:
            begin(self, deadline, shield)
            self._number = next(numbers)

        def __hash__(self) -> int:
            return self._number

    backend.CancelScope = NumberedScope
    try:
        yield
    finally:
        backend.CancelScope = original
