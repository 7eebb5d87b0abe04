"""A fixed rate by the loop's clock."""

from __future__ import annotations

import math

import anyio


class Ticker:
    """Ticks at whole multiples of the interval since it was made. Ticks that are missed are left out, never
    made up for."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._started = anyio.current_time()

    async def tick(self, until: float = math.inf) -> None:
        """Wait for the next tick, or for the time `until` if that comes first."""
        now = anyio.current_time()
        passed = math.floor((now - self._started) / self._interval_s + 1e-9)
        upcoming = self._started + (passed + 1) * self._interval_s
        await anyio.sleep_until(min(upcoming, max(until, now)))
