"""Walks a plan: prepare everything, then wave by wave, with a gate after each.

The same driver serves a rollout and a rollback. It reads nothing but the plan and the folded state, and it leaves the
verdict on health and the answer to failures to whoever responds on the bus.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import msgspec

from fraisier.errors import (
    DeploymentError,
    FraisierError,
    GuardRefusedError,
    InterruptedError,
    LeaseLostError,
    ProviderConnectionError,
)
from fraisier.events import types as ev
from fraisier.journal.fold import Release
from fraisier.rollout.capacity import Capacity
from fraisier.rollout.plan import PREPARE_STEPS, PlanTarget
from fraisier.rollout.retention import kept
from fraisier.rollout.steps import StepRunner

RestoreOne = Callable[[PlanTarget, str], Awaitable[bool]]


class Verdict(msgspec.Struct, frozen=True):
    """How the walk ended. `kind` is done, partial, prepare, changed (failed after a change), unreachable or interrupted."""

    kind: str
    reason: str = ""
    detail: str = ""


class Halt(Exception):
    """Raised inside the walk when it must not go on; carries the verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.detail)
        self.verdict = verdict


def reason_of(error: BaseException) -> str:
    """Return the short word for an error: its code in lower case."""
    return error.code.lower() if isinstance(error, FraisierError) else "internal_error"


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
        self.releases = releases
        self.restore_one = restore_one
        self.errors: dict[str, FraisierError] = {}
        self.updated: list[str] = []
        self._rollback = self.plan.kind == "rollback"
        self._limiter = anyio.CapacityLimiter(self.plan.settings.rollout.max_parallel)
        self._skipped: set[str] = set()
        self._fatal: FraisierError | None = None
        self._walk = anyio.CancelScope()

    async def run(self, timeout_s: float) -> Verdict:
        """Walk the plan to its end and return the verdict; every wait ends when `timeout_s` has passed."""
        with anyio.CancelScope(deadline=anyio.current_time() + timeout_s) as scope:
            try:
                await self._prepare()
                await self._migrate_once()
                await self._all_waves()
                await self._confirm()
            except Halt as halt:
                return halt.verdict
        if scope.cancelled_caught:
            return await self._out_of_time("timeout", timeout_s)
        await self._cleanup()
        failed = [target for target in self.plan.changes if target.name in self.errors]
        skipped = self._skipped | {target.name for target in self.plan.targets if target.action == "skip"}
        if failed or skipped:
            return Verdict(
                "partial", "partial", self._first_error() or f"not reached: {', '.join(sorted(skipped))}"
            )
        return Verdict("done")

    # prepare phase

    async def _prepare(self) -> None:
        await self._side_by_side(self.plan.changes, self._prepare_one, "prepare")
        self._raise_fatal()
        if not self.errors or self._rollback:
            return
        unreachable = {n: e for n, e in self.errors.items() if isinstance(e, ProviderConnectionError)}
        if len(unreachable) == len(self.errors):
            for name, error in unreachable.items():
                await self.scribe.say(
                    ev.TargetUnreachable(**self._about(name), reason=reason_of(error), detail=error.message)
                )
            if self.plan.settings.rollout.on_unreachable == "skip" and len(unreachable) < len(
                self.plan.changes
            ):
                self._skipped |= set(unreachable)
                self.errors.clear()
                return
        await self._discard_staged()
        kind = "unreachable" if len(unreachable) == len(self.errors) else "prepare"
        raise Halt(
            Verdict(kind, "unreachable" if kind == "unreachable" else "prepare_failed", self._first_error())
        )

    async def _prepare_one(self, target: PlanTarget) -> None:
        step = ""
        try:
            for step in PREPARE_STEPS:
                if step in target.steps and not self._halted:
                    await self.steps.take(target, step)
        except (LeaseLostError, GuardRefusedError, InterruptedError):
            raise
        except FraisierError as error:
            self.errors[target.name] = error
            if not isinstance(error, ProviderConnectionError):
                await self._say_failed(target, step, error, bad=False)

    async def _discard_staged(self) -> None:
        """Remove what a failed preparation left on the targets; nothing there was ever switched to."""
        staged = [t for t in self.plan.changes if t.steps and t.name not in self._unreached()]
        for target in staged:
            state = self.steps.state.targets.get(target.name)
            if state is None or "stage" not in state.steps:
                continue
            await self._cleanup_one(target, good=False)

    # waves

    async def _migrate_once(self) -> None:
        """A migration that runs on one target only runs before the first target of all is changed."""
        migrate = self.plan.settings.migrate
        if migrate is None or migrate.on != "first" or self._rollback:
            return
        for target in self.plan.changes:
            if "migrate" in target.steps and target.name not in self._skipped:
                try:
                    await self.steps.take(target, "migrate")
                except InterruptedError as error:
                    raise Halt(Verdict("interrupted", "interrupted", error.message)) from error
                except FraisierError as error:
                    await self._say_failed(target, "migrate", error, bad=False)
                    self.errors[target.name] = error
                    await self._discard_staged()
                    raise Halt(Verdict("prepare", "migrate_failed", error.message)) from error

    async def _all_waves(self) -> None:
        progress_s = self.plan.settings.rollout.progress_deadline_s
        with anyio.CancelScope(deadline=anyio.current_time() + progress_s) as self._walk:
            for number, names in enumerate(self.plan.waves, 1):
                await self._wave(
                    number, [t for t in self.plan.changes if t.name in names and not self._left_out(t)]
                )
        if self._walk.cancelled_caught:
            raise Halt(await self._out_of_time("progress_deadline", progress_s))

    async def _wave(self, number: int, targets: Sequence[PlanTarget]) -> None:
        names = tuple(target.name for target in targets)
        await self.scribe.say(ev.WaveStarted(**self._about(), wave=number, targets=names))
        await self._side_by_side(targets, self._change, f"wave {number}")
        self._raise_fatal()
        if self._exceeded and not self._rollback:
            failed = tuple(name for name in names if name in self.errors)
            await self.scribe.say(ev.WaveFailed(**self._about(), wave=number, failed=failed))
            error = self.errors[failed[0]] if failed else next(iter(self.errors.values()))
            raise Halt(Verdict("changed", reason_of(error), self._first_error()))
        pause_s = (
            self.plan.settings.rollout.pause_s
            if number < len(self.plan.waves) and not self._rollback
            else 0.0
        )
        await self.scribe.say(ev.WaveSucceeded(**self._about(), wave=number, pause_s=pause_s))
        if pause_s:
            self._walk.deadline += pause_s
            await anyio.sleep(pause_s)

    async def _change(self, target: PlanTarget) -> None:
        used = await self.capacity.take(target.name, unless=lambda: self._halted or self._hopeless)
        if self._halted:
            if used:
                self.capacity.back(target.name)
            return
        if not used and self._hopeless and target.name not in self.capacity.away:
            self.errors[target.name] = DeploymentError(
                f"{target.name} was left as it is: {', '.join(sorted(self.capacity.away))} did not come back, and "
                f"max_unavailable is {self.capacity.limit}",
                code="CAPACITY",
            )
            return
        started = anyio.current_time()
        step = ""
        try:
            self.steps.stop.check()
            await self.scribe.say(ev.TargetStarted(**self._about(target.name), wave=target.wave))
            for step in self._changing_steps(target):
                await self.steps.take(target, step)
                if step == "verify" or (target.action == "remove" and step == "switch"):
                    self._serves_again(target)
            await self.scribe.say(self._updated_event(target, anyio.current_time() - started))
            self.updated.append(target.name)
        except (LeaseLostError, GuardRefusedError, InterruptedError):
            raise
        except FraisierError as error:
            await self._failed(target, step, error)

    def _left_out(self, target: PlanTarget) -> bool:
        return target.name in self._skipped or (self._rollback and target.name in self.errors)

    def _changing_steps(self, target: PlanTarget) -> list[str]:
        return [step for step in target.steps if step not in (*PREPARE_STEPS, "cleanup")]

    def _serves_again(self, target: PlanTarget) -> None:
        self.capacity.back(target.name)
        self._walk.deadline = anyio.current_time() + self.plan.settings.rollout.progress_deadline_s

    def _updated_event(self, target: PlanTarget, duration_s: float) -> ev.TargetUpdated:
        return ev.TargetUpdated(
            **self._about(target.name),
            release=target.release,
            version=target.version,
            previous_release=target.previous_release,
            previous_version=target.previous_version,
            duration_s=round(duration_s, 6),
        )

    async def _failed(self, target: PlanTarget, step: str, error: FraisierError) -> None:
        """Record a target's failure; a tolerated one goes back by itself, one too many stops the walk."""
        self.capacity.lost(target.name)
        self.errors[target.name] = error
        bad = bool(error.context.get("bad")) and step in ("verify", "bake")
        if isinstance(error, ProviderConnectionError):
            await self.scribe.say(
                ev.TargetUnreachable(
                    **self._about(target.name), reason=reason_of(error), detail=self.steps.safe(error)
                )
            )
        else:
            await self._say_failed(target, step, error, bad=bad)
        if self._exceeded or self._rollback or self.restore_one is None:
            self.capacity.wake()
        elif await self.restore_one(target, reason_of(error)):
            self.capacity.back(target.name)

    async def _confirm(self) -> None:
        """Ask every target of an earlier wave once more: success needs evidence that is fresh."""
        last = set(self.plan.waves[-1]) if self.plan.waves else set()
        earlier = [t for t in self.plan.changes if t.name in self.updated and t.name not in last]
        if self._rollback or not earlier:
            return
        await self._side_by_side(earlier, self._confirm_one, "confirm")
        self._raise_fatal()
        if self._exceeded:
            raise Halt(Verdict("changed", reason_of(next(iter(self.errors.values()))), self._first_error()))

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
            await self._failed(target, "verify", error)

    # the end

    async def _cleanup(self) -> None:
        """Remove what is not kept. A failure here is told, and changes nothing."""
        updated = [t for t in self.plan.changes if t.name in self.updated and "cleanup" in t.steps]
        await self._side_by_side(updated, self._cleanup_good, "cleanup")

    async def _cleanup_good(self, target: PlanTarget) -> None:
        await self._cleanup_one(target, good=True)

    async def _cleanup_one(self, target: PlanTarget, *, good: bool) -> None:
        settings = self.steps.context(target).settings
        keep = kept(
            self.releases.get(target.name, ()),
            keep_releases=settings.keep_releases,
            keep_failed=settings.keep_failed,
            # Going back, what was current is the release that failed: it stays only as `keep_failed` says.
            always=(target.release if good else "",)
            if self._rollback
            else (target.release if good else "", target.previous_release, target.current_release),
            new_good=target.release if good else "",
        )
        try:
            await self.steps.take(target, "cleanup", keep=keep)
        except (LeaseLostError, GuardRefusedError):
            raise
        except FraisierError:
            return  # its step.failed event is in the journal; the release serves all the same

    async def _out_of_time(self, reason: str, limit_s: float) -> Verdict:
        """Settle the steps that the deadline cut off: nobody knows how they ended."""
        waiting: list[str] = []
        now_s = anyio.current_time()
        for name, state in self.steps.state.targets.items():
            step = state.steps.get(state.step)
            if step is None or step.status != "started":
                continue
            message = f"{state.step} on {name} was cut off: {reason} of {limit_s:g} s passed"
            waiting.append(f"{state.step} on {name}")
            await self.scribe.say(
                ev.StepFailed(
                    **self._about(name),
                    step=state.step,
                    attempt=step.attempt,
                    code="DEPLOYMENT_TIMEOUT",
                    error_type="DeploymentTimeoutError",
                    message=message,
                    known=False,
                )
            )
            error = DeploymentError(message, code="DEPLOYMENT_TIMEOUT")
            self.errors.setdefault(name, error)
            self.capacity.lost(name)
            target = next(t for t in self.plan.targets if t.name == name)
            await self._say_failed(target, state.step, error, bad=False)
        what = (
            ", ".join(waiting[:5]) or f"capacity: {', '.join(sorted(self.capacity.away)) or 'nothing'} away"
        )
        detail = f"{reason} of {limit_s:g} s passed while waiting for {what} (at {now_s:.0f} s of this process's clock)"
        changed = any(state.begun for state in self.steps.state.targets.values())
        if not changed:
            await self._discard_staged()
        return Verdict("changed" if changed else "prepare", reason, detail)

    # small things

    async def _side_by_side(
        self, targets: Sequence[PlanTarget], work: Callable[[PlanTarget], Awaitable[None]], what: str
    ) -> None:
        async with anyio.create_task_group() as group:
            for target in targets:
                group.start_soon(
                    self._isolated, target, work, name=f"{what}:{self.plan.fraise}@{target.name}"
                )

    async def _isolated(self, target: PlanTarget, work: Callable[[PlanTarget], Awaitable[None]]) -> None:
        """The border round one target: whatever happens there is that target's, and no sibling is cancelled."""
        async with self._limiter:
            try:
                await work(target)
            except FraisierError as error:
                self._fatal = self._fatal or error
            except Exception as error:  # noqa: BLE001 - a defect at one target must not cut the others off in mid-step
                self._fatal = self._fatal or DeploymentError(
                    f"internal error at {target.name}: {error!r}", cause=error
                )
        if self._fatal is not None:
            self.capacity.wake()

    def _raise_fatal(self) -> None:
        error = self._fatal
        if error is None:
            return
        if isinstance(error, InterruptedError):
            raise Halt(Verdict("interrupted", "interrupted", error.message))
        if isinstance(error, GuardRefusedError):
            raise LeaseLostError(error.message, cause=error)
        if isinstance(error, LeaseLostError):
            raise error
        raise Halt(Verdict("changed", reason_of(error), error.message))

    @property
    def _exceeded(self) -> bool:
        return len(self.errors) > self.plan.max_failures

    @property
    def _hopeless(self) -> bool:
        """Whether no permit can ever come back: all that are away have failed here, and nobody is at work on them."""
        away = self.capacity.away
        return len(away) >= self.capacity.limit and away <= set(self.errors)

    @property
    def _halted(self) -> bool:
        if self._fatal is not None or self.steps.stop.reason:
            return True
        return self._exceeded and not self._rollback

    def _unreached(self) -> set[str]:
        return {name for name, error in self.errors.items() if isinstance(error, ProviderConnectionError)}

    def _first_error(self) -> str:
        for name, error in self.errors.items():
            more = f" (and {len(self.errors) - 1} more)" if len(self.errors) > 1 else ""
            told = self.steps.safe(error)
            return (told if told.startswith(f"{name}: ") else f"{name}: {told}") + more
        return ""

    async def _say_failed(self, target: PlanTarget, step: str, error: FraisierError, *, bad: bool) -> None:
        await self.scribe.say(
            ev.TargetFailed(
                **self._about(target.name),
                step=step,
                reason=reason_of(error),
                detail=self.steps.safe(error),
                release=target.release,
                bad=bad,
            )
        )

    def _about(self, target: str = "") -> dict[str, Any]:
        plan = self.plan
        about = {"deployment_id": plan.deployment_id, "fraise": plan.fraise, "environment": plan.environment}
        return {**about, "target": target} if target else about
