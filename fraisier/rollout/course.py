"""Consecutive steps on one target: how one ended and that the next begins is one commit instead of two."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from fraisier.events import Event, Record
from fraisier.events.codec import check_event
from fraisier.rollout.scribe import Scribe


class Course:
    """Holds facts about a target until the next one is said. Used with `async with`: what is held at the end is said then.

    Only where nothing but the next fact depends on what is held, and follows at once: until then nobody else knows of it,
    and a process that is killed between leaves the step in doubt, as one does that is killed while it commits."""

    def __init__(self, scribe: Scribe) -> None:
        self._scribe = scribe
        self._held: list[Event] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.settle()

    def hold(self, event: Event) -> None:
        """Say `event` together with the next one. Raises ValidationError for one that cannot be said, here and not where
        the next one would be blamed for it."""
        check_event(event)
        self._held.append(event)

    async def say(self, event: Event) -> Record:
        """Return the record of `event` once it and all that was held are durable. Raises what `Scribe.say` raises."""
        held, self._held = self._held, []
        return (await self._scribe.say_all([*held, event]))[-1]

    async def settle(self) -> None:
        """Say what is held."""
        held, self._held = self._held, []
        if held:
            await self._scribe.say_all(held)
