"""The life of one deployment: requested, leased, looked at, planned, walked, ended."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import msgspec

from fraisier.errors import (
    DeploymentError,
    FraisierError,
    InterruptedError,
)
from fraisier.events import Actor
from fraisier.events import types as ev
from fraisier.journal.fold import DeploymentState
from fraisier.providers.base import Provider
from fraisier.rollout.capacity import Capacity
from fraisier.rollout.fallback import meant_at, settings_at
from fraisier.rollout.lease import Lease
from fraisier.rollout.plan import Plan, PlanTarget, decode_plan, repair_first
from fraisier.rollout.planning import DECIDE_S, Planning
from fraisier.rollout.reopen import away_now
from fraisier.rollout.request import DeployRequest
from fraisier.rollout.restore import to_restore
from fraisier.rollout.result import DeploymentResult, is_as_it_was
from fraisier.rollout.rollback import Rollbacks
from fraisier.rollout.runner import Runner
from fraisier.rollout.steps import StepRunner
from fraisier.rollout.stop import StopSignal
from fraisier.rollout.verdict import Halt, Verdict, reason_of
from fraisier.rollout.world import World

_CLOSE_S = 15.0


class Deployer(Planning):
    """Runs one deployment of one fraise in one environment, from request to terminal row."""

    def __init__(
        self,
        world: World,
        request: DeployRequest,
        *,
        stop: StopSignal | None = None,
        resumes: DeploymentState | None = None,
    ) -> None:
        super().__init__(world, request, stop=stop, resumes=resumes)
        self._lease: Lease | None = None
        self._is_ending = False
        self._is_leaving = False
        self._hint = ""

    # acting

    async def skip(self, reason: str) -> DeploymentResult:
        """Record that the deployment never began because something that it depends on failed."""
        await self._say_requested()
        await self._end_failed("skipped", "skipped", reason)
        return self._result()

    async def _leased(self, lease: Lease, provider: Provider) -> DeploymentResult:
        self._lease = lease
        if self._state.decision == "fallback":
            # An earlier process decided that, and did not come to a plan.
            return await self._go_through(self._state.fallback, lease)
        if self._resumes and self._state.plan:
            return await self._go_on(decode_plan(self._state.plan), lease, provider)
        self._stop.check()
        if refusal := await self._refusal(force=self._request.force):
            await self._end_failed("needs_attention", "unfinished", refusal)
            return self._result("look at the targets, then deploy with --force")
        return await self._begin(lease, provider)

    async def _begin(self, lease: Lease, provider: Provider) -> DeploymentResult:
        """Look, plan, and carry the plan out; where even the plan fails, go through a fallback, or end as failed."""
        with self._world.subjects.known(self.deployment_id, provider, self._contexts()):
            try:
                plan = await self._prepare_plan(provider)
            except InterruptedError:
                raise
            except Halt as halt:
                verdict, hint = halt.verdict, "check the network and the hosts, then deploy again"
            except FraisierError as error:
                hint = error.hint
                reason = reason_of(error) if isinstance(error, DeploymentError) else "prepare_failed"
                verdict = Verdict("prepare", reason, self._safe(error), error)
            else:
                await self._carry_out(plan, lease, provider)
                return self._result(self._hint)
        if place := await self._other_place(verdict):
            return await self._go_through(place, lease)
        await self._say_whether_it_helped(verdict)
        outcome = "unreachable" if verdict.kind == "unreachable" else "failed"
        await self._end_failed(outcome, verdict.reason, verdict.detail)
        return self._result(
            await self._or_go_on(hint) if isinstance(verdict.error, DeploymentError) else hint
        )

    async def _go_through(self, place: str, lease: Lease) -> DeploymentResult:
        """Carry the deployment out at another place, whole. What was looked at before is not asked again."""
        settings = settings_at(self._settings, place)
        fleet = {target.own_name for target in self._settings.targets}
        self._targets = meant_at(settings.targets, self._chosen, fleet)
        self._settings, self._place = settings, place
        provider = self._world.make_provider(settings)
        try:
            return await self._begin(lease, provider)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_CLOSE_S):
                await provider.aclose()

    async def _go_on(self, plan: Plan, lease: Lease, provider: Provider) -> DeploymentResult:
        """Carry out what is left of a plan that another process began. Nothing but the journal and the targets are asked."""
        with self._world.subjects.known(self.deployment_id, provider, self._contexts()):
            seen = await self._look(provider, ())
            plan = msgspec.structs.replace(plan, down=away_now(plan, self._state, seen))
            await self._carry_out(plan, lease, provider, [name for name, look in seen.items() if look.serves])
        return self._result(self._hint)

    async def _carry_out(
        self, plan: Plan, lease: Lease, provider: Provider, serves: Sequence[str] = ()
    ) -> None:
        """Walk a plan, and end as the walk did. Of what `serves`, a target is taken away by permit only, whatever the plan
        says of it."""
        hooks = self._make_hooks(plan, lease, provider, skip=self._request.skip_hooks)
        if not self._state.started_us:
            await self._say(
                ev.DeploymentStarted(**self._about(), version=plan.version, targets=len(plan.changes))
            )
        for target in plan.targets:
            if target.action == "unchanged" and not self._state.targets[target.name].outcome:
                await self._say(
                    ev.TargetUnchanged(
                        **self._about(), target=target.name, release=target.release, version=target.version
                    )
                )
        skipped = [target.name for target in plan.targets if target.action == "skip"]
        if not plan.changes and not skipped:
            self._is_ending = True
            await self._say_whether_it_helped(Verdict("done"))
            await self._say(
                ev.DeploymentSucceeded(
                    **self._about(), outcome="unchanged", reason="unchanged", duration_s=self._took_s()
                )
            )
            return
        rollbacks = self._rollbacks(lease, provider)
        new = [
            target.name
            for target in plan.targets
            if not target.current_release
            and target.name not in serves
            and self._state.targets[target.name].outcome != "updated"
        ]
        capacity = Capacity(plan.max_unavailable, plan.down, new)

        async def restore_one(target: PlanTarget, reason: str) -> bool:
            return await rollbacks.undo(
                plan, self._state, [target.name], capacity, reason=reason, whole=False
            )

        steps = StepRunner(
            plan,
            scribe=self._scribe,
            provider=provider,
            redactor=self._world.redactor,
            clock=self._world.clock,
            stop=self._stop,
            epoch=lease.epoch,
            log_id=self._world.journal.fence_id,
            hooks=hooks,
            abandoned=lambda: lease.is_lost,
        )
        releases = await self._world.releases(plan.fraise, plan.environment)
        runner = Runner(steps, capacity=capacity, releases=releases, restore_one=restore_one)
        doubt: Verdict | None = None
        if self._resumes and self._goes_back(runner):
            doubt = await Runner(steps, capacity=capacity, releases=releases).settle()
        # Who aborts what needed attention has looked, and wants it to end.
        is_looked_at = self._stop.aborted and self._was == "needs_attention"
        if doubt is not None and not is_looked_at:
            await self._conclude(plan, doubt, rollbacks, capacity)
            return
        if self._state.decision:
            verdict = Verdict("changed", self._state.decided_reason, self._state.decided_detail)
            await self._conclude(plan, verdict, rollbacks, capacity)
            return
        verdict = await runner.run(plan.settings.timeout_s, is_looked_at=is_looked_at)
        await self._conclude(plan, verdict, rollbacks, capacity)

    def _goes_back(self, runner: Runner) -> bool:
        """Whether a resumed deployment may go back before it has asked again for every step in doubt."""
        return self._stop.aborted or bool(self._state.decision) or bool(runner.crew.errors)

    # the end

    async def _conclude(self, plan: Plan, verdict: Verdict, rollbacks: Rollbacks, capacity: Capacity) -> None:
        if self._stop.aborted and verdict.kind != "doubt" and not self._state.decision:
            # It was promised while the last step ran: the end is that of an abort, whatever that step came to.
            verdict = Verdict("interrupted", "interrupted", self._stop.reason)
        if verdict.kind in ("prepare", "unreachable") and (place := await self._other_place(verdict)):
            assert self._lease is not None
            await self._go_through(place, self._lease)
            return
        await self._say_whether_it_helped(verdict)
        self._is_ending = verdict.kind != "interrupted"
        if verdict.reason == "capacity":
            self._hint = repair_first(sorted(capacity.away))
        if verdict.kind not in ("done", "interrupted") and verdict.reason != "aborted":
            await self._hook("on_failure", "needs_attention" if verdict.kind == "doubt" else "failed")
        match verdict.kind:
            case "done":
                await self._say(ev.DeploymentSucceeded(**self._about(), duration_s=self._took_s()))
            case "partial":
                await self._end_partial(verdict)
            case "unreachable":
                await self._end_failed("unreachable", verdict.reason, verdict.detail)
            case "prepare":
                await self._end_failed("failed", verdict.reason, verdict.detail)
            case "interrupted" if self._stop.aborted:
                await self._abort(plan, verdict, rollbacks, capacity)
            case "interrupted":
                self._is_leaving = True
                await self._interrupted(verdict.reason, verdict.detail)
            case "doubt":
                await self._needs_attention(verdict.reason, verdict.detail)
            case _:
                await self._recover(plan, verdict, rollbacks, capacity)

    async def _say_aborted(self, detail: str) -> None:
        await self._hook("on_abort", "aborted")
        await super()._say_aborted(detail)

    async def _hook(self, point: str, outcome: str) -> None:
        if self._hooks is not None:
            await self._hooks.ending(point, outcome)

    @property
    def _is_wanted_back(self) -> bool:
        """Whether a hook failed that wants everything back, whatever is configured for other failures."""
        return self._hooks is not None and self._hooks.demands_rollback

    async def _end_partial(self, verdict: Verdict) -> None:
        """End as partial, unless a tolerated failure could not be brought back: that needs a person."""
        targets = self._state.targets
        failed = [
            name
            for name in to_restore(self._state)
            if targets[name].outcome != "updated" and not is_as_it_was(targets[name])
        ]
        if failed:
            await self._needs_attention(
                "rollback_failed", f"not back: {', '.join(failed)}; the cause was {verdict.detail}"
            )
        else:
            await self._end_failed("failed", "partial", verdict.detail)

    async def _needs_attention(self, reason: str, detail: str) -> None:
        await self._say(
            ev.DeploymentNeedsAttention(
                **self._about(), reason=reason, detail=detail, duration_s=self._took_s()
            )
        )

    async def _recover(self, plan: Plan, verdict: Verdict, rollbacks: Rollbacks, capacity: Capacity) -> None:
        """Ask what to do about a failed deployment, and do it. The answer is in the journal before it is acted on."""
        names = [name for name, target in self._state.targets.items() if target.begun]
        action = self._state.decision or await self._decision(plan, verdict)
        if action == "hold":
            await self._say(
                ev.DeploymentPaused(**self._about(), reason=verdict.reason, detail=verdict.detail)
            )
            return
        if action != "rollback":
            await self._end_failed("failed", verdict.reason, verdict.detail)
            return
        if not await self._take_back(plan, verdict, rollbacks, capacity):
            return
        if verdict.reason == "aborted":
            await self._say_aborted(verdict.detail)
        elif self._had_nothing_to_go_back_to(plan, names):
            await self._end_failed("failed", verdict.reason, verdict.detail)
        else:
            await self._say(
                ev.DeploymentRolledBack(
                    **self._about(), reason=verdict.reason, detail=verdict.detail, duration_s=self._took_s()
                )
            )

    async def _decision(self, plan: Plan, verdict: Verdict) -> str:
        decided = await self._scribe.ask(
            ev.RecoveryRequested(
                **self._about(),
                provider=plan.provider,
                code=verdict.reason.upper(),
                error_type="DeploymentError",
                message=verdict.detail,
                on_failure="rollback" if self._is_wanted_back else plan.settings.rollout.on_failure,
            ),
            timeout_s=DECIDE_S,
        )
        action = decided.action if isinstance(decided, ev.RecoveryDecided) else "stop"
        # The bus has written the decision; the live state that this runner reads takes it over here.
        self._state.decision = action
        self._state.decided_reason, self._state.decided_detail = verdict.reason, verdict.detail
        return action

    async def _take_back(
        self, plan: Plan, verdict: Verdict, rollbacks: Rollbacks, capacity: Capacity
    ) -> bool:
        """Put every changed target back; where one is not, say that a person must look, and return False."""
        names = to_restore(self._state)
        changed = bool(self._state.child_id or names)
        if not names or await rollbacks.undo(
            plan, self._state, names, capacity, reason=verdict.reason, whole=True
        ):
            if changed:
                nothing = self._had_nothing_to_go_back_to(plan, [t.name for t in plan.changes])
                await self._hook("on_rollback", "failed" if nothing else "rolled_back")
            return True
        await self._hook("on_rollback", "needs_attention")
        left = ", ".join(to_restore(self._state))
        await self._needs_attention(
            "rollback_failed", f"not back at their last good release: {left}; the cause was {verdict.detail}"
        )
        return False

    async def _abort(self, plan: Plan, verdict: Verdict, rollbacks: Rollbacks, capacity: Capacity) -> None:
        """End what a person does not want any more: all goes back, or with another `on_failure` only what is half-way."""
        if plan.settings.rollout.on_failure == "rollback":
            await self._say(
                ev.RecoveryDecided(
                    **self._about(),
                    action="rollback",
                    strategy="abort",
                    reason="aborted",
                    detail=verdict.detail,
                )
            )
            verdict = Verdict("changed", "aborted", verdict.detail)
            if await self._take_back(plan, verdict, rollbacks, capacity):
                await self._say_aborted(verdict.detail)
            return
        for name in to_restore(self._state):
            if self._state.targets[name].outcome == "updated":
                continue
            if not await rollbacks.undo(plan, self._state, [name], capacity, reason="aborted", whole=False):
                await self._needs_attention("rollback_failed", f"{name} is half-way, and did not go back")
                return
        await self._say_aborted(verdict.detail)

    # what people ask for

    async def _asked(self, action: str, actor: Actor) -> tuple[str, str]:
        """Abort, pause, promote and resume; whatever is going back already goes on to its end."""
        who = actor.user or "somebody"
        if self._is_leaving:
            return "", ""
        if action == "abort" and self._stop.aborted:
            return "already", "it is being aborted"
        if self._state.decision == "rollback" or self._state.child_id:
            return (
                "refused",
                "it is going back to the last good releases already, and goes on to the end of that",
            )
        if self._is_ending:
            return "refused", "its last step is done, and it is coming to its end"
        match action:
            case "abort":
                self._stop.request(f"aborted by {who}", abort=True)
                return "done", "no further step begins; then what was begun is put right"
            case "pause":
                return await self._asked_to_pause(who)
        return await self._asked_to_go_on(action, actor)

    async def _asked_to_pause(self, who: str) -> tuple[str, str]:
        if self._stop.reason:
            return "refused", f"it is stopping: {self._stop.reason}"
        if self._stop.paused:
            return "already", "it is paused"
        # At once: after the fact that it is paused no target may begin.
        self._stop.pause()
        if self._state.state == "running":
            await self._say(
                ev.DeploymentPaused(**self._about(), reason="requested", detail=f"paused by {who}")
            )
        return "done", "running steps finish; no further target is changed until `promote` or `resume`"

    async def _asked_to_go_on(self, action: str, actor: Actor) -> tuple[str, str]:
        waits_for = "a pause" if self._stop.paused else self._stop.waits_for
        if not waits_for:
            return "refused", "it does not wait for anybody"
        self._stop.go_on()
        event = ev.DeploymentPromoted if action == "promote" else ev.DeploymentResumed
        await self._say_for_asker(event(**self._about(), actor=actor, detail=f"ended {waits_for}"))
        return "done", f"ended {waits_for}"

    def _had_nothing_to_go_back_to(self, plan: Plan, names: Sequence[str]) -> bool:
        return not any(target.previous_release for target in plan.changes if target.name in names)
