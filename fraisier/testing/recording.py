"""A subscriber that remembers."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from fraisier.events import TYPE_OF, Event, Record


class RecordingSubscriber:
    """A bus handler that keeps every record it is given: `bus.subscribe("recorder", "*", recorder)`."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._news = anyio.Event()

    async def __call__(self, record: Record) -> None:
        """Keep the record."""
        self.records.append(record)
        news, self._news = self._news, anyio.Event()
        news.set()

    def types(self) -> list[str]:
        """Return the event types in the order in which they came."""
        return [TYPE_OF[record.event.__class__] for record in self.records]

    def seqs(self) -> list[int]:
        """Return the seqs in the order in which they came (0: ephemeral)."""
        return [record.seq for record in self.records]

    def events(self) -> Sequence[Event]:
        """Return the events in the order in which they came."""
        return [record.event for record in self.records]

    def of(self, event_type: type[Event] | str) -> list[Record]:
        """Return the records of one type, given as a class or by name (`step.started`)."""
        return [record for record in self.records if _is(record, event_type)]

    async def wait_for(self, event_type: type[Event] | str, *, timeout_s: float = 5.0) -> Record:
        """Return the first record of the type, waiting for it if it has not come yet. Raises TimeoutError."""
        with anyio.move_on_after(timeout_s):
            while not (found := self.of(event_type)):
                await self._news.wait()
            return found[0]
        wanted = event_type if isinstance(event_type, str) else TYPE_OF[event_type]
        raise TimeoutError(
            f"no {wanted} within {timeout_s:g} s; what came: {', '.join(self.types()) or 'nothing'}"
        )


def _is(record: Record, event_type: type[Event] | str) -> bool:
    event_class = record.event.__class__
    return TYPE_OF[event_class] == event_type or event_class is event_type
