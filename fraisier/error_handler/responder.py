"""The one answer to RecoveryRequested: what the runner shall do after a failure.

The strategies are the real ones: those that an embedder registered, then that of the environment. What they would do (wait,
switch, roll back) is written into the decision instead, because the runner acts only once the decision is in the journal.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import anyio

from fraisier.error_handler.handler import ErrorHandler
from fraisier.errors import (
    DeploymentError,
    FraisierError,
    ProviderConnectionError,
    error_class,
)
from fraisier.events.types import RecoveryDecided, RecoveryRequested
from fraisier.recovery import (
    FallbackStrategy,
    RecoveryStrategy,
    RetryStrategy,
    RollbackRecoveryStrategy,
)
from fraisier.recovery.rollback import NEVER_ROLLED_BACK

RETRIED_STEPS = frozenset({"resolve", "fetch", "stage", "drain", "switch", "restart", "admit"})
"""Steps whose repetition is harmless or settled by a look at the target, and the question what a version means."""

REGISTERED_S = 20.0
"""How long the strategies that an embedder registered may take over one question; less than whoever asked waits."""


@dataclass
class Draft:
    """What strategies ask for while they are tried. A wish that is no answer to the question is refused, with False."""

    fallbacks: tuple[str, ...] = ()
    is_step: bool = False
    action: str = "fail"
    strategy: str = ""
    delay_s: float = 0.0
    fallback: str = ""

    @classmethod
    def of(cls, event: RecoveryRequested) -> Draft:
        """Return the empty answer to a question."""
        return cls(event.fallbacks, is_step=bool(event.step) and not event.fallbacks)

    async def wait(self, delay_s: float) -> bool:
        """Note a wait before a further try."""
        if self.is_step:
            self.action, self.delay_s = "retry", delay_s
        return self.is_step

    async def rollback(self) -> bool:
        """Note that the deployment goes back."""
        if self.is_step or self.fallbacks:
            return False
        self.action = "rollback"
        return True

    async def switch(self, fallback: str) -> bool:
        """Note that the deployment goes through another provider."""
        if fallback not in self.fallbacks:
            return False
        self.action, self.fallback = "fallback", fallback
        return True


class RecoveryResponder:
    """Answers RecoveryRequested: about a step at a target or the question to the source (retry or fail), about a preparation
    that failed and has a fallback left, or, without a step, about the deployment.

    `handler` lives as long as the responder: it counts every error that a deployment asks about, and the strategies that are
    registered with it come before the environment's own. They get the facts of the request in their context, with `wait`,
    `switch_provider` and `rollback`, which note what is wanted, or return False where that is no answer. When a step failed,
    one that returns True without a wish has put things right itself, and the step is tried again at once. None can overrule
    what `refusal_of` says, and one that hangs is cut off.
    """

    def __init__(self, handler: ErrorHandler | None = None, *, rng: random.Random | None = None) -> None:
        self.handler = handler or ErrorHandler()
        self._rng = rng or random.SystemRandom()

    async def __call__(self, event: RecoveryRequested) -> RecoveryDecided:
        """Decide, and change nothing."""
        error = error_of(event)
        refusal = refusal_of(event, error)
        if refusal:
            self.handler.count(error, _facts(event))
        else:
            draft = await self._registered(event, error) or await self._configured(event, error)
            if draft is not None:
                return _decided(event, draft, event.code.lower() or "failed", event.message)
            refusal = "no_strategy"
        action = "fail" if event.step else _without_rollback(event, error)
        return _decided(event, Draft(action=action, strategy=refusal), refusal, _DETAILS[refusal])

    async def _registered(self, event: RecoveryRequested, error: FraisierError) -> Draft | None:
        """Return what a registered strategy wants, or None."""
        draft, strategy = Draft.of(event), None
        with anyio.move_on_after(REGISTERED_S):
            strategy = await self.handler.recover(error, _facts(event, draft))
        if strategy is None:
            return None
        if draft.action == "fail" and draft.is_step:
            draft.action = "retry"  # it put things right itself
        draft.strategy = strategy.name
        return draft if draft.action != "fail" else None

    async def _configured(self, event: RecoveryRequested, error: FraisierError) -> Draft | None:
        """Return what the strategy of the environment wants, or None. It lives for this question only."""
        draft, strategy = Draft.of(event), self._strategy(event)
        context = {**_facts(event, draft), "error": error}
        if strategy.can_recover(error) and await strategy.execute_recovery(context):
            draft.strategy = strategy.name
            return draft
        return None

    def _strategy(self, event: RecoveryRequested) -> RecoveryStrategy:
        if event.fallbacks:
            return FallbackStrategy(event.fallbacks[0])
        if not event.step:
            return RollbackRecoveryStrategy(rollback_on_deployment_error=True)
        return RetryStrategy(
            max_attempts=event.max_attempts,
            base_delay=event.base_delay_s,
            backoff_factor=event.backoff_factor,
            max_delay=event.max_delay_s,
            rng=self._rng,
        )


def _facts(event: RecoveryRequested, draft: Draft | None = None) -> dict[str, Any]:
    """Return what strategies may want to know of the failure, and what they may ask for."""
    facts: dict[str, Any] = {
        "attempt": event.attempt,
        "retry_after": event.retry_after_s or None,
        "deployment_id": event.deployment_id,
        "fraise": event.fraise,
        "environment": event.environment,
        "target": event.target,
        "step": event.step,
        "provider": event.provider,
    }
    if draft is not None:
        facts |= {"wait": draft.wait, "rollback": draft.rollback, "switch_provider": draft.switch}
    return facts


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
