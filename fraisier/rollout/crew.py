"""Work on many targets side by side: whatever happens at one is that one's, and is remembered here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

from fraisier.errors import (
    DatabaseError,
    DeploymentError,
    FencedError,
    FraisierError,
    GuardRefusedError,
    InDoubtError,
    InterruptedError,
    LeaseLostError,
    ProviderConnectionError,
    class_of_code,
)
from fraisier.events import types as ev
from fraisier.journal.fold import TargetState
from fraisier.logging import log_context
from fraisier.rollout.capacity import Capacity
from fraisier.rollout.plan import PlanTarget
from fraisier.rollout.steps import StepRunner
from fraisier.rollout.verdict import Halt, Verdict, reason_of

ENDS_EVERYTHING = (LeaseLostError, FencedError, DatabaseError, InterruptedError)
"""Errors that are not about one target: the whole walk ends with them."""

Work = Callable[[PlanTarget], Awaitable[None]]


class Crew:
    """The targets of one walk: which failed and why, and how work on them is isolated and bounded."""

    def __init__(self, steps: StepRunner, capacity: Capacity) -> None:
        self.steps = steps
        self.plan = steps.plan
        self.scribe = steps.scribe
        self.capacity = capacity
        self.errors: dict[str, FraisierError] = {}
        self.updated: list[str] = []
        self.open: set[str] = set()
        self.skipped: set[str] = {target.name for target in self.plan.targets if target.action == "skip"}
        self.is_rollback = self.plan.kind == "rollback"
        self._remember()
        self.turn = anyio.CapacityLimiter(self.plan.settings.rollout.max_parallel)
        """Held while something is done at a target. Nobody waits for another target with it in hand."""
        self._fatal: FraisierError | None = None
        steps.stop.watch(capacity.wake)

    def _remember(self) -> None:
        """Take over what the journal tells of an earlier process: who is updated, who failed, who was left out."""
        for target in self.plan.changes:
            known = self.steps.state.targets.get(target.name)
            if known is None or not known.outcome:
                continue
            if known.outcome == "updated":
                self.updated.append(target.name)
            elif known.outcome == "unreachable" and self.may_leave_out(target.name):
                self.skipped.add(target.name)
            elif known.outcome in ("failed", "unreachable", "rolled_back"):
                self.errors[target.name] = _remembered(known)

    async def side_by_side(
        self, targets: Sequence[PlanTarget], work: Work, what: str, *, takes_turns: bool = True
    ) -> None:
        """Do `work` on the targets, at most `max_parallel` at once, or when it takes a `turn` by itself. Raises Halt or
        LeaseLostError when the walk must end, after every sibling has come to rest."""
        async with anyio.create_task_group() as group:
            for target in targets:
                group.start_soon(
                    self._isolated,
                    target,
                    self._in_turn(work) if takes_turns else work,
                    name=f"{what}:{self.plan.fraise}@{target.name}",
                )
        self._raise_fatal()

    def _in_turn(self, work: Work) -> Work:
        async def when_it_is_its_turn(target: PlanTarget) -> None:
            async with self.turn:
                await work(target)

        return when_it_is_its_turn

    async def _isolated(self, target: PlanTarget, work: Work) -> None:
        try:
            with log_context(target=target.name):
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
        if isinstance(error, (GuardRefusedError, FencedError)):
            raise LeaseLostError(error.message, cause=error)
        if isinstance(error, (LeaseLostError, DatabaseError)):
            raise error
        if isinstance(error, InDoubtError):
            raise Halt(Verdict("doubt", "in_doubt", error.message))
        raise Halt(Verdict("changed", reason_of(error), error.message))

    @property
    def exceeded(self) -> bool:
        """Whether more targets failed than may, or one by a hook that wants everything back."""
        hooks = self.steps.hooks
        is_demanded = hooks is not None and hooks.demands_rollback
        return bool(self.errors) and (is_demanded or len(self.errors) > self.plan.max_failures)

    @property
    def halted(self) -> bool:
        """Whether nothing new may begin. In a rollback the others finish."""
        return self.stopped or (self.exceeded and not self.is_rollback)

    @property
    def stopped(self) -> bool:
        """Whether the walk ends for a reason that is no target's failure."""
        return self._fatal is not None or bool(self.steps.stop.reason)

    @property
    def hopeless(self) -> bool:
        """Whether no permit can come back: nobody is at work on those that are away, nor will be in this wave."""
        away = self.capacity.away
        return len(away) >= self.capacity.limit and not away & self.open

    def may_leave_out(self, name: str) -> bool:
        """Whether the others go on without a target that is out of reach. Where the migration was begun they do not: that
        nobody reached it then ended this deployment, also when a process died before it said so."""
        wanted = self.plan.settings.rollout.on_unreachable == "skip" and not self.is_rollback
        return wanted and not self.steps.state.targets[name].begun

    def unreached(self) -> dict[str, FraisierError]:
        """Return the failures that say nothing but that the target was out of reach."""
        return {
            name: error for name, error in self.errors.items() if isinstance(error, ProviderConnectionError)
        }

    def first_error(self) -> str:
        """Return the first failure in words, and how many more there are."""
        for name, error in self.errors.items():
            more = f" (and {len(self.errors) - 1} more)" if len(self.errors) > 1 else ""
            told = self.steps.safe(error)
            return (told if told.startswith(f"{name}: ") else f"{name}: {told}") + more
        return ""

    async def say_in_doubt(self, target: PlanTarget, step: str, error: FraisierError) -> None:
        """Record that nobody knows what a step did at a target, and that it may not be repeated."""
        await self.scribe.say(
            ev.TargetInDoubt(**self.about(target.name), step=step, detail=self.steps.safe(error))
        )

    async def say_failed(
        self, target: PlanTarget, step: str, error: FraisierError, *, bad: bool = False
    ) -> None:
        """Record that a target failed; one out of reach is unreachable, which is something else."""
        about = self.about(target.name)
        if isinstance(error, ProviderConnectionError):
            await self.scribe.say(
                ev.TargetUnreachable(**about, reason=reason_of(error), detail=self.steps.safe(error))
            )
            return
        await self.scribe.say(
            ev.TargetFailed(
                **about,
                step=step,
                reason=reason_of(error),
                detail=self.steps.safe(error),
                release=target.release,
                bad=bad,
            )
        )

    def about(self, target: str = "") -> dict[str, Any]:
        """Return the envelope of events about the deployment or one of its targets."""
        plan = self.plan
        about = {"deployment_id": plan.deployment_id, "fraise": plan.fraise, "environment": plan.environment}
        return {**about, "target": target} if target else about


def _remembered(known: TargetState) -> FraisierError:
    """Return a target's failure as the journal tells it."""
    message = known.error or f"{known.name} is {known.outcome}"
    if known.outcome == "unreachable":
        return ProviderConnectionError(message)
    code = known.reason.upper()
    return (class_of_code(code) or DeploymentError)(message, code=code or None)
