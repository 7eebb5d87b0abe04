"""Writing to a reader who may be slow, from within an event loop that goes on heeding signals meanwhile."""

from __future__ import annotations

import os
import select

import anyio

from fraisier.cli.context import Call, OutputError

_PIECE = select.PIPE_BUF
"""What a pipe takes at once when it says that it can be written to; more might wait for the reader."""


async def write_data(call: Call, text: str) -> None:
    """Write what the command was called for to stdout, like `Call.data`. Raises the same."""
    stream = call.stdout
    stream.flush()
    rest = memoryview(f"{text}\n".encode(stream.encoding, stream.errors or "replace"))
    number = stream.fileno()
    ready = select.poll()
    ready.register(number, select.POLLOUT)
    try:
        while rest:
            if not ready.poll(0):
                await anyio.wait_writable(number)
            rest = rest[os.write(number, rest[:_PIECE]) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.errno, error.strerror) from error
