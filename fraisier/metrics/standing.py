"""How things stand: what a store's tables say at the moment of a scrape, as metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from operator import add
from typing import Any

import msgspec

from fraisier.events import Holder
from fraisier.journal.base import Follower, Journal
from fraisier.journal.state import OPEN_STATES, DeploymentState, LeaseState, Placement
from fraisier.metrics.catalogue import METRICS, SPECS, combined, label, subscriber_label
from fraisier.metrics.deployment import load_prometheus

IsDead = Callable[[Holder], bool]
"""Whether the holder of a lease is gone beyond doubt."""

PAIRS_MAX = 500
"""So many pairs of fraise and environment are shown; the names of any more would make series without end."""

_OPEN_MAX = 1000
_HEALTH = ("healthy", "unhealthy", "unknown")
_Pair = tuple[str, str]


class Standing(msgspec.Struct, frozen=True):
    """What was found: gauges by pair of fraise and environment, and the followers of the log up to `head`."""

    active: dict[str, int] = {}
    unfinished: dict[tuple[str, str, str], int] = {}
    targets: dict[tuple[str, str, str], int] = {}
    held: dict[_Pair, bool] = {}
    frozen: dict[_Pair, bool] = {}
    followers: tuple[Follower, ...] = ()
    head: int = 0
    store_bytes: int = 0


async def look(journal: Journal, *, now_us: int, is_dead: IsDead, store_bytes: int) -> Standing:
    """Ask the tables of a journal how things stand. Raises DatabaseError."""
    leases = await journal.leases()
    placements = [place for place in await journal.placements() if place.health != "removed"]
    unfinished = [
        found for state in OPEN_STATES for found in await journal.deployments(state=state, limit=_OPEN_MAX)
    ]
    held = {(lease.fraise, lease.environment): _is_live(lease, now_us, is_dead) for lease in leases}
    frozen = {(lease.fraise, lease.environment): lease.is_frozen(now_us) for lease in leases}
    live = {lease.deployment_id for lease in leases if held[lease.fraise, lease.environment]}
    placed = {(place.fraise, place.environment) for place in placements}
    begun = {(found.fraise, found.environment) for found in unfinished}
    pairs = sorted({*held, *placed, *begun})[:PAIRS_MAX]
    active = Counter(
        found.provider
        for found in unfinished
        if found.kind != "rollback" and found.started_us and found.id in live
    )
    return Standing(
        active=dict(active),
        unfinished=_unfinished(pairs, unfinished, live),
        targets=_targets(pairs, placements),
        held={pair: held.get(pair, False) for pair in pairs},
        frozen={pair: frozen.get(pair, False) for pair in pairs},
        followers=tuple(await journal.followers()),
        head=journal.head,
        store_bytes=store_bytes,
    )


def _is_live(lease: LeaseState, now_us: int, is_dead: IsDead) -> bool:
    """Whether somebody holds it: neither given back nor expired, and its holder not known to be dead."""
    return lease.held and lease.expires_us > now_us and not is_dead(lease.holder)


def _unfinished(
    pairs: list[_Pair], rows: list[DeploymentState], live: set[str]
) -> dict[tuple[str, str, str], int]:
    found = {(*pair, state): 0 for pair in pairs for state in OPEN_STATES}
    for row in rows:
        key = (row.fraise, row.environment, _state(row, live))
        if key in found:
            found[key] += 1
    return found


def _state(row: DeploymentState, live: set[str]) -> str:
    """Return the state of an unfinished deployment: one that acts, says the journal, and whose process is gone, was
    interrupted. A linked rollback is carried out under the lock of the deployment that it undoes."""
    if row.state in ("running", "rolling_back") and live.isdisjoint((row.id, row.rollback_of)):
        return "interrupted"
    return row.state


def _targets(pairs: list[_Pair], placements: list[Placement]) -> dict[tuple[str, str, str], int]:
    found = {(*pair, health): 0 for pair in pairs for health in _HEALTH}
    for place in placements:
        if not place.release:
            continue  # what it served was taken back, and there was nothing before it
        health = place.health if place.health in _HEALTH else "unknown"
        key = (place.fraise, place.environment, health)
        if key in found:
            found[key] += 1
    return found


class StandingMetrics:
    """Shows what was found last; registers itself in `registry`. Without prometheus_client it shows nothing."""

    def __init__(self, registry: Any) -> None:
        self.found = Standing()
        prometheus = load_prometheus()
        if prometheus is not None:
            core = prometheus.core
            self._families = {"counter": core.CounterMetricFamily, "gauge": core.GaugeMetricFamily}
            registry.register(self)

    def describe(self) -> Iterator[Any]:
        """Yield every metric of the store without values."""
        for spec in METRICS:
            if spec.source == "store":
                yield self._family(spec.name)

    def collect(self) -> Iterator[Any]:
        """Yield the metrics with their values."""
        found = self.found  # replaced as a whole by the event loop while a thread collects
        yield self._gauge("fraisier_unfinished_deployments", found.unfinished, add)
        yield self._gauge("fraisier_targets", found.targets, add)
        yield self._gauge("fraisier_lease_held", found.held, max)
        yield self._gauge("fraisier_frozen", found.frozen, max)
        yield self._gauge("fraisier_store_bytes", {(): found.store_bytes}, max)
        yield self._gauge("fraisier_journal_events_total", {(): found.head}, max)
        named = [(subscriber_label(one.subscriber), one) for one in found.followers]
        lags = [((name,), found.head - one.position) for name, one in named if one.position is not None]
        yield self._shown("fraisier_subscriber_lag_events", combined(lags, max))
        parked = [((name,), one.dead_letters) for name, one in named]
        yield self._shown("fraisier_dead_letters_total", combined(parked, add))

    def _gauge(self, name: str, values: Mapping[Any, float], how: Callable[[float, float], float]) -> Any:
        clean = ((tuple(label(one) for one in labels), value) for labels, value in values.items())
        return self._shown(name, combined(clean, how))

    def _shown(self, name: str, values: Mapping[tuple[str, ...], float]) -> Any:
        family = self._family(name)
        for labels, value in values.items():
            family.add_metric(labels, float(value))
        return family

    def _family(self, name: str) -> Any:
        spec = SPECS[name]
        return self._families[spec.kind](spec.name, spec.help, labels=spec.labels)
