"""The durations of probes: a histogram that takes whole tallies, because a verdict in the journal carries
only those."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from fraisier.metrics.catalogue import SERIES_MAX, MetricSpec, label

_Key = tuple[str, str]
_OTHER: _Key = ("other", "other")


class ProbeDurations:
    """Tallies by provider and type of check. Written on the event loop, read by the thread that renders."""

    def __init__(self, spec: MetricSpec) -> None:
        self.spec = spec
        self._bounds = (*spec.buckets, math.inf)
        self._tallies: dict[_Key, list[int]] = {}
        self._sums: dict[_Key, float] = {}
        self._lock = threading.Lock()

    def observe(self, provider: str, check_type: str, duration_s: float) -> None:
        """Count one probe."""
        with self._lock:
            key = self._key(provider, check_type)
            self._count(key, duration_s, 1)
            self._add(key, duration_s)

    def add(self, provider: str, check_type: str, buckets: Mapping[str, int], sum_s: float) -> None:
        """Count the probes of a verdict: how many under each upper bound (`+Inf` above all), and their
        sum."""
        with self._lock:
            key = self._key(provider, check_type)
            for bound, number in buckets.items():
                self._count(key, _seconds(bound), number)
            if buckets:
                self._add(key, sum_s)

    def _key(self, provider: str, check_type: str) -> _Key:
        """Return the labels to count under: when there are SERIES_MAX already, what is new is `other`."""
        key = (label(provider), label(check_type))
        is_full = key not in self._tallies and len(self._tallies) >= SERIES_MAX
        return _OTHER if is_full else key

    def _count(self, key: _Key, value_s: float, number: int) -> None:
        tally = self._tallies.setdefault(key, [0] * len(self._bounds))
        tally[bisect_left(self._bounds, value_s)] += number

    def _add(self, key: _Key, sum_s: float) -> None:
        self._sums[key] = self._sums.get(key, 0.0) + sum_s

    def snapshot(self) -> list[tuple[_Key, list[tuple[str, int]], float]]:
        """Return, for each pair of labels, the cumulative counts by upper bound, and the sum in seconds."""
        with self._lock:
            tallies = {key: list(tally) for key, tally in self._tallies.items()}
            sums = dict(self._sums)
        return [(key, self._cumulative(tally), sums.get(key, 0.0)) for key, tally in tallies.items()]

    def _cumulative(self, tally: list[int]) -> list[tuple[str, int]]:
        total = 0
        rows = []
        for bound, number in zip(self._bounds, tally, strict=True):
            total += number
            rows.append(("+Inf" if math.isinf(bound) else str(float(bound)), total))
        return rows

    def collector(self, prometheus: ModuleType) -> Any:
        """Return what a registry collects from."""
        return _Collector(self, prometheus)


class _Collector:
    def __init__(self, durations: ProbeDurations, prometheus: ModuleType) -> None:
        self._durations = durations
        self._family = prometheus.core.HistogramMetricFamily

    def describe(self) -> Iterator[Any]:
        """Yield the metric without values, so that a registry refuses a second one of the name."""
        spec = self._durations.spec
        yield self._family(spec.name, spec.help, labels=spec.labels)

    def collect(self) -> Iterator[Any]:
        """Yield the metric with its values."""
        spec = self._durations.spec
        family = self._family(spec.name, spec.help, labels=spec.labels)
        for labels, buckets, sum_s in self._durations.snapshot():
            family.add_metric(labels, buckets, sum_s)
        yield family


def _seconds(bound: str) -> float:
    try:
        return float(bound)
    except ValueError:
        return math.inf
