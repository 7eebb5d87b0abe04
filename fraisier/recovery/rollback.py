"""Bring the previous release back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fraisier.errors import (
    DeploymentError,
    DeploymentLockError,
    DeploymentTimeoutError,
    FencedError,
    HealthCheckError,
    InDoubtError,
    InterruptedError,
    LeaseLostError,
    RollbackError,
)
from fraisier.recovery.base import RecoveryStrategy
from fraisier.recovery.fallback import note_failure

NEVER_ROLLED_BACK = (
    DeploymentLockError,
    FencedError,
    InDoubtError,
    InterruptedError,
    LeaseLostError,
    RollbackError,
)
"""After these either nothing was changed, or somebody else decides: going back would make it worse."""


class RollbackRecoveryStrategy(RecoveryStrategy):
    """Roll back after the kinds of failure that are switched on."""

    name = "rollback"

    def __init__(
        self,
        rollback_on_timeout: bool = True,
        rollback_on_health_check_failure: bool = True,
        rollback_on_deployment_error: bool = False,
    ) -> None:
        self.rollback_on_timeout = rollback_on_timeout
        self.rollback_on_health_check_failure = rollback_on_health_check_failure
        self.rollback_on_deployment_error = rollback_on_deployment_error

    def can_recover(self, error: BaseException) -> bool:
        """Return whether this kind of failure is to be rolled back."""
        if isinstance(error, NEVER_ROLLED_BACK):
            return False
        if isinstance(error, DeploymentTimeoutError):
            return self.rollback_on_timeout
        if isinstance(error, HealthCheckError):
            return self.rollback_on_health_check_failure
        return self.rollback_on_deployment_error and isinstance(error, DeploymentError)

    async def execute_recovery(self, context: Mapping[str, Any]) -> bool:
        """Await `context["rollback"]()`; False when there is none, it returns False or fails."""
        rollback = context.get("rollback")
        if rollback is None:
            return False
        try:
            return await rollback() is not False
        except Exception as failure:  # noqa: BLE001 - it is the caller's function, which raises what it likes
            note_failure(context.get("error"), "the rollback", failure)
            return False
