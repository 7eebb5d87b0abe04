"""Request and reply: the one who asks does not know who answers, and the answer comes within a deadline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from fraisier.bus.aio import Cancelled, cancelled_from_outside
from fraisier.errors import ResponderError, UsageError
from fraisier.events import TYPE_OF, Event

Responder = Callable[[Event], Awaitable[Event]]


class Responders:
    """The one responder of each request type."""

    def __init__(self) -> None:
        self._responders: dict[type[Event], Responder] = {}

    def add(self, request_type: type[Event], responder: Responder) -> None:
        """Register the responder of a request type. Raises UsageError when there is one, or for a strange
        type."""
        if request_type not in TYPE_OF:
            raise UsageError(f"{request_type.__name__} is not a registered event type")
        if request_type in self._responders:
            raise UsageError(f"{TYPE_OF[request_type]} has a responder already; there is exactly one")
        self._responders[request_type] = responder

    def has(self, request_type: type[Event]) -> bool:
        """Return whether somebody answers."""
        return request_type in self._responders

    def find(self, event: Event) -> Responder:
        """Return who answers this request. Raises ResponderError when nobody does."""
        responder = self._responders.get(event.__class__)
        if responder is None:
            raise _failed(event, "missing", "has no responder")
        return responder


async def answer(responder: Responder, event: Event, *, timeout_s: float) -> Event:
    """Call the responder in the caller's own task, so that many requests are answered side by side and
    cancelling the caller cancels the answer. Raises ResponderError when it raises, is late, cancels itself,
    or returns no event."""
    reply: object = None
    with anyio.move_on_after(timeout_s) as deadline:
        try:
            reply = await responder(event)
        except (
            Exception
        ) as error:  # the border: a responder is a subscriber, and the caller gets one kind of error
            raise _failed(event, "raised", f"failed: {type(error).__name__}: {error}", error) from error
        except Cancelled as error:
            if cancelled_from_outside():
                raise
            raise _failed(event, "cancelled", "cancelled itself") from error
    if deadline.cancelled_caught:
        raise _failed(event, "timeout", f"did not answer within {timeout_s:g} s")
    if reply.__class__ not in TYPE_OF:
        raise _failed(event, "no_event", f"answered with {type(reply).__name__}, no registered event")
    assert isinstance(reply, Event)
    return reply


def _failed(event: Event, reason: str, what: str, cause: BaseException | None = None) -> ResponderError:
    name = TYPE_OF.get(event.__class__, type(event).__name__)
    context = {"request": name, "reason": reason, "target": event.target}
    subject = "the request" if reason == "missing" else "the responder of"
    return ResponderError(f"{subject} {name} {what}", context=context, cause=cause)
