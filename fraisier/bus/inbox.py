"""An inbox: a bounded buffer of records for one reader, which goes on from the journal when it overflows."""

from __future__ import annotations

from collections import deque

import anyio.lowlevel

from fraisier.bus.aio import Bell
from fraisier.bus.patterns import event_classes
from fraisier.bus.statistics import SubscriberStatistics
from fraisier.errors import UsageError
from fraisier.events import TYPE_OF, Event, Record
from fraisier.journal.base import Journal

_PAGE_MAX = 512


class Shared:
    """What the inboxes of one bus have in common: the journal, and the seq that was fanned out last."""

    __slots__ = ("_progress", "closed", "crowded", "durable_types", "head", "journal")

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.head = 0
        self.closed = False
        self.durable_types: set[type[Event]] = set()
        """The types that may be appended now: none before the bus is open, and none after its end."""
        self.crowded = False
        """A buffer is half full, so the next publisher lets its readers run first."""
        self._progress: anyio.Event | None = None

    def open(self) -> None:
        """Accept every registered event type."""
        self.durable_types.update(event_class for event_class in TYPE_OF if not event_class.ephemeral)

    def close(self) -> None:
        """Accept nothing any more."""
        self.closed = True
        self.durable_types.clear()

    def note_progress(self) -> None:
        """Wake those who wait for readers to get on."""
        if self._progress is not None:
            self._progress.set()

    async def next_progress(self) -> None:
        """Wait until a reader has used up a batch."""
        if self._progress is None or self._progress.is_set():
            self._progress = anyio.Event()
        await self._progress.wait()


class Inbox(Bell):
    """Keeps records in order, without gap or repeat, in bounded memory.

    Live: the fan-out puts matching records into `buffer`. Parked: the buffer was full, so the fan-out passes
    it by; what the buffer holds is contiguous, and once it is used up the reader takes pages from the
    journal, up to the record that was fanned out last, and then is live again. A start from an old position
    is the same as an overflow.
    """

    __slots__ = (
        "_read_to",
        "brim",
        "buffer",
        "capacity",
        "classes",
        "dropped",
        "ended",
        "handled",
        "name",
        "parked",
        "parks",
        "patterns",
        "position",
        "shared",
    )

    kind = "stream"

    def __init__(self, shared: Shared, name: str, patterns: tuple[str, ...], *, capacity: int) -> None:
        super().__init__()
        if capacity < 2:
            raise UsageError(f"the capacity of {name!r} must be at least 2, not {capacity}")
        self.shared = shared
        self.name = name
        self.patterns = patterns
        self.classes: frozenset[type[Event]] = event_classes(patterns)
        self.capacity = capacity
        self.brim = capacity // 2
        """From how many records on the fan-out has to ask `makes_room`: half full, or 0 while parked."""
        self.buffer: deque[Record] = deque()
        self.parked = False
        self.ended = False
        self.position = shared.head
        """The seq up to which everything was handled."""
        self._read_to = 0
        self.handled = 0
        self.parks = 0
        self.dropped = 0

    @property
    def is_idle(self) -> bool:
        """Whether everything that arrived was handed out."""
        return not self.buffer and not self.parked

    def makes_room(self) -> bool:
        """Return whether one more journalled record may be put; a full inbox parks instead."""
        if self.parked:
            return False
        if len(self.buffer) >= self.capacity:
            self.park()
            self.parks += 1
            return False
        self.shared.crowded = True
        return True

    def put_ephemeral(self, record: Record) -> None:
        """Take a record that is in no journal; the oldest such record gives way when there is no room.

        A parked reader gets none, or a line of output would overtake the step that it belongs to.
        """
        buffer = self.buffer
        if len(buffer) >= self.brim:
            if self.parked:
                self.dropped += 1
                return
            if len(buffer) < self.capacity:
                self.shared.crowded = True
            else:
                self.dropped += 1
                if not self._drop_oldest_ephemeral():
                    return
        buffer.append(record)
        if self.waiter is not None:
            self.ring()

    def _drop_oldest_ephemeral(self) -> bool:
        for index, record in enumerate(self.buffer):
            if record.seq == 0:
                del self.buffer[index]
                return True
        return False

    def park(self) -> None:
        """Stop taking records from the fan-out, until `unpark`."""
        self.parked = True
        self.brim = 0

    def unpark(self) -> None:
        """Take records from the fan-out again."""
        self.parked = False
        self.brim = self.capacity // 2

    def end(self) -> None:
        """Let the reader use up the buffer, then stop."""
        self.ended = True
        self.ring()

    def settle(self) -> None:
        """Note, with an empty buffer, that all that was read or passed by is handled."""
        self.position = max(self.position, self._read_to if self.parked else self.shared.head)

    async def catch_up(self) -> None:
        """Fill the empty buffer with a page from the journal, or become live when there is nothing left to
        read."""
        shared = self.shared
        self.settle()
        if self.position >= shared.head:
            # The fan-out runs on this loop, and nothing is awaited between the check and the flag: no gap, no
            # repeat.
            self.unpark()
            return
        upto = shared.head
        page = await shared.journal.read(self.position, upto, limit=min(self.capacity, _PAGE_MAX))
        classes = self.classes
        self.buffer.extend(record for record in page if record.event.__class__ in classes)
        self._read_to = page[-1].seq if page else upto
        await anyio.lowlevel.checkpoint()

    def statistics(self) -> SubscriberStatistics:
        """Return the counters."""
        lag = max(0, self.shared.head - self.position) if self.parked else len(self.buffer)
        return SubscriberStatistics(
            name=self.name,
            kind=self.kind,
            patterns=self.patterns,
            position=self.position,
            buffered=len(self.buffer),
            lag=lag,
            parked=self.parked,
            passive=False,
            handled=self.handled,
            parks=self.parks,
            errors=0,
            retries=0,
            dropped=self.dropped,
            dead_letters=0,
            hung=0,
        )
