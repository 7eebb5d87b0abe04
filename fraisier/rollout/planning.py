"""What a deployment is to do and where: the look, the version, the plan, and another place when the first one fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import msgspec

from fraisier.config.schema import Target
from fraisier.errors import DeploymentError, FraisierError, ProviderConnectionError, UsageError
from fraisier.events import types as ev
from fraisier.journal.fold import DeploymentState
from fraisier.providers.base import Artifact, Provider
from fraisier.recovery import FallbackStrategy
from fraisier.rollout.fallback import places_left
from fraisier.rollout.life import Life
from fraisier.rollout.plan import Plan, Seen, encode_plan, make_plan
from fraisier.rollout.request import DeployRequest, select, suggestion
from fraisier.rollout.stop import StopSignal
from fraisier.rollout.strategies import STRATEGIES
from fraisier.rollout.verdict import Halt, Verdict
from fraisier.rollout.world import World

_Learnt = tuple[Artifact, dict[str, Seen]]

DECIDE_S = 30.0
"""How long an answer about a whole deployment may take."""

_PREPARATION = "prepare"
"""What failed when a deployment asks for another place; no step of a target is called so."""


class Planning(Life):
    """The part of a deployment's life that ends with a plan in the journal. `_place` names the fallback that it goes
    through (empty: the environment itself), `_chosen` the targets that are meant, by their names in the file."""

    def __init__(
        self,
        world: World,
        request: DeployRequest,
        *,
        stop: StopSignal | None = None,
        resumes: DeploymentState | None = None,
    ) -> None:
        super().__init__(world, request, stop=stop, resumes=resumes)
        self._request = request
        frozen = self._frozen
        limit, exclude = ((), ()) if frozen is not None else (request.limit, request.exclude)
        self._targets: tuple[Target, ...] = select(self._settings.targets, limit, exclude)
        meant = self._targets if frozen is None else [planned.target for planned in frozen.targets]
        self._chosen = frozenset(target.own_name for target in meant)
        self._place = "" if frozen is None else frozen.fallback
        if request.strategy and request.strategy not in STRATEGIES:
            raise UsageError(
                f"unknown strategy {request.strategy!r}{suggestion(request.strategy, list(STRATEGIES))}"
            )

    # looking without acting

    async def preview(self) -> Plan:
        """Return the plan as it would be now; nothing is written and nothing is touched."""
        plan, _ = await self.foresee()
        return plan

    async def foresee(self) -> tuple[Plan, dict[str, Seen]]:
        """Return the plan as it would be now, with what was seen of every target of the fleet, by name."""
        provider = self._world.make_provider(self._settings)
        try:
            with self._world.subjects.known(self.deployment_id, provider, self._contexts()):
                artifact, seen = await self._learn_in_time(lambda: self._learn(provider))
                return await self._plan(artifact, seen, self._targets), seen
        finally:
            await provider.aclose()

    # the plan

    async def _prepare_plan(self, provider: Provider) -> Plan:
        """Return the plan, now in the journal. Raises Halt when targets could not be reached."""
        artifact, seen = await self._learn_in_time(
            lambda: self._stop.unless_asked(lambda: self._learn(provider))
        )
        targets = self._targets
        lost = [target.name for target in targets if seen[target.name].unreachable]
        for name in lost:
            await self._say(
                ev.TargetUnreachable(
                    **self._about(), target=name, reason=seen[name].reason, detail=seen[name].unreachable
                )
            )
        if lost and (self._settings.rollout.on_unreachable == "abort" or len(lost) == len(targets)):
            what = "; ".join(f"{name}: {seen[name].unreachable}" for name in lost[:5])
            raise Halt(Verdict("unreachable", "unreachable", what, ProviderConnectionError(what)))
        plan = await self._plan(artifact, seen, targets, skip=lost)
        await self._supersede_unfinished()
        await self._say(
            ev.DeploymentPlanned(
                **self._about(),
                provider=plan.provider,
                fallback=plan.fallback,
                version=plan.version,
                previous_version=plan.previous_version,
                strategy=plan.strategy,
                plan=msgspec.Raw(encode_plan(plan)),
            )
        )
        return plan

    async def _learn_in_time(self, learn: Callable[[], Awaitable[_Learnt]]) -> _Learnt:
        """Return what `learn` finds out. Raises DeploymentError (TIMEOUT) when that takes longer than the whole deployment
        may."""
        with anyio.move_on_after(self._settings.timeout_s):
            return await learn()
        raise DeploymentError(
            f"the source and the targets did not answer within {self._settings.timeout_s:g} s", code="TIMEOUT"
        )

    async def _learn(self, provider: Provider) -> _Learnt:
        """Return what the version means and what the targets answer; one does not wait for the other."""
        seen: dict[str, Seen] = {}
        failure: FraisierError | None = None

        async def look() -> None:
            nonlocal failure
            try:
                seen.update(await self._look(provider, self._targets))
            except FraisierError as error:
                failure = error
                group.cancel_scope.cancel()  # nobody waits for a source that is of no use any more

        async with anyio.create_task_group() as group:
            group.start_soon(look, name=f"look:{self._fraise.name}")
            try:
                artifact = await self._resolve(provider, self._wanted())
            except FraisierError as error:
                failure = error
                group.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return artifact, seen

    def _wanted(self) -> str:
        """Return the version that is meant. One that was found out stays, even if the branch has moved on since."""
        return (self._state.version if self._place else "") or self._request.version

    async def _plan(
        self,
        artifact: Artifact,
        seen: Mapping[str, Seen],
        targets: Sequence[Target],
        skip: Sequence[str] = (),
    ) -> Plan:
        return make_plan(
            deployment_id=self.deployment_id,
            at_us=self._world.clock.now_us(),
            fraise=self._fraise.name,
            fraise_type=self._fraise.type,
            environment=self._environment,
            settings=self._settings,
            targets=targets,
            artifact=artifact,
            recorded=await self._world.recorded(self._fraise.name, self._environment),
            seen=seen,
            strategy=self._request.strategy,
            force=self._request.force,
            skip=skip,
            fallback=self._place,
        )

    # another place

    async def _other_place(self, verdict: Verdict) -> str:
        """Ask whether a deployment that failed before it changed anything goes through another provider; return the name of
        that place, or nothing. The answer is in the journal before it is acted on."""
        places, error = places_left(self._settings, self._state), verdict.error
        if not places or error is None:
            return ""
        decided = await self._scribe.ask(
            ev.RecoveryRequested(
                **self._about(),
                step=_PREPARATION,
                provider=self._settings.provider,
                code=error.code,
                error_type=type(error).__name__,
                message=verdict.detail,
                recoverable=error.recoverable,
                on_failure=self._settings.rollout.on_failure,
                fallbacks=places,
            ),
            timeout_s=DECIDE_S,
        )
        if not isinstance(decided, ev.RecoveryDecided) or decided.action != "fallback":
            return ""
        if decided.fallback not in places:
            return ""
        self._state.decision, self._state.fallback = "fallback", decided.fallback
        return decided.fallback

    async def _say_whether_it_helped(self, verdict: Verdict) -> None:
        """Of a deployment that went through a fallback, say whether that was a way out."""
        if not self._place or verdict.kind == "interrupted":
            return
        about: dict[str, Any] = {**self._about(), "step": _PREPARATION, "strategy": FallbackStrategy.name}
        if verdict.kind in ("done", "partial"):
            await self._say(ev.RecoverySucceeded(**about))
        else:
            await self._say(ev.RecoveryFailed(**about, message=verdict.detail))
