"""One life of one simulated process: it ends by itself, or it dies at a chosen place.

Death is suspension: nothing of the process runs any more, so no `finally` and no `except` of it has any effect. Only when
its ports are mute are its tasks unwound, which is for the tidiness of this process and not part of the simulation.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec

from fraisier.simulation.crash import CrashPoint
from fraisier.simulation.loop import LoopDied, StandstillError, VirtualLoop
from fraisier.simulation.ordered import ordered_cancellation

T = TypeVar("T")

_BURIAL_S = 3600.0
_BURIAL_ROUNDS = 10_000


class Lived(msgspec.Struct, Generic[T], frozen=True):
    """How a life went. `value` is what its work returned (None when it died), `handles` how many stretches between two
    awaits ran, `took_s` the virtual seconds that it lasted."""

    value: T | None
    died: bool
    handles: int
    took_s: float


def live(
    work: Callable[[], Awaitable[T]],
    *,
    crash: CrashPoint,
    on_death: Callable[[], None],
    seed: int | None = None,
    limit_s: float = 1e5,
) -> Lived[T]:
    """Run `work()` as a process of its own, up to `crash`, and return how it went.

    `on_death` makes every port of the process mute: it is called once, right when it dies. Raises what `work` raises, and
    the errors of `VirtualLoop`."""
    loop = VirtualLoop(seed=seed, limit_s=limit_s, dies_at=crash.number if crash.kind == "handle" else 0)

    async def main() -> T:
        return await work()

    with ordered_cancellation():
        try:
            value = loop.run_until_complete(main())
            return Lived(value, died=False, handles=loop.handles, took_s=loop.time())
        except LoopDied:
            lived: Lived[T] = Lived(None, died=True, handles=loop.handles, took_s=loop.time())
            on_death()
            return lived
        finally:
            unwind(loop)


def unwind(loop: VirtualLoop) -> None:
    """Cancel what is left and close the loop. anyio keeps the state of tasks that never end, and Python warns of them.

    Raises StandstillError when something refuses to end."""
    loop.haunt(_BURIAL_S)
    loop.set_exception_handler(lambda _loop, _context: None)
    try:
        for _ in range(_BURIAL_ROUNDS):
            tasks = sorted(asyncio.all_tasks(loop), key=hash)
            if not tasks:
                break
            for task in tasks:
                if _has_started(task):
                    task.cancel()
                    task.add_done_callback(_look_away)
            loop.run_until_complete(asyncio.sleep(0))
        else:
            raise StandstillError(f"the dead do not rest: {', '.join(task.get_name() for task in tasks)}")
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _has_started(task: asyncio.Task[Any]) -> bool:
    # One that was cancelled before its first step would leave the coroutine inside of it never awaited.
    coroutine = task.get_coro()
    return coroutine is None or inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED  # type: ignore[arg-type]


def _look_away(task: asyncio.Task[Any]) -> None:
    """Count the task's error as seen: a dead process has nobody to tell."""
    if not task.cancelled():
        task.exception()
