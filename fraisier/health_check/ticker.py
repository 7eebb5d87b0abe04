"""A fixed rate by the loop's clock."""

from __future__ import annotations

import math

import anyio

from fraisier.health_check.tally import Tally


class Ticker:
    """Ticks at whole multiples of the interval since it was made. Ticks that are missed are left out, never
    made up for, and counted in `tally` with the largest lag."""

    def __init__(self, interval_s: float, tally: Tally) -> None:
        self._interval_s = interval_s
        self._tally = tally
        self._started = anyio.current_time()
        self._last: int | None = None

    async def tick(self, until: float = math.inf) -> None:
        """Wait for the next tick, or for the time `until` if that comes first."""
        now = anyio.current_time()
        passed = math.floor((now - self._started) / self._interval_s + 1e-9)
        if self._last is not None:
            self._tally.ticks_skipped += max(0, passed - self._last)
        self._last = passed + 1
        upcoming = min(self._started + (passed + 1) * self._interval_s, max(until, now))
        await anyio.sleep_until(upcoming)
        self._tally.tick_lag_s = max(self._tally.tick_lag_s, anyio.current_time() - upcoming)
