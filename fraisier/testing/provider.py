"""A provider whose targets live in memory and break on command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import anyio

from fraisier.config.schema import Environment
from fraisier.errors import ProviderConnectionError
from fraisier.providers.base import Action, Artifact, ProviderServices, StepCall, TargetContext, TargetFacts
from fraisier.testing.transport import ScriptedTransport
from fraisier.transports.base import Completed, OnOutput

DIGITS = 40


def commit(ref: str) -> str:
    """Return the made-up full commit id that a ref resolves to: the same for the same ref."""
    return (ref.encode().hex() + "0" * DIGITS)[:DIGITS]


@dataclass
class ScriptedTarget:
    """One target's truth: what is staged, current, and running."""

    current: str = ""
    running: str = ""
    started: int = 0
    staged: dict[str, str] = field(default_factory=dict)
    version: str = ""


@dataclass
class _Fault:
    step: str
    target: str
    make: Callable[[], BaseException]
    left: int
    after_effect: bool


class ScriptedWorld:
    """The targets of a `ScriptedProvider`, what was done to them, and what goes wrong.

    `effects` lists (step, target, release) in the order in which they took effect. A version in `exits` ends
    as soon as it is started; one in `unhealthy` runs, but its exec health check fails; `delays_s` slows steps
    down; `unreachable` names targets that do not answer; `hanging` steps (step, target) never return.
    """

    def __init__(self) -> None:
        self.targets: dict[str, ScriptedTarget] = {}
        self.effects: list[tuple[str, str, str]] = []
        self.calls: list[tuple[str, str, int]] = []
        self.exits: set[str] = set()
        self.unhealthy: set[str] = set()
        self.unhealthy_on: set[tuple[str, str]] = set()
        self.delays_s: dict[str, float] = {}
        self.unreachable: set[str] = set()
        self.hanging: set[tuple[str, str]] = set()
        self._faults: list[_Fault] = []

    def fail(
        self,
        step: str,
        *,
        target: str = "",
        times: int = 1,
        error: Callable[[], BaseException] | None = None,
        after_effect: bool = False,
    ) -> None:
        """Make `step` (on `target`, or anywhere) raise `times` times; `after_effect`: it happened all the
        same."""
        make = error or (lambda: ProviderConnectionError(f"scripted failure of {step}"))
        self._faults.append(_Fault(step, target, make, times, after_effect))

    def fault(self, step: str, target: str, *, after_effect: bool) -> BaseException | None:
        """Return the error that is due now, if any."""
        for fault in self._faults:
            if (
                fault.left
                and fault.step == step
                and fault.target in ("", target)
                and fault.after_effect == after_effect
            ):
                fault.left -= 1
                return fault.make()
        return None

    def target(self, name: str) -> ScriptedTarget:
        """Return a target, made on first use."""
        return self.targets.setdefault(name, ScriptedTarget())

    def serving(self) -> dict[str, str]:
        """Return the version that each target runs now (empty: none)."""
        return {name: target.staged.get(target.running, "") for name, target in self.targets.items()}

    def is_healthy(self, name: str) -> bool:
        """Whether the target's health check passes now."""
        version = self.serving().get(name, "")
        return bool(version) and version not in self.unhealthy and (name, version) not in self.unhealthy_on

    def factory(self, services: ProviderServices) -> ScriptedProvider:
        """Return a provider over this world; pass the method as `providers={"local": world.factory}`."""
        return ScriptedProvider(self)


class ScriptedProvider:
    """Implements `Provider` over a `ScriptedWorld`."""

    type: ClassVar[str] = "scripted"
    summary: ClassVar[str] = "targets in memory, for tests"
    steps: ClassVar[tuple[str, ...]] = (
        "preflight",
        "fetch",
        "stage",
        "migrate",
        "switch",
        "restart",
        "cleanup",
    )
    is_here: ClassVar[bool] = False

    def __init__(self, world: ScriptedWorld) -> None:
        self.world = world
        self.closed = False

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
        """Take a step: a scripted delay, a fault before the effect, the effect, a fault after it."""
        name = call.context.target.name
        self.world.calls.append((call.step, name, call.attempt))
        target = self.world.target(name)
        if call.step == "restart" and self.world.delays_s.get("restart"):
            target.running = ""  # a slow restart is down for as long as it takes
        await self._meet(call.step, name)
        self.world.effects.append((call.step, name, call.release))
        evidence = self._effect(call, target)
        late = self.world.fault(call.step, name, after_effect=True)
        if late is not None:
            raise late
        return evidence

    def _effect(self, call: StepCall, target: ScriptedTarget) -> dict[str, Any]:
        match call.step:
            case "stage":
                target.staged[call.release] = call.version
            case "switch":
                target.current = call.release
            case "restart":
                target.started += 1
                starts = bool(call.release) and target.staged.get(call.release) not in self.world.exits
                target.running = call.release if starts else ""
            case "cleanup":
                removed = [
                    name for name in target.staged if name not in (*call.keep, target.current, target.running)
                ]
                for name in removed:
                    del target.staged[name]
                return {"removed": removed, "kept": list(target.staged)}
        return {"release": call.release}

    async def control(
        self, action: Action, context: TargetContext, on_output: OnOutput | None = None
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

    async def _meet(self, step: str, name: str) -> None:
        if (step, name) in self.world.hanging:
            await anyio.sleep_forever()
        await anyio.sleep(self.world.delays_s.get(step, 0.0))
        if name and name in self.world.unreachable:
            raise ProviderConnectionError(f"{name} does not answer", context={"target": name})
        error = self.world.fault(step, name, after_effect=False)
        if error is not None:
            raise error


__all__ = ["ScriptedProvider", "ScriptedTarget", "ScriptedWorld", "commit"]
