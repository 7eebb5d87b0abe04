"""The one answer to HealthRequested."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fraisier.clock import Clock
from fraisier.errors import ValidationError
from fraisier.events.types import HealthFailed, HealthPassed, HealthRequested
from fraisier.health_check.bake import bake
from fraisier.health_check.build import CheckerBuilder
from fraisier.health_check.examination import Emit, Examination, Verdict
from fraisier.health_check.expectation import Answer, Request
from fraisier.health_check.glance import glance
from fraisier.health_check.http import HTTPClient, new_client
from fraisier.health_check.subject import Lookup
from fraisier.health_check.tls import TLSContexts
from fraisier.health_check.verify import verify

PURPOSES: dict[str, Callable[[Examination], Awaitable[Verdict]]] = {
    "verify": verify,
    "bake": bake,
    "plan": glance,
    "check": glance,
}


class HealthResponder:
    """Gives verdicts on targets; many at a time, each in its requester's task. Close it when no request is
    under way.

    `emit` takes the ephemeral HealthSampled events and must not block. All HTTP probes from this machine
    share one session, but no connection: an old process that drains must not answer for the new one over a
    connection it still holds.
    """

    def __init__(self, lookup: Lookup, *, clock: Clock, emit: Emit) -> None:
        self._lookup = lookup
        self._clock = clock
        self._emit = emit
        self._contexts = TLSContexts()
        self._client: HTTPClient | None = None

    async def __call__(self, event: HealthRequested) -> HealthPassed | HealthFailed:
        """Return the verdict. Raises ValidationError for an unknown purpose, NotFoundError for an unknown
        target."""
        examine = PURPOSES.get(event.purpose)
        if examine is None:
            raise ValidationError(f"there is no health purpose {event.purpose!r}")
        subject = self._lookup(event.deployment_id, event.target)
        builder = CheckerBuilder(
            subject,
            self._fetch,
            event.version,
            event.release,
            contexts=self._contexts,
            clock=self._clock,
        )
        check = subject.context.settings.health_check
        checker = None if check is None else builder.build(check)
        exam = Examination(
            event, subject, checker, ports=frozenset(builder.ports), clock=self._clock, emit=self._emit
        )
        return await examine(exam)

    async def aclose(self) -> None:
        """Close the shared session."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _fetch(self, request: Request) -> Answer:
        if self._client is None:
            self._client = new_client(keep_alive=False, contexts=self._contexts)
        return await self._client.fetch(request)
