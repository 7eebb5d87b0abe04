"""The bus's few asyncio primitives. Nothing else in the bus touches asyncio itself.

They are here because anyio has no equal for three things: a task that outlives the cancellation of whoever
waits for it, a wake-up that costs nothing while nobody sleeps, and telling "we are cancelled" from "what we
called cancelled itself".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

Cancelled = asyncio.CancelledError

_HURRY_AFTER = 3


class Bell:
    """Wakes the one task that waits for it. `waiter` is not None exactly while that task sleeps."""

    __slots__ = ("waiter",)

    def __init__(self) -> None:
        self.waiter: asyncio.Future[None] | None = None

    async def slumber(self) -> None:
        """Sleep until the bell is rung. Raises RuntimeError when another task sleeps here already."""
        if self.waiter is not None:
            raise RuntimeError("two tasks read the same subscription; give each its own")
        self.waiter = asyncio.get_running_loop().create_future()
        try:
            await self.waiter
        finally:
            self.waiter = None

    def ring(self) -> None:
        """Wake the sleeper, if there is one. Several rings before it runs are one wake-up."""
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Interruptible:
    """The current task, as something that a watchdog can interrupt without ending it."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "only a task can be interrupted"
        self._task = task
        self._interruptions = 0

    def interrupt(self) -> None:
        """Raise Cancelled where the task waits."""
        self._interruptions += 1
        self._task.cancel()

    def forget(self) -> None:
        """Take the interruptions back after they were caught, so that the task goes on as if never
        cancelled."""
        while self._interruptions:
            self._interruptions -= 1
            self._task.uncancel()


def cancelled_from_outside() -> bool:
    """Return whether somebody asked the current task to end, as opposed to a callee that raised Cancelled
    itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Host:
    """Runs one coroutine in a task of its own, out of reach of the cancellation of those who start and end
    it.

    So the bus may be entered and left in different tasks, and a cancelled caller cannot cut the drain short.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._stop = asyncio.Event()

    async def start(self, main: Coroutine[Any, Any, None], *, name: str) -> None:
        """Start `main` and wait until it calls `announce`. Raises what `main` raised before that."""
        self._task = asyncio.create_task(main, name=name)
        self._task.add_done_callback(lambda _: self._up.set())
        await self._up.wait()
        if self._task.done():
            self._task.result()

    def announce(self) -> None:
        """Say, from inside `main`, that it is ready."""
        self._up.set()

    async def until_stopped(self) -> None:
        """Wait, inside `main`, until somebody calls `finish`."""
        await self._stop.wait()

    async def finish(self, *, hurry: Callable[[], None]) -> bool:
        """Ask `main` to end, and wait for it whatever happens. Returns whether the caller was cancelled
        meanwhile.

        The scope keeps anyio from cancelling again and again (this loop would spin), the loop endures native
        cancellation; the third calls `hurry`: whoever asks so often does not want to wait. Raises what `main`
        raised.
        """
        self._stop.set()
        task, cancels = self._task, 0
        assert task is not None, "finish() comes after start()"
        with anyio.CancelScope(shield=True):
            while not task.done():
                try:
                    await asyncio.wait({task})
                except Cancelled:
                    cancels += 1
                    if cancels >= _HURRY_AFTER:
                        hurry()
        if not task.cancelled():
            task.result()
        return cancels > 0
