"""One step on one target: intent, act, outcome, and what recovery decides in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import msgspec

from fraisier.clock import Clock
from fraisier.errors import (
    DatabaseError,
    DeploymentError,
    DeploymentTimeoutError,
    FencedError,
    FraisierError,
    HealthCheckError,
    InDoubtError,
    LeaseLostError,
    ProviderConnectionError,
    ProviderError,
)
from fraisier.events import types as ev
from fraisier.journal.fold import DeploymentState, StepState
from fraisier.logging import log_context
from fraisier.providers.base import Provider, StepCall, TargetContext
from fraisier.recovery import retry_after_of
from fraisier.redaction import Redactor
from fraisier.rollout.course import Course
from fraisier.rollout.hooks import Hooks
from fraisier.rollout.patience import Patience
from fraisier.rollout.plan import Plan, PlanTarget
from fraisier.rollout.scribe import Scribe
from fraisier.rollout.stop import StopSignal

ASK_AGAIN = frozenset({"verify", "bake"})
"""Steps whose earlier success proves nothing now."""

HEALTH_STEPS = ASK_AGAIN
_LIMIT_KEYS = {"stage": "build_timeout", "migrate": "migrate.timeout"}
"""The configuration key that bounds a step, where it has one of its own."""

_TAIL_LINES = 20
_RESPONDER_GRACE_S = 30.0
_STEP_TIMEOUT_S = {"preflight": 60.0, "switch": 60.0, "cleanup": 120.0}


class StepRunner:
    """Takes the steps of one plan. Every step is in the journal before it touches its target."""

    def __init__(
        self,
        plan: Plan,
        *,
        scribe: Scribe,
        provider: Provider,
        redactor: Redactor,
        clock: Clock,
        stop: StopSignal,
        epoch: int,
        log_id: str = "",
        hooks: Hooks | None = None,
        abandoned: Callable[[], bool] | None = None,
    ) -> None:
        self.plan = plan
        self._abandoned = abandoned
        self.hooks = hooks
        self.scribe = scribe
        self.provider = provider
        self.redactor = redactor
        self.clock = clock
        self.stop = stop
        self.epoch = epoch
        self.log_id = log_id

    @property
    def state(self) -> DeploymentState:
        """The live state of the deployment."""
        return self.scribe.deployment(self.plan.deployment_id)

    def context(self, target: PlanTarget, step: str = "") -> TargetContext:
        """Return the target with the settings that its release was planned with. A migration is undone as the plan says that
        did it, not as the release does that comes back."""
        settings = target.settings or self.plan.settings
        if step == "migrate" and target.undo_migrate:
            settings = self.plan.settings
        return TargetContext(self.plan.fraise, self.plan.environment, target.target, settings)

    def course(self) -> Course:
        """Return what consecutive steps of one target are taken in."""
        return Course(self.scribe)

    async def take(
        self, course: Course, target: PlanTarget, step: str, *, keep: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Take a step with its hooks, as often as recovery says, and return its evidence; `course` says that it succeeded
        with the next fact. Raises the last attempt's error, or HookError."""
        await self._run_hooks(course, f"before_{step}", target)
        with log_context(step=step):
            evidence = await self._take(course, target, step, keep)
        await self._run_hooks(course, f"after_{step}", target)
        return evidence

    async def _run_hooks(self, course: Course, point: str, target: PlanTarget) -> None:
        if self.hooks is not None and self.hooks.has(point):
            await course.settle()
            await self.hooks.around(point, target)

    async def _take(
        self, course: Course, target: PlanTarget, step: str, keep: tuple[str, ...]
    ) -> dict[str, Any]:
        earlier = self._earlier(target, step)
        if earlier is not None and earlier.status == "succeeded" and step not in ASK_AGAIN:
            return dict(earlier.evidence)
        attempt = 0 if earlier is None else earlier.attempt
        strategy = ""
        until = anyio.current_time() + self._timeout_s(target, step)
        while True:
            self.stop.check()
            attempt += 1
            try:
                evidence = await self._attempt(course, target, step, attempt, keep, until)
            except FraisierError as error:
                if isinstance(error, (LeaseLostError, DatabaseError, InDoubtError)):
                    raise
                decision = await self._recover(target, step, attempt, error)
                # The attempts of a step share its timeout; a wait beyond it leads to none.
                too_late = anyio.current_time() + decision.delay_s >= until
                if decision.action != "retry" or too_late:
                    if strategy:
                        await self.scribe.say(
                            ev.RecoveryFailed(
                                **self._about(target, step),
                                attempt=attempt,
                                strategy=strategy,
                                message=self.safe(error),
                            )
                        )
                    raise
                strategy = decision.strategy
                await self.stop.sleep(decision.delay_s)
            else:
                if strategy:
                    about = self._about(target, step)
                    course.hold(ev.RecoverySucceeded(**about, attempt=attempt, strategy=strategy))
                return evidence

    def in_doubt(self, target: PlanTarget, step: str) -> bool:
        """Whether a step was begun by an earlier process, and nobody recorded how it ended."""
        earlier = self._earlier(target, step)
        return earlier is not None and earlier.status in ("started", "unknown")

    async def settle(self, target: PlanTarget, step: str) -> None:
        """Find out what became of a step in doubt, and begin nothing: before going back, what still happens at the target
        must have come to its end. Raises InDoubtError when nobody can know."""
        earlier = self._earlier(target, step)
        if earlier is None or not self.in_doubt(target, step):
            return
        attempt, patience = earlier.attempt, Patience(self._timeout_s(target, step))
        while True:
            attempt += 1
            try:
                async with self.course() as course:
                    await self._attempt(course, target, step, attempt, (), patience.until, settles=True)
                return
            except (LeaseLostError, DatabaseError, InDoubtError):
                raise
            except FraisierError as error:
                if _is_known(error) and not isinstance(error, ProviderConnectionError):
                    return  # it is in the journal as failed
                if not await patience.wait():
                    # A build that goes on harms nobody; a migration would, whatever is done after it.
                    if step == "migrate":
                        what = f"whether the migration on {target.name} still runs is not known: {self.safe(error)}"
                        raise InDoubtError(what, context=error.context, cause=error) from error
                    return

    # one attempt

    async def _attempt(
        self,
        course: Course,
        target: PlanTarget,
        step: str,
        attempt: int,
        keep: tuple[str, ...],
        until: float,
        *,
        settles: bool = False,
    ) -> dict[str, Any]:
        about = self._about(target, step)
        before = (
            {"invocation": target.baseline, "current": target.current_release}
            if step in ("switch", "restart")
            else {"settles": True}
            if settles
            else {}
        )
        earlier = self._earlier(target, step)
        in_doubt = self.in_doubt(target, step)
        intent = await course.say(ev.StepStarted(**about, attempt=attempt, before=before))
        tail: list[str] = []

        def on_output(stream: str, line: str) -> None:
            line = self.redactor.scrub(line)
            tail.append(line)
            del tail[:-_TAIL_LINES]
            self.scribe.bus.emit(ev.StepOutput(**about, attempt=attempt, stream=stream, line=line))

        started = anyio.current_time()
        try:
            evidence = await self._act(
                target,
                step,
                StepCall(
                    context=self.context(target, step),
                    step=step,
                    deployment_id=self.plan.deployment_id,
                    attempt=attempt,
                    token=(self.epoch, intent.seq),
                    log_id=self.log_id,
                    resumes=earlier.attempt if earlier is not None and in_doubt else 0,
                    settles=settles,
                    abandoned=self._abandoned,
                    keep=keep,
                    on_output=on_output,
                ),
                until,
            )
        except FencedError as error:
            # A newer holder is at work there: it decides how this goes on, so nothing is written and nothing undone.
            raise LeaseLostError(self.safe(error), context=error.context, cause=error) from error
        except FraisierError as error:
            # That we cannot connect now tells nothing about the attempt that was in doubt before.
            known = _is_known(error) and not (in_doubt and isinstance(error, ProviderConnectionError))
            await self.scribe.say(
                ev.StepFailed(
                    **about,
                    attempt=attempt,
                    duration_s=round(anyio.current_time() - started, 6),
                    code=error.code,
                    error_type=type(error).__name__,
                    message=self.safe(error),
                    recoverable=error.recoverable,
                    known=known,
                    output_tail=tuple(tail),
                )
            )
            if not known and self.is_in_doubt_for_good(target, step):
                raise InDoubtError(self.safe(error), context=error.context, cause=error) from error
            raise
        duration_s = round(anyio.current_time() - started, 6)
        course.hold(ev.StepSucceeded(**about, attempt=attempt, duration_s=duration_s, evidence=evidence))
        return evidence

    async def _act(
        self,
        target: PlanTarget,
        step: str,
        call: StepCall,
        until: float,
    ) -> dict[str, Any]:
        if step in HEALTH_STEPS:
            return await self.ask_health(target, step)
        undo = step == "migrate" and bool(target.undo_migrate)
        call = msgspec.structs.replace(
            call,
            release=target.undo_migrate if undo else target.release,
            version=target.version,
            previous_release=target.previous_release,
            previous_version=target.previous_version,
            artifact=self.plan.artifact,
            undo=undo,
        )
        timeout_s = self._timeout_s(target, step)
        with anyio.CancelScope(deadline=until) as scope:
            try:
                return await self.provider.perform(call)
            except FraisierError:
                raise
            except Exception as error:  # per-target isolation: a provider's defect is a failure of this step
                what = f"internal error in {step} on {target.name}: {error!r}"
                raise ProviderError(what, code="INTERNAL_ERROR", cause=error) from error
        if not scope.cancelled_caught:  # pragma: no cover - the scope returns or is cancelled
            raise DeploymentError(f"{step} on {target.name} ended without a result")
        raise DeploymentTimeoutError(
            f"{step} on {target.name} took longer than {_LIMIT_KEYS.get(step, 'timeout')} ({timeout_s:g} s)",
            context={"step": step, "target": target.name, "timeout_s": timeout_s},
            recoverable=False,
        )

    async def ask_health(self, target: PlanTarget, purpose: str) -> dict[str, Any]:
        """Return the evidence that the target is healthy. Raises HealthCheckError with the responder's reason."""
        settings = self.context(target).settings
        check = settings.health_check
        expected_s = settings.rollout.min_healthy_time_s + (
            check.deadline_s + check.initial_delay_s if check else 0.0
        )
        request = ev.HealthRequested(
            **self._about_target(target),
            purpose=purpose,
            release=target.release,
            version=target.version,
            baseline=target.baseline,
        )
        verdict = await self.scribe.ask(request, timeout_s=expected_s + _RESPONDER_GRACE_S)
        if isinstance(verdict, ev.HealthFailed):
            raise HealthCheckError(
                verdict.message or f"{target.name} is not healthy ({verdict.reason})",
                context={"reason": verdict.reason, "bad": verdict.bad, "target": target.name},
                recoverable=False,
            )
        assert isinstance(verdict, ev.HealthPassed)
        return {"probes": verdict.counts, **verdict.evidence}

    def is_in_doubt_for_good(self, target: PlanTarget, step: str) -> bool:
        """Whether a step of this kind may not be repeated once nobody knows if it happened."""
        migrate = self.context(target, "migrate").settings.migrate
        return step == "migrate" and migrate is not None and migrate.resume == "manual"

    # recovery

    async def _recover(
        self, target: PlanTarget, step: str, attempt: int, error: FraisierError
    ) -> ev.RecoveryDecided:
        settings = self.context(target).settings
        retry = settings.recovery.retry
        decided = await self.scribe.ask(
            ev.RecoveryRequested(
                **self._about(target, step),
                attempt=attempt,
                provider=self.plan.provider,
                code=error.code,
                error_type=type(error).__name__,
                message=self.safe(error),
                recoverable=error.recoverable,
                # The next attempt of a migration that may be repeated finds the one that was begun, and waits for it.
                known=_is_known(error) or (step == "migrate" and not self.is_in_doubt_for_good(target, step)),
                max_attempts=retry.max_attempts,
                base_delay_s=retry.base_delay_s,
                backoff_factor=retry.backoff_factor,
                max_delay_s=retry.max_delay_s,
                retry_after_s=retry_after_of(error, clock=self.clock),
                on_failure=settings.rollout.on_failure,
            ),
            timeout_s=_RESPONDER_GRACE_S,
        )
        assert isinstance(decided, ev.RecoveryDecided)
        return decided

    # small things

    def _earlier(self, target: PlanTarget, step: str) -> StepState | None:
        known = self.state.targets.get(target.name)
        return None if known is None else known.steps.get(step)

    def _timeout_s(self, target: PlanTarget, step: str) -> float:
        settings = self.context(target, step).settings
        if step == "stage":
            return settings.build_timeout_s
        if step == "migrate" and settings.migrate is not None:
            return settings.migrate.timeout_s
        if step == "restart" and settings.service is not None:
            return settings.service.stop_timeout_s + 60.0
        return _STEP_TIMEOUT_S.get(step, settings.timeout_s)

    def _about_target(self, target: PlanTarget) -> dict[str, Any]:
        plan = self.plan
        return {
            "deployment_id": plan.deployment_id,
            "fraise": plan.fraise,
            "environment": plan.environment,
            "target": target.name,
        }

    def _about(self, target: PlanTarget, step: str) -> dict[str, Any]:
        return {**self._about_target(target), "step": step}

    def safe(self, error: FraisierError) -> str:
        """Return the error's message without any known secret."""
        return self.redactor.scrub(error.message)


def _is_known(error: FraisierError) -> bool:
    """Whether the failure says that the step did not happen: neither a timeout nor a defect does."""
    unknown = isinstance(error, (DeploymentTimeoutError, InDoubtError)) or bool(error.context.get("in_doubt"))
    return not unknown and error.code != "INTERNAL_ERROR"
