"""Virtual time: an event loop whose clock jumps to the next timer, so that an hour of waiting takes no time
at all, and whose work can be stopped for good at any one of its steps.

Everything that runs in it must be free of threads and of I/O: nothing outside can wake a loop that never
waits.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
import selectors
import threading
import weakref
from asyncio import Future, Handle, Task, TimerHandle
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from fraisier.simulation.ordered import ordered_cancellation
from fraisier.simulation.process import PROCESS, Process

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_ROUNDS_AN_INSTANT = 100_000


class DeadlockError(RuntimeError):
    """Raised when every task waits and no timer is set: nothing can ever happen again."""


class VirtualTimeLimitError(RuntimeError):
    """Raised when the virtual clock passes the limit of the run."""


class StandstillError(RuntimeError):
    """Raised when tasks keep each other busy for ever, so that the virtual clock never moves on."""


class ThreadWakeUpError(RuntimeError):
    """Raised when a thread, or an executor, is used under virtual time: its timing would be real."""


class LoopDied(BaseException):
    """Raised out of the loop when the process that it stands for dies; no task of it sees it."""


def run_virtual(
    async_fn: Callable[..., Awaitable[T]], *args: object, seed: int | None = None, limit_s: float = 1e6
) -> T:
    """Run `async_fn(*args)` to its end in a new loop under virtual time, and return what it returns.

    Without a seed, tasks run as in the real loop: first in, first out (timers of one moment in the order in which they
    were set); with one, those that are ready run in an order drawn from it, the same every time.
    Raises DeadlockError, StandstillError, VirtualTimeLimitError (after `limit_s` virtual seconds),
    ThreadWakeUpError, and what `async_fn` raises.
    """

    async def main() -> T:
        return await async_fn(*args)

    runner = asyncio.Runner(loop_factory=lambda: VirtualLoop(seed=seed, limit_s=limit_s))
    with ordered_cancellation(), runner:
        return runner.run(main())


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop of `run_virtual`. `time()` starts at 0 and moves only when nothing is left to do at this
    moment.

    `handles` counts the callbacks that ran: each is a stretch of one task between two awaits. The one with
    the number `dies_at` does not run any more: LoopDied leaves the loop instead.

    Several processes can share a loop (`spawn`): what belongs to one that is dead never runs, what belongs to one that is
    stopped runs when it goes on. `keeps_tasks` holds on to every task, so that what a dead process left suspended is not
    taken apart by the garbage collector in the middle of the run.
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        limit_s: float = 1e6,
        dies_at: int = 0,
        keeps_tasks: bool = False,
    ) -> None:
        self.handles = 0
        self.kept: list[Task[Any]] | None = [] if keeps_tasks else None
        self._graveyard: list[Handle] = []
        self._haunted = False
        self._dies_at = dies_at
        self._dying = False
        self._now_s = 0.0
        self._limit_s = limit_s
        self._rounds = 0
        self._rng = None if seed is None else random.Random(seed)  # noqa: S311 - an order of tasks is no secret
        self._intruder = ""
        self._tasks_made = 0
        self._timers: list[tuple[float, int, TimerHandle]] = []
        self._timers_set = 0
        self._threads = set(threading.enumerate())
        super().__init__(_NoSelector())
        self.set_task_factory(_make_task)

    def time(self) -> float:
        """Return the virtual time in seconds since the loop was made."""
        return self._now_s

    def next_task_number(self) -> int:
        """Return how many tasks were made, this one included."""
        self._tasks_made += 1
        return self._tasks_made

    # Processes ----------------------------------------------------------------------------------------------

    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> Task[T]:
        """Run `work`, and all that comes of it, as `process`."""
        context = contextvars.copy_context()
        context.run(PROCESS.set, process)
        return self.create_task(work, name=process.name, context=context)

    def go_on(self, process: Process) -> None:
        """Let a stopped process go on with what came up meanwhile."""
        process.stopped = False
        self._ready.extend(process.stash)  # type: ignore[attr-defined]
        process.stash.clear()

    def _may_run(self, handle: Handle) -> bool:
        process = handle._context.get(PROCESS)  # type: ignore[attr-defined]
        if process is None or self._haunted:
            return True
        if process.dead:
            self._graveyard.append(handle)
            return False
        if process.stopped:
            process.stash.append(handle)
            return False
        process.handles += 1
        if process.handles == process.dies_at:
            process.kill("at an await")
            self._graveyard.append(handle)
            return False
        return True

    # Death --------------------------------------------------------------------------------------------------

    def die(self) -> None:
        """Let nothing run any more after the callback that runs now."""
        self._dying = True

    def haunt(self, limit_s: float) -> None:
        """Let what died run again for at most `limit_s` virtual seconds, so that its tasks can be put away."""
        self._dying, self._dies_at = False, 0
        self._limit_s = self._now_s + limit_s
        self._haunted = True
        self._ready.extend(self._graveyard)  # type: ignore[attr-defined]
        self._graveyard.clear()

    # What is to be done -------------------------------------------------------------------------------------

    # As the parent's two methods do, without three more calls for each callback; those only find mistakes.

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> Handle:
        """Run a callback in the next round."""
        if self._debug or self._closed:  # type: ignore[attr-defined]
            return super().call_soon(callback, *args, context=context)
        handle = Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        """Run a callback at a moment; those of one moment begin in the order in which they were asked for, unless a seed
        draws it."""
        if self._debug or self._closed:  # type: ignore[attr-defined]
            self._check_closed()  # type: ignore[attr-defined]
            self._check_thread()  # type: ignore[attr-defined]
            self._check_callback(callback, "call_at")  # type: ignore[attr-defined]
        timer = TimerHandle(when, callback, args, self, context)
        self._timers_set += 1
        heapq.heappush(self._timers, (when, self._timers_set, timer))
        return timer

    def close(self) -> None:
        """Close the loop; what waits for its moment is dropped."""
        super().close()
        self._timers.clear()

    # One round ----------------------------------------------------------------------------------------------

    def _run_once(self) -> None:
        """Run what is ready at this moment; when nothing is, go to the moment of the next timer first."""
        ready: Any = self._ready  # type: ignore[attr-defined]
        if self._intruder:
            raise ThreadWakeUpError(f"the thread {self._intruder} called into a loop under virtual time")
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            self._jump()
        while timers and timers[0][0] <= self._now_s:
            timer = heapq.heappop(timers)[2]
            if not timer._cancelled:
                ready.append(timer)
        if self._rng is not None and len(ready) > 1:
            _shuffle(ready, self._rng.getrandbits)
        self._rounds += 1
        if self._rounds > _ROUNDS_AN_INSTANT:
            raise StandstillError(f"the virtual clock stands still at {self._now_s:g} s: {_waiting(self)}")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled or not self._may_run(handle):
                continue
            self.handles += 1
            if self.handles == self._dies_at:
                ready.appendleft(handle)
                raise LoopDied
            handle._run()
            if self._dying:
                raise LoopDied

    def _jump(self) -> None:
        if not self._timers:
            self._explain_silence()
        when_s = self._timers[0][0]
        if when_s > self._now_s:
            self._now_s = when_s
            self._rounds = 0
        if self._now_s > self._limit_s:
            raise VirtualTimeLimitError(f"{self._limit_s:g} virtual seconds have passed: {_waiting(self)}")

    def _explain_silence(self) -> None:
        strangers = set(threading.enumerate()) - self._threads
        if strangers:
            names = ", ".join(sorted(thread.name for thread in strangers))
            raise ThreadWakeUpError(f"only a thread can go on, which virtual time does not wait for: {names}")
        raise DeadlockError(f"every task waits, and no timer is set: {_waiting(self)}")

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
    """A task whose hash is its number: tasks are kept in sets, and the order of a set of addresses is luck."""

    def __init__(self, coro: Any, *, loop: VirtualLoop, **options: Any) -> None:
        # Before the parent's part, which puts the task into a set.
        self._number = loop.next_task_number()
        super().__init__(coro, loop=loop, **options)
        # A weak reference that lives is used again, its hash with it: anyio looks tasks up by one at each scope.
        self._reference = weakref.ref(self)

    def __hash__(self) -> int:
        return self._number


def _shuffle(ready: deque[Handle], getrandbits: Callable[[int], int]) -> None:
    """Shuffle as `random.Random.shuffle` does and with the same draws, without its four calls for each."""
    handles = list(ready)
    for last in range(len(handles) - 1, 0, -1):
        bits = (last + 1).bit_length()
        chosen = getrandbits(bits)
        while chosen > last:
            chosen = getrandbits(bits)
        handles[last], handles[chosen] = handles[chosen], handles[last]
    ready.clear()
    ready.extend(handles)


def _make_task(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T] | Generator[Any, None, T], **options: Any
) -> Future[T]:
    assert isinstance(loop, VirtualLoop)
    task = _NumberedTask(coro, loop=loop, **options)
    if loop.kept is not None:
        loop.kept.append(task)
    return task


def _waiting(loop: asyncio.AbstractEventLoop) -> str:
    names = sorted(task.get_name() for task in asyncio.all_tasks(loop))
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


class _NoSelector(selectors.BaseSelector):
    """Watches nothing: under virtual time nobody may wait for I/O."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        raise ThreadWakeUpError(f"{fileobj!r} would be waited for in real time")

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        raise KeyError(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}
