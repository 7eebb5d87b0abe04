"""How a deployment is asked to stop at the next step boundary."""

from __future__ import annotations

from fraisier.errors import InterruptedError


class StopSignal:
    """Set once by a person or a signal; looked at before each step."""

    def __init__(self) -> None:
        self.reason = ""

    def request(self, reason: str) -> None:
        """Ask for an orderly stop: running steps finish, no new one begins."""
        self.reason = self.reason or reason

    def check(self) -> None:
        """Raise InterruptedError when a stop was asked for."""
        if self.reason:
            raise InterruptedError(f"stopped: {self.reason}")
