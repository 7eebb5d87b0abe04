"""From the first moment of a bus to its last: what runs in the host task, and the order in which things
end."""

from __future__ import annotations

import logging

import anyio
from anyio.abc import TaskGroup

from fraisier.bus.aio import Bell, Host
from fraisier.bus.durable import DurableSubscription
from fraisier.bus.fanout import FanOut
from fraisier.bus.inbox import Inbox, Shared
from fraisier.bus.subscription import Subscription
from fraisier.errors import DatabaseError

log = logging.getLogger("fraisier.bus")

_SAVE_PAUSE_S = 0.25
_IDLE_PAUSE_S = 5.0
_POLL_S = 0.05


class Lifetime:
    """Owns the subscribers' tasks, the watchdog, and the writing of positions."""

    def __init__(self, shared: Shared, fanout: FanOut, *, drain_s: float, watchdog_s: float) -> None:
        self._shared = shared
        self._fanout = fanout
        self._drain_s = drain_s
        self._watchdog_s = watchdog_s
        self._host = Host()
        self._tasks: TaskGroup | None = None
        self._drain_scope: anyio.CancelScope | None = None
        self._in_a_hurry = False
        self.at_work = Bell()

    async def start(self) -> None:
        """Open the journal and start what was subscribed so far. Raises what the journal's `open` raises."""
        await self._host.start(self._run(), name="bus: host")

    async def stop(self) -> bool:
        """Drain, close, and return whether the caller was cancelled meanwhile."""
        return await self._host.finish(hurry=self._hurry)

    def launch(self, inbox: Inbox) -> None:
        """Start the task of a subscriber, now or as soon as the bus is up."""
        if self._tasks is not None and isinstance(inbox, Subscription):
            self._tasks.start_soon(inbox.run, name=f"bus: {inbox.name}")

    # In the host task ---------------------------------------------------------------------------------------

    async def _run(self) -> None:
        shared = self._shared
        await shared.journal.open(self._fanout.committed)
        try:
            shared.head = max(shared.head, shared.journal.head)
            await self._serve()
        finally:
            shared.close()
            with anyio.CancelScope(shield=True):
                await self._close()

    async def _serve(self) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._watch, name="bus: watchdog")
            tasks.start_soon(self._save_positions, name="bus: positions")
            for inbox in self._fanout.inboxes.values():
                inbox.position = self._shared.head
                self.launch(inbox)
            self._shared.open()
            self._host.announce()
            try:
                await self._host.until_stopped()
                await self._drain()
            finally:
                # Also when the host itself fails: the shields round the subscribers would keep them alive for
                # ever.
                self._shared.close()
                self._tasks = None
                for inbox in self._fanout.inboxes.values():
                    inbox.end()
                tasks.cancel_scope.cancel()

    async def _drain(self) -> None:
        with anyio.move_on_after(0 if self._in_a_hurry else self._drain_s) as self._drain_scope:
            await self._until_idle()

    def _hurry(self) -> None:
        self._in_a_hurry = True
        if self._drain_scope is not None:
            self._drain_scope.cancel()

    async def _close(self) -> None:
        # The subscribers have ended, so nothing can publish any more and what is pending is finite.
        journal = self._shared.journal
        durable = self._durable()
        try:
            for subscription in durable:
                subscription.note_position()
            if durable:
                await self._flush_positions()
        finally:
            try:
                await journal.close()
            finally:
                for subscription in durable:
                    subscription.release()

    def _durable(self) -> list[DurableSubscription]:
        return [inbox for inbox in self._fanout.inboxes.values() if isinstance(inbox, DurableSubscription)]

    async def _watch(self) -> None:
        while True:
            await anyio.sleep(self._watchdog_s)
            for inbox in self._fanout.inboxes.values():
                if isinstance(inbox, Subscription):
                    inbox.check_hung()

    async def _save_positions(self) -> None:
        # Positions ride on the next commit; this writes those that no commit took, and sleeps when nothing
        # moves. Those who have nothing to do ring no bell, so they are looked at now and then.
        while True:
            with anyio.move_on_after(_IDLE_PAUSE_S):
                await self.at_work.slumber()
            for subscription in self._durable():
                subscription.settle_if_idle()
            working = True
            while working:
                await anyio.sleep(_SAVE_PAUSE_S)
                durable = self._durable()
                moved = [subscription.note_position() for subscription in durable]
                if any(moved):
                    await self._flush_positions()
                working = any(moved) or not all(subscription.is_idle for subscription in durable)

    async def _flush_positions(self) -> None:
        try:
            await self._shared.journal.flush_positions()
        except DatabaseError as error:
            # Nothing is lost: a position that stays behind only means that records are handled again after a
            # crash.
            log.info("positions of durable subscribers were not written: %s", error)

    # Waiting ------------------------------------------------------------------------------------------------

    async def until_handled(self) -> None:
        """Wait until every live and durable subscriber has handled what was published up to now."""
        goals = [
            (inbox, inbox.goal())
            for inbox in self._fanout.inboxes.values()
            if isinstance(inbox, Subscription)
        ]
        while not all(inbox.has_reached(goal) for inbox, goal in goals):
            await self._shared.next_progress()

    async def _until_idle(self) -> None:
        """Wait until nothing is buffered, parked, in a handler or on its way into the journal."""
        journal, inboxes = self._shared.journal, self._fanout.inboxes
        while journal.statistics().pending or not all(inbox.is_idle for inbox in inboxes.values()):
            # A commit that fails, or that nobody asked for, makes no progress that we hear of: hence the
            # limit.
            with anyio.move_on_after(_POLL_S):
                await self._shared.next_progress()
