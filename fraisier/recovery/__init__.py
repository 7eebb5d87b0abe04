"""What is tried after a failure: each strategy acts, and says whether it helped."""

from fraisier.recovery.base import RecoveryStrategy
from fraisier.recovery.circuit import CircuitBreakerStrategy
from fraisier.recovery.circuit_state import CircuitState
from fraisier.recovery.fallback import FallbackStrategy
from fraisier.recovery.operation import RetryableOperation
from fraisier.recovery.retry import RetryStrategy
from fraisier.recovery.retry_after import retry_after_of
from fraisier.recovery.rollback import RollbackRecoveryStrategy

__all__ = [
    "CircuitBreakerStrategy",
    "CircuitState",
    "FallbackStrategy",
    "RecoveryStrategy",
    "RetryStrategy",
    "RetryableOperation",
    "RollbackRecoveryStrategy",
    "retry_after_of",
]
