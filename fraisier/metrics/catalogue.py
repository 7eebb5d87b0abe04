"""Every metric as data: the one list that the registry, the documentation and its test are made from."""

from __future__ import annotations

import re
from typing import Literal

import msgspec


class MetricSpec(msgspec.Struct, frozen=True):
    """A metric's name, type, labels, meaning and, of a histogram, the upper bounds of its buckets in seconds.

    `source` is events (fed from the journal, so it can be replayed) or process (what this process measures of
    itself).
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "summary"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    source: Literal["events", "process"] = "events"


METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        "fraisier_deployments_total",
        "counter",
        ("provider", "status", "fraise_type"),
        "Deployments that ended or stopped, by outcome; linked rollbacks are not among them.",
    ),
    MetricSpec(
        "fraisier_deployment_errors_total",
        "counter",
        ("provider", "error_type"),
        "Failed attempts of steps, by error class.",
    ),
    MetricSpec(
        "fraisier_rollbacks_total",
        "counter",
        ("provider", "reason"),
        "Rollbacks that ended, by what made them necessary.",
    ),
    MetricSpec(
        "fraisier_health_checks_total",
        "counter",
        ("provider", "check_type", "status"),
        "Health probes, by result.",
    ),
    MetricSpec(
        "fraisier_deployment_duration_seconds",
        "histogram",
        ("provider", "status"),
        "How long deployments took.",
        (5, 10, 30, 60, 120, 300, 600),
    ),
    MetricSpec(
        "fraisier_health_check_duration_seconds",
        "histogram",
        ("provider", "check_type"),
        "How long health probes took.",
        (0.1, 0.5, 1, 2, 5, 10),
    ),
    MetricSpec(
        "fraisier_rollback_duration_seconds",
        "histogram",
        ("provider",),
        "How long rollbacks took.",
        (5, 10, 30, 60, 120),
    ),
    MetricSpec(
        "fraisier_active_deployments", "gauge", ("provider",), "Deployments that are acting on targets now."
    ),
    MetricSpec(
        "fraisier_deployment_lock_wait_seconds",
        "gauge",
        ("service", "provider"),
        "How long the newest deployment of a fraise waited for its lease.",
    ),
    MetricSpec(
        "fraisier_provider_availability",
        "gauge",
        ("provider",),
        "1 when the provider last did its work, 0 when it could not be used.",
    ),
    MetricSpec(
        "fraisier_step_duration_seconds",
        "histogram",
        ("provider", "step", "status"),
        "How long attempts of steps took.",
        (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600),
    ),
    MetricSpec(
        "fraisier_step_retries_total",
        "counter",
        ("provider", "step"),
        "Steps that were tried again after a failure.",
    ),
    MetricSpec(
        "fraisier_subscriber_lag_events",
        "gauge",
        ("subscriber",),
        "Events that wait for a subscriber.",
        source="process",
    ),
    MetricSpec(
        "fraisier_subscriber_dropped_total",
        "counter",
        ("subscriber",),
        "Ephemeral events that a slow subscriber lost.",
        source="process",
    ),
    MetricSpec(
        "fraisier_dead_letters_total",
        "counter",
        ("subscriber",),
        "Events that a subscriber could not handle and that were parked.",
        source="process",
    ),
    MetricSpec(
        "fraisier_journal_events_total", "counter", (), "Events appended to the journal.", source="process"
    ),
    MetricSpec(
        "fraisier_journal_commit_seconds",
        "summary",
        (),
        "Commits of the journal, and how long they took.",
        source="process",
    ),
    MetricSpec(
        "fraisier_event_loop_lag_seconds",
        "gauge",
        (),
        "How late the event loop woke a timer last.",
        source="process",
    ),
    MetricSpec(
        "fraisier_build_info",
        "gauge",
        ("version",),
        "Always 1; the label is the version that runs.",
        source="process",
    ),
)
"""Every metric of this version, in the order of the documentation."""

SPECS: dict[str, MetricSpec] = {spec.name: spec for spec in METRICS}

_LABEL = re.compile(r"[A-Za-z0-9_.:\-]{1,64}")


def label(value: str) -> str:
    """Return `value` as a label: `unknown` for nothing, `other` for what is not a single word."""
    if not value:
        return "unknown"
    return value if _LABEL.fullmatch(value) else "other"
