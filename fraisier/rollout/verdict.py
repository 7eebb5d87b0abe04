"""How a walk over a plan ends."""

from __future__ import annotations

import msgspec

from fraisier.errors import FraisierError


class Verdict(msgspec.Struct, frozen=True):
    """The end of a walk. `kind` is done, partial, prepare (nothing was changed), changed (failed after a change),
    unreachable, doubt (nobody knows whether a step happened that may not be repeated) or interrupted. `error` is what
    made a preparation fail, where an error did."""

    kind: str
    reason: str = ""
    detail: str = ""
    error: FraisierError | None = None


class Halt(Exception):
    """Raised inside the walk when it must not go on; carries the verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.detail)
        self.verdict = verdict


def reason_of(error: BaseException) -> str:
    """Return the short word for an error: its code in lower case."""
    return error.code.lower() if isinstance(error, FraisierError) else "internal_error"
