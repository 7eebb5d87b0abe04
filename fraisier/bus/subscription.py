"""A subscriber: one task, one inbox, one handler, and nothing that it does can reach the publisher or its
neighbours."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import anyio
import anyio.lowlevel
import msgspec

from fraisier.bus.aio import Cancelled, Interruptible
from fraisier.bus.inbox import Inbox, Shared
from fraisier.bus.statistics import SubscriberStatistics
from fraisier.events import TYPE_OF, Record

Handler = Callable[[Record], Awaitable[None]]

log = logging.getLogger("fraisier.bus")

_BACKOFF_S = 0.01
_JOURNAL_PAUSE_S = 0.5


class Postponed(Exception):
    """Raised by a handler that cannot take a record now, because what it hands it to is out of reach. It is no failure: the
    same record comes again after `delay_s`, the ones behind it wait, and nobody else waits for this subscriber."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(f"postponed for {delay_s:g} s")
        self.delay_s = delay_s


class Goal(NamedTuple):
    """A mark in the work of a subscriber."""

    finished: int
    position: int


class Subscription(Inbox):
    """Calls its handler with one record after the other. Made by `Bus.subscribe`.

    A handler that raises is called again up to `retries` times, after pauses of 10 ms, 20 ms and so on; then
    the record is dead-lettered. A handler that is busy with one record for a whole watchdog period is
    interrupted, and the record dead-lettered.
    """

    __slots__ = (
        "_handler",
        "_hung_at",
        "_in_handler",
        "_redact",
        "_retries",
        "_scope",
        "_seen",
        "_task",
        "dead_letters",
        "errors",
        "hung",
        "postponed",
        "retried",
    )

    kind = "live"

    def __init__(
        self,
        shared: Shared,
        name: str,
        patterns: tuple[str, ...],
        handler: Handler,
        *,
        capacity: int,
        retries: int,
        redact: Callable[[str], str],
    ) -> None:
        super().__init__(shared, name, patterns, capacity=capacity)
        self._handler = handler
        self._retries = retries
        self._redact = redact
        self._task: Interruptible | None = None
        self._scope: anyio.CancelScope | None = None
        self._in_handler = False
        self._seen = -1
        self._hung_at = -1
        self.errors = 0
        self.retried = 0
        self.dead_letters = 0
        self.hung = 0
        self.postponed = False

    @property
    def is_idle(self) -> bool:
        """Whether everything that arrived was handled; a subscriber that has ended has nothing more to do, and one that has
        postponed its work may take for ever."""
        if self.ended or self.postponed:
            return True
        return self.waiter is not None and not self.buffer and not self.parked

    def goal(self) -> Goal:
        """Return a mark of all that has arrived by now, for `has_reached`."""
        # One more for a record that may be in the handler: if none is, the subscriber is idle before that
        # matters.
        finished = self.handled + self.dead_letters + len(self.buffer) + 1
        return Goal(finished, self.shared.head if self.parked else 0)

    def has_reached(self, goal: Goal) -> bool:
        """Return whether everything that had arrived at the mark is handled or dead-lettered."""
        finished = self.handled + self.dead_letters
        return self.is_idle or (finished >= goal.finished and self.position >= goal.position)

    # The task -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Handle records until `end`. The shield is here, round the subscriber: outer cancellation must not
        reach it."""
        try:
            with anyio.CancelScope(shield=True) as self._scope:
                self._task = Interruptible()
                await self._begin()
                while not self.ended:
                    if self.buffer:
                        await self._handle_batch()
                    elif self.parked:
                        await self._read_on()
                    else:
                        self.settle()
                        self.shared.note_progress()
                        await self.slumber()
        finally:
            self.ended = True
            self.shared.note_progress()

    def end(self) -> None:
        """Stop at once; a record whose handler has not returned is not counted as handled."""
        self.ended = True
        if self._scope is not None:
            self._scope.cancel()

    async def _begin(self) -> None:
        """Prepare the position; a live subscriber begins where it was attached."""

    def _batch_begins(self) -> None:
        """Hook for those who store their position."""

    async def _handle_batch(self) -> None:
        # No timeout object and no extra call an event: this loop is what a live subscriber costs.
        buffer, handler = self.buffer, self._handler
        self._batch_begins()
        self._in_handler = True
        for _ in range(len(buffer)):
            record = buffer.popleft()
            try:
                await handler(record)
                self.handled += 1
            except Postponed as later:
                await self._wait_with(record, later.delay_s)
                return
            except Exception as error:  # noqa: BLE001 - the border: what a subscriber raises stays here
                if not await self._try_again(record, error):
                    return
            except Cancelled:
                if not self._was_interrupted():
                    raise
                await self._give_up_hung(record)
            if record.seq:
                self.position = record.seq
        self._in_handler = False
        self.shared.note_progress()
        if self._hung_at >= 0:
            # The handler was interrupted and returned, or raised something else, all the same.
            self._forget_interruption()
        if buffer:
            await anyio.lowlevel.checkpoint()

    async def _read_on(self) -> None:
        try:
            await self.catch_up()
        except Exception as error:  # noqa: BLE001 - the same border: a store out of reach must not end it
            self.errors += 1
            log.warning("subscriber %s cannot read the journal: %s", self.name, self._describe(error))
            await anyio.sleep(_JOURNAL_PAUSE_S)

    # Failing and hanging ------------------------------------------------------------------------------------

    async def _wait_with(self, record: Record, delay_s: float) -> None:
        """Put a record back to the front and wait; the position stays before it."""
        self._in_handler = False
        self.buffer.appendleft(record)
        self.postponed = True
        self.shared.note_progress()
        try:
            await anyio.sleep(delay_s)
        finally:
            self.postponed = False

    async def _try_again(self, record: Record, error: Exception) -> bool:
        """Call the handler again after it raised; return whether the record is done with, one way or the other."""
        self.errors += 1
        for attempt in range(self._retries):
            self._in_handler = False
            await anyio.sleep(_BACKOFF_S * 2**attempt)
            self.retried += 1
            self._in_handler = True
            try:
                await self._handler(record)
                self.handled += 1
                return True
            except Postponed as later:
                await self._wait_with(record, later.delay_s)
                return False
            except Exception as again:  # noqa: BLE001 - still the border
                self.errors += 1
                error = again
            except Cancelled:
                if not self._was_interrupted():
                    raise
                await self._give_up_hung(record)
                return True
        await self._dead_letter(record, self._describe(error))
        return True

    def _was_interrupted(self) -> bool:
        """Whether it was the watchdog that cancelled this very call, and not somebody who wants us to end."""
        return not self.ended and self._hung_at == self.handled + self.errors

    async def _give_up_hung(self, record: Record) -> None:
        self._forget_interruption()
        self.errors += 1
        await self._dead_letter(record, "hung: the handler did not return within the watchdog's period")

    def _forget_interruption(self) -> None:
        assert self._task is not None
        self._task.forget()
        self._hung_at = -1

    async def _dead_letter(self, record: Record, error: str) -> None:
        self._in_handler = False
        self.dead_letters += 1
        event_type = TYPE_OF[record.event.__class__]
        log.error("subscriber %s gave up on %s (seq %d): %s", self.name, event_type, record.seq, error)
        if record.seq:
            try:
                await self.shared.journal.dead_letter(self.name, record.seq, error)
            except Exception as failure:  # noqa: BLE001 - the border again: the deployment goes on
                log.error("the dead letter of %s was not stored: %s", self.name, self._describe(failure))
        self._in_handler = True

    def _describe(self, error: BaseException) -> str:
        return self._redact(f"{type(error).__name__}: {error}")

    def check_hung(self) -> None:
        """Interrupt the handler if it is busy with the call that it was busy with a period ago."""
        calls = self.handled + self.errors
        if not self._in_handler:
            self._seen = -1
        elif self._seen != calls:
            self._seen = calls
        elif self._hung_at != calls and self._task is not None:
            self._hung_at = calls
            self.hung += 1
            self._task.interrupt()

    def statistics(self) -> SubscriberStatistics:
        """Return the counters."""
        return msgspec.structs.replace(
            super().statistics(),
            errors=self.errors,
            retries=self.retried,
            dead_letters=self.dead_letters,
            hung=self.hung,
        )
