"""How deployments went, in figures: those of the dashboard's panels, from the journal instead of from Prometheus."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fraisier.clock import rfc3339
from fraisier.health_check.tally import LABELS
from fraisier.journal.base import Journal
from fraisier.journal.tally import Outcome, Probes, Slots, Tally

SLOTS_MAX = 48
"""So many stretches of time at most are told apart."""

_HOUR_US = 3_600_000_000
_WIDTHS_H = (1, 3, 6, 12, 24, 48, 168, 720, 2160, 8760)
_ACTING = ("running", "rolling_back")
_ACTIVE_MAX = 1000
_GOOD = frozenset({"succeeded", "unchanged"})
_MANUAL = "requested"
"""The reason of a rollback that a person asked for."""


async def stats(journal: Journal, *, days: int, now_us: int, fraise: str = "") -> dict[str, Any]:
    """Return the figures of the last days (of one fraise when named), and how they moved over time.

    The document is that of `fraisier stats --json`. Durations are in seconds; the lists in `over_time` have one entry for
    each slot, oldest first, None where there was nothing to take it of.
    """
    slots = slots_of(days, now_us)
    tally = await journal.tally(slots, fraise=fraise)
    deployed = [row for row in tally.outcomes if row.kind == "deploy"]
    groups: dict[str, list[Outcome]] = {}
    for row in deployed:
        groups.setdefault(f"{row.fraise}/{row.environment}", []).append(row)
    rollbacks = _rollbacks(tally)
    return {
        "days": days,
        **_figures(deployed),
        "active": await _active(journal, fraise),
        "rollbacks": sum(1 for row in tally.outcomes if row.kind == "rollback"),
        "rollbacks_by_reason": _totals(rollbacks),
        "errors": _totals(tally.errors),
        "health_checks": [_checks(kind, found) for kind, found in sorted(tally.probes.items())],
        "fraises": [{"name": name, **_figures(group)} for name, group in sorted(groups.items())],
        "over_time": _over_time(tally, deployed, rollbacks),
    }


def slots_of(days: int, now_us: int) -> Slots:
    """Return equal slots that cover the last days, as wide as people count time, at most SLOTS_MAX of them."""
    hours = days * 24
    for width_h in _WIDTHS_H:
        if hours <= width_h * SLOTS_MAX:
            break
    else:
        width_h = math.ceil(hours / SLOTS_MAX)
    return Slots(max(0, now_us - hours * _HOUR_US), width_h * _HOUR_US, math.ceil(hours / width_h))


async def _active(journal: Journal, fraise: str) -> int:
    """Return how many deployments act on targets now, whenever they were asked for; linked rollbacks are part of theirs."""
    found = [
        row
        for state in _ACTING
        for row in await journal.deployments(fraise=fraise, state=state, limit=_ACTIVE_MAX)
    ]
    return sum(1 for row in found if row.kind == "deploy")


def _figures(rows: Sequence[Outcome]) -> dict[str, Any]:
    outcomes = Counter(row.outcome or row.state for row in rows)
    spent = sorted(row.duration_s for row in rows if row.duration_s > 0)
    middle = percentile(spent, 50)
    return {
        "deployments": len(rows),
        "outcomes": dict(sorted(outcomes.items())),
        "success_rate": _success_rate(rows),
        "duration_s": {
            "median": middle,
            "p50": middle,
            "p95": percentile(spent, 95),
            "p99": percentile(spent, 99),
            "max": spent[-1] if spent else None,
        },
    }


def _success_rate(rows: Sequence[Outcome]) -> float | None:
    good = sum(1 for row in rows if row.outcome in _GOOD)
    return round(good / len(rows), 4) if rows else None


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """Return the smallest of the ordered values that at least `percent` of them do not exceed (the nearest rank), None of no
    values."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _rollbacks(tally: Tally) -> dict[str, list[int]]:
    """Return rollbacks by reason and slot: those after a failure as they ended, and those that a person asked for."""
    found = {reason: list(counts) for reason, counts in tally.rollbacks.items()}
    for row in tally.outcomes:
        if row.kind == "rollback" and not row.rollback_of and row.outcome:
            counts = found.setdefault(row.reason or _MANUAL, [0] * tally.slots.count)
            counts[tally.slots.at(row.requested_us)] += 1
    return found


def _totals(counts: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Return the sums over time, the largest first."""
    sums = {key: sum(found) for key, found in counts.items()}
    return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


def _checks(kind: str, probes: Probes) -> dict[str, Any]:
    totals = {status: sum(counts) for status, counts in probes.statuses.items()}
    return {
        "check_type": kind,
        **{status: totals.get(status, 0) for status in ("pass", "fail", "error")},
        "p95_s": quantile(probes.buckets, 0.95),
    }


def quantile(buckets: Mapping[str, int], share: float) -> float | None:
    """Return the duration that `share` of the probes are below, as Prometheus takes it from a histogram: evenly spread
    within its bucket, and the highest bound where it is above all; None without probes."""
    total = sum(buckets.values())
    if not total:
        return None
    below, lower = 0, 0.0
    for bound in LABELS:
        number, upper = buckets.get(bound, 0), math.inf if bound == "+Inf" else float(bound)
        if number and below + number >= share * total:
            inside = (share * total - below) / number
            return lower if math.isinf(upper) else round(lower + (upper - lower) * inside, 4)
        below, lower = below + number, upper
    return None


def _over_time(
    tally: Tally, deployed: Iterable[Outcome], rollbacks: Mapping[str, list[int]]
) -> dict[str, Any]:
    slots = tally.slots
    rows: list[list[Outcome]] = [[] for _ in range(slots.count)]
    for row in deployed:
        rows[slots.at(row.requested_us)].append(row)
    unhealthy = [
        found.statuses.get(status, []) for found in tally.probes.values() for status in ("fail", "error")
    ]
    spent = [sorted(row.duration_s for row in found if row.duration_s > 0) for found in rows]
    return {
        "since": rfc3339(slots.since_us),
        "slot_s": slots.width_us // 1_000_000,
        "deployments": [len(found) for found in rows],
        "success_rate": [_success_rate(found) for found in rows],
        "duration_p50_s": [percentile(found, 50) for found in spent],
        "duration_p95_s": [percentile(found, 95) for found in spent],
        "errors": _sum(tally.errors.values(), slots.count),
        "failed_checks": _sum(unhealthy, slots.count),
        "rollbacks": _sum(rollbacks.values(), slots.count),
    }


def _sum(counts: Iterable[Sequence[int]], length: int) -> list[int]:
    sums = [0] * length
    for found in counts:
        for at, number in enumerate(found):
            sums[at] += number
    return sums
