"""The fan-out: which inboxes a record goes to, and putting it there. Runs on the event loop and never
waits."""

from __future__ import annotations

from collections.abc import Sequence

from fraisier.bus.inbox import Inbox, Shared
from fraisier.errors import UsageError
from fraisier.events import Event, Record


class FanOut:
    """The inboxes of one bus, by name and by event class."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._routes: dict[type[Event], tuple[Inbox, ...]] = {}
        self.inboxes: dict[str, Inbox] = {}

    def add(self, inbox: Inbox) -> None:
        """Attach an inbox; it gets what is committed from now on. Raises UsageError for a name in use."""
        if inbox.name in self.inboxes:
            raise UsageError(
                f"the bus has a subscriber named {inbox.name!r} already", hint="give each its own name"
            )
        self.inboxes[inbox.name] = inbox
        self._routes.clear()

    def remove(self, inbox: Inbox) -> None:
        """Detach an inbox."""
        if self.inboxes.get(inbox.name) is inbox:
            del self.inboxes[inbox.name]
            self._routes.clear()

    def _route(self, event_class: type[Event]) -> tuple[Inbox, ...]:
        route = tuple(inbox for inbox in self.inboxes.values() if event_class in inbox.classes)
        self._routes[event_class] = route
        return route

    def committed(self, records: Sequence[Record]) -> None:
        """Hand out committed records, in `seq` order; the journal calls this before it wakes their
        publishers."""
        if not records:
            return
        routes = self._routes
        for record in records:
            try:
                route = routes[record.event.__class__]
            except KeyError:
                route = self._route(record.event.__class__)
            for inbox in route:
                buffer = inbox.buffer
                if len(buffer) >= inbox.brim and not inbox.makes_room():
                    continue
                buffer.append(record)
                if inbox.waiter is not None:
                    inbox.ring()
        self._shared.head = record.seq

    def ephemeral(self, record: Record) -> None:
        """Hand out a record that is in no journal."""
        event_class = record.event.__class__
        route = self._routes.get(event_class)
        if route is None:
            route = self._route(event_class)
        for inbox in route:
            inbox.put_ephemeral(record)
