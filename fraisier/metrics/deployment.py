"""The metrics in a registry. Without prometheus_client everything here exists and does nothing."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Protocol

from fraisier.metrics.catalogue import METRICS, SERIES_MAX, SPECS, MetricSpec, label
from fraisier.metrics.probes import ProbeDurations

_PROBES = "fraisier_health_check_duration_seconds"


class Series(Protocol):
    """One metric with its labels given; a counter knows `inc`, a gauge `set`, a histogram `observe`."""

    def inc(self, amount: float = 1) -> None:
        """Add to a counter or gauge."""

    def set(self, value: float) -> None:
        """Set a gauge."""

    def observe(self, amount: float) -> None:
        """Put a value into a histogram."""


class _Nothing:
    """A series of a registry that does not exist."""

    def inc(self, amount: float = 1) -> None:
        """Count nothing."""

    def set(self, value: float) -> None:
        """Set nothing."""

    def observe(self, amount: float) -> None:
        """Observe nothing."""


def load_prometheus() -> ModuleType | None:
    """Return prometheus_client, or None when it is not installed. It is loaded late because it is slow to
    import."""
    try:
        importlib.import_module("prometheus_client.core")
        return importlib.import_module("prometheus_client")
    except ImportError:
        return None


class DeploymentMetrics:
    """The metrics that events feed, registered in `registry` (a new one when None).

    `registry` is a prometheus_client.CollectorRegistry; registering twice in one raises its ValueError.
    `enabled` is False, and `registry` None, when prometheus_client is missing.
    """

    def __init__(self, registry: Any | None = None) -> None:
        prometheus = load_prometheus()
        self.enabled = prometheus is not None
        self.registry = registry
        self._families: dict[str, Any] = {}
        self._known: dict[str, dict[tuple[str, ...], Series]] = {}
        self.probes = ProbeDurations(SPECS[_PROBES])
        if prometheus is None:
            return
        if self.registry is None:
            self.registry = prometheus.CollectorRegistry()
        for spec in METRICS:
            if spec.source == "events" and spec.name != _PROBES:
                self._families[spec.name] = _family(prometheus, spec, self.registry)
        self.registry.register(self.probes.collector(prometheus))

    def series(self, name: str, *labels: str) -> Series:
        """Return the series of a metric with its labels' values, in the order of the catalogue.

        A metric that has SERIES_MAX of them gets no more: what is new is counted under `other`.
        """
        known = self._known.setdefault(name, {})
        return known.get(labels) or self._open(name, known, labels)

    def _open(self, name: str, known: dict[tuple[str, ...], Series], labels: tuple[str, ...]) -> Series:
        family = self._families.get(name)
        if family is None:
            return _Nothing()
        clean = tuple(label(value) for value in labels)
        if clean not in known and len(known) >= SERIES_MAX:
            clean = ("other",) * len(clean)
        if clean not in known:
            known[clean] = family.labels(*clean)
        return known[clean]

    def samples(self, name: str) -> Iterable[tuple[dict[str, str], float]]:
        """Yield labels and value of each series of a counter or gauge."""
        family = self._families.get(name)
        for metric in family.collect() if family is not None else ():
            for sample in metric.samples:
                if sample.name == name:
                    yield sample.labels, sample.value


def _family(prometheus: ModuleType, spec: MetricSpec, registry: Any) -> Any:
    if spec.kind == "histogram":
        return prometheus.Histogram(
            spec.name, spec.help, spec.labels, buckets=spec.buckets, registry=registry
        )
    kinds = {"counter": prometheus.Counter, "gauge": prometheus.Gauge}
    return kinds[spec.kind](spec.name, spec.help, spec.labels, registry=registry)
