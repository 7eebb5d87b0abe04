"""Work with a companion that ends with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio

from fraisier.errors import FraisierError

T = TypeVar("T")


async def beside(
    work: Callable[[], Awaitable[T]], companion: Callable[[], Coroutine[Any, Any, None]], name: str
) -> T:
    """Return what `work` returns; `companion` runs meanwhile and is cancelled at its end.

    Raises what `work` raises, as it is and not in a group."""
    outcome: list[T] = []
    failure: list[FraisierError] = []
    async with anyio.create_task_group() as group:
        group.start_soon(companion, name=name)
        try:
            outcome.append(await work())
        except FraisierError as error:
            failure.append(error)
        group.cancel_scope.cancel()
    if failure:
        raise failure[0]
    return outcome[0]
