"""A provider whose targets live in memory and break on command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import anyio
import anyio.lowlevel

from fraisier.config.schema import Environment
from fraisier.errors import FraisierError, ProviderConnectionError
from fraisier.providers.base import (
    HOST_STEPS,
    Action,
    Artifact,
    ProviderServices,
    StepCall,
    TargetContext,
    TargetFacts,
)
from fraisier.testing.transport import ScriptedTransport
from fraisier.testing.world import DIGITS, Flight, Landing, ScriptedTarget, ScriptedTargets, commit
from fraisier.transports.base import Completed, OnOutput


class ScriptedWorld(ScriptedTargets):
    """The targets of a `ScriptedProvider`, and how to get one."""

    def factory(self, services: ProviderServices) -> ScriptedProvider:
        """Return a provider over this world; pass the method as `providers={"local": world.factory}`."""
        return ScriptedProvider(self)


class ScriptedProvider:
    """Implements `Provider` over a `ScriptedWorld`."""

    type: ClassVar[str] = "scripted"
    summary: ClassVar[str] = "targets in memory, for tests"
    steps: ClassVar[tuple[str, ...]] = HOST_STEPS
    is_here: ClassVar[bool] = False

    def __init__(self, world: ScriptedWorld) -> None:
        self.world = world
        self.closed = False
        self._life = world.life

    async def resolve(self, settings: Environment, ref: str) -> Artifact:
        """Return a made-up commit for the ref."""
        await self._meet("resolve", "")
        ref = ref or settings.branch
        version = ref if len(ref) == DIGITS else commit(ref)
        return Artifact(version=version, ref=ref, digest=version)

    async def inspect(self, context: TargetContext) -> TargetFacts:
        """Look at a target."""
        await self._meet("inspect", context.target.name)
        target = self.world.target(context.target.name)
        runs = bool(target.running)
        return TargetFacts(
            release=target.current,
            running=runs,
            running_release=target.running,
            invocation=str(target.started) if runs else "",
            pid=target.started,
        )

    async def perform(self, call: StepCall) -> dict[str, Any]:
        """Take a step: the way there, a scripted delay, a fault before the effect, the effect, a fault after it, and the
        way back. Whoever dies in between leaves the command to its fate."""
        world, name = self.world, call.context.target.name
        self._check_alive()
        world.calls.append((call.step, name, call.attempt))
        flight = world.send(call)
        try:
            await anyio.lowlevel.checkpoint()
            earlier = world.begin(flight) if name not in world.unreachable else None
            if earlier is not None:
                return earlier
            evidence = await self._act(flight)
            await anyio.lowlevel.checkpoint()
            return evidence
        finally:
            world.answer(flight)

    async def _act(self, flight: Flight) -> dict[str, Any]:
        step, name = flight.call.step, flight.call.context.target.name
        try:
            await self._meet(step, name)
        except FraisierError as error:
            self.world.failed(flight, error)
            raise
        evidence = self.world.end(flight)
        late = self.world.fault(step, name, after_effect=True)
        if late is not None:
            raise late
        return evidence

    async def control(
        self,
        action: Action,
        context: TargetContext,
        on_output: OnOutput | None = None,
        *,
        token: tuple[int, int] = (0, 0),
        log_id: str = "",
    ) -> dict[str, Any]:
        """Start, stop, restart or remove."""
        await self._meet(action, context.target.name)
        target = self.world.target(context.target.name)
        self.world.effects.append((action, context.target.name, target.current))
        target.running = target.current if action in ("start", "restart") else ""
        target.started += 1
        if action == "remove":
            target.current, target.staged = "", {}
        return {}

    async def logs(self, context: TargetContext, *, lines: int, follow: bool) -> AsyncIterator[str]:
        """Yield one made-up line."""
        await self._meet("logs", context.target.name)
        yield f"{context.target.name} serves {self.world.serving().get(context.target.name, '')}"

    async def transport(self, context: TargetContext) -> ScriptedTransport:
        """Return a transport on which every command answers with the health of the target."""
        await self._meet("transport", context.target.name)
        transport = ScriptedTransport()
        healthy = self.world.is_healthy(context.target.name)
        transport.when("", Completed(0 if healthy else 1, "", "" if healthy else "scripted: not healthy"))
        return transport

    async def aclose(self) -> None:
        """Note that the provider was closed."""
        self.closed = True

    def _check_alive(self) -> None:
        if self._life != self.world.life:
            raise ProviderConnectionError("the process that this provider belonged to is dead")

    async def _meet(self, step: str, name: str) -> None:
        self._check_alive()
        if (step, name) in self.world.hanging:
            await anyio.sleep_forever()
        await anyio.sleep(self.world.delays_s.get(step, 0.0))
        if name and name in self.world.unreachable:
            raise ProviderConnectionError(f"{name} does not answer", context={"target": name})
        error = self.world.fault(step, name, after_effect=False)
        if error is not None:
            raise error


__all__ = ["Landing", "ScriptedProvider", "ScriptedTarget", "ScriptedWorld", "commit"]
