"""Virtual time: an event loop whose clock jumps to the next timer, so that an hour of waiting takes no time
at all.

Everything that runs in it must be free of threads and of I/O: nothing outside can wake a loop that never
waits.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import selectors
import threading
from asyncio import Future, Handle, Task
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from fraisier.testing.ordered import ordered_cancellation

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class DeadlockError(RuntimeError):
    """Raised when every task waits and no timer is set: nothing can ever happen again."""


class VirtualTimeLimitError(RuntimeError):
    """Raised when the virtual clock passes the limit of the run."""


class ThreadWakeUpError(RuntimeError):
    """Raised when a thread, or an executor, is used under virtual time: its timing would be real."""


def run_virtual(
    async_fn: Callable[..., Awaitable[T]], *args: object, seed: int | None = None, limit_s: float = 1e6
) -> T:
    """Run `async_fn(*args)` to its end in a new loop under virtual time, and return what it returns.

    Without a seed, tasks run as in the real loop: first in, first out (timers of one moment in an order that
    is always the same); with one, those that are ready run in an order drawn from it, the same every time.
    Raises DeadlockError, VirtualTimeLimitError (after `limit_s` virtual seconds), ThreadWakeUpError, and what
    `async_fn` raises.
    """

    async def main() -> T:
        return await async_fn(*args)

    runner = asyncio.Runner(loop_factory=lambda: VirtualLoop(seed=seed, limit_s=limit_s))
    with ordered_cancellation(), runner:
        return runner.run(main())


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop of `run_virtual`. `time()` starts at 0 and moves only when nothing is left to do at this
    moment."""

    def __init__(self, *, seed: int | None = None, limit_s: float = 1e6) -> None:
        self._now_s = 0.0
        self._limit_s = limit_s
        self._rng = None if seed is None else random.Random(seed)  # noqa: S311 - an order of tasks is no secret
        self._intruder = ""
        self._tasks_made = 0
        self._threads = set(threading.enumerate())
        super().__init__(_JumpingSelector(self._jump))
        self.set_task_factory(_make_task)

    def time(self) -> float:
        """Return the virtual time in seconds since the loop was made."""
        return self._now_s

    def next_task_number(self) -> int:
        """Return how many tasks were made, this one included."""
        self._tasks_made += 1
        return self._tasks_made

    def _jump(self, wait_s: float | None) -> None:
        # The loop asks its selector to wait for I/O until the next timer; instead, the clock goes there.
        if self._intruder:
            raise ThreadWakeUpError(f"the thread {self._intruder} called into a loop under virtual time")
        if wait_s is None:
            strangers = set(threading.enumerate()) - self._threads
            if strangers:
                names = ", ".join(sorted(thread.name for thread in strangers))
                raise ThreadWakeUpError(
                    f"only a thread can go on, which virtual time does not wait for: {names}"
                )
            raise DeadlockError(f"every task waits, and no timer is set: {_waiting(self)}")
        if wait_s > 0:
            self._now_s = self._next_timer_s(self._now_s + wait_s)
            if self._now_s > self._limit_s:
                raise VirtualTimeLimitError(
                    f"{self._limit_s:g} virtual seconds have passed: {_waiting(self)}"
                )
        if self._rng is not None:
            self._shuffle(self._rng)

    def _next_timer_s(self, about_s: float) -> float:
        # The timer's own time, so that adding up waits does not drift from it.
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        when_s = scheduled[0].when() if scheduled else about_s
        return when_s if abs(when_s - about_s) < 1e-6 else about_s

    def _shuffle(self, rng: random.Random) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0].when() <= self._now_s:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        if len(ready) > 1:
            handles = list(ready)
            rng.shuffle(handles)
            ready.clear()
            ready.extend(handles)

    # No threads, no I/O -------------------------------------------------------------------------------------

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> Handle:
        """Refuse calls from other threads; the run ends with ThreadWakeUpError."""
        if threading.get_ident() != self._thread_id:  # type: ignore[attr-defined]
            self._intruder = threading.current_thread().name
            raise ThreadWakeUpError("another thread called into a loop under virtual time")
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> Future[T]:
        """Refuse: the function would take real time."""
        raise ThreadWakeUpError(f"{func!r} would run in a thread under virtual time")

    def _make_self_pipe(self) -> None:
        # The pipe wakes a loop that waits for I/O; this one never does.
        self._ssock = self._csock = None

    def _close_self_pipe(self) -> None:
        pass

    def _process_events(self, event_list: object) -> None:
        pass


class _NumberedTask(Task[Any]):
    """A task whose hash is its number: anyio keeps tasks in sets, and the order of a set of addresses is
    luck."""

    def __init__(self, coro: Any, *, loop: VirtualLoop, **options: Any) -> None:
        # Before the parent's part, which puts the task into a set.
        self._number = loop.next_task_number()
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self._number


def _make_task(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T] | Generator[Any, None, T], **options: Any
) -> Future[T]:
    assert isinstance(loop, VirtualLoop)
    return _NumberedTask(coro, loop=loop, **options)


def _waiting(loop: asyncio.AbstractEventLoop) -> str:
    names = sorted(task.get_name() for task in asyncio.all_tasks(loop))
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


class _JumpingSelector(selectors.BaseSelector):
    """Watches nothing, and turns every wait into a jump of the clock."""

    def __init__(self, jump: Callable[[float | None], None]) -> None:
        self._jump = jump

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        raise ThreadWakeUpError(f"{fileobj!r} would be waited for in real time")

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        raise KeyError(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._jump(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}
