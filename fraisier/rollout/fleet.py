"""What is done to the targets of a fraise outside a deployment: services, a live look, health, logs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from typing import Any

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectSendStream

from fraisier.errors import FraisierError, ResponderError
from fraisier.events import Actor
from fraisier.events import types as ev
from fraisier.journal.fold import Tables
from fraisier.logging import log_context
from fraisier.providers.base import Action, Provider, TargetContext
from fraisier.rollout.fallback import is_beside
from fraisier.rollout.look import Look
from fraisier.rollout.plan import decode_plan
from fraisier.rollout.request import find_environment, select
from fraisier.rollout.scribe import Scribe
from fraisier.rollout.world import World

_CONTROL_S = 120.0
_PROBE_S = 60.0
_LOG_LINES_HELD = 1000


class Fleet:
    """The targets of one fraise in one environment."""

    def __init__(self, world: World, fraise: str, environment: str) -> None:
        self._world = world
        found, self._settings = find_environment(world.config, fraise, environment)
        self._fraise = found.name
        self._environment = environment

    async def control(
        self, action: Action, *, limit: Sequence[str], actor: Actor
    ) -> dict[str, FraisierError | None]:
        """Do `action` on the chosen targets side by side, under the lease; return each one's error, or None.

        Raises DeploymentLockError while a deployment runs."""
        operation = self._world.ids.deployment()
        outcome: dict[str, FraisierError | None] = {}
        chosen = await self._recorded(limit, orphans=action == "remove") or self._chosen(limit)
        limiter = anyio.CapacityLimiter(self._settings.rollout.max_parallel)
        provider = self._world.make_provider(chosen[0].settings)
        async with self._world.leases.hold(self._fraise, self._environment, operation) as lease:
            scribe = Scribe(self._world.bus, Tables(), lease.guard, scrub=self._world.redactor.scrub)

            async def one(context: TargetContext) -> None:
                async with limiter:
                    outcome[context.target.name] = await self._control_one(
                        scribe, provider, action, context, actor, lease.epoch
                    )

            async def everywhere() -> None:
                async with anyio.create_task_group() as group:
                    for context in chosen:
                        group.start_soon(one, context, name=f"{action}:{self._fraise}@{context.target.name}")

            try:
                await lease.while_held(everywhere)
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(10.0):
                    await provider.aclose()
        return {context.target.name: outcome[context.target.name] for context in chosen}

    async def _control_one(
        self,
        scribe: Scribe,
        provider: Provider,
        action: Action,
        context: TargetContext,
        actor: Actor,
        epoch: int,
    ) -> FraisierError | None:
        about: dict[str, Any] = {
            "fraise": self._fraise,
            "environment": self._environment,
            "target": context.target.name,
            "action": action,
        }
        with log_context(
            fraise=self._fraise, environment=self._environment, target=context.target.name, step=action
        ):
            return await self._controlled(scribe, provider, context, about, actor, epoch)

    async def _controlled(
        self,
        scribe: Scribe,
        provider: Provider,
        context: TargetContext,
        about: dict[str, Any],
        actor: Actor,
        epoch: int,
    ) -> FraisierError | None:
        action: Action = about["action"]
        intent = await scribe.say(ev.ServiceRequested(**about, actor=actor))
        started = anyio.current_time()
        try:
            with anyio.fail_after(_CONTROL_S):
                await provider.control(
                    action, context, token=(epoch, intent.seq), log_id=self._world.journal.fence_id
                )
        except TimeoutError:
            error = FraisierError(f"no end within {_CONTROL_S:g} s")
        except FraisierError as failure:
            error = failure
        except Exception as defect:  # noqa: BLE001 - a defect at one target must not cut the others off
            error = FraisierError(f"internal error: {defect!r}", cause=defect)
        else:
            took = round(anyio.current_time() - started, 6)
            await scribe.say(ev.ServiceSucceeded(**about, duration_s=took))
            return None
        took = round(anyio.current_time() - started, 6)
        message = self._world.redactor.scrub(error.message)
        await scribe.say(ev.ServiceFailed(**about, code=error.code, message=message, duration_s=took))
        return error

    async def live(self) -> dict[str, dict[str, Any]]:
        """Return what every target answers now: release, running, healthy, or why it is out of reach."""
        provider, operation = self._world.make_provider(self._settings), self._world.ids.deployment()
        contexts = self._chosen(())
        look = Look(
            self._world.bus,
            provider,
            operation,
            max_parallel=self._settings.rollout.max_parallel,
            versions=await self._world.versions(self._fraise, self._environment),
        )
        try:
            with self._world.subjects.known(operation, provider, contexts):
                seen = await look.at(contexts, purpose="check")
        finally:
            await provider.aclose()
        releases = {
            (row.target, row.release): row.version
            for row in await self._world.journal.releases(self._fraise, self._environment)
        }
        return {
            name: {
                "release": found.facts.release or None,
                "version": releases.get((name, found.facts.release)),
                "running": found.facts.running,
                "running_release": found.facts.running_release or None,
                "healthy": found.healthy,
                "pid": found.facts.pid or None,
                "unreachable": found.unreachable or None,
            }
            for name, found in seen.items()
        }

    async def health(self) -> list[dict[str, Any]]:
        """Run one probe on every target and return the answers."""
        provider, operation = self._world.make_provider(self._settings), self._world.ids.deployment()
        contexts = self._chosen(())
        places = {
            place.target: place
            for place in await self._world.journal.placements(self._fraise, self._environment)
        }
        rows: dict[str, dict[str, Any]] = {}
        limiter = anyio.CapacityLimiter(self._settings.rollout.max_parallel)

        async def one(context: TargetContext) -> None:
            about: dict[str, Any] = {
                "deployment_id": operation,
                "fraise": self._fraise,
                "environment": self._environment,
                "target": context.target.name,
            }
            place = places.get(context.target.name)
            if place is not None:
                about |= {"release": place.release, "version": place.version}
            async with limiter:
                try:
                    verdict = await self._world.bus.request(
                        ev.HealthRequested(**about, purpose="check"), timeout_s=_PROBE_S
                    )
                except ResponderError as error:
                    verdict = ev.HealthFailed(**about, reason="error", message=error.message)
            assert isinstance(verdict, ev.HealthVerdict)
            rows[context.target.name] = {
                "fraise": self._fraise,
                "environment": self._environment,
                "target": context.target.name,
                "healthy": isinstance(verdict, ev.HealthPassed),
                "status": _status(verdict),
                "check_type": verdict.check_type,
                "reason": getattr(verdict, "reason", "") or None,
                "message": verdict.message or None,
                "duration_s": verdict.duration_s,
                "warnings": list(verdict.warnings),
                "parts": [msgspec.to_builtins(part) for part in verdict.parts],
            }

        try:
            with self._world.subjects.known(operation, provider, contexts):
                async with anyio.create_task_group() as group:
                    for context in contexts:
                        group.start_soon(one, context, name=f"health:{self._fraise}@{context.target.name}")
        finally:
            await provider.aclose()
        return [rows[context.target.name] for context in contexts]

    @asynccontextmanager
    async def logs(
        self, *, limit: Sequence[str], lines: int, follow: bool
    ) -> AsyncIterator[AsyncIterator[tuple[str, str]]]:
        """Stream pairs of target name and log line, merged as they come."""
        provider = self._world.make_provider(self._settings)
        chosen = self._chosen(limit)
        send, receive = anyio.create_memory_object_stream[tuple[str, str]](_LOG_LINES_HELD)

        async def one(context: TargetContext, out: MemoryObjectSendStream[tuple[str, str]]) -> None:
            async with out:
                async for line in provider.logs(context, lines=lines, follow=follow):
                    await out.send((context.target.name, self._world.redactor.scrub(line)))

        try:
            async with anyio.create_task_group() as group, receive:
                for context in chosen:
                    group.start_soon(
                        one, context, send.clone(), name=f"logs:{self._fraise}@{context.target.name}"
                    )
                send.close()
                yield receive
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(10.0):
                await provider.aclose()

    async def _recorded(self, limit: Sequence[str], *, orphans: bool) -> list[TargetContext]:
        """Return what the globs mean of the targets of fallbacks and, where `orphans` are asked for, of those that only the
        journal still knows, with the settings of their last plan. All are of one provider: that of the first."""
        configured = {target.name for target in self._settings.targets}
        found: list[TargetContext] = []
        for place in await self._world.journal.placements(self._fraise, self._environment):
            meant = any(fnmatchcase(place.target, glob) for glob in limit)
            if not meant or place.target in configured or place.health == "removed":
                continue
            if not (orphans or is_beside(place.target)):
                continue
            state = await self._world.journal.deployment(place.deployment_id) if place.deployment_id else None
            if state is None or not state.plan:
                continue
            plan = decode_plan(state.plan)
            for target in plan.targets:
                if target.name == place.target:
                    settings = target.settings or plan.settings
                    found.append(TargetContext(self._fraise, self._environment, target.target, settings))
        return [context for context in found if context.settings.provider == found[0].settings.provider]

    def _chosen(self, limit: Sequence[str]) -> list[TargetContext]:
        return [
            TargetContext(self._fraise, self._environment, target, self._settings)
            for target in select(self._settings.targets, limit, ())
        ]


def _status(verdict: ev.HealthVerdict) -> str:
    """Return pass, fail, or error: the target could not be asked, so nothing is known of it."""
    if isinstance(verdict, ev.HealthPassed):
        return "pass"
    reason = getattr(verdict, "reason", "")
    unasked = reason == "no_answer" and not verdict.counts.get("fail")
    return "error" if unasked or reason in ("unreachable", "error") else "fail"
