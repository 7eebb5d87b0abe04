"""What the bus tells about itself."""

from __future__ import annotations

import msgspec


class SubscriberStatistics(msgspec.Struct, frozen=True):
    """Counters of one subscriber since it was attached.

    `kind` is live, durable or stream. `lag` counts the records that wait for it: those in its buffer, or,
    while it is parked, the rows of the journal up to the head (an upper bound: not all of them are for it).
    `passive`: another process owns this durable subscriber. `dropped` counts ephemeral events only; nothing
    else is ever dropped.
    """

    name: str
    kind: str
    patterns: tuple[str, ...]
    position: int
    buffered: int
    lag: int
    parked: bool
    passive: bool
    handled: int
    parks: int
    errors: int
    retries: int
    dropped: int
    dead_letters: int
    hung: int


class BusStatistics(msgspec.Struct, frozen=True):
    """Counters of one bus: `head` is the seq fanned out last, `published` what this process appended,
    `emitted` the ephemeral events."""

    head: int
    published: int
    emitted: int
    subscribers: dict[str, SubscriberStatistics]
