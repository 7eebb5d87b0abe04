"""Every metric as data: the one list that the registry, the documentation and its test are made from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from fraisier import errors


class MetricSpec(msgspec.Struct, frozen=True):
    """A metric's name, type, labels, meaning and, of a histogram, the upper bounds of its buckets in seconds.

    `source` is events (fed from the journal, so it can be replayed), store (read from the store's tables at a scrape)
    or process (what this process measures of itself).
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "summary"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    source: Literal["events", "store", "process"] = "events"


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
        "Failed attempts of steps and hooks, sources out of reach, and locks that were waited for in vain, by error class.",
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
        "Steps that were tried again after a failure, and sources that were asked again.",
    ),
    MetricSpec(
        "fraisier_hook_duration_seconds",
        "histogram",
        ("provider", "phase", "status"),
        "How long hooks took.",
        (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600),
    ),
    MetricSpec(
        "fraisier_recovery_decisions_total",
        "counter",
        ("provider", "action"),
        "What was decided after failures.",
    ),
    MetricSpec(
        "fraisier_recoveries_total",
        "counter",
        ("provider", "strategy", "status"),
        "Recoveries that ended, by whether they helped.",
    ),
    MetricSpec(
        "fraisier_circuit_state",
        "gauge",
        ("provider", "state"),
        "Circuits that do not pass every call now, by state.",
    ),
    MetricSpec(
        "fraisier_circuit_transitions_total",
        "counter",
        ("provider", "state"),
        "Changes of circuits, by the state that they came to.",
    ),
    MetricSpec(
        "fraisier_probe_schedule_lag_seconds",
        "gauge",
        ("provider", "check_type"),
        "How late the latest probe of the newest verdict began.",
    ),
    MetricSpec(
        "fraisier_probe_ticks_skipped_total",
        "counter",
        ("provider", "check_type"),
        "Probes that were left out because the one before took longer than the interval.",
    ),
    MetricSpec(
        "fraisier_deployment_failures_total",
        "counter",
        ("provider", "reason"),
        "Deployments that ended or stopped otherwise than well, by reason.",
    ),
    MetricSpec(
        "fraisier_fraise_deployments_total",
        "counter",
        ("fraise", "environment", "provider", "status"),
        "The same deployments as in `fraisier_deployments_total`, by fraise and environment.",
    ),
    MetricSpec(
        "fraisier_last_deployment_timestamp_seconds",
        "gauge",
        ("fraise", "environment", "provider"),
        "When the newest deployment ended or stopped, in seconds since 1970.",
    ),
    MetricSpec(
        "fraisier_last_deployment_duration_seconds",
        "gauge",
        ("fraise", "environment", "provider"),
        "How long the newest deployment took.",
    ),
    MetricSpec(
        "fraisier_last_deployment_success",
        "gauge",
        ("fraise", "environment", "provider"),
        "1 when the newest deployment ended as `success` or `unchanged`, else 0.",
    ),
    MetricSpec(
        "fraisier_unfinished_deployments",
        "gauge",
        ("fraise", "environment", "state"),
        "Deployments and rollbacks without an end, by state.",
        source="store",
    ),
    MetricSpec(
        "fraisier_targets",
        "gauge",
        ("fraise", "environment", "health"),
        "Targets with a release, by their last health verdict.",
        source="store",
    ),
    MetricSpec(
        "fraisier_lease_held",
        "gauge",
        ("fraise", "environment"),
        "1 while somebody holds the lock, else 0.",
        source="store",
    ),
    MetricSpec(
        "fraisier_frozen",
        "gauge",
        ("fraise", "environment"),
        "1 while a person forbids deployments, else 0.",
        source="store",
    ),
    MetricSpec(
        "fraisier_store_bytes",
        "gauge",
        (),
        "The size of the store's files.",
        source="store",
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

SERIES_MAX = 2000
"""Series that one metric has at most; what comes after them is counted under the label `other`."""

STATUSES = (
    "success",
    "unchanged",
    "failed",
    "locked",
    "unreachable",
    "skipped",
    "rolled_back",
    "needs_attention",
    "aborted",
    "interrupted",
    "superseded",
    "paused",
)
"""The values of `status` of deployments."""

USUAL_STATUSES = ("success", "unchanged", "failed", "rolled_back")
"""Those that most deployments end with."""

CIRCUIT_STATES = ("closed", "open", "half_open")
ACTIONS = ("retry", "fallback", "rollback", "hold", "stop", "fail")
"""What may be decided after a failure."""

ERROR_TYPES: dict[str, str] = {
    found.default_code: name
    for name, found in vars(errors).items()
    if isinstance(found, type) and issubclass(found, errors.FraisierError)
}
"""The name of the error class of each code, for events that carry the code alone."""

_OF_DEPLOYMENTS = {
    code: name
    for code, name in ERROR_TYPES.items()
    if issubclass(getattr(errors, name), (errors.DeploymentError, errors.ProviderError))
}
USUAL_ERROR_TYPES = tuple(_OF_DEPLOYMENTS.values())
"""What a step may fail with."""

USUAL_REASONS = (
    *(code.lower() for code in _OF_DEPLOYMENTS),
    "aborted",
    "locked",
    "migrate_failed",
    "partial",
    "prepare_failed",
    "requested",
    "superseded",
    "unreachable",
)
"""What a deployment may end for, or be rolled back for."""

_LABEL = re.compile(r"[A-Za-z0-9_.:\-]{1,64}")
_UNFIT = re.compile(r"[^A-Za-z0-9_.:\-]+")
_FORWARD = "forward:"
_HASH_DIGITS = 8


def label(value: str) -> str:
    """Return `value` as a label: `unknown` for nothing, `other` for what is not a single word."""
    if not value:
        return "unknown"
    return value if _LABEL.fullmatch(value) else "other"


def subscriber_label(name: str) -> str:
    """Return the name of a subscriber as a label. A forward is named after its destination, and two destinations that end
    alike must not share a series: `forward:file:/var/log/trail.jsonl` is `forward:file:trail.jsonl-` and eight digits of
    the hash of the whole name."""
    if not name.startswith(_FORWARD) or _LABEL.fullmatch(name):
        return label(name)
    kind, _, rest = name.partition("/")
    digits = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:_HASH_DIGITS]
    return _UNFIT.sub("_", kind + rest.rpartition("/")[2])[: 63 - _HASH_DIGITS] + f"-{digits}"


def combined(
    values: Iterable[tuple[tuple[str, ...], float]], how: Callable[[float, float], float]
) -> dict[tuple[str, ...], float]:
    """Return one value for each set of labels: names that are the same once they are labels (`other`) would else be two
    series of one name, of which a scrape keeps any one."""
    found: dict[tuple[str, ...], float] = {}
    for labels, value in values:
        found[labels] = how(found[labels], value) if labels in found else value
    return found
