"""The bus: durable first, then to everybody who asked for it, and never waiting for any of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import anyio.lowlevel

from fraisier.bus.aio import Cancelled
from fraisier.bus.durable import DurableSubscription
from fraisier.bus.fanout import FanOut
from fraisier.bus.inbox import Shared
from fraisier.bus.lifetime import Lifetime
from fraisier.bus.patterns import normalise
from fraisier.bus.requests import Responder, Responders, answer
from fraisier.bus.statistics import BusStatistics
from fraisier.bus.stream import Stream
from fraisier.bus.subscription import Subscription, log
from fraisier.clock import Clock
from fraisier.errors import BusClosedError, UsageError, ValidationError
from fraisier.events import TYPE_OF, Event, Record
from fraisier.ids import Ids
from fraisier.journal.base import Guard, Journal
from fraisier.journal.claims import Claims, UncontestedClaims

E = TypeVar("E", bound=Event)


class Bus:
    """Publishes events, and carries requests to the one who answers them. Used once, with `async with`.

    Durable events are appended to the journal before anyone sees them; the few ephemeral types are only
    fanned out. Each subscriber has its own task and bounded buffer; one that raises, hangs or lags harms
    neither the publisher nor the others. Everybody sees one order. `drain_s` bounds how long leaving waits
    for subscribers, `watchdog_s` after how long a handler counts as hung (it is noticed within twice that),
    `retries` how often a failing one is called again. `claims` decides which process runs a durable
    subscriber; `redact` cleans the error texts that are logged and stored.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        clock: Clock,
        ids: Ids,
        drain_s: float = 5.0,
        watchdog_s: float = 30.0,
        retries: int = 3,
        claims: Claims | None = None,
        redact: Callable[[str], str] = str,
    ) -> None:
        self._journal = journal
        self._append = journal.append
        self._clock = clock
        self._ids = ids
        self._retries = retries
        self._claims = claims or UncontestedClaims()
        self._redact = redact
        self._shared = Shared(journal)
        self._fanout = FanOut(self._shared)
        self._responders = Responders()
        self._lifetime = Lifetime(self._shared, self._fanout, drain_s=drain_s, watchdog_s=watchdog_s)
        self._entered = False
        self._emitted = 0
        self._streams = 0

    # Lifetime -----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the journal and start the subscribers. Raises DatabaseConnectionError when the journal cannot
        be opened."""
        if self._entered:
            raise UsageError("a bus is used once; make a new one")
        self._entered = True
        try:
            await self._lifetime.start()
        except Cancelled:
            # `__aexit__` is not called for a bus that was never entered, so its host would run on.
            await self._lifetime.stop()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let the subscribers finish for at most `drain_s`, then refuse events, end them, store positions,
        and close.

        Cancelling does not shorten this, but asking three times does. May run in another task than
        `__aenter__`.
        """
        try:
            cancelled = await self._lifetime.stop()
        except Exception as error:  # the host's border: its failure must not hide the one that ended the body
            if exc is None:
                raise
            log.error("the bus did not close in order: %s", self._redact(repr(error)))
            return
        if cancelled and not isinstance(exc, Cancelled):
            raise Cancelled("the bus was left under cancellation")

    # Publishing ---------------------------------------------------------------------------------------------

    def publish(self, event: Event, *, guard: Guard | None = None) -> Coroutine[Any, Any, Record]:
        """Append the event to the journal, hand it to the subscribers, and return it with its place.

        To be awaited like any coroutine function. An ephemeral event is only handed on (a guard makes no
        sense for it). Waits for the commit, never for a subscriber. Raises BusClosedError, ValidationError
        (unregistered, not encodable), GuardRefusedError, DatabaseTransactionError.
        """
        # Not `async def`: the usual case is the journal's own coroutine, without one of ours around it.
        shared = self._shared
        if shared.crowded or event.__class__ not in shared.durable_types:
            return self._publish_with_care(event, guard)
        return self._append(event, guard)

    async def publish_all(self, events: Sequence[Event], *, guard: Guard | None = None) -> list[Record]:
        """Publish journalled events that become durable together, in one commit and in this order: all of them or none.

        Raises what `publish` raises, and ValidationError for an ephemeral one."""
        shared = self._shared
        for event in events:
            if event.__class__ not in shared.durable_types:
                raise self._not_durable(event)
        if shared.crowded:
            shared.crowded = False
            await anyio.lowlevel.checkpoint()
        return await self._journal.append_all(events, guard)

    async def _publish_with_care(self, event: Event, guard: Guard | None) -> Record:
        shared, event_class = self._shared, event.__class__
        if not shared.durable_types or event_class not in TYPE_OF:
            raise self._refusal(event)
        if shared.crowded:
            # Before the append, so that being cancelled here leaves nothing behind. One turn for the readers
            # is enough; without it, a publisher that never waits would overflow even the fastest of them.
            shared.crowded = False
            await anyio.lowlevel.checkpoint()
        if not event_class.ephemeral:
            return await self._append(event, guard)
        if guard is not None:
            raise ValidationError(f"{TYPE_OF[event_class]} is not journalled, so nothing can guard it")
        return self._hand_on(event)

    def emit(self, event: Event) -> None:
        """Hand on an ephemeral event without waiting at all. Raises BusClosedError, ValidationError."""
        if not self._shared.durable_types or event.__class__ not in TYPE_OF:
            raise self._refusal(event)
        if not event.ephemeral:
            raise ValidationError(f"{TYPE_OF[event.__class__]} is journalled: use `await publish(...)`")
        self._hand_on(event)

    def _hand_on(self, event: Event) -> Record:
        record = Record(0, self._ids.event(), self._clock.now_us(), event)
        self._emitted += 1
        self._fanout.ephemeral(record)
        return record

    def _refusal(self, event: Event) -> BusClosedError | ValidationError:
        event_class = event.__class__
        if event_class not in TYPE_OF:
            return ValidationError(f"{event_class.__name__} is not a registered event type")
        state = "is closed" if self._entered else "was not entered"
        return BusClosedError(f"{TYPE_OF[event_class]} cannot be published: the bus {state}")

    def _not_durable(self, event: Event) -> BusClosedError | ValidationError:
        if event.ephemeral and event.__class__ in TYPE_OF:
            return ValidationError(f"{TYPE_OF[event.__class__]} is not journalled: publish it by itself")
        return self._refusal(event)

    # Request and reply --------------------------------------------------------------------------------------

    def respond(self, request_type: type[E], handler: Callable[[E], Awaitable[Event]]) -> None:
        """Register who answers a type of request: exactly one. Raises UsageError for a second."""
        # The registry maps each type to a handler of just that type, which its own type cannot say.
        self._responders.add(request_type, cast(Responder, handler))

    def has_responder(self, request_type: type[Event]) -> bool:
        """Return whether somebody answers this type of request."""
        return self._responders.has(request_type)

    async def request(self, event: Event, *, timeout_s: float, guard: Guard | None = None) -> Event:
        """Publish the request, have it answered in this task within `timeout_s`, publish the reply and return
        it. The guard binds both, as far as they are journalled.

        Raises ResponderError when nobody answers, or the responder raises, is late or cancels itself; and
        what `publish` raises.
        """
        responder = self._responders.find(event)
        await self.publish(event, guard=None if event.ephemeral else guard)
        reply = await answer(responder, event, timeout_s=timeout_s)
        await self.publish(reply, guard=None if reply.ephemeral else guard)
        return reply

    # Subscribing --------------------------------------------------------------------------------------------

    def subscribe(
        self,
        name: str,
        patterns: str | Sequence[str],
        handler: Callable[[Record], Awaitable[None]],
        *,
        durable: bool = False,
        capacity: int = 1024,
        from_start: bool = True,
    ) -> Subscription:
        """Call `handler` with every record from now on whose type matches a pattern (`step.*`), in order.

        `durable`: at least once across restarts, from the stored position on, or else from the journal's
        first record (`from_start`) or from now. Possible before the bus is entered. Raises ConfigurationError
        for a pattern that matches nothing, UsageError for a name in use, BusClosedError.
        """
        self._refuse_after_close()
        shared, globs = self._shared, normalise(patterns)
        subscription: Subscription
        if durable:
            subscription = DurableSubscription(
                shared,
                name,
                globs,
                handler,
                capacity=capacity,
                retries=self._retries,
                redact=self._redact,
                claims=self._claims,
                at_work=self._lifetime.at_work,
                from_start=from_start,
            )
        else:
            subscription = Subscription(
                shared, name, globs, handler, capacity=capacity, retries=self._retries, redact=self._redact
            )
        self._fanout.add(subscription)
        self._lifetime.launch(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Detach a subscriber now; what waits in its buffer is not handled. A durable one keeps its stored
        position."""
        self._fanout.remove(subscription)
        subscription.end()

    @asynccontextmanager
    async def stream(self, *patterns: str, capacity: int = 1024) -> AsyncIterator[AsyncIterator[Record]]:
        """Give an iterator over every record from now on whose type matches a pattern (none: all), for one
        reader.

        Lossless for journalled events: a slow reader is served from the journal. Ends when the bus closes.
        """
        self._refuse_after_close()
        self._streams += 1
        stream = Stream(self._shared, f"stream-{self._streams}", normalise(patterns), capacity=capacity)
        self._fanout.add(stream)
        try:
            yield stream
        finally:
            self._fanout.remove(stream)
            stream.leave()

    def _refuse_after_close(self) -> None:
        if self._shared.closed:
            raise BusClosedError("the bus is closed")

    # Watching -----------------------------------------------------------------------------------------------

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until every live and durable subscriber has handled what was published so far; False if that
        takes longer than `timeout_s`. Streams are read by somebody else and not waited for, nor are passive
        subscribers."""
        with anyio.move_on_after(timeout_s):
            await self._lifetime.until_handled()
            return True
        return False

    def statistics(self) -> BusStatistics:
        """Return the counters of the bus and of each subscriber by name."""
        return BusStatistics(
            head=self._shared.head,
            published=self._journal.statistics().appended,
            emitted=self._emitted,
            subscribers={name: inbox.statistics() for name, inbox in self._fanout.inboxes.items()},
        )
