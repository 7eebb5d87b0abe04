"""What one circuit remembers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

CircuitState = Literal["closed", "open", "half_open"]

CALLS_MAX = 1000
"""How many calls a rate window remembers at most."""


@dataclass
class Circuit:
    """The state of one resource. `trials` holds the time at which each outstanding trial counts as lost."""

    state: CircuitState = "closed"
    generation: int = 0
    failures: int = 0
    opened_at: float = 0.0
    used_at: float = 0.0
    trials: deque[float] = field(default_factory=deque)
    calls: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=CALLS_MAX))

    def forget_lost_trials(self, now: float) -> None:
        """Free the places of trials that were never reported back."""
        while self.trials and self.trials[0] <= now:
            self.trials.popleft()

    def end_trial(self, now: float) -> bool:
        """Take one outstanding trial off; False when none is, so the result belongs to an older call."""
        self.forget_lost_trials(now)
        if not self.trials:
            return False
        self.trials.popleft()
        return True


@dataclass(frozen=True)
class RateWindow:
    """Opens at a share of failures instead of a run of them: for resources that always fail a little."""

    failure_rate: float
    window_s: float
    minimum_calls: int

    def add(self, calls: deque[tuple[float, bool]], now: float, *, failed: bool) -> bool:
        """Remember a call and say whether the share of failures within the window is reached."""
        calls.append((now, failed))
        while calls[0][0] <= now - self.window_s:
            calls.popleft()
        if len(calls) < self.minimum_calls:
            return False
        return sum(bad for _, bad in calls) / len(calls) >= self.failure_rate
