"""The standing shells of one machine, lent out for one script at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio

from fraisier.transports.lane import Lane

_FEW = 4
_PATIENCE_S = 0.02
_QUEUE_S = 0.2


class _Waiter:
    """Somebody who waits for a shell: he is handed one that is given back, or may open another."""

    def __init__(self) -> None:
        self.called = anyio.Event()
        self.since_s = anyio.current_time()
        self.lane: Lane | None = None


class Lanes:
    """As few shells as do: each is taken back, and lent to whoever has waited longest.

    A shell costs more than most scripts take, so it pays to wait for one a moment. When none came back for that moment, all
    are busy with something long, and when the first has waited ten times as long, too many are: then as many again may be
    opened, so that long scripts hold up nobody.

    Targets that are the same machine share them. `env` is the whole environment of the shells.
    """

    def __init__(self, env: Mapping[str, str], *, grace_s: float) -> None:
        self._env = dict(env)
        self._grace_s = grace_s
        self._idle: list[Lane] = []
        self._waiting: deque[_Waiter] = deque()
        self._open = 0
        # On the loop's clock: when a shell was given back last, and when leave was given to open more.
        self._given_back_s = self._grown_s = 0.0

    @property
    def open(self) -> int:
        """How many shells there are, lent or not."""
        return self._open

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Lane]:
        """Lend a shell for the block. One whose script was cut off, or that ended, is ended for good.

        Raises ProviderConnectionError when none can be started."""
        lane = await self._take()
        try:
            yield lane
        except BaseException:
            self._forget_one()
            await lane.kill(grace_s=self._grace_s)
            raise
        if not lane.usable:
            self._forget_one()
            await lane.aclose(grace_s=self._grace_s)
            return
        self._give_back(lane)

    def _give_back(self, lane: Lane) -> None:
        self._given_back_s = anyio.current_time()
        if self._waiting:
            waiter = self._waiting.popleft()
            waiter.lane = lane
            waiter.called.set()
        else:
            self._idle.append(lane)

    def _forget_one(self) -> None:
        """A shell is gone: who waits for it may have another in its place."""
        self._open -= 1
        self._call(1)

    def _call(self, count: int) -> None:
        """Let the first `count` who wait open a shell each."""
        for _ in range(min(count, len(self._waiting))):
            self._open += 1
            self._waiting.popleft().called.set()

    async def _take(self) -> Lane:
        if self._idle:
            return self._idle.pop()
        if self._open >= _FEW:
            if lane := await self._wait():
                return lane
        else:
            self._open += 1
        try:
            return await Lane.open(self._env)
        except BaseException:
            self._forget_one()
            raise

    async def _wait(self) -> Lane | None:
        """Return a shell that was given back, or None for leave to open one, which counts as open already."""
        waiter = _Waiter()
        self._waiting.append(waiter)
        pause_s = _PATIENCE_S
        try:
            while not waiter.called.is_set():
                with anyio.move_on_after(pause_s):
                    await waiter.called.wait()
                pause_s = min(2 * pause_s, _QUEUE_S)  # many who wait look often enough together
                if self._needs_more():
                    self._grown_s = anyio.current_time()
                    self._call(self._open)
        except BaseException:
            if not waiter.called.is_set():
                self._waiting.remove(waiter)
            elif waiter.lane is not None:
                self._give_back(waiter.lane)
            else:
                self._forget_one()
            raise
        return waiter.lane

    def _needs_more(self) -> bool:
        now_s = anyio.current_time()
        if not self._waiting or now_s - self._grown_s < _PATIENCE_S:
            return False
        return now_s - self._given_back_s >= _PATIENCE_S or now_s - self._waiting[0].since_s >= _QUEUE_S

    async def aclose(self) -> None:
        """End every shell that is not lent."""
        idle, self._idle = self._idle, []
        self._open -= len(idle)
        async with anyio.create_task_group() as group:
            for number, lane in enumerate(idle):
                group.start_soon(self._end, lane, name=f"close:lane-{number}")

    async def _end(self, lane: Lane) -> None:
        await lane.aclose(grace_s=self._grace_s)
