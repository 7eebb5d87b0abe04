"""What a process measures of itself: its bus, its journal, its event loop; and the exposition."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from operator import add
from typing import Any

import anyio

from fraisier._version import __version__
from fraisier.bus.statistics import BusStatistics
from fraisier.journal.base import JournalStatistics
from fraisier.metrics.catalogue import METRICS, SPECS, combined, subscriber_label
from fraisier.metrics.deployment import load_prometheus


class RuntimeMetrics:
    """Asks the bus and the journal at the moment of a scrape; registers itself in `registry`.

    `bus` and `journal` are their `statistics` methods; what is None is left out. Does nothing without
    prometheus_client.
    """

    def __init__(
        self,
        registry: Any,
        *,
        bus: Callable[[], BusStatistics] | None = None,
        journal: Callable[[], JournalStatistics] | None = None,
    ) -> None:
        self._bus = bus
        self._journal = journal
        self._lag_s: float | None = None
        self._lock = threading.Lock()
        prometheus = load_prometheus()
        if prometheus is not None:
            core = prometheus.core
            self._families = {
                "counter": core.CounterMetricFamily,
                "gauge": core.GaugeMetricFamily,
                "summary": core.SummaryMetricFamily,
            }
            registry.register(self)

    def record_loop_lag(self, lag_s: float) -> None:
        """Note how late the event loop was."""
        with self._lock:
            self._lag_s = lag_s

    def describe(self) -> Iterator[Any]:
        """Yield every metric without values."""
        for spec in METRICS:
            if spec.source == "process":
                yield self._family(spec.name)

    def collect(self) -> Iterator[Any]:
        """Yield every metric that there is something to say about."""
        build = self._family("fraisier_build_info")
        build.add_metric((__version__,), 1)
        yield build
        with self._lock:
            lag_s = self._lag_s
        if lag_s is not None:
            lag = self._family("fraisier_event_loop_lag_seconds")
            lag.add_metric((), lag_s)
            yield lag
        if self._journal is not None:
            yield from self._of_journal(self._journal())
        if self._bus is not None:
            yield from self._of_bus(self._bus())

    def _of_journal(self, statistics: JournalStatistics) -> Iterator[Any]:
        events = self._family("fraisier_journal_events_total")
        events.add_metric((), statistics.appended)
        yield events
        commits = self._family("fraisier_journal_commit_seconds")
        commits.add_metric((), statistics.commits, statistics.commit_s)
        yield commits

    def _of_bus(self, statistics: BusStatistics) -> Iterator[Any]:
        # A stream belongs to whoever iterates over it and may have any name; it would make series without end.
        named = [
            ((subscriber_label(one.name),), one)
            for one in statistics.subscribers.values()
            if one.kind != "stream"
        ]
        yield self._shown("fraisier_subscriber_lag_events", [(key, one.lag) for key, one in named], max)
        yield self._shown(
            "fraisier_subscriber_dropped_total", [(key, one.dropped) for key, one in named], add
        )
        yield self._shown("fraisier_dead_letters_total", [(key, one.dead_letters) for key, one in named], add)

    def _shown(
        self, name: str, values: list[tuple[tuple[str], int]], how: Callable[[float, float], float]
    ) -> Any:
        family = self._family(name)
        for labels, value in combined(values, how).items():
            family.add_metric(labels, value)
        return family

    def _family(self, name: str) -> Any:
        spec = SPECS[name]
        return self._families[spec.kind](spec.name, spec.help, labels=spec.labels)


async def measure_loop_lag(record: Callable[[float], None], *, interval_s: float = 1.0) -> None:
    """Sleep again and again, and record how much longer each sleep took than asked. Runs until it is
    cancelled."""
    while True:
        due = anyio.current_time() + interval_s
        await anyio.sleep(interval_s)
        record(max(0.0, anyio.current_time() - due))


class _WithoutCreated:
    """A registry without the times at which its series were made: that is when this process began to count, and says
    nothing of the deployments that it counts."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Any]:
        """Yield the metrics."""
        for metric in self._registry.collect():
            metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
            yield metric


def render(registry: Any) -> bytes:
    """Return the exposition of a registry in the text format (empty without prometheus_client).

    It is slow for an event loop: run it in a thread.
    """
    return render_for(registry, "")[0]


def render_for(registry: Any, accept: str) -> tuple[bytes, str]:
    """Return the exposition in the format that an Accept header asks for (OpenMetrics or text), and its content type.

    It is slow for an event loop: run it in a thread.
    """
    prometheus = load_prometheus()
    if prometheus is None or registry is None:
        return b"", "text/plain"
    encode, content_type = prometheus.exposition.choose_encoder(accept)
    text: bytes = encode(_WithoutCreated(registry))
    return text, str(content_type)
