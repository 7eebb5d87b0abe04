"""A subscription that is read with `async for`: for embedders, who have a loop of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fraisier.bus.inbox import Inbox
from fraisier.events import Record


class Stream(Inbox, AsyncIterator[Record]):
    """Yields records in order, for one reader; ends when the bus has closed and everything was handed out."""

    def leave(self) -> None:
        """Let the reader use up the buffer, and read nothing more from the journal."""
        self.unpark()
        self.end()

    async def __anext__(self) -> Record:
        """Return the next record, waiting for it if need be."""
        buffer = self.buffer
        while not buffer:
            if self.parked and not self.shared.closed:
                await self.catch_up()
            elif self.ended:
                raise StopAsyncIteration
            else:
                self.settle()
                await self.slumber()
        record = buffer.popleft()
        self.handled += 1
        if record.seq:
            self.position = record.seq
        if not buffer:
            self.shared.note_progress()
        return record
