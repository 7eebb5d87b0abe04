"""Carries what people ask for in the journal to the deployment that it is about, and the answer back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from fraisier.events import Record
from fraisier.events import types as ev
from fraisier.events.steering import SteeringRequest

REQUESTS: dict[type[SteeringRequest], str] = {
    ev.AbortRequested: "abort",
    ev.PauseRequested: "pause",
    ev.PromoteRequested: "promote",
    ev.ResumeRequested: "resume",
}
"""What may be asked of a deployment, by event."""

_HELD = 64


class Helm:
    """The deployments that run in this process, and what was asked of each.

    A live subscriber of the bus: it hears requests of any process on the same journal, and only notes them."""

    name = "steering"
    patterns = tuple(f"deployment.{action}_requested" for action in REQUESTS.values())

    def __init__(self) -> None:
        self._known: dict[str, MemoryObjectSendStream[Record]] = {}

    async def __call__(self, record: Record) -> None:
        """Hand a request to its deployment. One that asks more than 64 times before it is heard is not heard again."""
        stream = self._known.get(record.event.deployment_id)
        if stream is not None:
            try:
                stream.send_nowait(record)
            except (anyio.WouldBlock, anyio.BrokenResourceError):
                return

    @contextmanager
    def heard(self, deployment_id: str) -> Iterator[MemoryObjectReceiveStream[Record]]:
        """Hear what is asked of the deployment inside the block."""
        send, receive = anyio.create_memory_object_stream[Record](_HELD)
        self._known[deployment_id] = send
        try:
            with send, receive:
                yield receive
        finally:
            self._known.pop(deployment_id, None)
