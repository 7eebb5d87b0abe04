"""A rollback that a person asks for: the latest deployment is undone, or a named release is brought back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import anyio
import msgspec

from fraisier.config.schema import Target
from fraisier.errors import DeploymentError, FraisierError, InterruptedError
from fraisier.events import Actor
from fraisier.events import types as ev
from fraisier.journal.fold import DeploymentState, Release
from fraisier.providers.base import Artifact, Provider
from fraisier.rollout.capacity import Capacity
from fraisier.rollout.fallback import is_beside
from fraisier.rollout.lease import Lease
from fraisier.rollout.life import Life
from fraisier.rollout.plan import (
    Plan,
    PlanTarget,
    Recorded,
    Seen,
    check_capacity,
    decode_plan,
    is_down,
    release_id,
    settings_digest,
    target_steps,
    unavailable_limit,
)
from fraisier.rollout.reopen import away_now, whereabouts
from fraisier.rollout.request import RollbackRequest, select
from fraisier.rollout.restore import WayBack, restore_plan
from fraisier.rollout.result import DeploymentResult
from fraisier.rollout.rollback import Rollbacks
from fraisier.rollout.stop import StopSignal
from fraisier.rollout.verdict import reason_of
from fraisier.rollout.world import World

_CLOSE_S = 15.0


class Undo(Life):
    """Runs one rollback as a deployment of its own."""

    kind = "rollback"

    def __init__(
        self,
        world: World,
        request: RollbackRequest,
        *,
        stop: StopSignal | None = None,
        resumes: DeploymentState | None = None,
    ) -> None:
        super().__init__(world, request, stop=stop, resumes=resumes)
        self._request = request
        frozen = self._frozen
        limit = () if frozen is not None else request.limit
        beside = [target for place in self._settings.recovery.fallback for target in place.settings.targets]
        meant = select((*self._settings.targets, *(beside if limit else ())), limit, ())
        self._targets: tuple[Target, ...] = tuple(t for t in meant if t not in beside)

    async def _asked(self, action: str, actor: Actor) -> tuple[str, str]:
        """Before it has a plan a rollback has changed nothing, and may be given up; then it goes on to its end."""
        if action != "abort" or self._state.plan:
            return await super()._asked(action, actor)
        if self._stop.aborted:
            return "already", "it is being aborted"
        self._stop.request(f"aborted by {actor.user or 'somebody'}", abort=True)
        return "done", "it had not begun, and ends here"

    async def preview(self) -> Plan:
        """Return the plan as it would be now; nothing is written and nothing is touched."""
        await self._turn_to_what_served()
        provider = self._world.make_provider(self._settings)
        try:
            with self._world.subjects.known(self.deployment_id, provider, self._contexts()):
                rollbacks = Rollbacks(self._world, scribe=self._scribe, provider=provider, epoch=0)
                plan, _ = await self._make_plan(provider, rollbacks)
                return plan
        finally:
            await provider.aclose()

    async def _leased(self, lease: Lease, provider: Provider) -> DeploymentResult:
        if self._state.plan or not await self._turn_to_what_served():
            return await self._go_back(lease, provider)
        provider = self._world.make_provider(self._settings)
        try:
            return await self._go_back(lease, provider)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_CLOSE_S):
                await provider.aclose()

    async def _turn_to_what_served(self) -> bool:
        """Turn to the fallback that the latest deployment went through, when that is what is to be undone; return whether
        it is. What a named release is brought back to is the environment itself."""
        if self._request.to:
            return False
        recorded = await self._world.recorded(self._fraise.name, self._environment)
        beside = {name for name in recorded.placements if is_beside(name) and self._is_meant(name)}
        if not beside:
            return False
        latest = await self._latest({*beside, *(target.name for target in self._targets)}, recorded)
        plan = decode_plan(latest.plan) if latest is not None else None
        if plan is None or not plan.fallback:
            return False
        _, self._settings = whereabouts(self._world.config, self._fraise.name, self._environment, plan)
        self._targets = tuple(target for target in self._settings.targets if self._is_meant(target.name))
        return True

    def _is_meant(self, name: str) -> bool:
        return not self._request.limit or any(fnmatchcase(name, glob) for glob in self._request.limit)

    async def _go_back(self, lease: Lease, provider: Provider) -> DeploymentResult:
        rollbacks = self._rollbacks(lease, provider)
        if self._resumes and self._state.plan:
            plan = decode_plan(self._state.plan)
            with self._world.subjects.known(self.deployment_id, provider, self._contexts()):
                seen = await self._look(provider, ())
            self._make_hooks(plan, lease, provider)
            return await self._carry_out(plan, away_now(plan, self._state, seen), provider, rollbacks)
        if refusal := await self._refusal(force=self._request.force):
            await self._end_failed("needs_attention", "unfinished", refusal)
            return self._result("look at the targets, then roll back with --force")
        with self._world.subjects.known(self.deployment_id, provider, self._contexts()):
            try:
                plan, down = await self._stop.unless_asked(lambda: self._make_plan(provider, rollbacks))
            except InterruptedError:
                raise
            except FraisierError as error:
                outcome = "unreachable" if error.code == "UNREACHABLE" else "failed"
                await self._end_failed(outcome, reason_of(error), self._safe(error))
                return self._result(await self._or_go_on(error.hint))
        self._stop.check()
        await self._supersede_unfinished()
        self._make_hooks(plan, lease, provider)
        return await self._carry_out(plan, down, provider, rollbacks)

    async def _carry_out(
        self, plan: Plan, down: Sequence[str], provider: Provider, rollbacks: Rollbacks
    ) -> DeploymentResult:
        contexts = [
            self._context(target.target)
            if target.settings is None
            else msgspec.structs.replace(self._context(target.target), settings=target.settings)
            for target in plan.targets
        ]
        with self._world.subjects.known(self.deployment_id, provider, contexts):
            capacity = Capacity(plan.max_unavailable, {*plan.down, *down})
            verdict, runner = await rollbacks.run_plan(plan, capacity)
            failed = [target.name for target in plan.changes if target.name not in runner.crew.updated]
            if self._hooks is not None and any(target.begun for target in self._state.targets.values()):
                await self._hooks.ending("on_rollback", "needs_attention" if failed else "succeeded")
            if failed and not any(target.begun for target in self._state.targets.values()):
                detail = runner.crew.first_error() or verdict.detail
                await self._end_failed("failed", "prepare_failed", detail)
            elif failed:
                await self._say(
                    ev.DeploymentNeedsAttention(
                        **self._about(),
                        reason="rollback_failed",
                        detail=f"not back: {', '.join(failed)}: {verdict.detail}",
                        duration_s=self._took_s(),
                    )
                )
            else:
                await self._say(ev.DeploymentSucceeded(**self._about(), duration_s=self._took_s()))
        return self._result()

    # planning

    async def _make_plan(self, provider: Provider, rollbacks: Rollbacks) -> tuple[Plan, tuple[str, ...]]:
        """Return the plan, and every target of the fleet that is down already. Raises DeploymentError (CAPACITY) when
        those leave no room for the plan."""
        seen = await self._look(provider, self._targets)
        lost = [target.name for target in self._targets if seen[target.name].unreachable]
        if lost:
            raise DeploymentError(f"cannot reach {', '.join(lost)}", code="UNREACHABLE")
        recorded = await self._world.recorded(self._fraise.name, self._environment)
        if self._request.to:
            plan = await self._plan_to(provider, recorded, seen)
        else:
            plan = await self._plan_back(provider, rollbacks, recorded, seen)
        down = tuple(t.name for t in self._settings.targets if is_down(t.name, recorded, seen))
        check_capacity([target.name for target in plan.changes], down, plan.max_unavailable)
        return plan, down

    async def _plan_back(
        self, provider: Provider, rollbacks: Rollbacks, recorded: Recorded, seen: Mapping[str, Seen]
    ) -> Plan:
        """Undo the latest deployment that still stands, on the targets that it changed."""
        chosen = {target.name for target in self._targets}
        latest = await self._latest(chosen, recorded)
        if latest is None:
            raise DeploymentError(
                "there is no deployment here that can be undone",
                code="NOTHING_TO_ROLL_BACK",
                hint="name a release with --to",
            )
        parent = decode_plan(latest.plan)
        names = [name for name in latest.targets if name in chosen and _stands(latest, name, recorded)]
        ways = await rollbacks.ways_back(parent, names)
        names = [name for name in names if ways[name].release]
        if not names:
            raise DeploymentError(
                f"deployment {latest.id} was the first one: there is no release to go back to",
                code="NOTHING_TO_ROLL_BACK",
                hint=f"`fraisier remove {parent.fraise} {parent.environment} --limit '*~{parent.fallback}'` ends it"
                if parent.fallback
                else "name one with --to",
            )
        pruned = [n for n in names if _status(recorded.releases.get((n, ways[n].release))) == "pruned"]
        plan = restore_plan(
            parent, latest, names, deployment_id=self.deployment_id, ways=ways, seen=seen, undoes=(latest.id,)
        )
        return await self._stage_again(provider, plan, pruned) if pruned else plan

    async def _stage_again(self, provider: Provider, plan: Plan, pruned: Sequence[str]) -> Plan:
        versions = {target.version for target in plan.targets if target.name in pruned}
        if len(versions) > 1:
            raise DeploymentError(
                "the releases to go back to were pruned and differ between targets",
                hint="use --to with --limit",
            )
        artifact = await self._resolve(provider, versions.pop())
        targets = [
            msgspec.structs.replace(target, steps=("preflight", "fetch", "stage", *target.steps))
            if target.name in pruned
            else target
            for target in plan.targets
        ]
        return msgspec.structs.replace(plan, artifact=artifact, targets=tuple(targets))

    async def _plan_to(self, provider: Provider, recorded: Recorded, seen: Mapping[str, Seen]) -> Plan:
        """Bring a named release, or version, to every chosen target; what is no longer there is staged again."""
        known = [release for release in recorded.releases.values() if _is_meant(release, self._request.to)]
        # Of several releases of one version, the newest that is not known to be bad.
        known.sort(key=lambda release: (not release.bad, release.seq))
        present = {release.target: release for release in known if release.status != "pruned"}
        absent = [target.name for target in self._targets if target.name not in present]
        artifact: Artifact | None = None
        if absent:
            artifact = await self._resolve(provider, known[0].version if known else self._request.to)
        parent = self._empty_plan(artifact, recorded, seen)
        state = DeploymentState(self.deployment_id, self._fraise.name, self._environment)
        rollbacks = Rollbacks(self._world, scribe=self._scribe, provider=provider, epoch=0)
        aimed = msgspec.structs.replace(
            parent,
            targets=tuple(
                msgspec.structs.replace(
                    t, previous_release=present[t.name].release, previous_version=present[t.name].version
                )
                for t in parent.targets
                if t.name in present
            ),
        )
        ways = await rollbacks.ways_back(aimed, list(present))
        for target in parent.targets:
            if target.name in absent:
                ways[target.name] = WayBack(
                    target=target.target,
                    release=target.release,
                    version=target.version,
                    digest=target.digest,
                    staged=False,
                )
        names = [target.name for target in parent.targets]
        plan = restore_plan(parent, state, names, deployment_id=self.deployment_id, ways=ways, seen=seen)
        return msgspec.structs.replace(plan, rollback_of="")

    def _empty_plan(self, artifact: Artifact | None, recorded: Recorded, seen: Mapping[str, Seen]) -> Plan:
        version = artifact.version if artifact is not None else ""
        release = release_id(self._world.clock.now_us(), version, self.deployment_id)
        settings = self._settings
        targets = []
        for target in self._targets:
            place = recorded.placements.get(target.name)
            targets.append(
                PlanTarget(
                    name=target.name,
                    target=target,
                    release=release,
                    version=version,
                    digest=settings_digest(settings, target, artifact),
                    previous_version=place.version if place is not None else "",
                    current_release=seen[target.name].facts.release,
                    steps=target_steps(settings, migrates=False),
                )
            )
        return Plan(
            deployment_id=self.deployment_id,
            kind="rollback",
            fraise=self._fraise.name,
            fraise_type=self._fraise.type,
            environment=self._environment,
            provider=settings.provider,
            settings=msgspec.structs.replace(settings, targets=()),
            artifact=artifact,
            version=version,
            targets=tuple(targets),
            fleet=tuple(target.name for target in settings.targets),
            max_unavailable=unavailable_limit(settings, "rolling", len(settings.targets)),
        )

    async def _latest(self, chosen: set[str], recorded: Recorded) -> DeploymentState | None:
        journal = self._world.journal
        for row in await journal.deployments(
            fraise=self._fraise.name, environment=self._environment, limit=200
        ):
            if row.kind != "deploy" or row.id == self.deployment_id:
                continue
            full = await journal.deployment(row.id)
            if full is not None and any(
                _stands(full, name, recorded) for name in full.targets if name in chosen
            ):
                return full
        return None


def _stands(state: DeploymentState, name: str, recorded: Recorded) -> bool:
    """Whether what a deployment did to a target still stands: it was neither undone, nor replaced, nor passed over on the
    way back to an older release that somebody named. One that was stopped half-way stands where its release is current, or
    may be."""
    target = state.targets[name]
    place = recorded.placements.get(name)
    if target.undone or target.outcome in ("rolled_back", "unchanged"):
        return False
    if not (_ended_well(state) and target.outcome == "updated"):
        if not target.begun or place is None:
            return False
        switch = target.steps.get("switch")
        in_doubt = switch is not None and switch.status in ("started", "unknown")
        return place.release == target.release or (in_doubt and place.release == target.previous_release)
    good = recorded.releases.get((name, place.good_release)) if place is not None else None
    made = recorded.releases.get((name, target.release))
    return good is None or made is None or good.seq >= made.seq


def _ended_well(state: DeploymentState) -> bool:
    return state.state == "succeeded" or (state.state == "failed" and state.reason == "partial")


def _status(release: Release | None) -> str:
    return release.status if release is not None else ""


def _is_meant(release: Release, wanted: str) -> bool:
    """Whether `wanted` names the release: its id, its version, or at least seven digits of it."""
    return wanted in (release.release, release.version) or (
        len(wanted) >= 7 and release.version.startswith(wanted)
    )
