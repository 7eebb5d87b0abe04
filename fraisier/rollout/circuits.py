"""Circuit breakers round the connections to targets and to the servers that versions come from: what keeps failing is left
alone for a while.

They refuse only what does no harm when it is refused: downloads, looks, and the steps of a preparation. Whatever was begun
goes on, forward or back, and a health probe is never asked about.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import anyio

from fraisier.bus import Bus
from fraisier.clock import Clock, rfc3339
from fraisier.config.resolve import names_for
from fraisier.config.schema import CircuitBreaker, Environment
from fraisier.errors import (
    BusClosedError,
    ConfigurationError,
    DatabaseError,
    FraisierError,
    ProviderConnectionError,
    ProviderUnavailableError,
)
from fraisier.events import Event
from fraisier.events import types as ev
from fraisier.providers.base import (
    Action,
    Artifact,
    ConnectionGuard,
    Provider,
    StepCall,
    TargetContext,
    TargetFacts,
)
from fraisier.recovery import CircuitBreakerStrategy, CircuitState
from fraisier.rollout.plan import PREPARE_STEPS
from fraisier.transports.base import OnOutput, Transport

T = TypeVar("T")

_UNTOLD_MAX = 1000
_LAST_WORDS_S = 5.0


class Circuits:
    """The circuits of one orchestrator: one breaker for each way it is configured, a circuit for each
    target's address and each source's server."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._breakers: dict[CircuitBreaker, CircuitBreakerStrategy] = {}
        self._untold: deque[Event] = deque(maxlen=_UNTOLD_MAX)

    def guarded(self, provider: Provider, settings: Environment) -> Provider:
        """Return the provider with its connections guarded as the environment says."""
        return cast(
            Provider, GuardedProvider(provider, self, self._breaker(settings.recovery.circuit_breaker))
        )

    def guard(self, settings: Environment) -> ConnectionGuard:
        """Return what guards the connections of an environment's provider to where its versions come from."""
        breaker, provider = self._breaker(settings.recovery.circuit_breaker), settings.provider
        patience_s = settings.recovery.retry.max_delay_s
        return lambda server: self.through(breaker, f"{provider} {server}", patience_s=patience_s)

    @asynccontextmanager
    async def through(
        self,
        breaker: CircuitBreakerStrategy,
        resource: str,
        *,
        may_refuse: bool = True,
        patience_s: float = math.inf,
    ) -> AsyncIterator[None]:
        """Surround a call to a resource. Raises ProviderUnavailableError while its circuit is open, if that may refuse it;
        trying again helps then only within `patience_s` seconds."""
        if may_refuse and not breaker.should_allow_operation(resource):
            await self.tell()
            raise self._refusal(breaker, resource, patience_s)
        born = breaker.generation(resource)

        def report(record: Callable[[str], None]) -> None:
            # Once the circuit changed, a call that began before tells nothing about now.
            if born == breaker.generation(resource):
                record(resource)

        is_ours = True
        try:
            yield
        except ProviderConnectionError:
            report(breaker.record_failure)
            raise
        except FraisierError:
            report(breaker.record_success)  # it answered
            raise
        except BaseException:
            is_ours = False
            if may_refuse:
                report(breaker.record_cancelled)  # says neither that it works nor that it does not
            raise
        else:
            report(breaker.record_success)
        finally:
            if is_ours:
                await self.tell()

    def _refusal(
        self, breaker: CircuitBreakerStrategy, resource: str, patience_s: float
    ) -> ProviderUnavailableError:
        """Return the error that says until when a resource is left alone."""
        left_s = breaker.remaining(resource)
        until = rfc3339(self._clock.now_us() + int(left_s * 1_000_000))
        when = f"until {until}" if left_s else "while another call tries it"
        return ProviderUnavailableError(
            f"{resource} could not be reached too often, and is left alone {when}",
            context={
                "resource": resource,
                "circuit": breaker.state(resource),
                "retry_after": math.ceil(left_s * 1000) / 1000,  # not a moment too early
            },
            recoverable=left_s <= patience_s,
            hint=f"check that it is up; it is tried again {'after ' + until if left_s else 'in a moment'}",
        )

    async def tell(self) -> None:
        """Publish the changes since the last time. What the store does not take now is told later: that it failed is
        found out by whoever has a change to record."""
        while self._untold:
            event = self._untold.popleft()
            try:
                await self._bus.publish(event)
            except (DatabaseError, BusClosedError):
                self._untold.appendleft(event)
                return

    def _breaker(self, settings: CircuitBreaker) -> CircuitBreakerStrategy:
        found = self._breakers.get(settings)
        if found is None:
            found = self._breakers[settings] = CircuitBreakerStrategy(
                settings.failure_threshold,
                settings.recovery_timeout_s,
                half_open_max_calls=settings.half_open_calls,
                trial_timeout=settings.trial_timeout_s,
                failure_rate=settings.failure_rate,
                window=settings.window_s,
                minimum_calls=settings.minimum_calls,
                on_state_change=lambda resource, old, new: self._note(settings, resource, old, new),
            )
        return found

    def _note(self, settings: CircuitBreaker, resource: str, old: CircuitState, new: CircuitState) -> None:
        about: dict[str, Any] = {
            "resource": resource,
            "provider": resource.partition(" ")[0],
            "previous": old,
        }
        if new == "open":
            until_at = self._clock.now_us() + int(settings.recovery_timeout_s * 1_000_000)
            self._untold.append(ev.CircuitOpened(**about, until_at=until_at))
        elif new == "half_open":
            self._untold.append(ev.CircuitHalfOpened(**about))
        else:
            self._untold.append(ev.CircuitClosed(**about))


class GuardedProvider:
    """A provider whose calls to targets go through their circuits."""

    def __init__(self, inner: Provider, circuits: Circuits, breaker: CircuitBreakerStrategy) -> None:
        self.inner = inner
        self.type = inner.type
        self.summary = inner.summary
        self.steps = inner.steps
        self._circuits = circuits
        self._breaker = breaker

    async def resolve(self, settings: Environment, ref: str) -> Artifact:
        """As the provider does, whose connections to the source are guarded one by one: a known version needs none."""
        return await self.inner.resolve(settings, ref)

    async def inspect(self, context: TargetContext) -> TargetFacts:
        """Look at a target, unless its circuit is open. Raises ProviderUnavailableError then."""
        return await self._call(context, lambda: self.inner.inspect(context), may_refuse=True)

    async def perform(self, call: StepCall) -> dict[str, Any]:
        """Take a step. One of the preparation is refused while the circuit is open, with ProviderUnavailableError."""
        may_refuse = call.step in PREPARE_STEPS and not call.settles and call.hook is None
        return await self._call(call.context, lambda: self.inner.perform(call), may_refuse=may_refuse)

    async def control(
        self,
        action: Action,
        context: TargetContext,
        on_output: OnOutput | None = None,
        *,
        token: tuple[int, int] = (0, 0),
        log_id: str = "",
    ) -> dict[str, Any]:
        """As the provider does: a person wants it now."""
        return await self.inner.control(action, context, on_output, token=token, log_id=log_id)

    def logs(self, context: TargetContext, *, lines: int, follow: bool) -> AsyncIterator[str]:
        """As the provider does."""
        return self.inner.logs(context, lines=lines, follow=follow)

    async def transport(self, context: TargetContext) -> Transport:
        """As the provider does."""
        return await self.inner.transport(context)

    async def aclose(self) -> None:
        """Close the provider's connections, and tell what was not told yet."""
        await self.inner.aclose()
        with anyio.move_on_after(_LAST_WORDS_S):
            await self._circuits.tell()

    async def _call(self, context: TargetContext, act: Callable[[], Awaitable[T]], *, may_refuse: bool) -> T:
        resource = resource_of(self.type, context)
        async with self._circuits.through(self._breaker, resource, may_refuse=may_refuse):
            return await act()


def resource_of(provider: str, context: TargetContext) -> str:
    """Return whose connection a circuit stands for: the provider and the target's address, or its name without one."""
    target = context.target
    if not target.address:
        return f"{provider} {target.name}"
    try:
        address = names_for(fraise=context.fraise, environment=context.environment, target=target)[
            "target.address"
        ]
    except (ConfigurationError, ValueError):
        address = ""
    return f"{provider} {address or target.name}"


def unguarded(provider: Provider) -> Provider:
    """Return the provider behind its circuits: a probe asks it, whatever they say."""
    return provider.inner if isinstance(provider, GuardedProvider) else provider
