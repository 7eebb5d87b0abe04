"""The way between a process and a host, and what becomes of a command on it."""

from __future__ import annotations

import random
from typing import Literal

import msgspec

Fate = Literal["arrives", "lost", "unanswered", "silent", "silent after"]
"""It arrives and is answered; it is lost and the caller hears of the broken connection; it takes effect and its answer is
lost the same way; it is lost, or takes effect, and nobody hears anything any more."""


class Weather(msgspec.Struct, frozen=True):
    """How a link is at present. Chances are between 0 and 1; `cut` refuses every connection, `hole` swallows it."""

    lost: float = 0.0
    unanswered: float = 0.0
    silent: float = 0.0
    delay_s: float = 0.0
    cut: bool = False
    hole: bool = False

    def fate(self, rng: random.Random) -> Fate:
        """Draw what becomes of one command."""
        if not (self.lost or self.unanswered or self.silent):
            return "arrives"
        drawn = rng.random()
        for chance, fate in (
            (self.lost, "lost"),
            (self.unanswered, "unanswered"),
            (self.silent / 2, "silent"),
            (self.silent / 2, "silent after"),
        ):
            if drawn < chance:
                return fate  # type: ignore[return-value]
            drawn -= chance
        return "arrives"

    def delay(self, rng: random.Random) -> float:
        """Draw how long one way takes, in seconds."""
        return rng.uniform(0, self.delay_s) if self.delay_s else 0.0


CALM = Weather()
