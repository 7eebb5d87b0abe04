"""A wall clock and identifiers that are the same in every run."""

from __future__ import annotations

import asyncio
import random

from fraisier.clock import Clock
from fraisier.ids import SystemIds
from fraisier.simulation.loop import VirtualLoop

START_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z, where a `VirtualClock` begins unless told otherwise."""


class VirtualClock:
    """A `Clock` that follows the virtual time of the running loop; outside `run_virtual` it stands still.

    `shift` sets the wall clock forward or back, as an administrator or NTP would, without any time going by.
    """

    def __init__(self, start_us: int = START_US) -> None:
        self._start_us = start_us

    def now_us(self) -> int:
        """Return the start plus the virtual time, in microseconds since the epoch."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._start_us
        if not isinstance(loop, VirtualLoop):
            return self._start_us
        return self._start_us + round(loop.time() * 1_000_000)

    def shift(self, by_s: float) -> None:
        """Move the wall clock by `by_s` seconds; negative goes back."""
        self._start_us += round(by_s * 1_000_000)


class SeededIds(SystemIds):
    """`Ids` that are the same in every run with the same seed and clock (a new `VirtualClock` by default)."""

    def __init__(self, seed: int = 0, clock: Clock | None = None) -> None:
        super().__init__(clock or VirtualClock(), random.Random(seed))  # noqa: S311 - the same ones are the point
