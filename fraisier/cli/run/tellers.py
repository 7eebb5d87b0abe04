"""Who tells the events of a deployment, and how: JSON Lines, plain lines, a live screen, or nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec

from fraisier.cli.context import Call
from fraisier.cli.ending import load_module
from fraisier.cli.lines import format_line
from fraisier.cli.run.output import Output, takes_more
from fraisier.events import Record, to_public


class Teller(Protocol):
    """Tells one event after the other. A terminal or pipe that does not read never holds up the deployment."""

    @property
    def deaf(self) -> bool:
        """Whether nobody listens any more, so that nothing needs to be waited for."""
        ...

    async def tell(self, record: Record) -> None:
        """Tell an event."""
        ...

    def recall(self, record: Record) -> None:
        """Take note of an event of the past, which is not told again."""
        ...

    def say(self, text: str) -> None:
        """Tell a person something that is no event."""
        ...


class SilentTeller:
    """Tells nothing, and says only what a person must know."""

    deaf = True

    def __init__(self, call: Call) -> None:
        self._call = call

    async def tell(self, record: Record) -> None:
        """Tell nothing."""

    def recall(self, record: Record) -> None:
        """Take no note."""

    def say(self, text: str) -> None:
        """Write to stderr, unless nobody reads it: this is called by the event loop."""
        if takes_more(self._call.stderr):
            self._call.say(text)


class LineTeller:
    """One line an event: JSON on stdout, or a sentence on stderr. When the reader goes away the deployment goes on."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._output = Output(call, call.stdout if call.json else call.stderr)
        self.deaf = False

    async def tell(self, record: Record) -> None:
        """Write the line, if the event has one."""
        if self.deaf:
            return
        if self._call.json:
            if self._call.options.quiet and record.event.ephemeral:
                return
            await self._write(msgspec.json.encode(to_public(record)).decode())
        elif (line := format_line(record)) is not None:
            await self._write(line)

    def recall(self, record: Record) -> None:
        """Take no note: a line stands for itself."""

    async def _write(self, line: str) -> None:
        try:
            await self._output.write(line)
        except (
            OSError
        ):  # the reader went away, the disk is full: whoever started us still wants the deployment
            self.deaf = True

    def say(self, text: str) -> None:
        """Write to stderr, unless nobody reads it: this is called by the event loop."""
        if takes_more(self._call.stderr):
            self._call.say(text)


@asynccontextmanager
async def make_teller(call: Call) -> AsyncIterator[Teller]:
    """Give the teller that fits the options and the terminal."""
    if call.options.quiet and not call.json:
        yield SilentTeller(call)
    elif call.json or not call.animated or call.is_logged:
        # Log lines and a live screen would write over each other.
        yield SilentTeller(call) if _logged(call) else LineTeller(call)
    else:
        live = load_module("fraisier.cli.live")  # what draws is heavy, and pipes never need it
        async with live.LiveTeller(call) as teller:
            yield teller


def _logged(call: Call) -> bool:
    """Whether the log says all that the lines would."""
    return not call.json and call.is_logged
