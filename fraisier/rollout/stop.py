"""How a deployment that is under way is told to stop, to wait, or to go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from fraisier.errors import InterruptedError
from fraisier.rollout.beside import beside

T = TypeVar("T")


class StopSignal:
    """What people want of one deployment. A stop and an abort are final; a pause ends by `go_on`.

    Looked at before each step, it ends every wait that is not a step. Everything here may be called again, and from a
    signal handler."""

    def __init__(self) -> None:
        self.reason = ""
        self.aborted = False
        self.paused = False
        self.waits_for = ""
        """What the deployment waits for that a person may cut short; empty while it waits for nothing."""
        self._changed = anyio.Event()
        self._skips = 0
        self._watchers: list[Callable[[], None]] = []

    def request(self, reason: str, *, abort: bool = False) -> None:
        """Ask for an orderly stop: running steps finish, no new one begins. An abort also puts right what was begun."""
        self.aborted = self.aborted or abort
        if not self.reason:
            self.reason = reason
        self._wake()

    def pause(self) -> None:
        """Let no further target be changed."""
        self.paused = True
        self._wake()

    def go_on(self) -> None:
        """End a pause, and the wait between two waves."""
        self.paused = False
        self._skips += 1
        self._wake()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` whenever something was asked for."""
        self._watchers.append(watcher)

    def check(self) -> None:
        """Raise InterruptedError when a stop was asked for."""
        if self.reason:
            raise InterruptedError(f"stopped: {self.reason}")

    async def sleep(self, seconds: float) -> None:
        """Wait, but not past a stop. Raises InterruptedError then."""
        with anyio.move_on_after(seconds):
            while not self.reason:
                await self.change()
        self.check()

    async def sleep_or_skip(self, seconds: float, what: str) -> None:
        """Wait for `what` (in words), not past a stop, a pause, or a person who wants to go on now."""
        skips, self.waits_for = self._skips, what
        try:
            with anyio.move_on_after(seconds):
                while not self.reason and not self.paused and self._skips == skips:
                    await self.change()
        finally:
            self.waits_for = ""
        self.check()

    async def unless_asked(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what `work` returns, unless a stop is asked for first: then it is cancelled. Raises InterruptedError, and
        what `work` raises."""

        async def watch() -> None:
            while not self.reason:
                await self.change()
            scope.cancel()

        with anyio.CancelScope() as scope:
            return await beside(work, watch, "stop")
        self.check()
        raise AssertionError("cancelled without a stop")  # pragma: no cover - only a stop cancels the scope

    async def change(self) -> None:
        """Wait until something is asked for."""
        await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
        for watcher in self._watchers:
            watcher()
