"""Metrics: fed by events, live or replayed, with the documented names and labels."""

from __future__ import annotations

import re
import sys
from typing import Any

import anyio
import pytest
from prometheus_client import CollectorRegistry

from fraisier._version import __version__
from fraisier.bus.statistics import BusStatistics, SubscriberStatistics
from fraisier.events import Event, Record
from fraisier.events import types as ev
from fraisier.health_check.tally import LABELS
from fraisier.journal.base import JournalStatistics
from fraisier.journal.fold import DeploymentState
from fraisier.metrics import (
    METRICS,
    DeploymentMetrics,
    MetricsRecorder,
    MetricsSubscriber,
    RuntimeMetrics,
    get_metrics_recorder,
    measure_loop_lag,
    render,
)
from fraisier.metrics.catalogue import SERIES_MAX, SPECS
from fraisier.metrics.circuits import CIRCUITS_MAX, TRIAL_US_MAX, CircuitBoard

SECOND_US = 1_000_000
D1 = {"deployment_id": "d1", "fraise": "api", "environment": "production"}
D2 = {**D1, "deployment_id": "d2"}
REQUESTED = ev.DeploymentRequested(**D1, provider="local", fraise_type="api")


class Fed:
    """A recorder fed through its subscriber, and a look at its registry."""

    def __init__(self, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.recorder = MetricsRecorder(DeploymentMetrics(self.registry))
        self.subscriber = MetricsSubscriber(self.recorder, **options)

    def feed(self, *events: Event) -> Fed:
        self.subscriber.from_records(
            Record(seq, f"id{seq}", seq * SECOND_US, event) for seq, event in enumerate(events, 1)
        )
        return self

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def series(registry: Any, name: str) -> dict[tuple[str, ...], float]:
    """The series of a metric; of counters and histograms those that counted something."""
    return {
        tuple(sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == name and (sample.value or not name.endswith(("_total", "_count", "_sum")))
    }


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        (ev.DeploymentSucceeded(**D1, duration_s=7), "success"),
        (ev.DeploymentSucceeded(**D1, outcome="unchanged", duration_s=7), "unchanged"),
        (ev.DeploymentFailed(**D1, duration_s=7), "failed"),
        (ev.DeploymentFailed(**D1, outcome="locked", duration_s=7), "locked"),
        (ev.DeploymentFailed(**D1, outcome="unreachable", duration_s=7), "unreachable"),
        (ev.DeploymentRolledBack(**D1, duration_s=7), "rolled_back"),
        (ev.DeploymentNeedsAttention(**D1, duration_s=7), "needs_attention"),
        (ev.DeploymentInterrupted(**D1, duration_s=7), "interrupted"),
        (ev.DeploymentAborted(**D1, duration_s=7), "aborted"),
    ],
)
def test_a_deployment_counts_under_its_outcome(ending: Event, status: str) -> None:
    """Once, with its duration, and is no longer active."""
    fed = Fed().feed(REQUESTED, ev.DeploymentStarted(**D1), ending)
    assert series(fed.registry, "fraisier_deployments_total") == {("local", status, "api"): 1}
    assert fed.value("fraisier_deployment_duration_seconds_sum", provider="local", status=status) == 7
    assert (
        fed.value("fraisier_deployment_duration_seconds_bucket", provider="local", status=status, le="5.0")
        == 0
    )
    assert (
        fed.value("fraisier_deployment_duration_seconds_bucket", provider="local", status=status, le="10.0")
        == 1
    )
    assert fed.value("fraisier_active_deployments", provider="local") == 0


@pytest.mark.parametrize("ending", [ev.DeploymentPaused(**D1), ev.DeploymentSuperseded(**D1)])
def test_an_ending_without_a_duration_puts_none_into_the_histogram(ending: Event) -> None:
    """It is counted all the same."""
    fed = Fed().feed(REQUESTED, ev.DeploymentStarted(**D1), ending)
    assert sum(series(fed.registry, "fraisier_deployments_total").values()) == 1
    assert series(fed.registry, "fraisier_deployment_duration_seconds_count") == {}


def test_active_deployments_are_those_that_act() -> None:
    """A deployment that waits for its lease is not one; one that ends without having begun takes nothing away."""
    fed = Fed().feed(REQUESTED, ev.DeploymentStarted(**D1), ev.DeploymentStarted(**D1))
    assert fed.value("fraisier_active_deployments", provider="local") == 1
    fed.feed(
        ev.DeploymentRequested(**D2, provider="local", fraise_type="api"),
        ev.DeploymentFailed(**D2, outcome="locked"),
    )
    assert fed.value("fraisier_active_deployments", provider="local") == 1


def test_a_persons_pause_ends_nothing_and_a_hold_does() -> None:
    """A deployment that was paused is still active; one that is held after a failure is not."""
    fed = Fed().feed(REQUESTED, ev.DeploymentStarted(**D1), ev.DeploymentPaused(**D1, reason="requested"))
    assert fed.value("fraisier_active_deployments", provider="local") == 1
    assert series(fed.registry, "fraisier_deployments_total") == {}
    fed.feed(ev.DeploymentResumed(**D1), ev.DeploymentPaused(**D1, reason="health_check_failed"))
    assert fed.value("fraisier_active_deployments", provider="local") == 0
    assert series(fed.registry, "fraisier_deployments_total") == {("local", "paused", "api"): 1}


def test_a_resumed_deployment_is_active_again_and_ends_under_its_provider() -> None:
    """After an interruption, and after a crash that left no word."""
    fed = Fed().feed(
        REQUESTED,
        ev.DeploymentStarted(**D1),
        ev.DeploymentInterrupted(**D1, duration_s=2),
        ev.DeploymentResumed(**D1),
    )
    assert fed.value("fraisier_active_deployments", provider="local") == 1
    fed.feed(ev.DeploymentResumed(**D1))
    assert fed.value("fraisier_active_deployments", provider="local") == 1
    fed.feed(ev.DeploymentSucceeded(**D1, duration_s=9))
    assert fed.value("fraisier_active_deployments", provider="local") == 0
    assert series(fed.registry, "fraisier_deployments_total") == {
        ("local", "interrupted", "api"): 1,
        ("local", "success", "api"): 1,
    }


def linked_rollback() -> list[Event]:
    return [
        REQUESTED,
        ev.DeploymentStarted(**D1),
        ev.RollbackStarted(**D1, child_id="d2", provider="local", reason="health_check_failed"),
        ev.DeploymentRequested(**D2, kind="rollback", rollback_of="d1", provider="local", fraise_type="api"),
        ev.DeploymentStarted(**D2),
        ev.DeploymentSucceeded(**D2, duration_s=4),
        ev.RollbackSucceeded(
            **D1, child_id="d2", provider="local", reason="health_check_failed", duration_s=4
        ),
        ev.DeploymentRolledBack(**D1, reason="health_check_failed", duration_s=20),
    ]


def test_a_linked_rollback_counts_only_as_a_rollback() -> None:
    """Once, however many events tell of it; the deployment itself is one that was rolled back."""
    fed = Fed().feed(*linked_rollback())
    assert series(fed.registry, "fraisier_rollbacks_total") == {("local", "health_check_failed"): 1}
    assert fed.value("fraisier_rollback_duration_seconds_sum", provider="local") == 4
    assert series(fed.registry, "fraisier_deployments_total") == {("local", "rolled_back", "api"): 1}
    assert fed.value("fraisier_active_deployments", provider="local") == 0


def test_a_rollback_that_a_person_asked_for_is_a_rollback() -> None:
    """No other deployment tells of it, so its own end counts."""
    fed = Fed().feed(
        ev.DeploymentRequested(**D2, kind="rollback", rollback_of="d1", provider="local"),
        ev.DeploymentStarted(**D2),
        ev.DeploymentSucceeded(**D2, duration_s=3),
    )
    assert series(fed.registry, "fraisier_rollbacks_total") == {("local", "requested"): 1}
    assert series(fed.registry, "fraisier_deployments_total") == {}


def test_steps_errors_and_retries() -> None:
    """Attempts by result, errors by class, retries when they are decided."""
    step = {**D1, "target": "web-1", "step": "fetch"}
    fed = Fed().feed(
        REQUESTED,
        ev.StepFailed(**step, attempt=1, duration_s=0.2, error_type="ProviderConnectionError"),
        ev.RecoveryDecided(**step, attempt=1, action="retry"),
        ev.StepSucceeded(**step, attempt=2, duration_s=0.4),
        ev.RecoverySucceeded(**step, attempt=2, strategy="retry"),
        ev.RecoveryFailed(**step, attempt=3, strategy="retry"),
        ev.RecoveryDecided(**D1, action="rollback"),
    )
    assert series(fed.registry, "fraisier_deployment_errors_total") == {
        ("local", "ProviderConnectionError"): 1
    }
    assert series(fed.registry, "fraisier_step_retries_total") == {("local", "fetch"): 1}
    assert series(fed.registry, "fraisier_recovery_decisions_total") == {
        ("local", "retry"): 1,
        ("local", "rollback"): 1,
    }
    assert series(fed.registry, "fraisier_recoveries_total") == {
        ("local", "retry", "success"): 1,
        ("local", "retry", "failed"): 1,
    }
    assert series(fed.registry, "fraisier_step_duration_seconds_count") == {
        ("local", "fetch", "failed"): 1,
        ("local", "fetch", "success"): 1,
    }


def test_a_verdict_brings_all_its_probes() -> None:
    """Counts by status, durations by bucket, and their sum: what a journal knows is enough."""
    verdict: dict[str, Any] = {"provider": "local", "check_type": "http"}
    fed = Fed().feed(
        ev.HealthPassed(
            **D1,
            **verdict,
            counts={"pass": 2, "error": 1},
            buckets={"0.1": 2, "5": 1, "+Inf": 1},
            probes_s=14.5,
        ),
        ev.HealthFailed(**D1, **verdict, counts={"fail": 4}, buckets={"0.1": 4}, probes_s=0.1),
    )
    name = "fraisier_health_check_duration_seconds"
    labels = {"provider": "local", "check_type": "http"}
    assert series(fed.registry, "fraisier_health_checks_total") == {
        ("local", "http", "pass"): 2,
        ("local", "http", "error"): 1,
        ("local", "http", "fail"): 4,
    }
    counts = {
        le: fed.value(f"{name}_bucket", **labels, le=le) for le in ("0.1", "2.0", "5.0", "10.0", "+Inf")
    }
    assert counts == {"0.1": 6, "2.0": 6, "5.0": 7, "10.0": 7, "+Inf": 8}
    assert fed.value(f"{name}_count", **labels) == 8
    assert fed.value(f"{name}_sum", **labels) == pytest.approx(14.6)


def test_a_single_probe_lands_in_the_same_histogram() -> None:
    """What embedders record one by one and what verdicts bring is one metric."""
    fed = Fed()
    fed.recorder.record_health_check("local", "tcp", "pass", 0.3)
    name = "fraisier_health_check_duration_seconds_bucket"
    assert fed.value(name, provider="local", check_type="tcp", le="0.1") == 0
    assert fed.value(name, provider="local", check_type="tcp", le="0.5") == 1


def test_the_health_checks_and_the_metric_agree_on_the_buckets() -> None:
    """The bounds of a verdict are those of the histogram."""
    bounds = SPECS["fraisier_health_check_duration_seconds"].buckets
    assert tuple(float(bound) for bound in LABELS[:-1]) == bounds


def test_the_wait_for_a_lock_is_from_the_queue_to_the_lease() -> None:
    """In seconds; none for a lease that was free; what was waited in vain counts too."""
    fed = Fed().feed(REQUESTED, ev.DeploymentQueued(**D1), ev.LeaseWaiting(**D1), ev.LeaseAcquired(**D1))
    assert fed.value("fraisier_deployment_lock_wait_seconds", service="api", provider="local") == 2
    fed.feed(REQUESTED, ev.LeaseAcquired(**D1))
    assert fed.value("fraisier_deployment_lock_wait_seconds", service="api", provider="local") == 0
    fed.feed(REQUESTED, ev.LeaseRefused(**D1, waited_s=30))
    assert fed.value("fraisier_deployment_lock_wait_seconds", service="api", provider="local") == 30


def test_the_wait_of_a_resumed_deployment_is_not_counted_from_its_first_wait() -> None:
    """A second wait begins anew; the lock of somebody who only starts a service is no deployment's."""
    fed = Fed().feed(REQUESTED, ev.LeaseWaiting(**D1), ev.LeaseAcquired(**D1))
    fed.feed(*[ev.StepSucceeded(**D1, step="fetch")] * 9, ev.LeaseWaiting(**D1), ev.LeaseAcquired(**D1))
    assert fed.value("fraisier_deployment_lock_wait_seconds", service="api", provider="local") == 1
    fed.feed(ev.LeaseAcquired(deployment_id="op", fraise="other", environment="production"))
    assert series(fed.registry, "fraisier_deployment_lock_wait_seconds") == {("api", "local"): 1}


def test_a_lock_that_is_refused_is_an_error_of_its_class() -> None:
    fed = Fed().feed(REQUESTED, ev.LeaseRefused(**D1, waited_s=30))
    assert series(fed.registry, "fraisier_deployment_errors_total") == {("local", "DeploymentLockError"): 1}


def test_hooks_by_phase_and_result() -> None:
    """With the class of what went wrong."""
    hook = {**D1, "phase": "before_switch", "name": "backup"}
    fed = Fed().feed(
        REQUESTED,
        ev.HookSucceeded(**hook, duration_s=2),
        ev.HookFailed(**hook, duration_s=3, code="DEPLOYMENT_TIMEOUT"),
        ev.HookFailed(**hook, duration_s=4),
    )
    assert series(fed.registry, "fraisier_hook_duration_seconds_sum") == {
        ("local", "before_switch", "success"): 2,
        ("local", "before_switch", "failed"): 7,
    }
    assert series(fed.registry, "fraisier_deployment_errors_total") == {
        ("local", "DeploymentTimeoutError"): 1,
        ("local", "HookError"): 1,
    }


@pytest.mark.parametrize(
    ("ending", "status", "success"),
    [
        (ev.DeploymentSucceeded(**D1, duration_s=7), "success", 1),
        (ev.DeploymentSucceeded(**D1, outcome="unchanged", duration_s=7), "unchanged", 1),
        (ev.DeploymentFailed(**D1, reason="prepare_failed", duration_s=7), "failed", 0),
        (ev.DeploymentRolledBack(**D1, reason="health_check_failed", duration_s=7), "rolled_back", 0),
    ],
)
def test_a_fraise_has_its_own_counts_and_the_end_of_its_newest_deployment(
    ending: Event, status: str, success: int
) -> None:
    """What the dashboard selects by fraise and environment; and why it did not go well."""
    fed = Fed().feed(REQUESTED, ev.DeploymentStarted(**D1), ending)
    where = {"fraise": "api", "environment": "production", "provider": "local"}
    assert series(fed.registry, "fraisier_fraise_deployments_total") == {(*where.values(), status): 1}
    assert fed.value("fraisier_last_deployment_timestamp_seconds", **where) == 3
    assert fed.value("fraisier_last_deployment_duration_seconds", **where) == 7
    assert fed.value("fraisier_last_deployment_success", **where) == success
    reason = getattr(ending, "reason", "")
    wanted = {} if success else {("local", reason): 1}
    assert series(fed.registry, "fraisier_deployment_failures_total") == wanted


def test_counters_begin_at_zero_when_a_deployment_is_asked_for() -> None:
    """So that the first of its kind is an increase to whoever watches."""
    fed = Fed().feed(REQUESTED)
    for name, labels in (
        ("fraisier_deployments_total", {"status": "rolled_back", "fraise_type": "api"}),
        ("fraisier_deployment_errors_total", {"error_type": "HookError"}),
        ("fraisier_rollbacks_total", {"reason": "health_check_failed"}),
        ("fraisier_deployment_failures_total", {"reason": "prepare_failed"}),
        ("fraisier_recovery_decisions_total", {"action": "retry"}),
        ("fraisier_circuit_transitions_total", {"state": "open"}),
    ):
        assert fed.value(name, provider="local", **labels) == 0
    assert fed.recorder.get_metrics_summary()["deployments"] == {}


def test_a_metric_has_a_bounded_number_of_series() -> None:
    """What comes after the last one is counted, under `other`."""
    fed = Fed()
    for number in range(SERIES_MAX + 50):
        fed.recorder.record_rollback("local", f"reason_{number}", 1.0)
    found = series(fed.registry, "fraisier_rollbacks_total")
    assert len(found) == SERIES_MAX + 1
    assert found["other", "other"] == 50


def test_the_histogram_of_probes_is_bounded_like_its_counter() -> None:
    """Whether they come one by one or as the tallies of a verdict."""
    fed = Fed()
    for number in range(SERIES_MAX):
        fed.recorder.record_health_check("local", f"t{number}", "pass", 0.2)
    tally: dict[str, Any] = {"counts": {"pass": 2}, "buckets": {"0.5": 2}, "probes_s": 0.4}
    for number in range(50):
        fed.recorder.record_health_check("local", f"late{number}", "pass", 0.2)
    fed.feed(*(ev.HealthPassed(**D1, provider="local", check_type=f"later{at}", **tally) for at in range(50)))
    fed.recorder.record_health_check("local", "t7", "pass", 0.2)
    counts = series(fed.registry, "fraisier_health_check_duration_seconds_count")
    assert len(counts) == SERIES_MAX + 1
    assert (counts["local", "t7"], counts["other", "other"]) == (2, 150)
    sums = series(fed.registry, "fraisier_health_check_duration_seconds_sum")
    assert sums["other", "other"] == pytest.approx(30)


def test_the_schedule_of_the_probes_comes_with_their_verdict() -> None:
    verdict: dict[str, Any] = {"provider": "local", "check_type": "http", "counts": {"pass": 1}}
    fed = Fed().feed(
        ev.HealthPassed(**D1, **verdict, ticks_skipped=2, tick_lag_s=0.5),
        ev.HealthPassed(**D1, **verdict, ticks_skipped=3, tick_lag_s=0.25),
    )
    labels = {"provider": "local", "check_type": "http"}
    assert fed.value("fraisier_probe_ticks_skipped_total", **labels) == 5
    assert fed.value("fraisier_probe_schedule_lag_seconds", **labels) == 0.25


def test_an_open_circuit_is_open_until_its_time_is_over() -> None:
    """Whoever opened it may be gone by then; a trial of which nothing is heard ends too."""
    fed = Fed()
    board = CircuitBoard(fed.recorder)

    def states() -> dict[tuple[str, ...], float]:
        return series(fed.registry, "fraisier_circuit_state")

    board.change("local", "web-1", "open", 10, until_us=100)
    board.change("local", "web-2", "open", 10, until_us=200)
    assert states() == {("local", "open"): 2, ("local", "half_open"): 0}
    board.change("local", "web-2", "half_open", 60)
    assert states() == {("local", "open"): 1, ("local", "half_open"): 1}
    board.settle(99)
    assert states()["local", "open"] == 1
    board.settle(100)
    assert states() == {("local", "open"): 0, ("local", "half_open"): 1}
    board.settle(60 + TRIAL_US_MAX)
    assert states() == {("local", "open"): 0, ("local", "half_open"): 0}
    board.change("local", "web-1", "closed", 70)
    assert series(fed.registry, "fraisier_circuit_transitions_total") == {
        ("local", "open"): 2,
        ("local", "half_open"): 1,
        ("local", "closed"): 1,
    }


def test_circuits_come_from_the_facts_about_their_changes() -> None:
    """By provider; the resource is no label. Who looks at them settles first."""
    fed = Fed()
    about: dict[str, Any] = {"resource": "local web-1", "provider": "local"}
    fed.feed(ev.CircuitOpened(**about, until_at=9 * SECOND_US))
    assert fed.value("fraisier_circuit_state", provider="local", state="open") == 1
    fed.feed(ev.CircuitHalfOpened(**about))
    assert fed.value("fraisier_circuit_state", provider="local", state="half_open") == 1
    fed.feed(ev.CircuitOpened(**about, until_at=9 * SECOND_US))
    fed.subscriber.settle(8 * SECOND_US)
    assert fed.value("fraisier_circuit_state", provider="local", state="open") == 1
    fed.subscriber.settle(9 * SECOND_US)
    assert fed.value("fraisier_circuit_state", provider="local", state="open") == 0
    fed.feed(ev.CircuitClosed(**about))
    assert series(fed.registry, "fraisier_circuit_transitions_total") == {
        ("local", "open"): 2,
        ("local", "half_open"): 1,
        ("local", "closed"): 1,
    }


def test_a_deployment_that_falls_back_counts_under_the_provider_that_served() -> None:
    """From the second plan on; it is active once."""
    fed = Fed().feed(
        REQUESTED,
        ev.DeploymentPlanned(**D1, provider="local"),
        ev.DeploymentStarted(**D1),
        ev.StepFailed(**D1, step="fetch", error_type="ProviderError"),
        ev.DeploymentPlanned(**D1, provider="docker", fallback="standby"),
    )
    assert fed.value("fraisier_active_deployments", provider="local") == 0
    assert fed.value("fraisier_active_deployments", provider="docker") == 1
    fed.feed(ev.DeploymentSucceeded(**D1, duration_s=1))
    assert fed.value("fraisier_active_deployments", provider="docker") == 0
    assert series(fed.registry, "fraisier_deployments_total") == {("docker", "success", "api"): 1}
    assert series(fed.registry, "fraisier_deployment_errors_total") == {("local", "ProviderError"): 1}


def test_a_deployment_or_rollback_that_is_planned_elsewhere_before_it_begins_counts_there() -> None:
    fed = Fed().feed(
        REQUESTED,
        ev.DeploymentPlanned(**D1, provider="docker"),
        ev.DeploymentStarted(**D1),
        ev.DeploymentSucceeded(**D1, duration_s=1),
        ev.DeploymentRequested(**D2, kind="rollback", provider="local"),
        ev.DeploymentPlanned(**D2, provider="docker"),
        ev.DeploymentSucceeded(**D2, duration_s=1),
    )
    assert series(fed.registry, "fraisier_deployments_total") == {("docker", "success", "api"): 1}
    assert series(fed.registry, "fraisier_rollbacks_total") == {("docker", "requested"): 1}


def test_the_lock_of_somebody_who_restarts_a_service_is_no_deployments() -> None:
    """Neither its wait nor its refusal."""
    fed = Fed().feed(
        ev.LeaseWaiting(**D1), ev.LeaseRefused(**D1, waited_s=3), ev.LeaseAcquired(**D1, epoch=1)
    )
    assert series(fed.registry, "fraisier_deployment_errors_total") == {}
    assert series(fed.registry, "fraisier_deployment_lock_wait_seconds") == {}


def test_the_deployments_that_are_remembered_are_bounded() -> None:
    """One that began too many deployments ago ends under a provider that is not known."""
    many = (
        ev.DeploymentRequested(**{**D1, "deployment_id": f"d{n}"}, provider="local", fraise_type="api")
        for n in range(1, 5000)
    )
    fed = Fed().feed(
        *many, ev.DeploymentSucceeded(**D1), ev.DeploymentSucceeded(**{**D1, "deployment_id": "d4999"})
    )
    assert series(fed.registry, "fraisier_deployments_total") == {
        ("unknown", "success", "unknown"): 1,
        ("local", "success", "api"): 1,
    }


def test_a_rollback_and_an_end_without_a_place_count_all_the_same() -> None:
    """As a store of an older version has them: no linked deployment, no fraise."""
    fed = Fed().feed(
        REQUESTED,
        ev.RollbackStarted(**D1),
        ev.RollbackSucceeded(**D1, provider="local", reason="timeout", duration_s=1),
        ev.DeploymentFailed(deployment_id="d1", reason="timeout", duration_s=2),
    )
    assert series(fed.registry, "fraisier_rollbacks_total") == {("local", "timeout"): 1}
    assert series(fed.registry, "fraisier_deployments_total") == {("local", "failed", "api"): 1}
    assert series(fed.registry, "fraisier_fraise_deployments_total") == {}


def test_the_number_of_circuits_that_are_remembered_is_bounded() -> None:
    fed = Fed()
    board = CircuitBoard(fed.recorder)
    for number in range(CIRCUITS_MAX + 10):
        board.change("local", f"web-{number}", "open", 0, until_us=1)
    assert series(fed.registry, "fraisier_circuit_state")["local", "open"] == CIRCUITS_MAX


def test_availability_follows_what_the_provider_did() -> None:
    """A step that worked proves it, an unavailable provider denies it."""
    fed = Fed().feed(REQUESTED, ev.StepSucceeded(**D1, step="fetch"))
    assert fed.value("fraisier_provider_availability", provider="local") == 1
    fed.feed(REQUESTED, ev.StepFailed(**D1, step="fetch", code="PROVIDER_UNAVAILABLE"))
    assert fed.value("fraisier_provider_availability", provider="local") == 0
    fed.feed(ev.ProviderUnavailable(provider="docker", error_type="ProviderUnavailableError"))
    assert fed.value("fraisier_provider_availability", provider="docker") == 0


def test_free_text_never_becomes_a_label() -> None:
    """What is not one word is `other`, what is missing `unknown`."""
    fed = Fed().feed(
        REQUESTED,
        ev.StepFailed(**D1, step="fetch", error_type="no such host: web-1\nreally"),
        ev.StepFailed(**{**D1, "deployment_id": "d9"}, step="x" * 65),
    )
    assert series(fed.registry, "fraisier_deployment_errors_total") == {
        ("local", "other"): 1,
        ("unknown", "unknown"): 1,
    }


async def test_a_replay_gives_what_live_events_gave() -> None:
    """The journal is enough to have the metrics of past runs."""
    live, replayed = Fed(), Fed().feed(*linked_rollback())
    for seq, event in enumerate(linked_rollback(), 1):
        await live.subscriber(Record(seq, f"id{seq}", seq * SECOND_US, event))
    names = [spec.name for spec in METRICS if spec.source == "events"]
    names += [f"{name}_sum" for name in names]
    assert {name: series(live.registry, name) for name in names} == {
        name: series(replayed.registry, name) for name in names
    }


async def test_a_deployment_from_before_is_looked_up() -> None:
    """Its provider and type are asked for, once."""
    asked = []

    async def find(deployment_id: str) -> DeploymentState:
        asked.append(deployment_id)
        return DeploymentState(deployment_id, provider="local", fraise_type="etl")

    fed = Fed(find=find)
    await fed.subscriber(Record(1, "a", 0, ev.StepSucceeded(**D1, step="verify")))
    await fed.subscriber(Record(2, "b", 0, ev.DeploymentSucceeded(**D1, duration_s=1)))
    assert asked == ["d1"]
    assert series(fed.registry, "fraisier_deployments_total") == {("local", "success", "etl"): 1}


def test_the_summary_gives_totals() -> None:
    """As documented, from what was recorded."""
    fed = Fed().feed(*linked_rollback())
    fed.recorder.record_health_check("local", "http", "fail", 0.1)
    fed.recorder.set_provider_availability("local", available=True)
    assert fed.recorder.get_metrics_summary() == {
        "enabled": True,
        "active_deployments": 0,
        "deployments": {"rolled_back": 1},
        "errors": {},
        "rollbacks": {"health_check_failed": 1},
        "health_checks": {"fail": 1},
        "provider_availability": {"local": True},
    }


def test_recorders_do_not_share_a_registry() -> None:
    """Two of them in one process count apart; the one of the process is always the same."""
    one, other = MetricsRecorder(), MetricsRecorder()
    one.record_deployment_error("local", "HookError")
    assert other.get_metrics_summary()["errors"] == {}
    assert get_metrics_recorder() is get_metrics_recorder()


def test_without_prometheus_everything_is_a_no_op(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing raises, nothing is counted, the exposition is empty."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    recorder = MetricsRecorder()
    MetricsSubscriber(recorder).from_records(Record(1, "a", 0, event) for event in linked_rollback())
    RuntimeMetrics(recorder.metrics.registry)
    assert recorder.get_metrics_summary()["enabled"] is False
    assert recorder.get_metrics_summary()["deployments"] == {}
    assert render(recorder.metrics.registry) == b""


def subscriber_statistics(name: str, kind: str) -> SubscriberStatistics:
    return SubscriberStatistics(
        name=name, kind=kind, patterns=("*",), position=1, buffered=0, lag=5, parked=False, passive=False,
        handled=1, parks=0, errors=0, retries=0, dropped=2, dead_letters=3, hung=0,
    )  # fmt: skip


def test_the_process_tells_of_itself_at_a_scrape() -> None:
    """Subscribers but streams, the journal's commits, the loop's lag and the version."""
    registry = CollectorRegistry()
    statistics = BusStatistics(
        head=9,
        published=9,
        emitted=0,
        subscribers={kind: subscriber_statistics(kind, kind) for kind in ("durable", "stream")},
    )
    journal = JournalStatistics(
        head=9, appended=7, commits=4, commit_s=0.5, foreign=2, pending=0, largest_batch=3
    )
    runtime = RuntimeMetrics(registry, bus=lambda: statistics, journal=lambda: journal)
    runtime.record_loop_lag(0.25)
    found = {
        sample.name: (tuple(sample.labels.values()), sample.value)
        for metric in registry.collect()
        for sample in metric.samples
    }
    assert found == {
        "fraisier_build_info": ((__version__,), 1),
        "fraisier_event_loop_lag_seconds": ((), 0.25),
        "fraisier_journal_events_total": ((), 7),
        "fraisier_journal_commit_seconds_count": ((), 4),
        "fraisier_journal_commit_seconds_sum": ((), 0.5),
        "fraisier_subscriber_lag_events": (("durable",), 5),
        "fraisier_subscriber_dropped_total": (("durable",), 2),
        "fraisier_dead_letters_total": (("durable",), 3),
    }


def test_no_two_subscribers_share_a_series() -> None:
    """Forwards are told from each other, whatever their destinations are; names that no label can hold are one series."""
    registry = CollectorRegistry()
    names = (
        "forward:file:/var/log/a/trail.jsonl",
        "forward:file:/var/log/b/trail.jsonl",
        "forward:file:/",
        f"forward:file:/{'x' * 200}/{'y' * 200}",
        "forward:syslog:udp://logs.example.com:514",
        "forward:file:trail.jsonl",
        "a stranger",
        "another stranger",
    )
    statistics = BusStatistics(
        head=9,
        published=9,
        emitted=0,
        subscribers={name: subscriber_statistics(name, "live") for name in names},
    )
    runtime = RuntimeMetrics(registry, bus=lambda: statistics)
    for name, of_one, of_two in (
        ("fraisier_subscriber_lag_events", 5, 5),
        ("fraisier_subscriber_dropped_total", 2, 4),
        ("fraisier_dead_letters_total", 3, 6),
    ):
        found = [
            (sample.labels["subscriber"], sample.value)
            for metric in runtime.collect()
            for sample in metric.samples
            if sample.name == name
        ]
        assert len(dict(found)) == len(found) == len(names) - 1
        assert {value for subscriber, value in found if subscriber != "other"} == {of_one}
        assert dict(found)["other"] == of_two
        kinds = sorted(re.sub("[0-9a-f]{8}$", "#", subscriber) for subscriber, _ in found)
        assert kinds == sorted(
            [
                "forward:file:trail.jsonl-#",
                "forward:file:trail.jsonl-#",
                "forward:file:-#",
                f"forward:file:{'y' * 42}-#",
                "forward:syslog:udp:logs.example.com:514-#",
                "forward:file:trail.jsonl",
                "other",
            ]
        )


async def test_the_lag_of_the_loop_is_measured_until_cancelled() -> None:
    """Each turn records a lag that is not negative."""
    lags: list[float] = []
    with anyio.CancelScope() as scope:

        def record(lag_s: float) -> None:
            lags.append(lag_s)
            if len(lags) == 3:
                scope.cancel()

        await measure_loop_lag(record, interval_s=0.001)
    assert len(lags) == 3
    assert min(lags) >= 0


def test_the_exposition_has_every_metric_of_the_catalogue() -> None:
    """Names and types in the text that a server scrapes are those that are documented."""
    fed = Fed()
    RuntimeMetrics(
        fed.registry,
        bus=lambda: BusStatistics(head=0, published=0, emitted=0, subscribers={}),
        journal=lambda: JournalStatistics(0, 0, 0, 0.0, 0, 0, 0),
    ).record_loop_lag(0.0)
    text = render(fed.registry).decode()
    for spec in METRICS:
        assert (f"# TYPE {spec.name} {spec.kind}\n" in text) == (spec.source != "store")
