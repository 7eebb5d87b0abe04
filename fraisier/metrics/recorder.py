"""What is recorded, in the words of deployments instead of those of Prometheus."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from typing import Any

from fraisier.metrics.catalogue import (
    ACTIONS,
    CIRCUIT_STATES,
    STATUSES,
    USUAL_ERROR_TYPES,
    USUAL_REASONS,
    USUAL_STATUSES,
    label,
)
from fraisier.metrics.deployment import DeploymentMetrics


class MetricsRecorder:
    """Records into `metrics` (one with a registry of its own when None). Durations are in seconds."""

    def __init__(self, metrics: DeploymentMetrics | None = None) -> None:
        self.metrics = metrics or DeploymentMetrics()
        self._active: Counter[str] = Counter()

    def record_deployment_start(self, provider: str, fraise_type: str) -> None:
        """A deployment began to act; `fraise_type` is counted when it ends."""
        self._set_active(provider, 1)

    def record_deployment_complete(
        self, provider: str, fraise_type: str, status: str, duration: float | None
    ) -> None:
        """A deployment ended; `status` is its outcome, `duration` None when it is not known."""
        status = "success" if status == "succeeded" else status
        self._set_active(provider, -1)
        self.metrics.series("fraisier_deployments_total", provider, status, fraise_type).inc()
        if duration is not None:
            self.metrics.series("fraisier_deployment_duration_seconds", provider, status).observe(duration)

    def record_deployment_moved(self, provider: str, to_provider: str) -> None:
        """A deployment that acts goes through another provider from now on."""
        self._set_active(provider, -1)
        self._set_active(to_provider, 1)

    def record_deployment_error(self, provider: str, error_type: str) -> None:
        """A step failed; `error_type` is the class of the error."""
        self.metrics.series("fraisier_deployment_errors_total", provider, error_type).inc()

    def record_rollback(self, provider: str, reason: str, duration: float) -> None:
        """A rollback ended."""
        self.metrics.series("fraisier_rollbacks_total", provider, reason).inc()
        self.metrics.series("fraisier_rollback_duration_seconds", provider).observe(duration)

    def record_health_check(self, provider: str, check_type: str, status: str, duration: float) -> None:
        """A probe was answered, or not; `status` is pass, fail or error."""
        self.metrics.series("fraisier_health_checks_total", provider, check_type, status).inc()
        self.metrics.probes.observe(provider, check_type, duration)

    def record_health_checks(
        self,
        provider: str,
        check_type: str,
        counts: Mapping[str, int],
        buckets: Mapping[str, int],
        sum_s: float,
    ) -> None:
        """Record all probes of one verdict: their number by status, and by upper bound of their duration."""
        for status, number in counts.items():
            self.metrics.series("fraisier_health_checks_total", provider, check_type, status).inc(number)
        self.metrics.probes.add(provider, check_type, buckets, sum_s)

    def set_provider_availability(self, provider: str, available: bool) -> None:
        """Say whether a provider can be used."""
        self.metrics.series("fraisier_provider_availability", provider).set(1 if available else 0)

    def record_lock_wait(self, service: str, provider: str, wait_time: float) -> None:
        """Say how long a deployment of a fraise waited for its lease."""
        self.metrics.series("fraisier_deployment_lock_wait_seconds", service, provider).set(wait_time)

    def record_step(self, provider: str, step: str, status: str, duration: float) -> None:
        """An attempt of a step ended; `status` is success or failed."""
        self.metrics.series("fraisier_step_duration_seconds", provider, step, status).observe(duration)

    def record_retry(self, provider: str, step: str) -> None:
        """A step is tried again."""
        self.metrics.series("fraisier_step_retries_total", provider, step).inc()

    def record_failure(self, provider: str, reason: str) -> None:
        """A deployment ended or stopped otherwise than well; `reason` is a code."""
        self.metrics.series("fraisier_deployment_failures_total", provider, reason).inc()

    def record_hook(self, provider: str, phase: str, status: str, duration: float) -> None:
        """A hook ended; `status` is success or failed."""
        self.metrics.series("fraisier_hook_duration_seconds", provider, phase, status).observe(duration)

    def record_decision(self, provider: str, action: str) -> None:
        """It was decided what to do about a failure."""
        self.metrics.series("fraisier_recovery_decisions_total", provider, action).inc()

    def record_recovery(self, provider: str, strategy: str, status: str) -> None:
        """What was decided ended; `status` is success or failed."""
        self.metrics.series("fraisier_recoveries_total", provider, strategy, status).inc()

    def record_circuit(self, provider: str, state: str) -> None:
        """A circuit came to a state: open, half_open or closed."""
        self.metrics.series("fraisier_circuit_transitions_total", provider, state).inc()

    def set_circuits(self, provider: str, state: str, number: int) -> None:
        """Say how many circuits of a provider are open or half_open."""
        self.metrics.series("fraisier_circuit_state", provider, state).set(number)

    def record_probe_schedule(self, provider: str, check_type: str, lag: float, skipped: int) -> None:
        """The probes of a verdict were at most `lag` late, and `skipped` of them were left out."""
        self.metrics.series("fraisier_probe_schedule_lag_seconds", provider, check_type).set(lag)
        self.metrics.series("fraisier_probe_ticks_skipped_total", provider, check_type).inc(skipped)

    def record_fraise(
        self,
        fraise: str,
        environment: str,
        provider: str,
        status: str,
        ended_at: float,
        duration: float | None,
    ) -> None:
        """A deployment of a fraise ended with `status`, at `ended_at` seconds since 1970."""
        status = "success" if status == "succeeded" else status
        where, series = (fraise, environment, provider), self.metrics.series
        series("fraisier_fraise_deployments_total", *where, status).inc()
        series("fraisier_last_deployment_timestamp_seconds", *where).set(ended_at)
        series("fraisier_last_deployment_success", *where).set(status in ("success", "unchanged"))
        if duration is not None:
            series("fraisier_last_deployment_duration_seconds", *where).set(duration)

    def announce(self, provider: str, fraise_type: str, fraise: str, environment: str) -> None:
        """Let the series of a deployment that was asked for begin at 0: what Prometheus sees for the first time at 1 is
        no increase to it."""
        series = self.metrics.series
        for status in STATUSES:
            series("fraisier_deployments_total", provider, status, fraise_type)
            series("fraisier_fraise_deployments_total", fraise, environment, provider, status)
        for action in ACTIONS:
            series("fraisier_recovery_decisions_total", provider, action)
        for state in CIRCUIT_STATES:
            series("fraisier_circuit_transitions_total", provider, state)
            if state != "closed":
                series("fraisier_circuit_state", provider, state)
        for reason in USUAL_REASONS:
            series("fraisier_deployment_failures_total", provider, reason)
            series("fraisier_rollbacks_total", provider, reason)
        for error_type in USUAL_ERROR_TYPES:
            series("fraisier_deployment_errors_total", provider, error_type)
        for status in USUAL_STATUSES:
            series("fraisier_deployment_duration_seconds", provider, status)
        series("fraisier_rollback_duration_seconds", provider)
        series("fraisier_active_deployments", provider)

    def set_active(self, by_provider: Mapping[str, int]) -> None:
        """Say how many deployments act now, by provider; those that are left out have none."""
        self._active = Counter({label(provider): number for provider, number in by_provider.items()})
        for labels, _ in list(self.metrics.samples("fraisier_active_deployments")):
            self._active.setdefault(labels["provider"], 0)
        for provider, number in self._active.items():
            self.metrics.series("fraisier_active_deployments", provider).set(number)

    def get_metrics_summary(self) -> dict[str, Any]:
        """Return totals: `enabled`, `active_deployments`, and by label `deployments` (status), `errors`
        (class), `rollbacks` (reason), `health_checks` (status) and `provider_availability` (provider)."""
        availability = self._totals("fraisier_provider_availability", "provider")
        return {
            "enabled": self.metrics.enabled,
            "active_deployments": sum(self._active.values()),
            "deployments": self._totals("fraisier_deployments_total", "status"),
            "errors": self._totals("fraisier_deployment_errors_total", "error_type"),
            "rollbacks": self._totals("fraisier_rollbacks_total", "reason"),
            "health_checks": self._totals("fraisier_health_checks_total", "status"),
            "provider_availability": {provider: bool(value) for provider, value in availability.items()},
        }

    def _set_active(self, provider: str, change: int) -> None:
        """The gauge never goes below zero: an end whose start was not seen here takes nothing away."""
        key = label(provider)
        self._active[key] = max(0, self._active[key] + change)
        self.metrics.series("fraisier_active_deployments", provider).set(self._active[key])

    def _totals(self, name: str, by: str) -> dict[str, int]:
        totals: Counter[str] = Counter()
        for labels, value in self.metrics.samples(name):
            totals[labels[by]] += int(value)
        if by == "provider":
            return dict(totals)
        return {name: number for name, number in totals.items() if number}


@functools.cache
def get_metrics_recorder() -> MetricsRecorder:
    """Return the one recorder of this process, for code that is not given one. Its registry is its own."""
    return MetricsRecorder()
