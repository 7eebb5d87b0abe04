"""Carries out linked rollbacks: the automatic one, one tolerated failure, and the one that a person asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import msgspec

from fraisier.errors import FraisierError, GuardRefusedError
from fraisier.events import types as ev
from fraisier.journal.fold import DeploymentState
from fraisier.providers.base import Provider, TargetContext
from fraisier.rollout.capacity import Capacity
from fraisier.rollout.look import Look
from fraisier.rollout.plan import Plan, Seen, decode_plan, encode_plan, settings_digest
from fraisier.rollout.reopen import is_half_way
from fraisier.rollout.restore import WayBack, restore_plan
from fraisier.rollout.runner import Runner
from fraisier.rollout.scribe import Scribe
from fraisier.rollout.steps import StepRunner
from fraisier.rollout.stop import StopSignal
from fraisier.rollout.verdict import Verdict
from fraisier.rollout.world import World, about

_LAST_WORDS_S = 15.0


class Rollbacks:
    """Runs rollback plans under the lease of the deployment that they undo."""

    def __init__(
        self,
        world: World,
        *,
        scribe: Scribe,
        provider: Provider,
        epoch: int,
        abandoned: Callable[[], bool] | None = None,
    ) -> None:
        self._world = world
        self._abandoned = abandoned
        self._scribe = scribe
        self._provider = provider
        self._epoch = epoch

    async def ways_back(self, parent: Plan, names: Sequence[str]) -> dict[str, WayBack]:
        """Return where each target goes back to, with the settings that its old release was planned with."""
        recorded = await self._world.recorded(parent.fraise, parent.environment)
        plans: dict[str, Plan] = {}
        ways: dict[str, WayBack] = {}
        for planned in parent.targets:
            if planned.name not in names:
                continue
            release = recorded.releases.get((planned.name, planned.previous_release))
            way = WayBack(
                target=planned.target, release=planned.previous_release, version=planned.previous_version
            )
            if release is not None and release.deployment_id:
                if release.deployment_id not in plans:
                    made_by = await self._world.journal.deployment(release.deployment_id)
                    if made_by is not None and made_by.plan:
                        plans[release.deployment_id] = decode_plan(made_by.plan)
                old = plans.get(release.deployment_id)
                if old is not None:
                    way = _with_old_settings(way, old, planned.name, release.digest)
            ways[planned.name] = way
        return ways

    async def undo(
        self,
        parent: Plan,
        state: DeploymentState,
        names: Sequence[str],
        capacity: Capacity,
        *,
        reason: str,
        whole: bool,
    ) -> bool:
        """Put `names` back under a linked deployment and return whether every one of them is back."""
        child_id = state.child_id if whole else state.children.get(names[0], "")
        announced = bool(child_id)
        child_id = child_id or self._world.ids.deployment()
        child = self._scribe.deployment(child_id)
        frozen = decode_plan(child.plan) if child.plan else None
        if frozen is not None:
            contexts = [
                TargetContext(parent.fraise, parent.environment, t.target, t.settings or parent.settings)
                for t in frozen.changes
            ]
        else:
            ways = await self.ways_back(parent, names)
            contexts = [_context(parent, ways[name]) for name in names]
        started = anyio.current_time()
        linked: dict[str, Any] = {
            **about(state),
            "child_id": child_id,
            "provider": parent.provider,
            "reason": reason,
        }
        if not announced:
            await self._scribe.say(ev.RollbackStarted(**linked, whole=whole, targets=tuple(names)))
        with self._world.subjects.known(child_id, self._provider, contexts):
            look = Look(
                self._world.bus,
                self._provider,
                child_id,
                max_parallel=parent.settings.rollout.max_parallel,
                versions={},
            )
            seen = await look.at(contexts)
            back = {name for name, target in child.targets.items() if target.outcome == "updated"}
            seen = {
                name: found if name in back else _sick_if_failed(found, state, name)
                for name, found in seen.items()
            }
            plan = frozen or restore_plan(parent, state, names, deployment_id=child_id, ways=ways, seen=seen)
            for name, look_at in seen.items():
                if not look_at.serves or is_half_way(child.targets.get(name)):
                    capacity.lost(name)  # what does not serve needs no permit to go back
            try:
                done, failed = await self._run(plan, state, capacity)
            except anyio.get_cancelled_exc_class():
                await self._last_words(plan)
                raise
        await self._tell_parent(plan, state, done)
        took = round(anyio.current_time() - started, 6)
        if failed:
            await self._scribe.say(ev.RollbackFailed(**linked, failed=tuple(failed), duration_s=took))
        else:
            await self._scribe.say(ev.RollbackSucceeded(**linked, duration_s=took))
        return not failed

    async def _run(
        self, plan: Plan, parent: DeploymentState, capacity: Capacity
    ) -> tuple[list[str], dict[str, FraisierError]]:
        """Run a rollback plan as a deployment of its own; return who is back, and the errors of who is not.

        One that an earlier process began goes on; of one that has ended, the outcome is read."""
        known = self._scribe.deployment(plan.deployment_id)
        if known.is_terminal:
            return [name for name, target in known.targets.items() if target.outcome == "updated"], {}
        child: dict[str, Any] = {
            "deployment_id": plan.deployment_id,
            "fraise": plan.fraise,
            "environment": plan.environment,
        }
        if not known.first_seq:
            await self._scribe.say(
                ev.DeploymentRequested(
                    **child,
                    kind="rollback",
                    fraise_type=plan.fraise_type,
                    provider=plan.provider,
                    actor=msgspec.structs.replace(parent.actor, trigger="recovery"),
                    rollback_of=parent.id,
                )
            )
        elif known.plan:
            await self._scribe.say(ev.DeploymentResumed(**child, detail=f"was {known.state}"))
        started = anyio.current_time()
        verdict, runner = await self.run_plan(plan, capacity)
        failed = {t.name: runner.crew.errors[t.name] for t in plan.changes if t.name in runner.crew.errors}
        missing = [t.name for t in plan.changes if t.name not in runner.crew.updated and t.name not in failed]
        await self._end(plan, verdict, [*failed, *missing], round(anyio.current_time() - started, 6))
        for name in missing:
            failed[name] = FraisierError(verdict.detail or "not reached")
        return runner.crew.updated, failed

    async def run_plan(self, plan: Plan, capacity: Capacity) -> tuple[Verdict, Runner]:
        """Announce a rollback plan and walk it. A stop that a person asked for does not reach it."""
        child: dict[str, Any] = {
            "deployment_id": plan.deployment_id,
            "fraise": plan.fraise,
            "environment": plan.environment,
        }
        known = self._scribe.deployment(plan.deployment_id)
        if not known.plan:
            await self._scribe.say(
                ev.DeploymentPlanned(
                    **child,
                    provider=plan.provider,
                    fallback=plan.fallback,
                    version=plan.version,
                    previous_version=plan.previous_version,
                    strategy=plan.strategy,
                    plan=msgspec.Raw(encode_plan(plan)),
                )
            )
        if not self._scribe.deployment(plan.deployment_id).started_us:
            await self._scribe.say(
                ev.DeploymentStarted(**child, version=plan.version, targets=len(plan.changes))
            )
        steps = StepRunner(
            plan,
            scribe=self._scribe,
            provider=self._provider,
            redactor=self._world.redactor,
            clock=self._world.clock,
            stop=StopSignal(),
            epoch=self._epoch,
            log_id=self._world.journal.fence_id,
            abandoned=self._abandoned,
        )
        runner = Runner(
            steps, capacity=capacity, releases=await self._world.releases(plan.fraise, plan.environment)
        )
        settings = plan.settings
        verdict = await runner.run(settings.rollback_timeout_s or settings.timeout_s)
        return verdict, runner

    async def _end(self, plan: Plan, verdict: Verdict, failed: Sequence[str], duration_s: float) -> None:
        """Write the terminal row of a rollback."""
        child: dict[str, Any] = {
            "deployment_id": plan.deployment_id,
            "fraise": plan.fraise,
            "environment": plan.environment,
        }
        if failed:
            await self._scribe.say(
                ev.DeploymentNeedsAttention(
                    **child,
                    reason="rollback_failed",
                    detail=f"not back: {', '.join(failed)}: {verdict.detail}",
                )
            )
        else:
            await self._scribe.say(
                ev.DeploymentSucceeded(**child, reason="rolled_back", duration_s=duration_s)
            )

    async def _last_words(self, plan: Plan) -> None:
        """Say that a rollback was cut off: by the deadline of what it belongs to, or with the task that ran both."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(_LAST_WORDS_S):
            try:
                await self._scribe.say(
                    ev.DeploymentInterrupted(
                        deployment_id=plan.deployment_id,
                        fraise=plan.fraise,
                        environment=plan.environment,
                        reason="cancelled",
                        detail="it was cut off before every target was back",
                    )
                )
            except GuardRefusedError:
                return  # the lease is another's, who settles this

    async def _tell_parent(self, plan: Plan, state: DeploymentState, done: Sequence[str]) -> None:
        for target in plan.changes:
            if target.name in done and state.targets[target.name].outcome != "rolled_back":
                await self._scribe.say(
                    ev.TargetRolledBack(
                        **about(state),
                        target=target.name,
                        release=target.release,
                        version=target.version,
                        detail="" if target.release else "stopped: there was no release before",
                    )
                )


def _with_old_settings(way: WayBack, old: Plan, name: str, digest: str) -> WayBack:
    settings, target = old.settings, way.target
    for planned in old.targets:
        if planned.name == name:
            target = planned.target
            settings = planned.settings or old.settings
    return msgspec.structs.replace(
        way, target=target, settings=settings, digest=digest or settings_digest(settings, target)
    )


def _context(parent: Plan, way: WayBack) -> TargetContext:
    return TargetContext(parent.fraise, parent.environment, way.target, way.settings or parent.settings)


def _sick_if_failed(seen: Seen, state: DeploymentState, name: str) -> Seen:
    """A target that failed its verify counts as sick, whatever one probe answered just now."""
    target = state.targets.get(name)
    if target is not None and target.outcome in ("failed", "unreachable", ""):
        return msgspec.structs.replace(seen, healthy=False)
    return seen
