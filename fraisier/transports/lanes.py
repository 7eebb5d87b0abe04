"""The standing shells of one machine, lent out for one script at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio

from fraisier.transports.lane import Lane

_FEW = 3
_PATIENCE_S = 0.02


class Lanes:
    """About as many shells as are in use at once: each is taken back, and lent again to whoever asks next.

    Targets that are the same machine share them. `env` is the whole environment of the shells.
    """

    def __init__(self, env: Mapping[str, str], *, grace_s: float) -> None:
        self._env = dict(env)
        self._grace_s = grace_s
        self._idle: list[Lane] = []
        self._open = 0
        self._given_back = anyio.Event()

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Lane]:
        """Lend a shell for the block. One whose script was cut off, or that ended, is ended for good.

        Raises ProviderConnectionError when none can be started."""
        lane = await self._take()
        try:
            yield lane
        except BaseException:
            self._open -= 1
            await lane.kill(grace_s=self._grace_s)
            raise
        if not lane.usable:
            self._open -= 1
            await lane.aclose(grace_s=self._grace_s)
            return
        self._idle.append(lane)
        self._given_back.set()

    async def _take(self) -> Lane:
        if not self._idle and self._open >= _FEW:
            # A shell costs more than most scripts take, so it pays to wait for one a moment; long scripts hold up nobody.
            with anyio.move_on_after(_PATIENCE_S):
                while not self._idle:
                    self._given_back = anyio.Event() if self._given_back.is_set() else self._given_back
                    await self._given_back.wait()
        if self._idle:
            return self._idle.pop()
        self._open += 1
        try:
            return await Lane.open(self._env)
        except BaseException:
            self._open -= 1
            raise

    async def aclose(self) -> None:
        """End every shell that is not lent."""
        idle, self._idle = self._idle, []
        self._open -= len(idle)
        async with anyio.create_task_group() as group:
            for number, lane in enumerate(idle):
                group.start_soon(self._end, lane, name=f"close:lane-{number}")

    async def _end(self, lane: Lane) -> None:
        await lane.aclose(grace_s=self._grace_s)
