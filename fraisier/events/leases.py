"""The exclusive right to deploy."""

from __future__ import annotations

import msgspec

from fraisier.events.base import Event


class Holder(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who holds a lease, exactly enough to prove that it is dead: a pid means nothing without host, boot and start."""

    owner: str = ""
    host: str = ""
    boot_id: str = ""
    pid: int = 0
    pid_start: str = ""
    version: str = ""


class LeaseAcquired(Event, frozen=True, tag="lease.acquired"):
    """The exclusive right was taken; `epoch` is higher than any before for the fraise and environment."""

    epoch: int = 0
    holder: Holder = Holder()
    expires_at: int = 0
    took_over: str = ""


class LeaseWaiting(Event, frozen=True, tag="lease.waiting"):
    """A deployment waits for another holder."""

    epoch: int = 0
    holder: Holder = Holder()


class LeaseRenewed(Event, frozen=True, tag="lease.renewed"):
    """The holder is alive; the lease now ends at `expires_at`."""

    epoch: int = 0
    expires_at: int = 0


class LeaseLost(Event, frozen=True, tag="lease.lost"):
    """The holder found that the lease is no longer its own."""

    epoch: int = 0
    detail: str = ""


class LeaseReleased(Event, frozen=True, tag="lease.released"):
    """The holder gave the right back."""

    epoch: int = 0


class LeaseRefused(Event, frozen=True, tag="lease.refused"):
    """A deployment gave up waiting for another holder after `waited_s`."""

    epoch: int = 0
    holder: Holder = Holder()
    waited_s: float = 0.0
