"""Walks a plan: prepare everything, then wave by wave, with a gate after each.

The same driver serves a rollout and a rollback. It reads nothing but the plan and the folded state, and it leaves the
verdict on health and the answer to failures to whoever responds on the bus.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence

import anyio

from fraisier.clock import rfc3339
from fraisier.errors import (
    DeploymentError,
    FraisierError,
    InDoubtError,
    InterruptedError,
    ProviderConnectionError,
)
from fraisier.events import types as ev
from fraisier.journal.fold import Release
from fraisier.journal.state import is_hook
from fraisier.rollout.beside import beside
from fraisier.rollout.capacity import Capacity
from fraisier.rollout.cleaning import Cleaner
from fraisier.rollout.crew import ENDS_EVERYTHING, Crew
from fraisier.rollout.look import Look
from fraisier.rollout.pauses import Pauses
from fraisier.rollout.plan import PREPARE_STEPS, PlanTarget
from fraisier.rollout.prepare import Preparation
from fraisier.rollout.steps import StepRunner
from fraisier.rollout.verdict import Halt, Verdict, reason_of

_DETACHED_STEPS = ("fetch", "stage", "migrate")
"""Steps whose commands go on without the process that began them."""

RestoreOne = Callable[[PlanTarget, str], Awaitable[bool]]


class Runner:
    """Carries out one plan. `restore_one` brings a single tolerated failure back while the others go on."""

    def __init__(
        self,
        steps: StepRunner,
        *,
        capacity: Capacity,
        releases: Mapping[str, Sequence[Release]],
        restore_one: RestoreOne | None = None,
    ) -> None:
        self.steps = steps
        self.plan = steps.plan
        self.scribe = steps.scribe
        self.capacity = capacity
        self.crew = Crew(steps, capacity)
        self._cleaner = Cleaner(self.crew, releases)
        self._restore_one = restore_one
        self._walk = anyio.CancelScope()
        self._pauses = Pauses(self.crew, self._look_at_updated)
        self._before = frozenset(self.crew.updated)
        """Updated by an earlier process: verified again before anything is called a success."""

    async def run(self, timeout_s: float, *, is_looked_at: bool = False) -> Verdict:
        """Walk the plan to its end and return the verdict; every wait ends when `timeout_s` has passed. `is_looked_at` says
        that a person knows what is in doubt, and that it keeps nothing from its end.

        Raises LeaseLostError when the plan is no longer ours to carry out."""
        verdict: Verdict | None = None
        with anyio.CancelScope(deadline=anyio.current_time() + timeout_s) as scope:
            self._pauses.holds_still(scope)
            verdict = await beside(self._walk_plan, self._pauses.attend, f"pauses:{self.plan.fraise}")
        if scope.cancelled_caught:
            verdict = await self._out_of_time("timeout", timeout_s)
        if verdict is not None:
            return verdict if is_looked_at else await self._put_to_rest(verdict)
        await self._cleaner.after_success()
        failed = [target.name for target in self.plan.changes if target.name in self.crew.errors]
        if failed or self.crew.skipped:
            missing = f"not reached: {', '.join(sorted(self.crew.skipped))}"
            return Verdict("partial", "partial", self.crew.first_error() or missing)
        return Verdict("done")

    async def _put_to_rest(self, verdict: Verdict) -> Verdict:
        """Before the consequence of a failure is drawn: what was cut off and may go on by itself comes to its end, and what a
        failed preparation left is removed."""
        if verdict.kind == "doubt" or (verdict.kind == "interrupted" and not self.steps.stop.aborted):
            return verdict
        doubt = await self.settle()
        if doubt is not None:
            return doubt
        if verdict.kind in ("prepare", "unreachable"):
            await self._cleaner.after_failed_preparation()
        return verdict

    async def settle(self) -> Verdict | None:
        """Before a deployment goes back: let what was begun, by an earlier process or by this one, and may still run by
        itself, come to its end. Return the verdict when a person must look."""
        # What made this walk end is no reason to leave something running.
        crew, hooks = Crew(self.steps, self.capacity), self.steps.hooks

        begun = [
            t for t in self.plan.changes if any(self.steps.in_doubt(t, step) for step in _DETACHED_STEPS)
        ]
        try:
            await crew.side_by_side(begun, self._settle_one, "settle")
            if hooks is not None:
                await hooks.give_up()
        except Halt as halt:
            return halt.verdict
        except InDoubtError as error:
            return Verdict("doubt", "in_doubt", self.steps.safe(error))
        return None

    async def _settle_one(self, target: PlanTarget) -> None:
        for step in _DETACHED_STEPS:
            try:
                await self.steps.settle(target, step)
            except InDoubtError as error:
                await self.crew.say_in_doubt(target, step, error)
                raise

    async def _walk_plan(self) -> Verdict | None:
        hooks = self.steps.hooks
        try:
            if hooks is not None:
                await hooks.gate("before_deploy", "prepare")
            await Preparation(self.crew).run()
            await self._settle_failures()
            await self._all_waves()
            await self._confirm()
            if hooks is not None and not self.crew.errors and not self.crew.skipped:
                await hooks.gate("after_deploy", "changed", "succeeded")
        except Halt as halt:
            return halt.verdict
        return None

    async def _settle_failures(self) -> None:
        """Draw the consequences of failures that are in the journal and had none yet, because a process ended between."""
        crew = self.crew
        if not crew.errors or crew.is_rollback:
            return
        if crew.exceeded:
            raise Halt(Verdict("changed", reason_of(next(iter(crew.errors.values()))), crew.first_error()))
        for target in self.plan.changes:
            known = self.steps.state.targets[target.name]
            if target.name not in crew.errors or known.outcome == "rolled_back" or not self._restore_one:
                continue
            if await self._restore_one(target, reason_of(crew.errors[target.name])):
                self.capacity.back(target.name)

    # waves

    async def _all_waves(self) -> None:
        # A rollback has one budget, its timeout: to give up on it early would leave targets on what failed.
        progress_s = math.inf if self.crew.is_rollback else self.plan.settings.rollout.progress_deadline_s
        with anyio.CancelScope(deadline=anyio.current_time() + progress_s) as self._walk:
            self._pauses.holds_still(self._walk)
            for number, names in enumerate(self.plan.waves, 1):
                targets = [t for t in self.plan.changes if t.name in names and not self._left_out(t)]
                if targets or self.steps.state.waves.get(number) != "succeeded":
                    await self._wave(number, targets)
        if self._walk.cancelled_caught:
            raise Halt(await self._out_of_time("progress_deadline", progress_s))

    async def _wave(self, number: int, targets: Sequence[PlanTarget]) -> None:
        crew = self.crew
        names = tuple(target.name for target in targets)
        await self._pauses.gate()
        if number not in self.steps.state.waves:
            await self.scribe.say(ev.WaveStarted(**crew.about(), wave=number, targets=names))
        crew.open = set(names)
        await crew.side_by_side(targets, self._change, f"wave {number}", takes_turns=False)
        if crew.exceeded and not crew.is_rollback:
            failed = tuple(name for name in names if name in crew.errors)
            await self.scribe.say(ev.WaveFailed(**crew.about(), wave=number, failed=failed))
            error = crew.errors[failed[0]] if failed else next(iter(crew.errors.values()))
            raise Halt(Verdict("changed", reason_of(error), crew.first_error()))
        missing = [name for name in names if name not in crew.updated and name not in crew.errors]
        if missing and not crew.is_rollback:
            why = f"stopped: {self.steps.stop.reason}" if self.steps.stop.reason else "not reached"
            raise Halt(Verdict("interrupted", "interrupted", f"{why} before {', '.join(missing)}"))
        is_last = number == len(self.plan.waves)
        pause_s = 0.0 if is_last or crew.is_rollback else self.plan.settings.rollout.pause_s
        await self.scribe.say(ev.WaveSucceeded(**crew.about(), wave=number, pause_s=pause_s))
        if pause_s:
            self._walk.deadline += pause_s
            await self._pause(pause_s)

    async def _pause(self, pause_s: float) -> None:
        try:
            await self.steps.stop.sleep_or_skip(pause_s, "the pause between two waves")
        except InterruptedError as error:
            raise Halt(Verdict("interrupted", "interrupted", error.message)) from error
        await self._pauses.gate()

    async def _change(self, target: PlanTarget) -> None:
        try:
            await self._change_when_permitted(target)
        finally:
            self.crew.open.discard(target.name)
            self.capacity.wake()

    async def _change_when_permitted(self, target: PlanTarget) -> None:
        """Wait until the target may go away and it is its turn, whichever comes last; who waits for the one does not keep
        the other from somebody else. A pause that began meanwhile holds it back, too."""
        crew, capacity = self.crew, self.capacity
        is_doubtful = (
            target.name in capacity.away and not crew.is_rollback and not self._was_restarted(target)
        )
        while True:
            try:
                await self._pauses.gate()
            except Halt:
                return  # the crew knows what halts the walk, and the wave draws the consequence
            await capacity.room(target.name, unless=lambda: crew.halted or crew.hopeless)
            async with crew.turn:
                if crew.halted:
                    return
                if self.steps.stop.paused and not crew.is_rollback:
                    continue
                if is_doubtful:
                    is_doubtful = False
                    try:
                        await self._look_again(target)
                    except ProviderConnectionError as error:
                        await self._failed(target, "", error)
                        return
                elif capacity.allows(target.name):
                    used = capacity.take(target.name)
                    try:
                        await self._change_now(target)
                    finally:
                        if used and not self.steps.state.targets[target.name].begun:
                            capacity.back(target.name)  # it was stopped before anything was done to it
                    return
                elif crew.hopeless:
                    crew.errors[target.name] = self._no_permit(target)
                    return

    async def _change_now(self, target: PlanTarget) -> None:
        crew = self.crew
        started = anyio.current_time()
        step = ""
        try:
            self.steps.stop.check()
            async with self.steps.course() as course:
                if not self.steps.state.targets[target.name].started_us:
                    course.hold(ev.TargetStarted(**crew.about(target.name), wave=target.wave))
                steps = self._steps_of(target)
                serves_after = "switch" if target.action == "remove" else "verify"
                for step in steps:
                    await self.steps.take(course, target, step)
                    if step == serves_after != steps[-1]:
                        await course.settle()
                        self._serves_again(target)
                await course.say(self._updated_event(target, anyio.current_time() - started))
                if serves_after == steps[-1]:
                    self._serves_again(target)
            crew.updated.append(target.name)
        except ENDS_EVERYTHING:
            raise
        except InDoubtError as error:
            await crew.say_in_doubt(target, step, error)
            raise
        except FraisierError as error:
            await self._failed(target, step, error)

    def _steps_of(self, target: PlanTarget) -> list[str]:
        """Return what is done to one target in its turn; the one migration was done before, there or on another target."""
        migrate = self.plan.settings.migrate
        is_done = migrate is not None and migrate.on == "first" and not self.crew.is_rollback
        before = (*PREPARE_STEPS, "cleanup", *(("migrate",) if is_done else ()))
        return [step for step in target.steps if step not in before]

    def _was_restarted(self, target: PlanTarget) -> bool:
        known = self.steps.state.targets.get(target.name)
        return known is not None and "restart" in known.steps

    async def _look_again(self, target: PlanTarget) -> None:
        """What does not serve needs no permit. One that could not be reached at the first look may serve all the same, and
        one that cannot be reached now is not changed at all. Raises ProviderConnectionError."""
        look = Look(
            self.scribe.bus, self.steps.provider, self.plan.deployment_id, max_parallel=1, versions={}
        )
        seen = await look.at([self.steps.context(target)])
        if seen[target.name].unreachable:
            raise ProviderConnectionError(
                f"{target.name}: {seen[target.name].unreachable}",
                context={"reason": seen[target.name].reason},
            )
        if seen[target.name].serves:
            self.capacity.back(target.name)

    def _left_out(self, target: PlanTarget) -> bool:
        crew = self.crew
        return target.name in crew.skipped or target.name in crew.errors or target.name in crew.updated

    def _no_permit(self, target: PlanTarget) -> DeploymentError:
        away = ", ".join(sorted(self.capacity.away))
        return DeploymentError(
            f"{target.name} was left as it is: {away} did not come back, and max_unavailable is {self.capacity.limit}",
            code="CAPACITY",
        )

    def _serves_again(self, target: PlanTarget) -> None:
        """Give the permit back; a target that became healthy is the only progress that moves the deadline."""
        self.capacity.back(target.name)
        if self.crew.is_rollback or self.steps.stop.paused:
            return
        rollout = self.plan.settings.rollout
        # A bake is a wait that was asked for, as a pause is.
        self._walk.deadline = anyio.current_time() + rollout.progress_deadline_s + rollout.min_healthy_time_s

    def _updated_event(self, target: PlanTarget, duration_s: float) -> ev.TargetUpdated:
        return ev.TargetUpdated(
            **self.crew.about(target.name),
            release=target.release,
            version=target.version,
            previous_release=target.previous_release,
            previous_version=target.previous_version,
            duration_s=round(duration_s, 6),
        )

    async def _failed(self, target: PlanTarget, step: str, error: FraisierError) -> None:
        """Record a target's failure; a tolerated one goes back by itself, one too many stops the walk."""
        crew = self.crew
        self.capacity.lost(target.name)
        crew.errors[target.name] = error
        bad = bool(error.context.get("bad")) and step in ("verify", "bake")
        await crew.say_failed(target, step, error, bad=bad)
        if crew.exceeded or crew.is_rollback or self._restore_one is None:
            return
        await self._settle_one(target)
        if await self._restore_one(target, reason_of(error)):
            self.capacity.back(target.name)

    # the end

    async def _confirm(self) -> None:
        """Ask every target of an earlier wave once more: success needs evidence that is fresh."""
        crew = self.crew
        last = set(self.plan.waves[-1]) if self.plan.waves else set()
        earlier = [
            t
            for t in self.plan.changes
            if t.name in crew.updated and (t.name not in last or t.name in self._before)
        ]
        if crew.is_rollback or not earlier:
            return
        await self._confirm_all(earlier)

    async def _look_at_updated(self) -> None:
        await self._confirm_all([t for t in self.plan.changes if t.name in self.crew.updated])

    async def _confirm_all(self, targets: Sequence[PlanTarget]) -> None:
        crew = self.crew
        await crew.side_by_side(targets, self._confirm_one, "confirm")
        if crew.exceeded:
            raise Halt(Verdict("changed", reason_of(next(iter(crew.errors.values()))), crew.first_error()))

    async def _confirm_one(self, target: PlanTarget) -> None:
        check = self.steps.context(target).settings.health_check
        error: FraisierError | None = None
        for attempt in range(check.fall if check else 1):
            if attempt and check:
                await anyio.sleep(check.interval_s)
            try:
                await self.steps.ask_health(target, "check")
                return
            except FraisierError as failure:
                error = failure
        if error is not None:
            self.crew.updated.remove(target.name)
            await self._failed(target, "verify", error)

    async def _out_of_time(self, reason: str, limit_s: float) -> Verdict:
        """Settle the steps that the deadline cut off: nobody knows how they ended."""
        waiting: list[str] = []
        in_doubt = False
        for target in self.plan.changes:
            state = self.steps.state.targets.get(target.name)
            step = None if state is None else state.steps.get(state.step)
            if state is None or step is None or step.status != "started":
                continue
            waiting.append(f"{state.step} on {target.name} since {rfc3339(step.at_us)}")
            await self._cut_off(target, state.step, step.attempt, f"{reason} of {limit_s:g} s passed")
            in_doubt = in_doubt or self.steps.is_in_doubt_for_good(target, state.step)
        away = ", ".join(sorted(self.capacity.away))
        if self.steps.hooks is not None:
            waiting += self.steps.hooks.cut_off()
        what = "; ".join(waiting[:5]) or (f"permits while {away} are away" if away else "the next wave")
        more = f" and {len(waiting) - 5} more" if len(waiting) > 5 else ""
        detail = f"{reason} of {limit_s:g} s passed while waiting for {what}{more}"
        if in_doubt:
            return Verdict("doubt", "in_doubt", detail)
        begun = any(state.begun for state in self.steps.state.targets.values())
        return Verdict("changed" if begun else "prepare", reason, detail)

    async def _cut_off(self, target: PlanTarget, step: str, attempt: int, why: str) -> None:
        error = DeploymentError(f"{step} on {target.name} was cut off: {why}", code="DEPLOYMENT_TIMEOUT")
        if not is_hook(step):  # those may run on, and have no end before they were given up
            await self.scribe.say(
                ev.StepFailed(
                    **self.crew.about(target.name),
                    step=step,
                    attempt=attempt,
                    code=error.code,
                    error_type="DeploymentTimeoutError",
                    message=error.message,
                    known=False,
                )
            )
        self.crew.errors.setdefault(target.name, error)
        self.capacity.lost(target.name)
        if self.steps.is_in_doubt_for_good(target, step):
            await self.crew.say_in_doubt(target, step, error)
        else:
            await self.crew.say_failed(target, step, error)
