"""What every deployment's life has in common: requested, under a lease, and an end that is always written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from fraisier.config.schema import Target
from fraisier.errors import (
    ConfigurationError,
    DatabaseError,
    DeploymentLockError,
    FraisierError,
    GuardRefusedError,
    InterruptedError,
    LeaseLostError,
    ProviderError,
)
from fraisier.events import Actor, Event, Record
from fraisier.events import types as ev
from fraisier.events.steering import SteeringRequest
from fraisier.journal.fold import DeploymentState, Tables
from fraisier.logging import log_context
from fraisier.providers.base import Artifact, Provider, TargetContext
from fraisier.rollout.beside import beside
from fraisier.rollout.hooks import Hooks
from fraisier.rollout.lease import Lease
from fraisier.rollout.look import Look
from fraisier.rollout.plan import Plan, Seen, decode_plan
from fraisier.rollout.reopen import (
    has_begun_hooks,
    hooks_in_doubt,
    in_doubt_for_good,
    open_deployments,
    whereabouts,
)
from fraisier.rollout.request import Request
from fraisier.rollout.resolving import Resolving, resolve_quietly
from fraisier.rollout.result import DeploymentResult, result_of
from fraisier.rollout.rollback import Rollbacks
from fraisier.rollout.scribe import Scribe
from fraisier.rollout.steering import REQUESTS
from fraisier.rollout.stop import StopSignal
from fraisier.rollout.unrecorded import unrecorded
from fraisier.rollout.world import World

_LAST_WORDS_S = 15.0
_ELSEWHERE = "another process carried it out while this one waited for the lock"
_REDUCED_TO_NAME = {"locked", "skipped"}
_ENDS: dict[type[Event], str] = {
    ev.DeploymentSucceeded: "succeeded",
    ev.DeploymentFailed: "failed",
    ev.DeploymentRolledBack: "rolled_back",
    ev.DeploymentAborted: "aborted",
}
"""The ends of a deployment, with the outcome of those that have but one."""


class Life(ABC):
    """One run over one fraise in one environment. Subclasses do the work between lease and terminal row."""

    kind = "deploy"

    def __init__(
        self,
        world: World,
        request: Request,
        *,
        stop: StopSignal | None = None,
        resumes: DeploymentState | None = None,
    ) -> None:
        self._frozen = decode_plan(resumes.plan) if resumes is not None and resumes.plan else None
        """The plan of a deployment that is resumed, if it has come to one."""
        self._fraise, self._settings = whereabouts(
            world.config, request.fraise, request.environment, self._frozen
        )
        self._world = world
        self._stop = stop or StopSignal()
        self._environment = request.environment
        self._resumes = resumes is not None
        self._actor = request.actor
        self._options = request.options()
        self._lock_wait_s = request.lock_wait_s
        self.deployment_id = resumes.id if resumes is not None else world.ids.deployment()
        self._scribe = Scribe(world.bus, Tables(), scrub=world.redactor.scrub)
        self._hooks: Hooks | None = None
        self._was = ""
        """The state that a resumed deployment was found in."""
        self._started = 0.0
        self._is_recorded = False
        """Whether it happens, and is written down, or is only foreseen."""
        if missing := world.resolver.missing(self._settings):
            raise ConfigurationError(
                f"{request.fraise} in {request.environment} needs values that are not set: {', '.join(missing)}",
                context={"missing": missing},
                hint="set the variables or make the files, then run the command again",
            )
        if unreadable := world.resolver.unreadable(self._settings):
            raise ConfigurationError(
                "; ".join(unreadable), hint="run `fraisier validate`, which names the places"
            )

    @abstractmethod
    async def _leased(self, lease: Lease, provider: Provider) -> DeploymentResult:
        """Do the work while the lease is held, and write the end."""

    async def run(self) -> DeploymentResult:
        """Return how it ended. Raises what leaves no terminal row: a lost lease, a store that does not answer, cancellation
        (after `deployment.interrupted` was written), and the lock of a deployment that was to be resumed."""
        self._started, self._is_recorded = anyio.current_time(), True
        self._has_lease = anyio.Event()
        with self._world.helm.heard(self.deployment_id) as requests, log_context(**self._about()):
            return await beside(self._live, lambda: self._attend(requests), f"requests:{self.deployment_id}")

    async def _live(self) -> DeploymentResult:
        if not self._resumes:
            with anyio.CancelScope(shield=True):  # what was asked for is recorded, so that its end can be
                await self._say_requested()
            self._scribe.guard = self._not_taken_up
        try:
            return await self._with_end()
        except GuardRefusedError as error:
            if self._scribe.guard == self._not_taken_up and await self._has_ended_elsewhere():
                return self._result(_ELSEWHERE)
            raise LeaseLostError(error.message, cause=error) from error

    async def _with_end(self) -> DeploymentResult:
        """Return how it ended, with its end written where that is known here."""
        try:
            return await self._under_lease()
        except DeploymentLockError as error:
            if self._resumes:
                raise
            await self._end_failed("locked", "locked", error.message)
            return self._result(error.hint)
        except InterruptedError as error:
            if not self._is_ours:
                raise
            await self._stopped(error.message)
            return self._result()
        except DatabaseError as error:
            failure = self._scribe.failure or error
            raise unrecorded(failure, self._scribe.tables.deployments.values()) from error
        except anyio.get_cancelled_exc_class():
            await self._last_words()
            raise

    async def _under_lease(self) -> DeploymentResult:
        leases = self._world.leases
        async with leases.hold(
            self._fraise.name,
            self._environment,
            self.deployment_id,
            wait_s=self._lock_wait_s,
            stop=self._stop,
            force=bool(self._options.get("force")),
            is_new=not self._resumes,
        ) as lease:
            if not self._resumes and await self._has_ended_elsewhere():
                return self._result(_ELSEWHERE)
            self._scribe.guard = lease.guard
            self._has_lease.set()
            if self._resumes and not await self._reopen():
                return self._result("it has ended already; `fraisier history` lists what came after it")
            provider = self._world.make_provider(self._settings)
            try:
                return await lease.while_held(lambda: self._leased_or_stopped(lease, provider))
            except anyio.get_cancelled_exc_class():
                await self._last_words()
                raise
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(_LAST_WORDS_S):
                    await provider.aclose()

    async def _leased_or_stopped(self, lease: Lease, provider: Provider) -> DeploymentResult:
        try:
            return await self._leased(lease, provider)
        except InterruptedError as error:
            await self._stopped(error.message)
            return self._result()

    async def _last_words(self) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(_LAST_WORDS_S):
            if self._has_ended or not self._is_ours:
                return
            for target in self._state.targets.values():
                step = target.steps.get(target.step)
                if step is not None and step.status == "started" and not target.outcome:
                    detail = f"{target.step} was cut off; `fraisier resume` looks at what it did"
                    await self._say(
                        ev.TargetInDoubt(**self._about(), target=target.name, step=target.step, detail=detail)
                    )
            await self._interrupted("cancelled", "the task that ran the deployment was cancelled")

    def _not_taken_up(self, tables: Tables) -> str:
        """Without the lease, the end of a deployment may be written only while nobody else has taken it up."""
        found = tables.find_deployment(self.deployment_id)
        lease = tables.find_lease(self._fraise.name, self._environment)
        if found is not None and found.is_terminal:
            return f"it has ended already: {found.outcome}"
        held = lease is not None and lease.held and lease.deployment_id == self.deployment_id
        return "another process has taken it up" if held or (found is not None and found.plan) else ""

    async def _has_ended_elsewhere(self) -> bool:
        """Whether another process took up what was requested here, while this one waited for the lease; then its story is
        known from now on. Raises LeaseLostError when that process did not bring it to an end."""
        state = await self._world.journal.deployment(self.deployment_id)
        if state is None or not (state.is_terminal or state.plan):
            return False
        if not state.is_terminal:
            raise LeaseLostError(
                f"deployment {state.id} was taken up by another process, and is {state.state}",
                hint=f"run `fraisier resume {state.id}`",
            )
        self._scribe.tables.deployments[state.id] = state
        return True

    async def _reopen(self) -> bool:
        """Take over what the journal tells of the deployment, now that nobody else can change it; return False when it
        has ended meanwhile."""
        journal = self._world.journal
        state = await journal.deployment(self.deployment_id)
        if state is None:  # pragma: no cover - it was read before, and rows are not deleted
            return False
        self._was = state.state
        self._scribe.tables.deployments[state.id] = state
        linked = {state.child_id, *state.children.values()} - {""}
        for child_id in sorted(linked):
            child = await journal.deployment(child_id)
            if child is not None:
                self._scribe.tables.deployments[child_id] = child
        if state.is_terminal:
            return False
        if state.asked == "abort":
            self._stop.request("an abort was asked for", abort=True)
        await self._say(ev.DeploymentResumed(**self._about(), actor=self._actor, detail=f"was {state.state}"))
        return True

    async def _stopped(self, detail: str) -> None:
        """Write the end of a deployment that was stopped before anything was begun."""
        if self._stop.aborted and not any(target.begun for target in self._state.targets.values()):
            await self._say_aborted(detail)
        else:
            await self._interrupted("interrupted", detail)

    async def _say_aborted(self, detail: str) -> None:
        await self._say(
            ev.DeploymentAborted(**self._about(), reason="aborted", detail=detail, duration_s=self._took_s())
        )

    # what people ask for

    async def _attend(self, requests: MemoryObjectReceiveStream[Record]) -> None:
        """Answer what is asked from any terminal, for as long as the deployment runs here."""
        async for record in requests:
            if not isinstance(record.event, SteeringRequest) or not self._is_ours:
                continue
            action, actor = REQUESTS[record.event.__class__], record.event.actor
            try:
                effect, detail = await self._asked(action, actor)
                if not effect:
                    continue  # who asks finds nobody in a moment, and does it instead
                await self._say_for_asker(
                    ev.DeploymentAcknowledged(
                        **self._about(), action=action, request_seq=record.seq, effect=effect, detail=detail
                    )
                )
            except GuardRefusedError:
                return  # the lease is another's, who answers from now on
            except DatabaseError:
                return  # the scribe knows, and lets the deployment end at its next fact

    async def _say_for_asker(self, event: Event) -> None:
        """Say what follows from a request. In the moment in which a deployment that waited gets its lease, it looks as if
        another process had taken it up: then this is said under the lease, or never, when it was another process."""
        guard = self._scribe.guard
        try:
            await self._say(event)
        except GuardRefusedError:
            if guard != self._not_taken_up:
                raise
            await self._has_lease.wait()
            await self._say(event)

    async def _asked(self, action: str, actor: Actor) -> tuple[str, str]:
        """Do what was asked, and return its effect (done, already, refused; empty: it is for others) with a sentence."""
        return "refused", "a rollback goes on to its end: to leave it half-way would help nobody"

    async def _unfinished(self) -> list[DeploymentState]:
        """Return the deployments that a dead holder left behind."""
        found = await open_deployments(self._world.journal, self._fraise.name, self._environment)
        return [old for old in found if old.id != self.deployment_id and not self._may_wait(old)]

    async def _refusal(self, *, force: bool) -> str:
        """Return why what a dead holder left behind may not be replaced, or nothing."""
        for old in () if force else await self._unfinished():
            if refusal := await self._must_be_looked_at(old):
                return refusal
        return ""

    async def _or_go_on(self, hint: str) -> str:
        """Return what to do after a refusal; what was left behind is as it was, and can still be ended."""
        ids = [old.rollback_of or old.id for old in await self._unfinished()]
        ways = [
            f"`fraisier resume {name}` or `fraisier abort {name}` ends what is unfinished" for name in ids[:1]
        ]
        return "; ".join([*([hint] if hint else []), *ways])

    async def _supersede_unfinished(self) -> None:
        """Give deployments that a dead holder left behind their terminal row. Nobody can resume them from then on, so this
        waits until what replaces them is known to be possible."""
        for old in await self._unfinished():
            detail = f"was {old.state}; replaced by {self.deployment_id}"
            await self._say(
                ev.DeploymentSuperseded(
                    deployment_id=old.id,
                    fraise=old.fraise,
                    environment=old.environment,
                    reason="superseded",
                    detail=detail,
                    by=self.deployment_id,
                )
            )
            await self._end_hooks(old)

    async def _end_hooks(self, old: DeploymentState) -> None:
        """Nobody will ask for what hooks of a deployment that was replaced come to."""
        full = await self._world.journal.deployment(old.id)
        if full is not None and has_begun_hooks(full):
            await self._world.hook_runner.forget(old.id)

    async def _must_be_looked_at(self, old: DeploymentState) -> str:
        """Return why a person must look at an unfinished deployment before another one may begin, or nothing."""
        if old.state == "needs_attention" and not old.rollback_of:
            return f"deployment {old.id} needs attention ({old.reason}): {old.detail}"
        full = await self._world.journal.deployment(old.id)
        if full is not None and (names := in_doubt_for_good(full)):
            return (
                f"deployment {old.id} was cut off in its migration on {', '.join(names)}, which may have happened; "
                f"`fraisier resume {old.id}` looks"
            )
        if full is not None and (names := hooks_in_doubt(full)):
            return (
                f"deployment {old.id} was cut off in {', '.join(names)}, which may still run or have had its effect; "
                f"`fraisier resume {old.id}` looks"
            )
        return ""

    def _may_wait(self, old: DeploymentState) -> bool:
        """Whether a deployment may still wait for the lease in a process that lives. It never held it, so it touched
        nothing; once it has a version it held the lease, which is ours now."""
        if old.state not in ("planned", "queued") or old.version:
            return False
        wait_s = float(old.request.get("lock_wait_s", 0.0)) + self._world.config.lease.ttl_s
        return self._world.clock.now_us() < old.requested_us + int(wait_s * 1_000_000)

    async def _look(self, provider: Provider, chosen: Sequence[Target]) -> dict[str, Seen]:
        """Look at the whole fleet. Raises ProviderError when one of `chosen` answers but cannot be looked at."""
        look = Look(
            self._world.bus,
            provider,
            self.deployment_id,
            max_parallel=self._settings.rollout.max_parallel,
            versions=await self._world.versions(self._fraise.name, self._environment),
        )
        seen = await look.at(self._contexts())
        for target in chosen:
            if problem := seen[target.name].problem:
                raise ProviderError(f"{target.name}: cannot see what is there: {problem}")
        return seen

    async def _resolve(self, provider: Provider, ref: str) -> Artifact:
        """Return what a version means; its source is asked as often as recovery says. Raises the last attempt's error."""
        if not self._is_recorded:
            return await resolve_quietly(self._world, provider, self._settings, ref)
        asking = Resolving(self._world, self._scribe, provider, self._settings, self._about())
        return await asking.resolve(ref)

    # what is written

    async def _say_requested(self) -> None:
        await self._say(
            ev.DeploymentRequested(
                **self._about(),
                kind=self.kind,
                fraise_type=self._fraise.type,
                provider=self._settings.provider,
                actor=self._actor,
                request=self._options,
            )
        )

    async def _end_failed(self, outcome: str, reason: str, detail: str) -> None:
        if outcome in _REDUCED_TO_NAME:
            self._scribe.guard = (
                self._not_taken_up
            )  # the lease is another's; this row changes nothing that it protects
        await self._say(
            ev.DeploymentFailed(
                **self._about(), outcome=outcome, reason=reason, detail=detail, duration_s=self._took_s()
            )
        )

    async def _interrupted(self, reason: str, detail: str) -> None:
        if not self._has_ended:
            await self._say(
                ev.DeploymentInterrupted(
                    **self._about(), reason=reason, detail=detail, duration_s=self._took_s()
                )
            )

    async def _say(self, event: Event) -> None:
        """Record an event; before the end of the deployment comes what its hooks always do."""
        hooks = self._hooks
        outcome = _ENDS.get(event.__class__) if event.deployment_id == self.deployment_id else None
        if hooks is not None and outcome is not None:
            await hooks.ending("always", getattr(event, "outcome", outcome))
        await self._scribe.say(event)
        if hooks is not None and outcome is not None:
            await hooks.forget()

    def _make_hooks(self, plan: Plan, lease: Lease, provider: Provider, *, skip: bool = False) -> Hooks:
        """Return the hooks that the plan froze; from now on some of them run at the end of the deployment."""
        self._hooks = Hooks(
            plan,
            scribe=self._scribe,
            provider=provider,
            here=self._world.hook_runner,
            redactor=self._world.redactor,
            stop=self._stop,
            epoch=lease.epoch,
            log_id=self._world.journal.fence_id,
            skip=skip,
            abandoned=lambda: lease.is_lost,
        )
        return self._hooks

    def _rollbacks(self, lease: Lease, provider: Provider) -> Rollbacks:
        return Rollbacks(
            self._world,
            scribe=self._scribe,
            provider=provider,
            epoch=lease.epoch,
            abandoned=lambda: lease.is_lost,
        )

    # small things

    @property
    def _state(self) -> DeploymentState:
        return self._scribe.deployment(self.deployment_id)

    @property
    def _is_ours(self) -> bool:
        """Whether we may write about it: who waits for the lease to go on with a deployment may not, for another process
        carries it out, or may any moment."""
        return not self._resumes or self._scribe.guard is not None

    @property
    def _has_ended(self) -> bool:
        """Whether its end is written, or its hold. A pause that a person asked for is neither: it ends with the process."""
        by_hand = self._state.state == "paused" and self._state.reason == "requested"
        return bool(self._state.outcome) and not by_hand

    def _contexts(self) -> list[TargetContext]:
        """Every target of the environment: capacity is counted over all of them, not only over the chosen ones."""
        return [self._context(target) for target in self._settings.targets]

    def _context(self, target: Target) -> TargetContext:
        return TargetContext(self._fraise.name, self._environment, target, self._settings)

    def _about(self) -> dict[str, Any]:
        return {
            "deployment_id": self.deployment_id,
            "fraise": self._fraise.name,
            "environment": self._environment,
        }

    def _safe(self, error: FraisierError) -> str:
        return self._world.redactor.scrub(error.message)

    def _took_s(self) -> float:
        return round(anyio.current_time() - self._started, 6) if self._started else 0.0

    def _result(self, hint: str = "") -> DeploymentResult:
        return result_of(self._state, self._world.journal.head_hash, hint)
