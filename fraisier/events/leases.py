"""The exclusive right to deploy."""

from __future__ import annotations

import msgspec

from fraisier.events.base import Actor, Event


class Holder(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who holds a lease, exactly enough to prove that it is dead: a pid means nothing without host, boot, start and the
    namespace that it is counted in."""

    owner: str = ""
    host: str = ""
    boot_id: str = ""
    pid: int = 0
    pid_start: str = ""
    version: str = ""
    pid_ns: str = ""


class LeaseAcquired(Event, frozen=True, tag="lease.acquired"):
    """The exclusive right was taken; `epoch` is higher than any before for the fraise and environment.

    `overrode` is the freeze that was overridden by force: its owner and message.
    """

    epoch: int = 0
    holder: Holder = Holder()
    expires_at: int = 0
    took_over: str = ""
    overrode: str = ""


class LeaseWaiting(Event, frozen=True, tag="lease.waiting"):
    """A deployment waits for another holder, or for the end of a freeze; `detail` says who, and since when."""

    epoch: int = 0
    holder: Holder = Holder()
    since_at: int = 0
    detail: str = ""


class LeaseRenewed(Event, frozen=True, tag="lease.renewed"):
    """The holder is alive; the lease now ends at `expires_at`."""

    epoch: int = 0
    expires_at: int = 0


class LeaseLost(Event, frozen=True, tag="lease.lost"):
    """The holder found that the lease is no longer its own."""

    epoch: int = 0
    detail: str = ""


class LeaseReleased(Event, frozen=True, tag="lease.released"):
    """The holder gave the right back, or a person took it from the holder: then `broken_by` names that person."""

    epoch: int = 0
    broken_by: str = ""
    holder: Holder = Holder()


class LeaseRefused(Event, frozen=True, tag="lease.refused"):
    """A deployment gave up waiting for another holder, or for the end of a freeze, after `waited_s`."""

    epoch: int = 0
    holder: Holder = Holder()
    waited_s: float = 0.0
    since_at: int = 0
    detail: str = ""


class LeaseFrozen(Event, frozen=True, tag="lease.frozen"):
    """A person forbade changes until `until_at` (0: until the freeze is released)."""

    owner: str = ""
    message: str = ""
    until_at: int = 0
    actor: Actor = Actor()


class LeaseThawed(Event, frozen=True, tag="lease.thawed"):
    """A person released a freeze; `owner` and `message` are those of the freeze."""

    owner: str = ""
    message: str = ""
    actor: Actor = Actor()
