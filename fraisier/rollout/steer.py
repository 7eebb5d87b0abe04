"""Asks a deployment to stop, wait or go on, wherever it runs; carries it out here when its runner is dead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import msgspec

from fraisier.errors import UsageError
from fraisier.events import Actor, Record
from fraisier.events import types as ev
from fraisier.events.steering import SteeringRequest
from fraisier.journal.fold import DeploymentState
from fraisier.rollout.result import DeploymentResult
from fraisier.rollout.resume import again, find, may_live
from fraisier.rollout.scribe import Scribe
from fraisier.rollout.steering import REQUESTS
from fraisier.rollout.stop import StopSignal
from fraisier.rollout.world import World, about

_ANSWER_S = 5.0
_LOOK_EVERY_S = 0.2
_EVENTS: dict[str, type[SteeringRequest]] = {action: event for event, action in REQUESTS.items()}

Run = Callable[[Callable[[StopSignal], Awaitable[DeploymentResult]]], Awaitable[DeploymentResult]]


class Steered(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an abort, a pause, a promote or a resume. `effect` is done, already or refused; `state` is where the
    deployment stands now; `result` is its end when it was carried out here."""

    deployment_id: str
    action: str
    effect: str
    state: str
    detail: str = ""
    result: DeploymentResult | None = None


class Steering:
    """Steers deployments of any process on the same journal. `run` carries out a deployment in this one."""

    def __init__(self, world: World, actor: Actor, run: Run) -> None:
        self._world = world
        self._actor = actor
        self._run = run

    async def ask(self, action: str, deployment_id: str) -> Steered:
        """Ask for `action` (abort, pause, promote, resume) and return what came of it. Raises NotFoundError."""
        state = await find(self._world.journal, deployment_id)
        if state.is_terminal:
            effect = "already" if (action, state.state) == ("abort", "aborted") else "refused"
            return self._answer(action, state, effect, f"it has ended: {state.outcome}")
        async with self._world.bus.stream("deployment.*") as records:
            request = await self._world.bus.publish(_EVENTS[action](**about(state), actor=self._actor))
            if await self.lives(state):
                answer = await self._wait(action, state, request, records)
                if answer is not None:
                    return answer
        return await self._instead(action, state)

    async def lives(self, state: DeploymentState) -> bool:
        """Whether somebody may answer: who holds the lease, or who waits for it."""
        return await may_live(self._world, state)

    async def _wait(
        self, action: str, state: DeploymentState, request: Record, records: AsyncIterator[Record]
    ) -> Steered | None:
        """Return the runner's answer; None when it died meanwhile."""
        answered: list[Steered] = []

        async def listen() -> None:
            async for record in records:
                event = record.event
                if isinstance(event, ev.DeploymentAcknowledged) and event.request_seq == request.seq:
                    now = await find(self._world.journal, state.id)
                    answered.append(self._answer(action, now, event.effect, event.detail))
                    group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(listen, name=f"answer:{state.id}")
            with anyio.move_on_after(_ANSWER_S):
                while True:
                    await anyio.sleep(_LOOK_EVERY_S)
                    now = await find(self._world.journal, state.id)
                    if now.is_terminal:
                        answered.append(self._ended(action, now))
                        break
                    if not await self.lives(now):
                        break
                group.cancel_scope.cancel()
            group.cancel_scope.cancel()
        if answered:
            return answered[0]
        now = await find(self._world.journal, state.id)
        if await self.lives(now):
            return self._answer(
                action,
                now,
                "refused",
                f"nobody answered within {_ANSWER_S:g} s: who carries it out is stopped, or waits, or is gone; it is done "
                "as soon as it runs again, or ask again when the lease is free",
            )
        return None

    def _ended(self, action: str, state: DeploymentState) -> Steered:
        effect = "done" if (action, state.state) == ("abort", "aborted") else "refused"
        return self._answer(action, state, effect, f"it has ended meanwhile: {state.outcome}")

    async def _instead(self, action: str, state: DeploymentState) -> Steered:
        """Do what the dead runner would have done."""
        if action in ("promote", "resume"):
            detail = f"nobody carries it out now: run `fraisier resume {state.id}`"
            return self._answer(action, state, "refused", detail)
        if action == "pause":
            return await self._mark_paused(state)
        result = await self._run(lambda stop: again(self._world, state, self._actor, stop=stop).run())
        now = await find(self._world.journal, state.id)
        effect = "done" if now.state == "aborted" else "refused"
        return self._answer(action, now, effect, result.detail or now.state, result)

    async def _mark_paused(self, state: DeploymentState) -> Steered:
        if state.state in ("paused", "needs_attention", "rolling_back"):
            effect = "already" if state.state == "paused" else "refused"
            return self._answer("pause", state, effect, f"it is {state.state}, and nobody carries it out now")
        leases = self._world.leases
        async with leases.hold(state.fraise, state.environment, state.id, is_new=False) as lease:
            scribe = Scribe(self._world.bus, guard=lease.guard, scrub=self._world.redactor.scrub)
            now = await find(self._world.journal, state.id)
            if now.is_terminal:
                raise UsageError(f"deployment {now.id} has ended meanwhile: {now.outcome}")
            detail = f"paused by {self._actor.user}; nobody carried it out"
            await scribe.say(ev.DeploymentPaused(**about(state), reason="requested", detail=detail))
        return self._answer("pause", await find(self._world.journal, state.id), "done", detail)

    def _answer(
        self,
        action: str,
        state: DeploymentState,
        effect: str,
        detail: str,
        result: DeploymentResult | None = None,
    ) -> Steered:
        return Steered(
            deployment_id=state.id,
            action=action,
            effect=effect,
            state=state.state,
            detail=detail,
            result=result,
        )
