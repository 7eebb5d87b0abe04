"""Counts the probes of one verdict."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio

from fraisier.health_check.base import HealthCheckResult

BOUNDS_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
LABELS = ("0.1", "0.5", "1", "2", "5", "10", "+Inf")


@dataclass
class Tally:
    """Probes by status, and by duration: each counted in the one bucket (upper bound in seconds) that it
    falls into."""

    counts: dict[str, int] = field(default_factory=dict)
    buckets: dict[str, int] = field(default_factory=dict)
    probes_s: float = 0.0
    last: HealthCheckResult | None = None
    last_verdict: HealthCheckResult | None = None
    """The last result that was a pass or a fail."""
    last_verdict_at: float = 0.0
    ticks_skipped: int = 0
    """Probes that were left out because the one before took longer than the interval."""
    tick_lag_s: float = 0.0
    """How late the latest probe began."""

    @property
    def age_s(self) -> float:
        """Seconds since the last pass or fail."""
        return anyio.current_time() - self.last_verdict_at

    def add(self, result: HealthCheckResult) -> None:
        """Count a result."""
        label = LABELS[sum(result.duration > bound for bound in BOUNDS_S)]
        self.counts[result.status] = self.counts.get(result.status, 0) + 1
        self.buckets[label] = self.buckets.get(label, 0) + 1
        self.probes_s += result.duration
        self.last = result
        if result.status != "error":
            self.last_verdict = result
            self.last_verdict_at = anyio.current_time()

    def summary(self) -> str:
        """Return `3 pass, 1 fail`, or that there was none."""
        return ", ".join(f"{count} {status}" for status, count in self.counts.items()) or "no probe"
