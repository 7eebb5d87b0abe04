"""One simulated operating system process among others: it can be killed, stopped and continued at any await."""

from __future__ import annotations

from asyncio import Handle
from collections.abc import Callable
from contextvars import ContextVar


class Process:
    """What runs in the context of a process belongs to it, with all the tasks and timers that come of it.

    `handles` counts the stretches between two awaits that ran; the one with the number `dies_at` does not. `pid` names it
    for others. `on_death` is called once, right when it dies: from then on its ports must be mute. `died_of` says at which
    kind of place it died (empty: nothing killed it).
    """

    def __init__(self, name: str, *, pid: int = 0, dies_at: int = 0) -> None:
        self.name = name
        self.pid = pid
        self.dies_at = dies_at
        self.handles = 0
        self.dead = False
        self.died_of = ""
        self.ended = False
        self.stopped = False
        self.stash: list[Handle] = []
        self.on_death: list[Callable[[], None]] = []

    @property
    def gone(self) -> bool:
        """Whether it was killed, or came to its end by itself."""
        return self.dead or self.ended

    def kill(self, died_of: str = "by a signal") -> None:
        """End it as SIGKILL does: nothing of it runs any more, not even its clean-up."""
        if not self.gone:
            self.dead, self.died_of = True, died_of
            for tell in self.on_death:
                tell()


PROCESS: ContextVar[Process | None] = ContextVar("fraisier_simulated_process", default=None)
"""The process that the running code belongs to; None for the world itself."""
