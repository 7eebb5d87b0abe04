"""Makes the order in which anyio cancels repeatable.

anyio keeps the tasks of a scope and the scopes below it in sets, and objects in a set are ordered by where they lie in
memory. Under virtual time they stand in the order in which they came. This reaches into anyio, so it is done only while a
virtual loop runs.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _InOrder(list[Any]):
    """The part of a set that anyio uses, in order of arrival. What it holds is never added twice, and seldom more than a few:
    a list is quicker there than a hash that is written in Python."""

    __slots__ = ()
    add = list.append

    def discard(self, item: object) -> None:
        """Take an item out if it is in."""
        if item in self:
            self.remove(item)


@contextmanager
def ordered_cancellation() -> Iterator[None]:
    """Keep order in the cancel scopes that are made inside, in this process."""
    backend: Any = importlib.import_module("anyio._backends._asyncio")
    original = backend.CancelScope
    begin = original.__init__

    class OrderedScope(original):  # type: ignore[misc,valid-type]
        __slots__ = ()

        def __init__(self, deadline: float = math.inf, shield: bool = False) -> None:
            begin(self, deadline, shield)
            self._tasks = _InOrder()  # type: ignore[misc]
            self._child_scopes = _InOrder()  # type: ignore[misc]

    backend.CancelScope = OrderedScope
    try:
        yield
    finally:
        backend.CancelScope = original
