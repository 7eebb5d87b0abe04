"""The standing shells of one machine, lent out for one script at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio

from fraisier.transports.lane import Lane


class Lanes:
    """As many shells as are in use at once, and no more: each is taken back, and lent again to whoever asks next.

    Targets that are the same machine share them. `env` is the whole environment of the shells.
    """

    def __init__(self, env: Mapping[str, str], *, grace_s: float) -> None:
        self._env = dict(env)
        self._grace_s = grace_s
        self._idle: list[Lane] = []

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Lane]:
        """Lend a shell for the block. One whose script was cut off, or that ended, is ended for good.

        Raises ProviderConnectionError when none can be started."""
        lane = await self._take()
        try:
            yield lane
        except BaseException:
            await lane.kill(grace_s=self._grace_s)
            raise
        self._idle.append(lane)

    async def _take(self) -> Lane:
        while self._idle:
            lane = self._idle.pop()
            if lane.usable:
                return lane
            await lane.aclose(grace_s=self._grace_s)
        return await Lane.open(self._env)

    async def aclose(self) -> None:
        """End every shell that is not lent."""
        idle, self._idle = self._idle, []
        async with anyio.create_task_group() as group:
            for number, lane in enumerate(idle):
                group.start_soon(self._end, lane, name=f"close:lane-{number}")

    async def _end(self, lane: Lane) -> None:
        await lane.aclose(grace_s=self._grace_s)
