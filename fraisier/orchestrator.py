"""The composition root: one object that deploys, undoes, watches and tells, for the command line and for embedders."""

from __future__ import annotations

import getpass
import importlib
import logging
import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from fraisier import reports
from fraisier.audit import AuditSubscriber, load_or_make_key
from fraisier.bus import Bus, BusStatistics
from fraisier.clock import Clock, SystemClock
from fraisier.config.addresses import addresses
from fraisier.config.resolve import Resolver
from fraisier.config.schema import Config, Environment, Retry
from fraisier.error_handler import ErrorHandler, RecoveryResponder
from fraisier.errors import FraisierError, NotFoundError, UsageError
from fraisier.events import Actor, Event, Record
from fraisier.events import types as ev
from fraisier.health_check import HealthResponder, HealthSubject
from fraisier.ids import Ids, SystemIds
from fraisier.journal.base import Journal
from fraisier.journal.claims import Claims, FileClaims, UncontestedClaims
from fraisier.journal.fold import DeploymentState
from fraisier.journal.store import choose_store_url, default_state_dir, open_journal, store_path
from fraisier.logging import LoggingSubscriber
from fraisier.metrics import MetricsRecorder, MetricsSubscriber
from fraisier.providers.base import Action, Provider, ProviderFactory, ProviderServices
from fraisier.providers.hooks import HookRunner, HooksHere
from fraisier.providers.registry import find_factory
from fraisier.recovery import RetryStrategy
from fraisier.redaction import Redactor
from fraisier.rollout import resume
from fraisier.rollout.circuits import Circuits, unguarded
from fraisier.rollout.deployer import Deployer
from fraisier.rollout.fallback import is_beside
from fraisier.rollout.fleet import Fleet
from fraisier.rollout.lease import Leases
from fraisier.rollout.locks import Locks
from fraisier.rollout.order import deploy_in_order
from fraisier.rollout.plan import Plan, Seen
from fraisier.rollout.processes import ProcessTable, SystemProcesses
from fraisier.rollout.reopen import open_deployments
from fraisier.rollout.request import DeployRequest, RollbackRequest
from fraisier.rollout.result import DeploymentResult, result_of
from fraisier.rollout.steer import Steered, Steering
from fraisier.rollout.steering import Helm
from fraisier.rollout.stop import StopSignal
from fraisier.rollout.subjects import Subjects
from fraisier.rollout.undo import Undo
from fraisier.rollout.world import World

REQUESTS: tuple[type[Event], ...] = (ev.HealthRequested, ev.RecoveryRequested)
"""The questions that somebody must answer before anything is deployed."""

_SILENT = logging.NullHandler()
"""One for all orchestrators: a logger goes through its handlers at each line, and keeps them for ever."""


class Orchestrator:
    """Brings versions of fraises to their targets; the same object behind the command line, a daemon and an embedder.

    `store` is a URL (`sqlite:///PATH`, `memory:`) or a journal of your own; empty means the configuration's, else the
    default place. Every other argument replaces one port: the clock, identifiers, randomness (for jitter), the process
    table, the environment that secrets come from, providers by type, the metrics recorder, what runs hooks here, the error
    handler. Strategies that are registered with `orchestrator.error_handler` are asked about a failure before those of the
    environment, and it counts the errors of all deployments. Nothing is shared between two orchestrators of one process. Use
    it as an async context manager; leaving it drains the subscribers, with a deadline.
    """

    def __init__(
        self,
        config: Config,
        store: str | Journal | None = None,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
        rng: random.Random | None = None,
        processes: ProcessTable | None = None,
        environ: Mapping[str, str] | None = None,
        providers: Mapping[str, ProviderFactory] | None = None,
        actor: Actor | None = None,
        metrics: MetricsRecorder | None = None,
        redactor: Redactor | None = None,
        hook_runner: HookRunner | None = None,
        error_handler: ErrorHandler | None = None,
        drain_s: float = 5.0,
    ) -> None:
        self.config = config
        self._environ = dict(os.environ if environ is None else environ)
        self._clock = clock or SystemClock()
        self._ids = ids or SystemIds(self._clock)
        self._rng = rng or random.Random()  # noqa: S311 - jitter needs no secrecy
        self._providers = dict(providers or {})
        self._actor = actor or local_actor("api")
        self._metrics = metrics or MetricsRecorder()
        self.error_handler = error_handler or ErrorHandler(clock=self._clock)
        self.redactor = redactor or Redactor()
        resolver = Resolver(
            self._environ, self.redactor, Path(config.path).parent if config.path else Path.cwd()
        )
        self._learn_secrets(resolver)
        if store is None or isinstance(store, str):
            configured = resolver.text(config.store.url, {})
            self.store_url = choose_store_url(
                option=store or "", environ=self._environ, configured=configured, uid=os.getuid()
            )
            self.journal: Journal = open_journal(self.store_url, clock=self._clock, ids=self._ids)
        else:
            self.store_url = "memory:"
            self.journal = store
        path = store_path(self.store_url)
        self._store_directory = path.parent if path is not None else None
        claims: Claims = UncontestedClaims()
        if self._store_directory is not None:
            claims = FileClaims(self._store_directory / "claims")
        self.bus = Bus(
            self.journal,
            clock=self._clock,
            ids=self._ids,
            drain_s=drain_s,
            claims=claims,
            redact=self.redactor.scrub,
        )
        processes = processes or SystemProcesses()
        owner = f"{self._actor.user}@{self._actor.host}"
        self._subjects = Subjects()
        self._circuits = Circuits(self.bus, self._clock)
        self._helm = Helm()
        self._world = World(
            config=config,
            bus=self.bus,
            journal=self.journal,
            clock=self._clock,
            ids=self._ids,
            leases=Leases(
                self.bus,
                self.journal,
                clock=self._clock,
                processes=processes,
                settings=config.lease,
                owner=owner,
            ),
            resolver=resolver,
            redactor=self.redactor,
            subjects=self._subjects,
            helm=self._helm,
            make_provider=self._make_provider,
            make_retry=self._make_retry,
            hook_runner=hook_runner or self._hooks_here(resolver),
        )
        self._steering = Steering(self._world, self._actor, self._run)
        self._locks = Locks(self._world.leases, config, self._actor)
        # An application that set up no logging shall not see our events as bare words on its stderr.
        logging.getLogger("fraisier").addHandler(_SILENT)
        self._stack = AsyncExitStack()
        self._stops: set[StopSignal] = set()
        self._stop_reason = ""

    # life

    async def __aenter__(self) -> Orchestrator:
        """Open the store, start the bus with its subscribers and responders. Raises DatabaseConnectionError."""
        async with AsyncExitStack() as stack:
            self._attach_forwards(stack)  # before the bus, so that what they hold open is closed after it
            await stack.enter_async_context(self.bus)
            await self._attach(stack)
            self._refuse_silence()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the subscribers finish what they were given, then close the store."""
        # Told what ended the body, so that a failure to close in order does not hide it.
        await self._stack.__aexit__(error_type, error, trace)

    async def _attach(self, stack: AsyncExitStack) -> None:
        health = HealthResponder(self._subject, clock=self._clock, emit=self.bus.emit)
        stack.push_async_callback(health.aclose)
        self.bus.respond(ev.HealthRequested, health)
        self.bus.respond(ev.RecoveryRequested, RecoveryResponder(self.error_handler, rng=self._rng))
        key = load_or_make_key(self._world.resolver.text(self.config.audit.key, {}), self._store_directory)
        audit = AuditSubscriber(self.journal, self.bus.publish, key=key.secret, key_id=key.id)
        self.bus.subscribe(audit.name, audit.patterns, audit, durable=True)
        metrics = MetricsSubscriber(self._metrics, find=self.journal.deployment)
        self.bus.subscribe(metrics.name, metrics.patterns, metrics)
        self.bus.subscribe(self._helm.name, self._helm.patterns, self._helm)
        lines = LoggingSubscriber()
        self.bus.subscribe(lines.name, lines.patterns, lines)

    def _attach_forwards(self, stack: AsyncExitStack) -> None:
        if not self.config.audit.forward:
            return
        forwards = importlib.import_module("fraisier.audit.forward")  # few have one
        base_dir = Path(self.config.path).parent if self.config.path else Path.cwd()
        for entry in dict.fromkeys(self.config.audit.forward):
            sink = forwards.make_sink(entry, base_dir)
            forwarder = forwards.Forwarder(forwards.subscriber_name(entry), entry.types, sink)
            stack.push_async_callback(forwarder.aclose)
            self.bus.subscribe(forwarder.name, forwarder.patterns, forwarder, durable=True, from_start=False)

    def _refuse_silence(self) -> None:
        for request in REQUESTS:
            if not self.bus.has_responder(request):
                raise FraisierError(
                    f"nobody answers {request.__name__}; a deployment would wait for ever",
                    code="NO_RESPONDER",
                )

    def stop(self, reason: str) -> None:
        """Ask every deployment of this orchestrator to stop at its next step boundary, and let none begin that was asked
        for before. Safe in a signal handler."""
        self._stop_reason = self._stop_reason or reason
        for signal in self._stops:
            signal.request(reason)

    # acting

    async def plan(self, fraise: str, environment: str, **options: Any) -> Plan:
        """Return what `deploy` with the same options would do now; nothing is written to the journal but health verdicts."""
        return await Deployer(self._world, self._deploy_request(fraise, environment, options)).preview()

    async def foresee(self, fraise: str, environment: str, **options: Any) -> tuple[Plan, dict[str, Seen]]:
        """Return what `plan` returns, and what was seen of every target of the environment, by name."""
        return await Deployer(self._world, self._deploy_request(fraise, environment, options)).foresee()

    async def plan_rollback(self, fraise: str, environment: str, **options: Any) -> Plan:
        """Return what `rollback` with the same options would do now."""
        return await Undo(self._world, self._rollback_request(fraise, environment, options)).preview()

    async def deploy(self, fraise: str, environment: str, **options: Any) -> DeploymentResult:
        """Bring a version to the targets and return how it ended.

        Options: `version` (branch, tag, commit; default the head of the branch), `limit` and `exclude` (globs of target
        names), `strategy`, `force`, `lock_wait_s`. Raises ConfigurationError, UsageError, LeaseLostError, DatabaseError; a
        failed deployment is a result, not an exception.
        """
        request = self._deploy_request(fraise, environment, options)
        return await self._run(lambda stop: Deployer(self._world, request, stop=stop).run())

    async def deploy_many(
        self, fraises: Sequence[str], environment: str, **options: Any
    ) -> list[DeploymentResult]:
        """Deploy several fraises, each after those that it depends on, side by side where they may; a failing one skips
        its dependants. Return the results in the order in which they ended."""
        requests = [self._deploy_request(fraise, environment, options) for fraise in dict.fromkeys(fraises)]
        for request in requests:
            Deployer(self._world, request)  # a usage error in one touches none

        async def one(request: DeployRequest) -> DeploymentResult:
            return await self._run(lambda stop: Deployer(self._world, request, stop=stop).run())

        async def skip(request: DeployRequest, reason: str) -> DeploymentResult:
            return await Deployer(self._world, request).skip(reason)

        return await deploy_in_order(self.config, requests, run=one, skip=skip)

    async def rollback(self, fraise: str, environment: str, **options: Any) -> DeploymentResult:
        """Undo the latest deployment on the targets that it changed, or bring back a named release.

        Options: `to` (release id, version, branch, tag, commit), `limit`, `force`, `lock_wait_s`."""
        request = self._rollback_request(fraise, environment, options)
        return await self._run(lambda stop: Undo(self._world, request, stop=stop).run())

    async def retry(self, deployment_id: str, **options: Any) -> DeploymentResult:
        """Deploy the same version again to every target that the deployment did not leave on it."""
        fraise, environment, again = await self._again(deployment_id)
        return await self.deploy(fraise, environment, **again, **options)

    async def plan_retry(self, deployment_id: str, **options: Any) -> Plan:
        """Return what `retry` with the same options would do now."""
        fraise, environment, again = await self._again(deployment_id)
        return await self.plan(fraise, environment, **again, **options)

    async def _again(self, deployment_id: str) -> tuple[str, str, dict[str, Any]]:
        """Return fraise, environment and options of a deployment's second try. Raises UsageError, NotFoundError."""
        state = await self.show_state(deployment_id)
        if not state.is_terminal:
            raise UsageError(
                f"deployment {state.id} is {state.state}, not ended",
                hint=f"wait for it, or run `fraisier resume {state.id}`",
            )
        if state.kind != "deploy":
            raise UsageError(f"deployment {state.id} is a rollback; roll back again with `fraisier rollback`")
        if not state.version:
            raise UsageError(
                f"deployment {state.id} never came as far as a version", hint="run `fraisier deploy` instead"
            )
        names = [
            name
            for name, target in state.targets.items()
            if target.outcome not in ("updated", "unchanged") or target.undone
        ]
        left = tuple(name for name in names if not is_beside(name))  # a fallback is nobody's first choice
        if not names:
            raise UsageError(
                f"deployment {state.id} left every target on its version; there is nothing to retry",
                hint=f"to deploy it again: fraisier deploy {state.fraise} {state.environment} --version {state.version}",
            )
        return (
            state.fraise,
            state.environment,
            {"version": state.version, "limit": left, "retry_of": state.id},
        )

    # steering

    async def open_deployments(self) -> list[DeploymentState]:
        """Return the deployments that have no end, running or not, oldest first."""
        return await open_deployments(self.journal)

    async def unfinished(self) -> list[DeploymentState]:
        """Return the deployments that have no end and that nobody carries out now, oldest first."""
        return await resume.unfinished(self._world)

    async def resume(self, deployment_id: str = "", *, lock_wait_s: float = 0.0) -> DeploymentResult | None:
        """Go on with a deployment that ended without an end, from what the journal and the targets say.

        Without an id it is the only unfinished one; None when there is none. Raises UsageError when there are several,
        NotFoundError, DeploymentLockError while another process carries it out."""
        state = await resume.choose(self._world, deployment_id)
        if state is None:
            return None
        if state.state == "paused" and await self._steering.lives(state):
            steered = await self._steering.ask("resume", state.id)
            return result_of(await self.show_state(state.id), self.journal.head_hash, steered.detail)
        again = resume.again
        return await self._run(
            lambda stop: again(self._world, state, self._actor, stop=stop, lock_wait_s=lock_wait_s).run()
        )

    async def abort(self, deployment_id: str) -> Steered:
        """End a deployment, wherever it runs: what it began is put right as `on_failure` says."""
        return await self._steering.ask("abort", deployment_id)

    async def pause(self, deployment_id: str) -> Steered:
        """Let a deployment change no further target until it is told to go on. What serves is still watched."""
        return await self._steering.ask("pause", deployment_id)

    async def promote(self, deployment_id: str) -> Steered:
        """End a deployment's wait: a pause, or the pause between two waves."""
        return await self._steering.ask("promote", deployment_id)

    async def go_on(self, deployment_id: str) -> Steered:
        """End a deployment's pause where it runs; `resume` is for one that nobody carries out."""
        return await self._steering.ask("resume", deployment_id)

    async def control(
        self, action: Action, fraise: str, environment: str, *, limit: Sequence[str] = ()
    ) -> dict[str, FraisierError | None]:
        """Start, stop, restart or remove the service on its targets; return each target's error, or None."""
        return await Fleet(self._world, fraise, environment).control(action, limit=limit, actor=self._actor)

    # locks

    async def lock_status(self, fraise: str = "", environment: str = "") -> dict[str, Any]:
        """Return `{"leases": […], "freezes": […]}`: who deploys now and whether they live, and what is frozen."""
        return await self._locks.status(fraise, environment)

    async def freeze(
        self, fraise: str, environment: str, message: str, *, for_s: float = 0.0
    ) -> dict[str, Any]:
        """Forbid changes for `for_s` seconds (0: until `thaw`); return the freeze, and what runs on undisturbed.

        Raises UsageError, and DeploymentLockError when somebody else froze it."""
        return await self._locks.freeze(fraise, environment, message, for_s=for_s)

    async def thaw(self, fraise: str, environment: str, *, force: bool = False) -> dict[str, Any]:
        """Release the freeze, and the lease of a dead holder; with `force` any lease. Return what was released.

        Raises DeploymentLockError when there is only the lease of a holder that may live."""
        return await self._locks.thaw(fraise, environment, force=force)

    # looking

    async def status(self, fraise: str = "", environment: str = "", *, live: bool = False) -> dict[str, Any]:
        """Return the recorded state of the targets; with `live`, also what they answer now."""
        found: dict[tuple[str, str, str], dict[str, Any]] = {}
        if live:
            for name, env in self._pairs(fraise, environment):
                for target, facts in (await Fleet(self._world, name, env).live()).items():
                    found[(name, env, target)] = facts
        return await reports.status(
            self.journal, self.config, fraise=fraise, environment=environment, live=found if live else None
        )

    async def health(self, fraise: str = "", environment: str = "") -> dict[str, Any]:
        """Run the configured checks now: one probe a target."""
        rows = []
        for name, env in self._pairs(fraise, environment):
            rows.extend(await Fleet(self._world, name, env).health())
        return {"healthy": all(row["healthy"] for row in rows), "targets": rows}

    async def history(self, **filters: Any) -> dict[str, Any]:
        """Return past deployments, newest first; filters as in `fraisier.reports.history`."""
        return await reports.history(self.journal, **filters)

    async def show(self, deployment_id: str) -> dict[str, Any]:
        """Return all that is known of one deployment. Raises NotFoundError."""
        return reports.show(await self.show_state(deployment_id))

    async def show_state(self, deployment_id: str) -> Any:
        """Return the folded state of one deployment, by its id or a unique beginning of it. Raises NotFoundError."""
        state = await self.journal.deployment(deployment_id)
        if state is None:
            raise NotFoundError(f"there is no deployment {deployment_id!r} in this store")
        return state

    def logs(
        self,
        fraise: str,
        environment: str,
        *,
        limit: Sequence[str] = (),
        lines: int = 50,
        follow: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, str]]]:
        """Stream the service logs of the targets, merged: pairs of target name and line."""
        return Fleet(self._world, fraise, environment).logs(limit=limit, lines=lines, follow=follow)

    def subscribe(self, *patterns: str) -> AbstractAsyncContextManager[AsyncIterator[Record]]:
        """Stream events whose types match the patterns (`*` stands for anything), from now on, in order."""
        return self.bus.stream(*(patterns or ("*",)))

    def statistics(self) -> BusStatistics:
        """Return counters of the bus and its subscribers."""
        return self.bus.statistics()

    # inside

    def _learn_secrets(self, resolver: Resolver) -> None:
        """Let the redactor know what no reference leads to: variables with telling names, which hooks on this machine get
        and may print, and passwords that are written out in addresses."""
        self.redactor.register_named(self._environ)
        for fraise in self.config.fraises.values():
            for environment in fraise.environments.values():
                for _, address in addresses(environment):
                    resolver.keep_address(address)

    async def _run(self, work: Callable[[StopSignal], Awaitable[DeploymentResult]]) -> DeploymentResult:
        stop = StopSignal()
        if self._stop_reason:
            stop.request(self._stop_reason)
        self._stops.add(stop)
        try:
            return await work(stop)
        finally:
            self._stops.discard(stop)

    def _pairs(self, fraise: str, environment: str) -> list[tuple[str, str]]:
        pairs = [
            (name, env)
            for name, found in sorted(self.config.fraises.items())
            for env in sorted(found.environments)
            if fraise in ("", name) and environment in ("", env)
        ]
        if not pairs:
            raise UsageError(
                f"nothing is configured under {fraise or '*'} {environment or '*'}", code="NOT_FOUND"
            )
        return pairs

    def _subject(self, deployment_id: str, target: str) -> HealthSubject:
        found = self._subjects.find(deployment_id, target)
        return HealthSubject(
            context=found.context,
            provider=unguarded(found.provider),
            resolver=self._world.resolver,
            provider_type=found.context.settings.provider,
        )

    def _make_provider(self, settings: Environment) -> Provider:
        factory = self._providers.get(settings.provider) or find_factory(settings.provider)
        provider = factory(
            ProviderServices(
                clock=self._clock,
                resolver=self._world.resolver,
                cache_dir=str(self._cache_dir()),
                environ=self._environ,
                guard=self._circuits.guard(settings),
            )
        )
        return self._circuits.guarded(provider, settings)

    def _make_retry(self, retry: Retry) -> RetryStrategy:
        return RetryStrategy(
            max_attempts=retry.max_attempts,
            base_delay=retry.base_delay_s,
            backoff_factor=retry.backoff_factor,
            max_delay=retry.max_delay_s,
            rng=self._rng,
            clock=self._clock,
        )

    def _hooks_here(self, resolver: Resolver) -> HooksHere:
        return HooksHere(
            resolver=resolver,
            environ=self._environ,
            directory=str(self._state_dir() / "jobs"),
            cwd=str(Path(self.config.path).resolve().parent if self.config.path else Path.cwd()),
        )

    def _state_dir(self) -> Path:
        """What is ours lives beside the store; a store in memory shares the default place."""
        return self._store_directory or default_state_dir(self._environ, os.getuid())

    def _cache_dir(self) -> Path:
        """Mirrors and artifacts."""
        return self._state_dir() / "cache"

    def _deploy_request(self, fraise: str, environment: str, options: Mapping[str, Any]) -> DeployRequest:
        return DeployRequest(fraise=fraise, environment=environment, actor=self._actor, **_tuples(options))

    def _rollback_request(self, fraise: str, environment: str, options: Mapping[str, Any]) -> RollbackRequest:
        return RollbackRequest(fraise=fraise, environment=environment, actor=self._actor, **_tuples(options))


def _tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if key in ("limit", "exclude") else value for key, value in options.items()}


def local_actor(trigger: str) -> Actor:
    """Return who runs this process, and through what."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user in the password database
        user = str(os.getuid())
    return Actor(user=user, host=socket.gethostname(), trigger=trigger)
