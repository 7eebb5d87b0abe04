"""How long the other side asks to wait: a number of seconds, or what stands in an HTTP header Retry-After."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

from fraisier.clock import Clock, SystemClock

RETRY_AFTER_S_MAX = 86_400.0
"""Nobody is waited for longer than a day: who says so means that it is no use, or is mistaken."""

_SECONDS = re.compile(r"\s*\d{1,12}(\.\d{1,9})?\s*", re.ASCII)


def retry_after_of(error: object, *, clock: Clock | None = None) -> float:
    """Return how long, in seconds, the other side asked to wait: the error's `retry_after`, or that of its context.

    That is a number or a text, seconds or an HTTP date, which is compared with `clock`. What cannot be read, or is over,
    asks for nothing; more than a day counts as a day."""
    asked = getattr(error, "retry_after", None)
    if asked is None:
        asked = getattr(error, "context", {}).get("retry_after")
    return seconds_asked(asked, clock=clock)


def seconds_asked(asked: object, *, clock: Clock | None = None) -> float:
    """Return the seconds that a number or the text of a header asks for, from 0 to a day."""
    if isinstance(asked, str):
        wanted_s = float(asked) if _SECONDS.fullmatch(asked) else _until(asked, clock or SystemClock())
    elif isinstance(asked, int | float):
        wanted_s = float(min(asked, RETRY_AFTER_S_MAX))
    else:
        return 0.0
    return min(max(0.0, wanted_s), RETRY_AFTER_S_MAX)  # in this order 0 is what comes of "not a number"


def _until(date: str, clock: Clock) -> float:
    try:
        moment = parsedate_to_datetime(date)
        # The oldest of the three forms has no zone; all of them mean UTC.
        at_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return at_s - clock.now_us() / 1_000_000
