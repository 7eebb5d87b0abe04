"""How a version behaves once it is started on a host, as a function of time: no timer runs for it."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["good", "slow", "late", "exits", "sick", "flapping", "dies", "crash_loop", "worn"]

_FLAP_S = 0.7


class Behaviour(msgspec.Struct, frozen=True):
    """`good` is healthy at once, `slow` after `after_s`, `late` after more than any deadline; `sick` runs and never is;
    `exits` ends at its start, `dies` after `after_s`; `crash_loop` ends and is started again every second; `flapping` is
    healthy and not in turn; `worn` is healthy when it is started for the first time, and sick ever after."""

    kind: Kind = "good"
    after_s: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether a deployment of it may succeed."""
        return self.kind in ("good", "slow")

    def runs(self, age_s: float) -> bool:
        """Whether its process runs `age_s` after its start."""
        if self.kind == "exits":
            return False
        if self.kind == "dies":
            return age_s < self.after_s
        return self.kind != "crash_loop" or age_s % 1.0 < 0.4

    def starts(self, age_s: float) -> int:
        """How often it was started again by its supervisor since."""
        return int(age_s) if self.kind == "crash_loop" else 0

    def is_healthy(self, age_s: float) -> bool:
        """Whether it answers its health check well."""
        if not self.runs(age_s):
            return False
        if self.kind in ("slow", "late"):
            return age_s >= self.after_s
        if self.kind == "flapping":
            return int(age_s / _FLAP_S) % 2 == 1
        return self.kind in ("good", "dies", "worn")
