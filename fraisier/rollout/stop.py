"""How a deployment is asked to stop at the next step boundary."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from fraisier.errors import InterruptedError


class StopSignal:
    """Set once by a person or a signal; looked at before each step, and ends every wait that is not a step."""

    def __init__(self) -> None:
        self.reason = ""
        self._asked = anyio.Event()
        self._watchers: list[Callable[[], None]] = []

    def request(self, reason: str) -> None:
        """Ask for an orderly stop: running steps finish, no new one begins. Safe to call again."""
        if self.reason:
            return
        self.reason = reason
        self._asked.set()
        for watcher in self._watchers:
            watcher()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` when a stop is asked for."""
        self._watchers.append(watcher)

    def check(self) -> None:
        """Raise InterruptedError when a stop was asked for."""
        if self.reason:
            raise InterruptedError(f"stopped: {self.reason}")

    async def sleep(self, seconds: float) -> None:
        """Wait, but not past a stop. Raises InterruptedError then."""
        with anyio.move_on_after(seconds):
            await self._asked.wait()
        self.check()
