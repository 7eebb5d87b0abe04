"""What is recorded, in the words of deployments instead of those of Prometheus."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from typing import Any

from fraisier.metrics.catalogue import label
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
        return dict(totals)


@functools.cache
def get_metrics_recorder() -> MetricsRecorder:
    """Return the one recorder of this process, for code that is not given one. Its registry is its own."""
    return MetricsRecorder()
