"""Durable subscribers: at least once, across restarts, in one process at a time."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import msgspec

from fraisier.bus.aio import Bell
from fraisier.bus.inbox import Shared
from fraisier.bus.statistics import SubscriberStatistics
from fraisier.bus.subscription import Handler, Subscription, log
from fraisier.errors import DatabaseError
from fraisier.journal.claims import Claims

_CLAIM_PAUSE_S = 1.0


class DurableSubscription(Subscription):
    """Starts behind its stored position, and moves it after the handler returned; a crash in between repeats
    a few.

    Without a stored position it starts with the journal's first record, or with what comes next
    (`from_start=False`). While another live process owns the name it is passive, and asks again every second.
    """

    __slots__ = ("_at_work", "_claims", "_from_start", "_saved", "_started", "passive")

    kind = "durable"

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
        claims: Claims,
        at_work: Bell,
        from_start: bool,
    ) -> None:
        super().__init__(shared, name, patterns, handler, capacity=capacity, retries=retries, redact=redact)
        self._claims = claims
        self._at_work = at_work
        self._from_start = from_start
        self._saved = -1
        self._started = False
        self.passive = False
        self.park()

    @property
    def is_idle(self) -> bool:
        """Whether everything that arrived was handled; a passive one leaves that to the owner."""
        return self.passive or super().is_idle

    async def _begin(self) -> None:
        attached_at = self.position
        while not await self._take_over():
            self.shared.note_progress()
            await anyio.sleep(_CLAIM_PAUSE_S)
        if self._saved >= 0:
            self.position = self._saved
        else:
            self.position = 0 if self._from_start else attached_at
        self._started = True
        self.passive = False

    async def _take_over(self) -> bool:
        """Become the owner and learn the stored position; False to try again, a store out of reach
        included."""
        try:
            self.passive = not self._claims.claim(self.name)
            if self.passive:
                return False
            stored = await self.shared.journal.position(self.name)
        except DatabaseError as error:
            self.errors += 1
            log.warning("durable subscriber %s cannot start yet: %s", self.name, self._describe(error))
            return False
        self._saved = -1 if stored is None else stored
        return True

    def _batch_begins(self) -> None:
        # Whoever writes positions must look while the handler works, not after: one call may take minutes.
        self._at_work.ring()

    def settle_if_idle(self) -> None:
        """Count what was passed by as handled, while nothing waits and the handler is at rest: whoever wants few types would
        else stay at the last of them, and seem to be behind all that came after."""
        if self.waiter is not None and not self.buffer and not self.parked:
            self.settle()

    def end(self) -> None:
        """Stop at once. What came since the last record that was wanted is none of its own, and not looked at again."""
        self.settle_if_idle()
        super().end()

    def note_position(self) -> bool:
        """Hand the position to the journal if it moved and is ours; returns whether it did."""
        if not self._started or self.position == self._saved:
            return False
        self._saved = self.position
        self.shared.journal.save_position(self.name, self.position)
        return True

    def release(self) -> None:
        """Give the name to whoever wants it, after the position was written."""
        self._claims.release(self.name)

    def statistics(self) -> SubscriberStatistics:
        """Return the counters."""
        return msgspec.structs.replace(super().statistics(), passive=self.passive)
