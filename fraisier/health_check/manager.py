"""Health checks with patience, for embedders."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import anyio

from fraisier.health_check.base import HealthChecker, HealthCheckResult, asked

Sleep = Callable[[float], Awaitable[object]]


class HealthRecorder(Protocol):
    """Where results are counted; `fraisier.metrics.MetricsRecorder` is one."""

    def record_health_check(self, provider: str, check_type: str, status: str, duration: float) -> None:
        """Count one check."""
        ...


class HealthCheckManager:
    """Runs checkers; one that raises gives a result with the status error. `provider` (a name, or an object with a
    `type`) labels the metrics."""

    def __init__(
        self,
        provider: Any = None,
        deployment_id: str | None = None,
        *,
        recorder: HealthRecorder | None = None,
        sleep: Sleep = anyio.sleep,
    ) -> None:
        self.provider = provider if isinstance(provider, str) else str(getattr(provider, "type", "unknown"))
        self.deployment_id = deployment_id
        self._recorder = recorder
        self._sleep = sleep

    async def check_with_retries(
        self,
        checker: HealthChecker,
        max_retries: int = 3,
        initial_delay: float = 1.0,
        backoff_factor: float = 2.0,
        max_delay: float = 30.0,
        timeout: float = 5.0,
    ) -> HealthCheckResult:
        """Ask, and while it does not pass ask up to `max_retries` times more; return the last result.

        The wait before the first retry is `initial_delay` seconds, each further one `backoff_factor` times as
        long, at most `max_delay`. `timeout` bounds each single check.
        """
        delay_s = initial_delay
        result = await asked(checker, timeout)
        for _ in range(max_retries):
            if result.success:
                break
            await self._sleep(min(delay_s, max_delay))
            delay_s = min(delay_s * backoff_factor, max_delay)
            result = await asked(checker, timeout)
        return result

    async def check_and_record_metrics(
        self, checker: HealthChecker, timeout: float = 5.0
    ) -> HealthCheckResult:
        """Ask once and count the result as pass, fail or error with its duration."""
        result = await asked(checker, timeout)
        recorder = self._recorder or _process_recorder()
        recorder.record_health_check(self.provider, result.check_type, result.status, result.duration)
        return result

    async def check_service_ready(
        self, checker: HealthChecker, deadline: float = 60.0, interval: float = 1.0, timeout: float = 5.0
    ) -> bool:
        """Wait until the check passes; False when it did not within `deadline` seconds."""
        with anyio.move_on_after(deadline):
            while not (await asked(checker, timeout)).success:
                await self._sleep(interval)
            return True
        return False

    async def check_service_healthy(self, checker: HealthChecker, timeout: float = 5.0) -> bool:
        """Ask once; True when it passes."""
        return (await asked(checker, timeout)).success


def _process_recorder() -> HealthRecorder:
    # Loaded late: the metrics library is heavy, and only this one call needs it.
    recorder: HealthRecorder = importlib.import_module("fraisier.metrics").get_metrics_recorder()
    return recorder
