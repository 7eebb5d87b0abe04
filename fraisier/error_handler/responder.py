"""The one answer to RecoveryRequested: what the runner shall do after a failure.

The strategies are the real ones; what they would do (wait, switch, roll back) is written into the decision instead,
because the runner acts only once the decision is in the journal.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fraisier.error_handler.handler import ErrorHandler
from fraisier.errors import (
    DeploymentError,
    FraisierError,
    ProviderConnectionError,
    ProviderError,
    error_class,
)
from fraisier.events.types import RecoveryDecided, RecoveryRequested
from fraisier.recovery import FallbackStrategy, RetryStrategy, RollbackRecoveryStrategy
from fraisier.recovery.rollback import NEVER_ROLLED_BACK

RETRIED_STEPS = frozenset({"resolve", "fetch", "stage", "drain", "switch", "restart", "admit"})
"""Steps whose repetition is harmless or settled by a look at the target, and the question what a version means."""

Sleep = Callable[[float], Awaitable[object]]
HandlerFactory = Callable[[RecoveryRequested, Sleep], ErrorHandler]
"""Makes the handler for one request. Its strategies wait through the given function, which notes the
delay."""


@dataclass
class Draft:
    """What the strategies asked for while they were tried."""

    action: str = "fail"
    strategy: str = ""
    delay_s: float = 0.0
    fallback: str = ""

    async def wait(self, delay_s: float) -> None:
        """Note a wait before a further try."""
        self.action, self.strategy, self.delay_s = "retry", RetryStrategy.name, delay_s

    async def rollback(self) -> bool:
        """Note that the deployment goes back."""
        self.action, self.strategy = "rollback", RollbackRecoveryStrategy.name
        return True

    async def switch(self, fallback: str) -> bool:
        """Note that the deployment goes through another provider."""
        self.action, self.strategy, self.fallback = "fallback", FallbackStrategy.name, fallback
        return True


class RecoveryResponder:
    """Answers RecoveryRequested: about a step at a target (retry or fail), about a preparation that failed and has a
    fallback left, or, without a step, about the deployment."""

    def __init__(
        self, handler_factory: HandlerFactory | None = None, *, rng: random.Random | None = None
    ) -> None:
        self._rng = rng or random.SystemRandom()
        self._factory = handler_factory or self._default_handler

    async def __call__(self, event: RecoveryRequested) -> RecoveryDecided:
        """Decide, and change nothing."""
        error, draft = error_of(event), Draft()
        refusal = refusal_of(event, error)
        if not refusal:
            handler = self._factory(event, draft.wait)
            context: dict[str, Any] = {
                "attempt": event.attempt,
                "rollback": draft.rollback,
                "switch_provider": draft.switch,
                "retry_after": event.retry_after_s or None,
            }
            recovered = await handler.handle_error(error, context, reraise=False)
            if recovered and draft.action != "fail":
                return _decided(event, draft, event.code.lower() or "failed", event.message)
            refusal = "no_strategy"
        action = "fail" if event.step else _without_rollback(event, error)
        return _decided(event, Draft(action=action, strategy=refusal), refusal, _DETAILS[refusal])

    def _default_handler(self, event: RecoveryRequested, sleep: Sleep) -> ErrorHandler:
        handler = ErrorHandler(recent_max=1)
        if event.fallbacks:
            handler.register_strategy(ProviderError, FallbackStrategy(event.fallbacks[0]))
        elif event.step:
            handler.register_strategy(FraisierError, self._retry(event, sleep))
        else:
            handler.register_strategy(
                DeploymentError, RollbackRecoveryStrategy(rollback_on_deployment_error=True)
            )
        return handler

    def _retry(self, event: RecoveryRequested, sleep: Sleep) -> RetryStrategy:
        return RetryStrategy(
            max_attempts=event.max_attempts,
            base_delay=event.base_delay_s,
            backoff_factor=event.backoff_factor,
            max_delay=event.max_delay_s,
            rng=self._rng,
            sleep=sleep,
            within_deadline=False,
        )


_DETAILS = {
    "hold": "on_failure is hold: the deployment stays where it is",
    "stop": "on_failure is stop: the deployment ends where it is",
    "never_rolled_back": "after this error nothing may be undone by this deployment",
    "never_retried": "this step is not repeated by itself",
    "maybe_begun": "it is not known that the migration has not begun, so it must not be repeated",
    "not_recoverable": "trying again cannot help",
    "attempts_exhausted": "it was tried as often as allowed",
    "no_strategy": "no recovery strategy knows a way out",
}


def refusal_of(event: RecoveryRequested, error: FraisierError) -> str:
    """Return why there is nothing to recover (a word of `_DETAILS`), or nothing when the strategies are to be
    asked."""
    if event.fallbacks:
        return ""
    if not event.step:
        if isinstance(error, NEVER_ROLLED_BACK):
            return "never_rolled_back"
        return event.on_failure if event.on_failure in ("hold", "stop") else ""
    if event.step == "migrate":
        if not (event.known and isinstance(error, ProviderConnectionError)):
            return "maybe_begun"
    elif event.step not in RETRIED_STEPS:
        return "never_retried"
    if not event.recoverable:
        return "not_recoverable"
    return "attempts_exhausted" if event.attempt >= event.max_attempts else ""


def error_of(event: RecoveryRequested) -> FraisierError:
    """Return the error that the event tells of. One that ends a deployment is a DeploymentError, whatever
    caused it."""
    cls = error_class(event.error_type) or DeploymentError
    error = cls(event.message, code=event.code or None, recoverable=event.recoverable)
    if event.step or isinstance(error, DeploymentError):
        return error
    return DeploymentError(event.message, code=event.code or None, recoverable=event.recoverable, cause=error)


def _without_rollback(event: RecoveryRequested, error: FraisierError) -> str:
    if isinstance(error, NEVER_ROLLED_BACK):
        return "stop"
    return event.on_failure if event.on_failure in ("hold", "stop") else "fail"


def _decided(event: RecoveryRequested, draft: Draft, reason: str, detail: str) -> RecoveryDecided:
    return RecoveryDecided(
        deployment_id=event.deployment_id,
        fraise=event.fraise,
        environment=event.environment,
        target=event.target,
        step=event.step,
        attempt=event.attempt,
        action=draft.action,
        strategy=draft.strategy,
        reason=reason,
        detail=detail,
        delay_s=draft.delay_s,
        fallback=draft.fallback,
    )
