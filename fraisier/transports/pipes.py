"""Pipes of our own between us and a child: closed when we say so, even when a stranger still holds the other end."""

from __future__ import annotations

import os
from collections import deque
from types import TracebackType

import anyio
import anyio.lowlevel

from fraisier.redaction import end_of, text_of
from fraisier.transports.base import OnOutput

CHUNK_BYTES = 65536


class ReadEnd:
    """The parent's end of a pipe that a child writes to; `theirs` is the child's end until `release` closes it here."""

    def __init__(self) -> None:
        self.fd, self.theirs = os.pipe()
        os.set_blocking(self.fd, False)

    def __enter__(self) -> ReadEnd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def release(self) -> None:
        """Close our copy of the child's end, so that its exit is seen as the end of the stream."""
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1

    async def read(self) -> bytes:
        """Return what has arrived, waiting for something; empty at the end of the stream."""
        while True:
            try:
                chunk = os.read(self.fd, CHUNK_BYTES)
            except BlockingIOError:
                await anyio.wait_readable(self.fd)
            else:
                # A child that never stops talking must not keep the other tasks waiting.
                if len(chunk) > CHUNK_BYTES // 4:
                    await anyio.lowlevel.checkpoint()
                return chunk

    def close(self) -> None:
        """Close both ends that are still ours."""
        self.release()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class WriteEnd:
    """The parent's end of a pipe that a child reads from."""

    def __init__(self) -> None:
        self.theirs, self.fd = os.pipe()
        os.set_blocking(self.fd, False)

    def release(self) -> None:
        """Close our copy of the child's end, so that writing to a dead child fails."""
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1

    async def write(self, data: bytes) -> None:
        """Write all of `data`. Raises BrokenPipeError when nobody reads any more."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError:
                await anyio.wait_writable(self.fd)

    def close(self) -> None:
        """Close both ends that are still ours."""
        self.release()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Lines:
    """Cuts a stream into lines for `on_output`, and keeps the stream's last part as text. A line that is longer than
    `line_bytes` comes in pieces, with `…` where it was cut: whoever takes secrets out must know of the cuts."""

    def __init__(self, stream: str, on_output: OnOutput | None, *, tail_bytes: int, line_bytes: int) -> None:
        self._stream = stream
        self._on_output = on_output
        self._tail_bytes = tail_bytes
        self._line_bytes = line_bytes
        self._held = b""
        self._is_inside = False
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        self._keep(chunk)
        if self._on_output is None:
            return
        *lines, self._held = (self._held + chunk).split(b"\n")
        for line in lines:
            self._say(line)
        while len(self._held) > self._line_bytes:
            self._say(self._held[: self._line_bytes], ends=False)
            self._held = self._held[self._line_bytes :]

    def end(self) -> None:
        """Tell the last line, when it had no end."""
        if self._held:
            self._say(self._held)
            self._held = b""

    def text(self) -> str:
        """Return the last part of the stream; bytes that are no UTF-8 are replaced."""
        return end_of(b"".join(self._kept), self._tail_bytes)

    def _keep(self, chunk: bytes) -> None:
        self._kept.append(chunk)
        self._kept_bytes += len(chunk)
        # More than is told, so that the cut is seen.
        while self._kept_bytes - len(self._kept[0]) > self._tail_bytes:
            self._kept_bytes -= len(self._kept.popleft())

    def _say(self, line: bytes, *, ends: bool = True) -> None:
        assert self._on_output is not None
        line = line.removesuffix(b"\r") if ends else line
        size = self._line_bytes
        for start in range(0, len(line) or 1, size):
            goes_on = start + size < len(line) or not ends
            text = text_of(line[start : start + size], cut_before=self._is_inside, cut_after=goes_on)
            self._on_output(self._stream, text)
            self._is_inside = goes_on
