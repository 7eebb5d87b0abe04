"""Hands events to a sink, in order, and waits with them while it is out of reach."""

from __future__ import annotations

import logging

from fraisier.audit.forward.sinks import Sink, SinkError
from fraisier.bus import Postponed
from fraisier.events import Record

log = logging.getLogger("fraisier.audit")

_PAUSE_S = 0.5
_PAUSE_S_MAX = 60.0


class Forwarder:
    """A durable subscriber: each event reaches the sink at least once, and no deployment waits for that.

    While the sink is out of reach nothing is dropped and nothing piles up: the events are in the journal, and the place
    where to go on is kept there too, across restarts. It is asked again after half a second, then after twice as long each
    time, at most a minute.
    """

    def __init__(self, name: str, patterns: tuple[str, ...], sink: Sink) -> None:
        self.name = name
        self.patterns = patterns
        self._sink = sink
        self._pause_s = 0.0

    async def __call__(self, record: Record) -> None:
        """Forward one event. Raises Postponed."""
        if not record.seq:
            return  # lines of output and single probes are no facts of the trail
        try:
            await self._sink.send(record)
        except SinkError as error:
            if not self._pause_s:
                log.warning("%s is out of reach, its events wait in the journal: %s", self.name, error)
            self._pause_s = min(max(_PAUSE_S, 2 * self._pause_s), _PAUSE_S_MAX)
            raise Postponed(self._pause_s) from error
        if self._pause_s:
            log.info("%s takes events again", self.name)
            self._pause_s = 0.0

    async def aclose(self) -> None:
        """Give back what the sink holds open."""
        self._sink.close()
