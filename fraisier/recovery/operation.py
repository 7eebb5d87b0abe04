"""Call something until it works or there is no sense in calling it again."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from fraisier.recovery.base import RecoveryStrategy
from fraisier.recovery.retry import RetryStrategy

T = TypeVar("T")
OnRetry = Callable[[int, BaseException], Awaitable[object] | object]


class RetryableOperation(Generic[T]):
    """Run a function (async or not) with recovery in between the tries.

    `max_attempts` counts the first try; a strategy with a `max_attempts` of its own overrides it.
    `on_retry(attempt, error)` is called (and awaited, if it is async) before each further try with the
    attempt that failed.
    """

    def __init__(
        self,
        func: Callable[..., Awaitable[T] | T],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        retry_strategy: RecoveryStrategy | None = None,
        on_retry: OnRetry | None = None,
        max_attempts: int = 3,
    ) -> None:
        self._func = func
        self._args = tuple(args)
        self._kwargs = dict(kwargs or {})
        self._strategy = retry_strategy or RetryStrategy(max_attempts=max_attempts)
        self._on_retry = on_retry
        self.max_attempts = int(getattr(self._strategy, "max_attempts", max_attempts))
        self.attempts = 0
        """How many tries the last `execute` took."""

    async def execute(self) -> T:
        """Return the function's result, or raise the error of its last try as it was."""
        self.attempts = 0
        while True:
            self.attempts += 1
            try:
                result = self._func(*self._args, **self._kwargs)
                return await result if inspect.isawaitable(result) else result
            except Exception as error:
                # Which errors can be recovered from is the strategy's knowledge; all others go on unchanged.
                if not await self._recovered(error):
                    raise
                await self._announce(error)

    async def _recovered(self, error: Exception) -> bool:
        if self.attempts >= self.max_attempts or not self._strategy.can_recover(error):
            return False
        return await self._strategy.execute_recovery({"error": error, "attempt": self.attempts})

    async def _announce(self, error: Exception) -> None:
        if self._on_retry is None:
            return
        announced = self._on_retry(self.attempts, error)
        if inspect.isawaitable(announced):
            await announced
