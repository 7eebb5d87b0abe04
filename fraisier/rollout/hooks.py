"""Runs the hooks of one deployment: each is in the journal before it begins, and none that succeeded runs twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import msgspec

from fraisier.config.hooks import ENDINGS, hooks_at, is_of_deployment
from fraisier.config.schema import Hook, Target
from fraisier.errors import (
    DatabaseError,
    DeploymentTimeoutError,
    FencedError,
    FraisierError,
    GuardRefusedError,
    HookError,
    InDoubtError,
    InterruptedError,
    LeaseLostError,
    ProviderConnectionError,
    ProviderError,
)
from fraisier.events import types as ev
from fraisier.journal.fold import DeploymentState, StepState
from fraisier.journal.state import hook_key
from fraisier.logging import log_context
from fraisier.providers.base import HookCall, Provider, StepCall, TargetContext
from fraisier.providers.hooks import HookRunner
from fraisier.redaction import Redactor
from fraisier.rollout.patience import Patience
from fraisier.rollout.plan import Plan, PlanTarget
from fraisier.rollout.scribe import Scribe
from fraisier.rollout.stop import StopSignal
from fraisier.rollout.verdict import Halt, Verdict, reason_of

_TAIL_LINES = 20
_LEASE_ENDED = (LeaseLostError, GuardRefusedError, DatabaseError)


class Due(msgspec.Struct, frozen=True):
    """A hook at its point: for one target, or (None) for the deployment as a whole."""

    point: str
    number: int
    hook: Hook
    target: PlanTarget | None
    outcome: str = ""

    @property
    def key(self) -> str:
        """The name under which the journal's state knows it."""
        return hook_key(self.point, self.hook.name)

    def __str__(self) -> str:
        place = f" on {self.target.name}" if self.target is not None else ""
        return f"hook {self.hook.name} ({self.point}){place}"


class Hooks:
    """The hooks of one plan, which froze them. `skip` means that somebody wants none of them to run."""

    def __init__(
        self,
        plan: Plan,
        *,
        scribe: Scribe,
        provider: Provider,
        here: HookRunner,
        redactor: Redactor,
        stop: StopSignal,
        epoch: int,
        log_id: str,
        skip: bool = False,
        abandoned: Callable[[], bool] | None = None,
    ) -> None:
        self._plan = plan
        self._abandoned = abandoned
        self._scribe = scribe
        self._provider = provider
        self._here = here
        self._redactor = redactor
        self._stop = stop
        self._epoch = epoch
        self._log_id = log_id
        configured = plan.settings.hooks
        found = {point: hooks_at(configured, point) for point in configured.__struct_fields__}
        self._at = {} if skip else {point: hooks for point, hooks in found.items() if hooks}
        self.demands_rollback = self._has_demanded_rollback()
        """Whether a hook failed whose consequence is that everything goes back, whatever else is configured."""

    # what callers ask for

    def has(self, point: str) -> bool:
        """Whether a hook is to run at this point."""
        return point in self._at

    async def around(self, point: str, target: PlanTarget) -> None:
        """Run the hooks before or after a step of a target. Raises HookError, InDoubtError, InterruptedError."""
        for number, hook in enumerate(self._at.get(point, ()), 1):
            await self._run(Due(point, number, hook, target))

    async def gate(self, point: str, kind: str, outcome: str = "") -> None:
        """Run the hooks of a phase of the whole deployment. Raises Halt, with a verdict of this kind when one failed."""
        try:
            await self._all(point, outcome)
        except InterruptedError as error:
            raise Halt(Verdict("interrupted", "interrupted", error.message)) from error
        except InDoubtError as error:
            raise Halt(Verdict("doubt", "in_doubt", self._safe(error))) from error
        except _LEASE_ENDED:
            raise
        except FraisierError as error:
            raise Halt(Verdict(kind, reason_of(error), self._safe(error))) from error

    async def ending(self, point: str, outcome: str) -> None:
        """Run the hooks that see how it went. Whatever becomes of them is in the journal, and changes nothing."""
        await self._all(point, outcome)

    async def forget(self) -> None:
        """Remove what this machine knows of the hooks that ran on it; the deployment has ended."""
        if any(hook.on == "orchestrator" for hooks in self._at.values() for hook in hooks):
            await self._here.forget(self._plan.deployment_id)

    def cut_off(self) -> list[str]:
        """Return the names of those of the whole deployment that a deadline cut off; `give_up` ends them."""
        found = []
        for point, hooks in self._at.items():
            for number, hook in enumerate(hooks, 1):
                due = Due(point, number, hook, None)
                known = self._known(due)
                if known is not None and known.status == "started":
                    found.append(str(due))
        return found

    async def give_up(self) -> None:
        """End the hooks that somebody began and nobody knows the end of: the deployment goes back. Raises InDoubtError when
        a target stays silent for as long as its hook may take."""
        for point, hooks in self._at.items():
            if point in ENDINGS:
                continue  # those are about to run, or to be gone on with
            targets = (None, *self._plan.changes) if is_of_deployment(point) else self._plan.changes
            for number, hook in enumerate(hooks, 1):
                for target in targets:
                    due = Due(point, number, hook, target)
                    known = self._known(due)
                    if known is not None and known.status == "started":
                        await self._end(due, known.attempt)

    async def _end(self, due: Due, begun: int) -> None:
        attempt, patience = begun, Patience(due.hook.timeout_s)
        while True:
            attempt += 1
            intent = await self._scribe.say(ev.HookStarted(**self._about(due), attempt=attempt))
            call = self._call(due, attempt, intent.seq, [], resumes=attempt - 1)
            try:
                await self._perform(due, msgspec.structs.replace(call, settles=True))
            except _LEASE_ENDED:
                raise
            except FraisierError as error:
                await self._say_failed(due, attempt, error, known=False)
                if not isinstance(error, (DeploymentTimeoutError, ProviderConnectionError)):
                    return
                if not await patience.wait():
                    what = f"whether {due} still runs is not known: {self._safe(error)}"
                    raise InDoubtError(what, context=error.context, cause=error) from error
            else:
                return

    # one point

    async def _all(self, point: str, outcome: str) -> None:
        for number, hook in enumerate(self._at.get(point, ()), 1):
            if hook.on == "orchestrator":
                await self._run(Due(point, number, hook, None, outcome))
            else:
                await self._everywhere(point, number, hook, outcome)

    async def _everywhere(self, point: str, number: int, hook: Hook, outcome: str) -> None:
        errors: list[FraisierError] = []
        limiter = anyio.CapacityLimiter(self._plan.settings.rollout.max_parallel)

        async def one(target: PlanTarget) -> None:
            async with limiter:
                try:
                    await self._run(Due(point, number, hook, target, outcome))
                except FraisierError as error:
                    errors.append(error)

        async with anyio.create_task_group() as group:
            for target in self._reached():
                group.start_soon(one, target, name=f"{point}:{self._plan.fraise}@{target.name}")
        for kinds in (_LEASE_ENDED, (InterruptedError,), (InDoubtError,), (FraisierError,)):
            for error in errors:
                if isinstance(error, kinds):
                    raise error

    def _reached(self) -> Sequence[PlanTarget]:
        known = self._state.targets
        return [
            t for t in self._plan.changes if t.name not in known or known[t.name].outcome != "unreachable"
        ]

    # one hook

    async def _run(self, due: Due) -> None:
        earlier = self._known(due)
        if earlier is not None and earlier.status == "succeeded":
            return
        if earlier is not None and earlier.status in ("failed", "unknown"):
            self._draw_consequence(due, HookError(earlier.error or f"{due} failed"))
            return
        if due.point not in ENDINGS:
            self._stop.check()
        in_doubt = earlier is not None and earlier.status == "started"
        attempt = 1 if earlier is None else earlier.attempt + 1
        intent = await self._scribe.say(ev.HookStarted(**self._about(due), attempt=attempt))
        tail: list[str] = []
        call = self._call(due, attempt, intent.seq, tail, resumes=attempt - 1 if in_doubt else 0)
        started = anyio.current_time()
        try:
            await self._perform(due, call)
        except InDoubtError as error:
            if due.hook.on_failure != "warn":
                raise  # it stays in doubt, for a person to look at
            await self._say_failed(due, attempt, error, known=False, tail=tail, since=started)
        except FraisierError as error:
            if isinstance(error, LeaseLostError):
                raise
            known = not isinstance(error, (DeploymentTimeoutError, ProviderConnectionError))
            await self._say_failed(due, attempt, error, known=known, tail=tail, since=started)
            self._draw_consequence(due, error)
        else:
            took_s = round(anyio.current_time() - started, 6)
            await self._scribe.say(ev.HookSucceeded(**self._about(due), attempt=attempt, duration_s=took_s))

    async def _perform(self, due: Due, call: StepCall) -> None:
        place = {"target": due.target.name} if due.target is not None else {}
        with log_context(**place, step=f"hook:{due.hook.name}"):
            await self._within(due, call, due.hook.timeout_s)

    async def _within(self, due: Due, call: StepCall, limit_s: float) -> None:
        with anyio.CancelScope(deadline=anyio.current_time() + limit_s) as scope:
            try:
                await (
                    self._here.run(call) if due.hook.on == "orchestrator" else self._provider.perform(call)
                )
                return
            except FencedError as error:
                # A newer holder is at work there: it decides how this goes on.
                raise LeaseLostError(self._safe(error), context=error.context, cause=error) from error
            except FraisierError:
                raise
            except Exception as error:  # per-target isolation: a defect is a failure of this hook
                raise ProviderError(
                    f"internal error in {due}: {error!r}", code="INTERNAL_ERROR", cause=error
                ) from error
        if scope.cancelled_caught:
            raise DeploymentTimeoutError(
                f"{due} took longer than its timeout ({limit_s:g} s)", recoverable=False
            )

    def _draw_consequence(self, due: Due, error: FraisierError) -> None:
        """Raise what a failed hook means for what it stands at, unless it means nothing."""
        match due.hook.on_failure:
            case "warn":
                return
            case "rollback":
                self.demands_rollback = True
        if isinstance(error, ProviderConnectionError):
            raise error
        raise HookError(self._safe(error), context=error.context, cause=error)

    def _call(self, due: Due, attempt: int, seq: int, tail: list[str], *, resumes: int) -> StepCall:
        plan, target, step = self._plan, due.target, f"hook:{due.hook.name}"
        about = {**self._about(due), "step": step, "attempt": attempt}
        for key in ("phase", "name", "where"):
            del about[key]

        def on_output(stream: str, line: str) -> None:
            line = self._redactor.scrub(line)
            tail.append(line)
            del tail[:-_TAIL_LINES]
            self._scribe.bus.emit(ev.StepOutput(**about, stream=stream, line=line))

        settings = plan.settings if target is None else target.settings or plan.settings
        return StepCall(
            context=TargetContext(
                plan.fraise, plan.environment, Target(name="") if target is None else target.target, settings
            ),
            step=step,
            deployment_id=plan.deployment_id,
            attempt=attempt,
            token=(self._epoch, seq),
            log_id=self._log_id,
            resumes=resumes,
            abandoned=self._abandoned,
            release="" if target is None else target.release,
            version=plan.version if target is None else target.version,
            previous_release="" if target is None else target.previous_release,
            previous_version=plan.previous_version if target is None else target.previous_version,
            hook=HookCall(
                phase=due.point,
                number=due.number,
                name=due.hook.name,
                command=due.hook.command,
                outcome=due.outcome,
                in_release=target is not None and self._is_staged(due.point, target),
                may_repeat=due.hook.resume == "rerun",
            ),
            on_output=on_output,
        )

    # state

    @property
    def _state(self) -> DeploymentState:
        return self._scribe.deployment(self._plan.deployment_id)

    def _known(self, due: Due) -> StepState | None:
        if due.target is None:
            return self._state.hooks.get(due.key)
        target = self._state.targets.get(due.target.name)
        return None if target is None else target.steps.get(due.key)

    def _is_staged(self, point: str, target: PlanTarget) -> bool:
        """Whether the release is there. A cleanup may take it away, and a rollback has left it."""
        if point.endswith("_cleanup") or point in ENDINGS:
            return False
        known = self._state.targets.get(target.name)
        step = None if known is None else known.steps.get("stage")
        return step is not None and step.status == "succeeded"

    def _has_demanded_rollback(self) -> bool:
        for point, hooks in self._at.items():
            targets = [None, *self._plan.changes] if is_of_deployment(point) else self._plan.changes
            for number, hook in enumerate(hooks, 1):
                if hook.on_failure != "rollback":
                    continue
                for target in targets:
                    known = self._known(Due(point, number, hook, target))
                    if known is not None and known.status in ("failed", "unknown"):
                        return True
        return False

    # what is written

    async def _say_failed(
        self,
        due: Due,
        attempt: int,
        error: FraisierError,
        *,
        known: bool,
        tail: Sequence[str] = (),
        since: float | None = None,
    ) -> None:
        code = error.context.get("exit_code")
        await self._scribe.say(
            ev.HookFailed(
                **self._about(due),
                attempt=attempt,
                duration_s=0.0 if since is None else round(anyio.current_time() - since, 6),
                on_failure=due.hook.on_failure or "warn",
                exit_code=code if isinstance(code, int) else None,
                code=error.code,
                message=self._safe(error),
                known=known,
                output_tail=tuple(tail),
            )
        )

    def _about(self, due: Due) -> dict[str, Any]:
        return {
            "deployment_id": self._plan.deployment_id,
            "fraise": self._plan.fraise,
            "environment": self._plan.environment,
            "target": "" if due.target is None else due.target.name,
            "step": f"hook:{due.hook.name}",
            "phase": due.point,
            "name": due.hook.name,
            "where": due.hook.on or "",
        }

    def _safe(self, error: FraisierError) -> str:
        return self._redactor.scrub(error.message)
