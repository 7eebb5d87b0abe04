"""Writes a deployment's facts: journal first, then into the live state that the runner reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import anyio
import msgspec
from anyio.lowlevel import checkpoint_if_cancelled

from fraisier.bus import Bus
from fraisier.errors import DatabaseError, GuardRefusedError
from fraisier.events import Event, Record
from fraisier.journal.base import Guard
from fraisier.journal.fold import DeploymentState, Tables, apply

T = TypeVar("T")

_FREE_TEXTS = frozenset({"detail", "message", "output_tail"})
"""What people and programs wrote in their own words; every other field is a name, a number or a short word of ours, and
stays as it is even where it happens to be the value of some variable."""


@cache
def _free_texts(event_class: type[Event]) -> tuple[str, ...]:
    return tuple(name for name in event_class.__struct_fields__ if name in _FREE_TEXTS)


class Scribe:
    """Publishes events under the lease's guard and folds each into `tables`, exactly as the journal does.

    Once the journal did not take a fact, the scribe takes none at all: what happened is not recorded then, and whoever
    acted on would act on a state that nobody else can see, even if the disk has room again.

    `scrub` takes the secrets out of the free texts of each event: the last net, whoever made the text."""

    def __init__(
        self,
        bus: Bus,
        tables: Tables | None = None,
        guard: Guard | None = None,
        *,
        scrub: Callable[[str], str] = str,
    ) -> None:
        self.bus = bus
        self._scrub = scrub
        self.tables = tables or Tables()
        self.guard = guard
        self.failure: DatabaseError | None = None

    async def say(self, event: Event) -> Record:
        """Return the record of `event` once it is durable. Raises GuardRefusedError when the lease is not ours,
        DatabaseError when the journal does not take it, and ever after."""
        return (await self.say_all((event,)))[0]

    async def say_all(self, events: Sequence[Event]) -> list[Record]:
        """Return the records of facts that become durable together, all of them or none. Raises what `say` raises."""
        events = [self._cleaned(event) for event in events]
        # A fact that is durable is known here, too, whatever deadline passes while the journal takes it.
        with anyio.CancelScope(shield=True):
            records = await self._unless_failed(lambda: self.bus.publish_all(events, guard=self.guard))
            for record in records:
                apply(self.tables, record)
        await checkpoint_if_cancelled()
        return records

    async def ask(self, event: Event, *, timeout_s: float) -> Event:
        """Return the reply to a request event. Raises ResponderError, and what `say` raises."""
        return await self._unless_failed(
            lambda: self.bus.request(event, timeout_s=timeout_s, guard=self.guard)
        )

    def _cleaned(self, event: Event) -> Event:
        changes: dict[str, Any] = {}
        for name in _free_texts(event.__class__):
            text = getattr(event, name)
            clean = self._scrub(text) if isinstance(text, str) else tuple(map(self._scrub, text))
            if clean != text:
                changes[name] = clean
        return msgspec.structs.replace(event, **changes) if changes else event

    async def _unless_failed(self, publish: Callable[[], Awaitable[T]]) -> T:
        if self.failure is not None:
            raise self.failure
        try:
            return await publish()
        except GuardRefusedError:
            raise
        except DatabaseError as error:
            self.failure = self.failure or error
            raise

    def deployment(self, deployment_id: str) -> DeploymentState:
        """Return the live state of a deployment."""
        found = self.tables.find_deployment(deployment_id)
        return found if found is not None else DeploymentState(deployment_id)
