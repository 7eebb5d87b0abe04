"""The exclusive right to deploy one fraise in one environment, with an epoch that only grows.

A lease is facts in the journal: taking, renewing and releasing are appends whose guard is checked in the same transaction,
so two processes can never both succeed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio

from fraisier.bus import Bus
from fraisier.clock import Clock, rfc3339
from fraisier.config.schema import LeaseSettings
from fraisier.errors import DeploymentLockError, FraisierError, GuardRefusedError, LeaseLostError
from fraisier.events import Holder
from fraisier.events import types as ev
from fraisier.journal.base import Guard, Journal
from fraisier.journal.fold import LeaseState, Tables
from fraisier.rollout.processes import ProcessTable
from fraisier.rollout.stop import StopSignal

T = TypeVar("T")

_ASK_AGAIN_S = 0.5


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
        self._bus = bus
        self._journal = journal
        self._clock = clock
        self._processes = processes
        self._settings = settings
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
    ) -> AsyncIterator[Lease]:
        """Hold the lease inside the block and give it back at its end, also when the block is cancelled.

        Raises DeploymentLockError when another holder keeps it longer than `wait_s`, InterruptedError when `stop` is
        asked for meanwhile."""
        lease = await self._acquire(fraise, environment, deployment_id, wait_s, stop or StopSignal())
        try:
            yield lease
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(10.0):
                await lease.release()

    async def _acquire(
        self, fraise: str, environment: str, deployment_id: str, wait_s: float, stop: StopSignal
    ) -> Lease:
        deadline = anyio.current_time() + wait_s
        about: dict[str, Any] = {"deployment_id": deployment_id, "fraise": fraise, "environment": environment}
        told = False
        while True:
            found = await self._journal.lease(fraise, environment)
            now_us = self._clock.now_us()
            if found is None or self._is_free(found, now_us):
                lease = Lease(self, fraise, environment, deployment_id, (found.epoch if found else 0) + 1)
                took_over = found.holder.owner if found is not None and found.held else ""
                try:
                    # Cancelled in between, nobody would know that the lease is ours to give back.
                    with anyio.CancelScope(shield=True):
                        await lease.acquire(took_over)
                except GuardRefusedError:
                    continue  # somebody else was faster: look again
                return lease
            if anyio.current_time() >= deadline:
                await self._bus.publish(
                    ev.LeaseRefused(**about, epoch=found.epoch, holder=found.holder, waited_s=wait_s)
                )
                raise self.refusal(found)
            if not told:
                told = True
                await self._bus.publish(ev.DeploymentQueued(**about, holder=found.holder.owner))
                await self._bus.publish(ev.LeaseWaiting(**about, epoch=found.epoch, holder=found.holder))
            await stop.sleep(min(_ASK_AGAIN_S, max(0.0, deadline - anyio.current_time())))

    def _is_free(self, lease: LeaseState, now_us: int) -> bool:
        return not lease.held or lease.expires_us <= now_us or self._processes.is_dead(lease.holder)

    def refusal(self, lease: LeaseState) -> DeploymentLockError:
        """Return the error that says who holds the lease and since when."""
        who, since = lease.holder, rfc3339(lease.acquired_us)
        return DeploymentLockError(
            f"{lease.fraise} in {lease.environment} is being deployed by {who.owner} "
            f"(host {who.host}, pid {who.pid}) since {since}",
            context={
                "holder": who.owner,
                "host": who.host,
                "pid": who.pid,
                "since": since,
                "deployment_id": lease.deployment_id,
            },
            hint=f"wait with --lock-wait 10m, or look at `fraisier show {lease.deployment_id}`",
        )


class Lease:
    """One lease that this process took."""

    def __init__(self, leases: Leases, fraise: str, environment: str, deployment_id: str, epoch: int) -> None:
        self._leases = leases
        self._about: dict[str, Any] = {
            "deployment_id": deployment_id,
            "fraise": fraise,
            "environment": environment,
        }
        self.fraise = fraise
        self.environment = environment
        self.epoch = epoch
        self.lost = ""
        self.broken: FraisierError | None = None

    @property
    def guard(self) -> Guard:
        """The condition that every event of the deployment is appended under: the lease is still ours."""

        def check(tables: Tables) -> str:
            found = tables.find_lease(self.fraise, self.environment)
            if found is not None and found.epoch == self.epoch and found.held:
                return ""
            holder = found.holder if found is not None else Holder()
            return f"the lease of {self.fraise} in {self.environment} was taken over by {holder.owner or 'another process'}"

        return check

    async def acquire(self, took_over: str) -> None:
        """Append the acquisition. Raises GuardRefusedError when the lease is not free any more."""
        leases = self._leases

        def check(tables: Tables) -> str:
            found = tables.find_lease(self.fraise, self.environment)
            if found is None:
                return "" if self.epoch == 1 else "the epoch moved"
            if found.epoch != self.epoch - 1:
                return "the epoch moved"
            return "" if leases._is_free(found, leases._clock.now_us()) else "the lease is held"

        await leases._bus.publish(
            ev.LeaseAcquired(
                **self._about,
                epoch=self.epoch,
                holder=leases.me,
                expires_at=self._expiry_us(),
                took_over=took_over,
            ),
            guard=check,
        )

    async def release(self) -> None:
        """Give the lease back; one that is no longer ours is left alone."""
        try:
            await self._leases._bus.publish(
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
            raise failure[0]
        if self.broken is not None:
            raise self.broken
        raise LeaseLostError(self.lost or "the lease was lost")

    async def _heartbeat(self, scope: anyio.CancelScope) -> None:
        while True:
            await anyio.sleep(self._leases._settings.heartbeat_s)
            try:
                await self._leases._bus.publish(
                    ev.LeaseRenewed(**self._about, epoch=self.epoch, expires_at=self._expiry_us()),
                    guard=self.guard,
                )
            except GuardRefusedError as error:
                self.lost = error.message
                await self._leases._bus.publish(
                    ev.LeaseLost(**self._about, epoch=self.epoch, detail=error.message)
                )
                scope.cancel()
                return
            except FraisierError as error:
                # A journal that takes no more facts ends the deployment here, before another may begin elsewhere.
                self.broken = error
                scope.cancel()
                return

    def _expiry_us(self) -> int:
        return self._leases._clock.now_us() + int(self._leases._settings.ttl_s * 1_000_000)
