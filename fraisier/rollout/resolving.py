"""What a version means, asked of its source as often as recovery says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from fraisier.config.schema import Environment
from fraisier.errors import FraisierError, ProviderConnectionError, ProviderUnavailableError
from fraisier.events import types as ev
from fraisier.providers.base import Artifact, Provider
from fraisier.recovery import RetryableOperation, retry_after_of
from fraisier.rollout.scribe import Scribe
from fraisier.rollout.world import World

RESOLVE = "resolve"
"""What the source is asked for, in events; no step of a target is called so."""

_DECIDE_S = 30.0


async def resolve_quietly(world: World, provider: Provider, settings: Environment, ref: str) -> Artifact:
    """Return what `ref` means, for somebody who only looks: retried as a deployment is, and nothing is recorded."""
    asking: RetryableOperation[Artifact] = RetryableOperation(
        provider.resolve, (settings, ref), retry_strategy=world.make_retry(settings.recovery.retry)
    )
    return await asking.execute()


class Resolving:
    """Asks for versions on behalf of one deployment (`about` is the envelope of its events)."""

    def __init__(
        self,
        world: World,
        scribe: Scribe,
        provider: Provider,
        settings: Environment,
        about: Mapping[str, Any],
    ) -> None:
        self._world = world
        self._scribe = scribe
        self._provider = provider
        self._settings = settings
        self._about = {**about, "step": RESOLVE}
        self._envelope = dict(about)

    async def resolve(self, ref: str) -> Artifact:
        """Return what `ref` means. Raises the last attempt's error; a wait that the surrounding deadline would cut off is
        not begun."""
        attempt, strategy = 0, ""
        while True:
            attempt += 1
            try:
                artifact = await self._provider.resolve(self._settings, ref)
            except FraisierError as error:
                await self._tell(error)
                decided = await self._decision(attempt, error)
                if decided is None:
                    if strategy:
                        failed = ev.RecoveryFailed(
                            **self._about, attempt=attempt, strategy=strategy, message=self._safe(error)
                        )
                        await self._scribe.say(failed)
                    raise
                strategy = decided.strategy
                await anyio.sleep(decided.delay_s)
            else:
                if strategy:
                    await self._scribe.say(
                        ev.RecoverySucceeded(**self._about, attempt=attempt, strategy=strategy)
                    )
                return artifact

    async def _tell(self, error: FraisierError) -> None:
        """No step failed, so that nothing else would count it."""
        if isinstance(error, ProviderConnectionError | ProviderUnavailableError):
            await self._scribe.say(
                ev.ProviderUnavailable(
                    **self._envelope,
                    provider=self._settings.provider,
                    code=error.code,
                    error_type=type(error).__name__,
                    message=self._safe(error),
                    recoverable=error.recoverable,
                )
            )

    async def _decision(self, attempt: int, error: FraisierError) -> ev.RecoveryDecided | None:
        """Return the decision to try again, now in the journal, or None."""
        if not error.recoverable:
            return None
        retry = self._settings.recovery.retry
        decided = await self._scribe.ask(
            ev.RecoveryRequested(
                **self._about,
                attempt=attempt,
                provider=self._settings.provider,
                code=error.code,
                error_type=type(error).__name__,
                message=self._safe(error),
                recoverable=error.recoverable,
                max_attempts=retry.max_attempts,
                base_delay_s=retry.base_delay_s,
                backoff_factor=retry.backoff_factor,
                max_delay_s=retry.max_delay_s,
                retry_after_s=retry_after_of(error, clock=self._world.clock),
                on_failure=self._settings.rollout.on_failure,
            ),
            timeout_s=_DECIDE_S,
        )
        if not isinstance(decided, ev.RecoveryDecided) or decided.action != "retry":
            return None
        too_late = anyio.current_time() + decided.delay_s >= anyio.current_effective_deadline()
        return None if too_late else decided

    def _safe(self, error: FraisierError) -> str:
        return self._world.redactor.scrub(error.message)
