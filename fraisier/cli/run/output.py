"""Writing to a reader who may be slow, from within an event loop that goes on heeding signals meanwhile."""

from __future__ import annotations

import codecs
import os
import select
from typing import TextIO

import anyio
import anyio.to_thread

from fraisier.cli.context import Call, OutputError

_PIECE = select.PIPE_BUF
"""What a pipe takes at once when it says that it can be written to; more might wait for the reader."""


def takes_more(stream: TextIO) -> bool:
    """Return whether a short text can be written to a stream without waiting for its reader."""
    ready = select.poll()
    ready.register(stream.fileno(), select.POLLOUT)
    return bool(ready.poll(0))


class Output:
    """A standard stream, written to line by line. The event loop never waits for its reader."""

    def __init__(self, call: Call, stream: TextIO) -> None:
        self._call = call
        self._stream = stream
        self._encoder = codecs.getincrementalencoder(stream.encoding)(stream.errors or "replace")
        self._ready = select.poll()
        self._ready.register(stream.fileno(), select.POLLOUT)

    async def write(self, text: str) -> None:
        """Write lines. Raises BrokenPipeError when the reader went away, OutputError when they cannot be written.

        A cancellation may leave a line cut; the call begins a new one for what it writes next.
        """
        try:
            self._stream.flush()
            await self._write(memoryview(self._encoder.encode(f"{text}\n")))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from error

    async def _write(self, rest: memoryview) -> None:
        number = self._stream.fileno()
        is_begun = False
        try:
            while rest:
                if self._stream.isatty():
                    # A terminal says that it has room for one character, and then waits for all of them to fit.
                    written = await anyio.to_thread.run_sync(
                        os.write, number, rest[:_PIECE], abandon_on_cancel=True
                    )
                else:
                    # No thread: nothing could end it while it waits, and the process with it.
                    if not self._ready.poll(0):
                        await anyio.wait_writable(number)
                    written = os.write(number, rest[:_PIECE])
                rest = rest[written:]
                is_begun = True
        except anyio.get_cancelled_exc_class():
            if is_begun and self._stream is self._call.stdout:
                self._call.is_cut = True
            raise
