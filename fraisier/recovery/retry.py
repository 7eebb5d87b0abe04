"""Try again later, each time after a longer wait that is drawn at random."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio

from fraisier.clock import Clock
from fraisier.recovery.base import RecoveryStrategy, is_passing
from fraisier.recovery.retry_after import retry_after_of, seconds_asked

Sleep = Callable[[float], Awaitable[object]]


class RetryStrategy(RecoveryStrategy):
    """Exponential backoff with full jitter: attempt n waits between 0 and base_delay * backoff_factor ** (n -
    1) seconds.

    Full jitter, because callers that failed together must not come back together. `max_attempts` counts the
    first try. A wait that would end beyond the deadline of the surrounding cancel scopes is not begun: the attempt after it
    could not finish anyway.
    """

    name = "retry"

    def __init__(
        self,
        max_attempts: int = 3,
        base_delay: float = 1.0,
        backoff_factor: float = 2.0,
        max_delay: float = 60.0,
        *,
        jitter: bool = True,
        rng: random.Random | None = None,
        sleep: Sleep = anyio.sleep,
        clock: Clock | None = None,
    ) -> None:
        if max_attempts < 1 or base_delay < 0 or max_delay < 0 or backoff_factor < 1:
            raise ValueError("max_attempts and backoff_factor must be at least 1, delays at least 0")
        self.max_attempts = max_attempts
        self.base_delay = base_delay
        self.backoff_factor = backoff_factor
        self.max_delay = max_delay
        self.jitter = jitter
        self._rng = rng or random.SystemRandom()
        self._sleep = sleep
        self._clock = clock

    def can_recover(self, error: BaseException) -> bool:
        """Return True for errors that may pass by themselves."""
        return is_passing(error)

    def ceiling_for(self, attempt: int) -> float:
        """Return the longest wait in seconds after `attempt` (from 1) failed."""
        try:
            grown = self.base_delay * self.backoff_factor ** (max(attempt, 1) - 1)
        except OverflowError:
            return self.max_delay
        return min(grown, self.max_delay)

    def delay_for(self, attempt: int) -> float:
        """Return the wait in seconds after `attempt` (from 1) failed; with jitter, drawn from the given
        randomness."""
        ceiling = self.ceiling_for(attempt)
        return self._rng.uniform(0.0, ceiling) if self.jitter else ceiling

    async def execute_recovery(self, context: Mapping[str, Any]) -> bool:
        """Wait and return True below `max_attempts`; return False at once at it, or when no time is left to
        wait.

        A `retry_after` (in the context or on the error; a number of seconds, or the text of a header with seconds or a
        date, which is compared with `clock`) is what the other side asked for: never wait less.
        A `wait(seconds)` in the context waits in place of `sleep`; whoever gave it knows its own deadline.
        """
        attempt = int(context.get("attempt", 1))
        if attempt >= self.max_attempts:
            return False
        delay_s = max(self.delay_for(attempt), self._asked_for(context))
        wait = context.get("wait")
        if wait is not None:
            return await wait(delay_s) is not False
        if anyio.current_time() + delay_s >= anyio.current_effective_deadline():
            return False
        await self._sleep(delay_s)
        return True

    def _asked_for(self, context: Mapping[str, Any]) -> float:
        asked = context.get("retry_after")
        if asked is None:
            return retry_after_of(context.get("error"), clock=self._clock)
        return seconds_asked(asked, clock=self._clock)
