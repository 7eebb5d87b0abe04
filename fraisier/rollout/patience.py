"""Asking a target again that does not answer: who is silent tells nothing of what runs there, and most answer again soon."""

from __future__ import annotations

import anyio

_WAITS_S = (0.5, 5.0)
"""How long the first wait is, and at most the later ones, each twice as long as the one before."""


class Patience:
    """The waits between questions, until `within_s` seconds are over."""

    def __init__(self, within_s: float) -> None:
        self.until = anyio.current_time() + within_s
        self._wait_s = _WAITS_S[0]

    async def wait(self) -> bool:
        """Wait a moment and return True; return False at once when the time would be over after it."""
        if anyio.current_time() + self._wait_s >= self.until:
            return False
        await anyio.sleep(self._wait_s)
        self._wait_s = min(2 * self._wait_s, _WAITS_S[1])
        return True
