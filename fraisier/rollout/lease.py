"""The exclusive right to deploy one fraise in one environment, with an epoch that only grows.

A lease is facts in the journal: taking, renewing and releasing are appends whose guard is checked in the same transaction,
so two processes can never both succeed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import anyio
import msgspec

from fraisier.bus import Bus
from fraisier.clock import Clock, rfc3339
from fraisier.config.schema import LeaseSettings
from fraisier.errors import (
    DatabaseError,
    DeploymentLockError,
    FraisierError,
    GuardRefusedError,
    LeaseLostError,
)
from fraisier.events import Holder
from fraisier.events import types as ev
from fraisier.journal.base import Guard, Journal
from fraisier.journal.fold import LeaseState, Tables
from fraisier.rollout.processes import ProcessTable
from fraisier.rollout.stop import StopSignal

T = TypeVar("T")

_ASK_AGAIN_S = 0.5


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants the lease of what. `force` overrides a freeze, on the record; `is_new` is False for who goes on with a
    deployment that was begun before: it goes through a freeze, and changes nothing about the deployment while it waits."""

    fraise: str
    environment: str
    deployment_id: str
    force: bool = False
    is_new: bool = True

    @property
    def about(self) -> dict[str, Any]:
        """Return the envelope of the lease's events."""
        return {
            "deployment_id": self.deployment_id,
            "fraise": self.fraise,
            "environment": self.environment,
        }


class Leases:
    """Takes leases for this process."""

    def __init__(
        self,
        bus: Bus,
        journal: Journal,
        *,
        clock: Clock,
        processes: ProcessTable,
        settings: LeaseSettings,
        owner: str,
    ) -> None:
        self.bus = bus
        self.journal = journal
        self.clock = clock
        self.processes = processes
        self.settings = settings
        self.me = processes.holder(owner)

    @asynccontextmanager
    async def hold(
        self,
        fraise: str,
        environment: str,
        deployment_id: str,
        *,
        wait_s: float = 0.0,
        stop: StopSignal | None = None,
        force: bool = False,
        is_new: bool = True,
    ) -> AsyncIterator[Lease]:
        """Hold the lease inside the block and give it back at its end, also when the block is cancelled.

        Raises DeploymentLockError when another holder or a freeze keeps it longer than `wait_s`, InterruptedError when
        `stop` is asked for meanwhile. `force` overrides a freeze (never a holder), which the journal then tells."""
        want = Want(
            fraise=fraise,
            environment=environment,
            deployment_id=deployment_id,
            force=force,
            is_new=is_new,
        )
        lease = await self._acquire(want, wait_s, stop or StopSignal())
        try:
            yield lease
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(10.0):
                await lease.release()

    async def _acquire(self, want: Want, wait_s: float, stop: StopSignal) -> Lease:
        deadline = anyio.current_time() + wait_s
        silence = Silence(self.settings.ttl_s)
        told = False
        while True:
            found = await self.journal.lease(want.fraise, want.environment)
            silent = found is not None and silence.is_over(found)
            hindrance = self._hindrance(found, want, silent=silent)
            if hindrance is None:
                lease = Lease(self, want, (found.epoch if found else 0) + 1)
                try:
                    # Cancelled in between, nobody would know that the lease is ours to give back.
                    with anyio.CancelScope(shield=True):
                        await lease.acquire(found, silent=silent)
                except GuardRefusedError:
                    continue  # somebody else was faster: look again
                return lease
            if anyio.current_time() >= deadline:
                told_refused = ev.LeaseRefused(**want.about, **hindrance.facts, waited_s=wait_s)
                await self.bus.publish(told_refused)
                raise hindrance.error
            if not told:
                told = True
                owner = hindrance.facts["holder"].owner
                if want.is_new:
                    await self.bus.publish(ev.DeploymentQueued(**want.about, holder=owner))
                await self.bus.publish(ev.LeaseWaiting(**want.about, **hindrance.facts))
            await stop.sleep(min(_ASK_AGAIN_S, max(0.0, deadline - anyio.current_time())))

    def _hindrance(self, lease: LeaseState | None, want: Want, *, silent: bool) -> Hindrance | None:
        """Return what keeps the lease from being taken, or None. Pure but for the clock and the process table."""
        if lease is None:
            return None
        now_us = self.clock.now_us()
        if lease.is_frozen(now_us) and want.is_new and not want.force:
            return Hindrance(frozen(lease), lease.epoch, Holder(owner=lease.frozen_by), lease.frozen_us)
        if silent or self.is_free(lease, now_us):
            return None
        return Hindrance(held(lease), lease.epoch, lease.holder, lease.acquired_us)

    def is_free(self, lease: LeaseState, now_us: int) -> bool:
        """Whether nobody holds the lease: given back, expired, or its holder is dead beyond doubt."""
        return not lease.held or lease.expires_us <= now_us or self.processes.is_dead(lease.holder)


class Hindrance:
    """What keeps a lease from being taken: the error, and its facts for the events."""

    def __init__(self, error: DeploymentLockError, epoch: int, holder: Holder, since_us: int) -> None:
        self.error = error
        self.facts: dict[str, Any] = {
            "epoch": epoch,
            "holder": holder,
            "since_at": since_us,
            "detail": error.message,
        }


class Silence:
    """How long a holder has given no sign of life, on a clock that nobody sets.

    Expiries are wall time. After a clock was set back one may lie hours ahead; a holder that was watched for as long as its
    lease lasts, and renewed nothing, has none any more."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._seen = (0, 0)
        self._since_s = anyio.current_time()

    def is_over(self, lease: LeaseState) -> bool:
        """Take note of the lease as it is now; return whether it has not changed for as long as it may last."""
        seen = (lease.epoch, lease.expires_us)
        if seen != self._seen:
            self._seen, self._since_s = seen, anyio.current_time()
        # What the holder's own settings give it, which need not be ours.
        granted_s = (lease.expires_us - lease.renewed_us) / 1_000_000 if lease.renewed_us else 0.0
        return anyio.current_time() - self._since_s >= max(self._ttl_s, granted_s)


def held(lease: LeaseState) -> DeploymentLockError:
    """Return the error that says who holds the lease and since when."""
    who, since = lease.holder, rfc3339(lease.acquired_us)
    return DeploymentLockError(
        f"{lease.fraise} in {lease.environment} is being deployed by {_person(who)} since {since}",
        context={
            "holder": who.owner,
            "host": who.host,
            "pid": who.pid,
            "since": since,
            "deployment_id": lease.deployment_id,
        },
        hint=f"wait with --lock-wait 10m, or look at `fraisier lock status {lease.fraise} {lease.environment}`",
    )


def frozen(lease: LeaseState) -> DeploymentLockError:
    """Return the error that says who froze the fraise, since and until when, and why."""
    since = rfc3339(lease.frozen_us)
    until = rfc3339(lease.frozen_until_us) if lease.frozen_until_us else ""
    return DeploymentLockError(
        f"{lease.fraise} in {lease.environment} is frozen by {lease.frozen_by} since {since} "
        f"{f'until {until}' if until else 'until it is released'}: {lease.frozen_message}",
        context={
            "frozen_by": lease.frozen_by,
            "message": lease.frozen_message,
            "since": since,
            "until": until or None,
        },
        hint=f"ask {lease.frozen_by}; `fraisier lock release {lease.fraise} {lease.environment}` ends the freeze, "
        "deploy and rollback with --force override it once",
    )


def _person(who: Holder) -> str:
    return f"{who.owner or 'another process'} (host {who.host or '?'}, pid {who.pid or '?'})"


class Lease:
    """One lease that this process took."""

    def __init__(self, leases: Leases, want: Want, epoch: int) -> None:
        self._leases = leases
        self._want = want
        self._about = want.about
        self.fraise = want.fraise
        self.environment = want.environment
        self.epoch = epoch
        self.lost = ""
        self.broken: FraisierError | None = None

    @property
    def is_lost(self) -> bool:
        """Whether another has it by now, as far as this process knows."""
        return bool(self.lost)

    @property
    def guard(self) -> Guard:
        """The condition that every event of the deployment is appended under: the lease is still ours."""

        def check(tables: Tables) -> str:
            found = tables.find_lease(self.fraise, self.environment)
            if found is not None and found.epoch == self.epoch and found.held:
                return ""
            return f"the lease of {self.fraise} in {self.environment} {_fate(found, self.epoch)}"

        return check

    async def acquire(self, seen: LeaseState | None, *, silent: bool = False) -> None:
        """Append the acquisition of a lease that was free as `seen`. Raises GuardRefusedError when it no longer is."""
        leases, want = self._leases, self._want

        def freeze(lease: LeaseState) -> str:
            overridden = want.force and lease.is_frozen(leases.clock.now_us())
            return f"{lease.frozen_by}: {lease.frozen_message}" if overridden else ""

        override = freeze(seen) if seen is not None else ""

        def check(tables: Tables) -> str:
            found = tables.find_lease(self.fraise, self.environment)
            if (found.epoch if found is not None else 0) != self.epoch - 1:
                return "the epoch moved"
            if found is not None and freeze(found) != override:
                return "the freeze changed"
            renewed = found is not None and seen is not None and found.expires_us != seen.expires_us
            hindrance = leases._hindrance(found, want, silent=silent and not renewed)
            return "" if hindrance is None else hindrance.error.message

        await leases.bus.publish(
            ev.LeaseAcquired(
                **self._about,
                epoch=self.epoch,
                holder=leases.me,
                expires_at=self._expiry_us(),
                took_over=seen.holder.owner if seen is not None and seen.held else "",
                overrode=override,
            ),
            guard=check,
        )

    async def release(self) -> None:
        """Give the lease back; one that is no longer ours is left alone."""
        try:
            await self._leases.bus.publish(
                ev.LeaseReleased(**self._about, epoch=self.epoch), guard=self.guard
            )
        except GuardRefusedError:
            return

    async def while_held(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what `work` returns, renewing the lease meanwhile; `work` is cancelled when the lease is lost.

        Raises LeaseLostError then, and whatever `work` raises."""
        outcome: list[T] = []
        failure: list[FraisierError] = []

        async def run() -> None:
            try:
                outcome.append(await work())
            except FraisierError as error:
                failure.append(error)
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(
                self._heartbeat, group.cancel_scope, name=f"lease:{self.fraise}@{self.environment}"
            )
            await run()
        if outcome:
            return outcome[0]
        if failure:
            if isinstance(failure[0], (LeaseLostError, GuardRefusedError)):
                await self._say_lost(failure[0].message)
            raise failure[0]
        if self.broken is not None:
            raise self.broken
        raise LeaseLostError(self.lost or "the lease was lost")

    async def _heartbeat(self, scope: anyio.CancelScope) -> None:
        while True:
            await anyio.sleep(self._leases.settings.heartbeat_s)
            try:
                await self._leases.bus.publish(
                    ev.LeaseRenewed(**self._about, epoch=self.epoch, expires_at=self._expiry_us()),
                    guard=self.guard,
                )
            except GuardRefusedError as error:
                await self._say_lost(error.message)
                scope.cancel()
                return
            except FraisierError as error:
                # A journal that takes no more facts ends the deployment here, before another may begin elsewhere.
                self.broken = error
                scope.cancel()
                return

    async def _say_lost(self, detail: str) -> None:
        """Record once that the lease is another's: all that its former holder may still write."""
        if not self.lost:
            self.lost = detail
            # The loss is what the caller must hear of, also when the store takes no more facts.
            with suppress(DatabaseError):
                await self._leases.bus.publish(ev.LeaseLost(**self._about, epoch=self.epoch, detail=detail))

    def _expiry_us(self) -> int:
        return self._leases.clock.now_us() + int(self._leases.settings.ttl_s * 1_000_000)


def _fate(lease: LeaseState | None, epoch: int) -> str:
    """Say what became of a lease that its holder no longer has."""
    if lease is None:
        return "is not on record any more"
    if lease.held:
        by = f"was taken over by {_person(lease.holder)} at {rfc3339(lease.acquired_us)}"
        return f"{by} for {lease.deployment_id}" if lease.deployment_id else by
    if lease.broken_by:
        return f"was broken by {lease.broken_by} with `fraisier lock release`"
    if lease.epoch == epoch:
        return "was given back"
    return f"was taken over by {_person(lease.holder)}, who has given it back since"
