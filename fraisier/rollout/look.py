"""A look at live targets before anything is planned: inspect, and ask one probe where a service should be up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio

from fraisier.bus import Bus
from fraisier.errors import (
    FraisierError,
    ProviderConnectionError,
    ProviderUnavailableError,
    ResponderError,
)
from fraisier.events import types as ev
from fraisier.providers.base import Provider, TargetContext, TargetFacts
from fraisier.rollout.plan import Seen
from fraisier.rollout.verdict import reason_of

_LOOK_S = 60.0


class Look:
    """Looks at targets side by side, each under a deadline; whatever keeps one from being seen is a finding, not a
    failure: a rollback must go on all the same.

    `versions` are the recorded ones, by target name, for checks that mention `{{ version }}`."""

    def __init__(
        self,
        bus: Bus,
        provider: Provider,
        deployment_id: str,
        *,
        max_parallel: int,
        versions: Mapping[str, str],
    ) -> None:
        self._bus = bus
        self._versions = versions
        self._provider = provider
        self._deployment_id = deployment_id
        self._limiter = anyio.CapacityLimiter(max_parallel)

    async def at(self, contexts: Sequence[TargetContext], *, purpose: str = "plan") -> dict[str, Seen]:
        """Return what was seen, by target name."""
        found: dict[str, Seen] = {}

        async def one(context: TargetContext) -> None:
            async with self._limiter:
                found[context.target.name] = await self._one(context, purpose)

        async with anyio.create_task_group() as group:
            for context in contexts:
                group.start_soon(one, context, name=f"look:{context.fraise}@{context.target.name}")
        return found

    async def _one(self, context: TargetContext, purpose: str) -> Seen:
        try:
            with anyio.fail_after(_LOOK_S):
                facts = await self._provider.inspect(context)
                healthy = await self._healthy(context, facts, purpose)
        except TimeoutError:
            return Seen(unreachable=f"no answer within {_LOOK_S:g} s", reason="timeout")
        except ProviderConnectionError as error:
            return Seen(unreachable=error.message, reason=str(error.context.get("reason", "unreachable")))
        except ProviderUnavailableError as error:
            if "circuit" not in error.context:
                return Seen(problem=error.message)
            return Seen(unreachable=error.message, reason=reason_of(error))
        except Exception as error:  # noqa: BLE001 - per-target isolation: one target's look must not end the others'
            return Seen(problem=error.message if isinstance(error, FraisierError) else repr(error))
        return Seen(facts, healthy)

    async def _healthy(self, context: TargetContext, facts: TargetFacts, purpose: str) -> bool | None:
        """Return the answer of one probe; a target that has no release is not asked."""
        if not facts.release or facts.running is False:
            return None if not facts.release else False
        request = ev.HealthRequested(
            deployment_id=self._deployment_id,
            fraise=context.fraise,
            environment=context.environment,
            target=context.target.name,
            purpose=purpose,
            release=facts.release,
            version=self._versions.get(context.target.name, ""),
        )
        try:
            verdict = await self._bus.request(request, timeout_s=_LOOK_S)
        except ResponderError as error:
            cause = error.__cause__
            if isinstance(cause, FraisierError) and isinstance(cause, ProviderConnectionError):
                raise cause from error
            return False
        return isinstance(verdict, ev.HealthPassed)
