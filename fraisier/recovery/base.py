"""What every recovery strategy is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from fraisier.errors import FraisierError


class RecoveryStrategy(ABC):
    """One way to get over a failure. It acts itself (waits, switches, rolls back) and never leaves that to
    its caller."""

    name: str = "recovery"
    """A short word for decisions and logs."""

    @abstractmethod
    def can_recover(self, error: BaseException) -> bool:
        """Say whether this strategy knows a way out of `error`; changes nothing."""

    @abstractmethod
    async def execute_recovery(self, context: Mapping[str, Any]) -> bool:
        """Act, and return whether it is done.

        `context` holds at least `error` and `attempt` (the try that failed, counted from 1). It may hold the
        coroutine functions `rollback()`, `switch_provider(provider)` and `wait(seconds)`, which a strategy calls when it
        needs them.
        """


def is_passing(error: BaseException) -> bool:
    """Say whether trying again can help: our own errors know it; of the others, timeouts and lost connections
    pass."""
    if isinstance(error, FraisierError):
        return error.recoverable
    return isinstance(error, TimeoutError | ConnectionError)
