"""Tries the strategies that are registered for an error, in order, and counts what it was handed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fraisier.clock import Clock, SystemClock, rfc3339
from fraisier.recovery import RecoveryStrategy
from fraisier.recovery.fallback import note_failure

ErrorKey = type[BaseException] | str
"""An error class (its subclasses too), a class's name (likewise), or an error code (exactly that one: `PROVIDER_ERROR` is not
a `PROVIDER_CONNECTION_ERROR`, though the class of the one derives from the other's)."""

TYPES_MAX = 256


@dataclass
class _Use:
    """How often a strategy was asked for a way out, and how often it had one."""

    asked: int = 0
    helped: int = 0


class ErrorHandler:
    """Finds a way out of errors. Strategies are tried in the order in which they were registered. Of an error nothing is kept
    but statistics, so many tasks may hand theirs to one handler.

    Statistics are bounded: the last `recent_max` errors, and at most 256 names of classes and of strategies (further ones
    count as `other`).
    """

    def __init__(self, *, clock: Clock | None = None, recent_max: int = 100) -> None:
        self._clock = clock or SystemClock()
        self._strategies: list[tuple[ErrorKey, RecoveryStrategy]] = []
        self._by_type: Counter[str] = Counter()
        self._recent: deque[dict[str, Any]] = deque(maxlen=recent_max)
        self._total = 0
        self._uses: dict[str, _Use] = {}

    def register_strategy(self, error_type: ErrorKey, strategy: RecoveryStrategy) -> None:
        """Use `strategy` for errors of a class, of a class's name, or with a code, after the strategies registered before.

        A class and a name also match the errors of subclasses; a code matches only errors with that very code.
        """
        self._strategies.append((error_type, strategy))

    def strategies_for(self, error: BaseException) -> list[RecoveryStrategy]:
        """Return the strategies that are registered for this error, in order, each once."""
        found: list[RecoveryStrategy] = []
        for key, strategy in self._strategies:
            if _matches(key, error) and strategy not in found:
                found.append(strategy)
        return found

    async def handle_error(
        self, error: BaseException, context: Mapping[str, Any] | None = None, reraise: bool = True
    ) -> bool:
        """Return True as soon as a strategy recovered; otherwise raise `error` itself, or return False.

        `context` is given to the strategies together with `error` and `attempt` (1 unless it says another). A strategy that
        raises, whatever it is, did not help: its error becomes a note on `error`, and the next one is tried.
        """
        if await self.recover(error, context) is not None:
            return True
        if reraise:
            raise error
        return False

    async def recover(
        self, error: BaseException, context: Mapping[str, Any] | None = None
    ) -> RecoveryStrategy | None:
        """Do as `handle_error` does, and return the strategy that recovered, or None."""
        self.count(error, context)
        full = {"attempt": 1, **(context or {}), "error": error}
        for strategy in self.strategies_for(error):
            try:
                if not strategy.can_recover(error):
                    continue
                use = self._use(strategy.name)
                use.asked += 1
                if await strategy.execute_recovery(full):
                    use.helped += 1
                    return strategy
            except Exception as failure:  # noqa: BLE001 - whatever a strategy raises, the error is the one to know of
                note_failure(error, strategy.name, failure)
        return None

    def count(self, error: BaseException, context: Mapping[str, Any] | None = None) -> None:
        """Add an error to the statistics; `recover` does so itself."""
        name = type(error).__name__
        known = name in self._by_type or len(self._by_type) < TYPES_MAX
        self._total += 1
        self._by_type[name if known else "other"] += 1
        told = {} if context is None else context
        plain = {key: value for key, value in told.items() if isinstance(value, str | int | float | bool)}
        described = {
            "error_type": name,
            "code": getattr(error, "code", None),
            "message": str(error),
            "recoverable": getattr(error, "recoverable", False),
            "time": rfc3339(self._clock.now_us()),
            "context": plain,
        }
        self._recent.append(described)

    def get_error_stats(self) -> dict[str, Any]:
        """Return total_errors, errors_by_type (by class name) and recent_errors (oldest first,
        JSON-ready)."""
        return {
            "total_errors": self._total,
            "errors_by_type": dict(self._by_type),
            "recent_errors": list(self._recent),
        }

    def statistics(self) -> dict[str, Any]:
        """Return `get_error_stats()` with `strategies`: by name, how often each was `asked` and how often it `helped`."""
        uses = {name: {"asked": use.asked, "helped": use.helped} for name, use in self._uses.items()}
        return {**self.get_error_stats(), "strategies": uses}

    def reset_stats(self) -> None:
        """Forget all errors, not the strategies."""
        self._uses.clear()
        self._by_type.clear()
        self._recent.clear()
        self._total = 0

    def _use(self, name: str) -> _Use:
        known = name in self._uses or len(self._uses) < TYPES_MAX
        return self._uses.setdefault(name if known else "other", _Use())


def _matches(key: ErrorKey, error: BaseException) -> bool:
    if isinstance(key, str):
        return key == getattr(error, "code", None) or any(key == cls.__name__ for cls in type(error).__mro__)
    return isinstance(error, key)
