"""Wall-clock time as a port. Durations and deadlines use the event loop's clock through anyio."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the wall-clock time; doubles live in `fraisier.testing`."""

    def now_us(self) -> int:
        """Return microseconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        """Return microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000


def rfc3339(at_us: int) -> str:
    """Return `at_us` (microseconds since the epoch) as an RFC 3339 time in UTC with microseconds."""
    moment = datetime.fromtimestamp(at_us // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_us % 1_000_000:06d}Z"
