"""From events to metrics: live from the bus, or replayed from the journal, with the same result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from fraisier.events import TYPE_OF, Record
from fraisier.events import types as ev
from fraisier.metrics.catalogue import ERROR_TYPES
from fraisier.metrics.circuits import CircuitBoard
from fraisier.metrics.recorder import MetricsRecorder

_RUNS_REMEMBERED = 4096


class KnownDeployment(Protocol):
    """What must be known of a deployment whose request was not seen here."""

    @property
    def provider(self) -> str: ...
    @property
    def fraise_type(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def rollback_of(self) -> str: ...
    @property
    def child_id(self) -> str: ...
    @property
    def children(self) -> Mapping[str, str]: ...


Find = Callable[[str], Awaitable[KnownDeployment | None]]
"""Looks a deployment up by its id: `journal.deployment`."""


class _Run(msgspec.Struct):
    """A deployment that has not ended. `announced`: a rollback of another deployment, which counts where that
    says so."""

    provider: str = ""
    fraise_type: str = ""
    is_rollback: bool = False
    announced: bool = False
    active: bool = False
    waiting_since_us: int = 0


class MetricsSubscriber:
    """Feeds a recorder. Subscribe it to `patterns`; `from_records` replays what a journal holds.

    `find` is asked about deployments that were requested before this subscriber was attached.
    """

    name = "metrics"
    patterns: tuple[str, ...] = ()
    """The types of events that say something; set below, where they are listed."""

    def __init__(self, recorder: MetricsRecorder, find: Find | None = None) -> None:
        self._recorder = recorder
        self._find = find
        self._runs: dict[str, _Run] = {}
        self._circuits = CircuitBoard(recorder)

    def settle(self, now_us: int) -> None:
        """Forget what was true for a time only that is over now, before the metrics are looked at."""
        self._circuits.settle(now_us)

    def knows(self, record: Record) -> bool:
        """Whether `observe` needs no look-up for this record."""
        event = record.event
        return (
            self._find is None
            or not event.deployment_id
            or event.deployment_id in self._runs
            or isinstance(event, ev.DeploymentRequested)
        )

    async def __call__(self, record: Record) -> None:
        """Record one event from the bus."""
        if self._find is not None and not self.knows(record):
            await self._look_up(record.event.deployment_id, self._find)
        self.observe(record)

    def from_records(self, records: Iterable[Record]) -> None:
        """Record events from the journal, in their order."""
        for record in records:
            self.observe(record)

    def observe(self, record: Record) -> None:
        """Record one event."""
        handler = _HANDLERS.get(record.event.__class__)
        if handler is not None:
            handler(self, record, record.event)

    async def _look_up(self, deployment_id: str, find: Find) -> None:
        known = await find(deployment_id)
        if known is None:
            return
        run = _Run(known.provider, known.fraise_type, known.kind == "rollback")
        if known.rollback_of:
            origin = await find(known.rollback_of)
            run.announced = origin is not None and deployment_id in (
                origin.child_id,
                *origin.children.values(),
            )
        self._remember(deployment_id, run)

    def _remember(self, deployment_id: str, run: _Run) -> None:
        if len(self._runs) >= _RUNS_REMEMBERED:
            self._runs.pop(next(iter(self._runs)))
        self._runs[deployment_id] = run

    def _run(self, deployment_id: str) -> _Run:
        return self._runs.get(deployment_id) or _Run()

    # deployments

    def _requested(self, record: Record, event: ev.DeploymentRequested) -> None:
        announced = event.deployment_id in self._runs and self._runs[event.deployment_id].announced
        self._remember(
            event.deployment_id, _Run(event.provider, event.fraise_type, event.kind == "rollback", announced)
        )
        if event.kind != "rollback":
            self._recorder.announce(event.provider, event.fraise_type, event.fraise, event.environment)

    def _planned(self, record: Record, event: ev.DeploymentPlanned) -> None:
        """A deployment that falls back to another provider is planned once more, and counts under that one from then on."""
        run = self._runs.get(event.deployment_id)
        if run is None or event.provider in ("", run.provider):
            return
        if run.active:
            self._recorder.record_deployment_moved(run.provider, event.provider)
        run.provider = event.provider
        if not run.is_rollback:
            self._recorder.announce(event.provider, run.fraise_type, event.fraise, event.environment)

    def _started(self, record: Record, event: ev.DeploymentStarted | ev.DeploymentResumed) -> None:
        run = self._run(event.deployment_id)
        if not run.is_rollback and not run.active:
            run.active = True
            self._remember(event.deployment_id, run)
            self._recorder.record_deployment_start(run.provider, run.fraise_type)

    def _paused(self, record: Record, event: ev.DeploymentPaused) -> None:
        if event.reason != "requested":  # a person's pause is a part of the deployment; a hold ends its run
            self._ended(record, event)

    def _ended(self, record: Record, event: Any) -> None:
        run = self._runs.pop(event.deployment_id, None) or _Run()
        if isinstance(event, _MAY_GO_ON):
            self._remember(event.deployment_id, msgspec.structs.replace(run, active=False))
        status = getattr(event, "outcome", "") or _STATUS[event.__class__]
        duration = getattr(event, "duration_s", None)
        if run.is_rollback:
            if not run.announced:
                self._recorder.record_rollback(run.provider, event.reason or "requested", duration or 0.0)
            return
        if not run.active:
            # It ended before it began (locked, unreachable): the gauge goes up and down again.
            self._recorder.record_deployment_start(run.provider, run.fraise_type)
        self._recorder.record_deployment_complete(run.provider, run.fraise_type, status, duration)
        if status in ("succeeded", "unchanged"):  # one that changed nothing took no step that would say so
            self._recorder.set_provider_availability(run.provider, available=True)
        else:
            self._recorder.record_failure(run.provider, event.reason)
        if event.fraise:
            self._recorder.record_fraise(
                event.fraise, event.environment, run.provider, status, record.at_us / 1_000_000, duration
            )

    # rollbacks

    def _rollback_started(self, record: Record, event: ev.RollbackStarted) -> None:
        if event.child_id:
            child = self._run(event.child_id)
            child.announced = child.is_rollback = True
            self._remember(event.child_id, child)

    def _rollback_ended(self, record: Record, event: ev.RollbackSucceeded | ev.RollbackFailed) -> None:
        provider = event.provider or self._run(event.deployment_id).provider
        self._recorder.record_rollback(provider, event.reason, event.duration_s)

    # steps

    def _step_succeeded(self, record: Record, event: ev.StepSucceeded) -> None:
        run = self._run(event.deployment_id)
        self._recorder.record_step(run.provider, event.step, "success", event.duration_s)
        self._recorder.set_provider_availability(run.provider, available=True)

    def _step_failed(self, record: Record, event: ev.StepFailed) -> None:
        run = self._run(event.deployment_id)
        self._recorder.record_step(run.provider, event.step, "failed", event.duration_s)
        self._recorder.record_deployment_error(run.provider, event.error_type)
        if event.code == "PROVIDER_UNAVAILABLE":
            self._recorder.set_provider_availability(run.provider, available=False)

    def _hook_succeeded(self, record: Record, event: ev.HookSucceeded) -> None:
        provider = self._run(event.deployment_id).provider
        self._recorder.record_hook(provider, event.phase, "success", event.duration_s)

    def _hook_failed(self, record: Record, event: ev.HookFailed) -> None:
        provider = self._run(event.deployment_id).provider
        self._recorder.record_hook(provider, event.phase, "failed", event.duration_s)
        self._recorder.record_deployment_error(provider, ERROR_TYPES.get(event.code, "HookError"))

    # recovery

    def _decided(self, record: Record, event: ev.RecoveryDecided) -> None:
        provider = self._run(event.deployment_id).provider
        self._recorder.record_decision(provider, event.action)
        if event.action == "retry":
            self._recorder.record_retry(provider, event.step)

    def _recovered(self, record: Record, event: ev.RecoverySucceeded) -> None:
        provider = self._run(event.deployment_id).provider
        self._recorder.record_recovery(provider, event.strategy, "success")

    def _not_recovered(self, record: Record, event: ev.RecoveryFailed) -> None:
        provider = self._run(event.deployment_id).provider
        self._recorder.record_recovery(provider, event.strategy, "failed")

    def _circuit(self, record: Record, event: ev.CircuitEvent) -> None:
        provider = event.provider or self._run(event.deployment_id).provider
        state = _CIRCUIT_STATE[event.__class__]
        until_us = event.until_at if isinstance(event, ev.CircuitOpened) else 0
        self._circuits.change(provider, event.resource, state, record.at_us, until_us)

    # the rest

    def _verdict(self, record: Record, event: ev.HealthPassed | ev.HealthFailed) -> None:
        provider = event.provider or self._run(event.deployment_id).provider
        self._recorder.record_health_checks(
            provider, event.check_type, event.counts, event.buckets, event.probes_s
        )
        if event.counts:
            self._recorder.record_probe_schedule(
                provider, event.check_type, event.tick_lag_s, event.ticks_skipped
            )

    def _waiting(self, record: Record, event: ev.DeploymentQueued | ev.LeaseWaiting) -> None:
        run = self._runs.get(event.deployment_id)
        if run is not None:
            run.waiting_since_us = run.waiting_since_us or record.at_us

    def _lease_acquired(self, record: Record, event: ev.LeaseAcquired) -> None:
        run = self._runs.get(event.deployment_id)
        if run is None:
            return  # the lock of somebody who starts or stops a service
        waited_us = max(0, record.at_us - run.waiting_since_us) if run.waiting_since_us else 0
        run.waiting_since_us = 0
        self._recorder.record_lock_wait(event.fraise, run.provider, waited_us / 1_000_000)

    def _lease_refused(self, record: Record, event: ev.LeaseRefused) -> None:
        run = self._runs.get(event.deployment_id)
        if run is not None:
            run.waiting_since_us = 0
            self._recorder.record_lock_wait(event.fraise, run.provider, event.waited_s)
            self._recorder.record_deployment_error(run.provider, "DeploymentLockError")

    def _provider_unavailable(self, record: Record, event: ev.ProviderUnavailable) -> None:
        self._recorder.set_provider_availability(event.provider, available=False)
        self._recorder.record_deployment_error(event.provider, event.error_type)


_MAY_GO_ON = (ev.DeploymentPaused, ev.DeploymentNeedsAttention, ev.DeploymentInterrupted)

_STATUS: dict[type[ev.Event], str] = {
    ev.DeploymentPaused: "paused",
    ev.DeploymentRolledBack: "rolled_back",
    ev.DeploymentNeedsAttention: "needs_attention",
    ev.DeploymentInterrupted: "interrupted",
    ev.DeploymentSuperseded: "superseded",
    ev.DeploymentAborted: "aborted",
}

_CIRCUIT_STATE: dict[type[ev.Event], str] = {
    ev.CircuitOpened: "open",
    ev.CircuitHalfOpened: "half_open",
    ev.CircuitClosed: "closed",
}

_HANDLERS: dict[type[ev.Event], Callable[[MetricsSubscriber, Record, Any], None]] = {
    ev.DeploymentRequested: MetricsSubscriber._requested,
    ev.DeploymentPlanned: MetricsSubscriber._planned,
    ev.DeploymentStarted: MetricsSubscriber._started,
    ev.DeploymentQueued: MetricsSubscriber._waiting,
    ev.DeploymentSucceeded: MetricsSubscriber._ended,
    ev.DeploymentFailed: MetricsSubscriber._ended,
    **dict.fromkeys(_STATUS, MetricsSubscriber._ended),
    ev.DeploymentPaused: MetricsSubscriber._paused,
    ev.DeploymentResumed: MetricsSubscriber._started,
    ev.RollbackStarted: MetricsSubscriber._rollback_started,
    ev.RollbackSucceeded: MetricsSubscriber._rollback_ended,
    ev.RollbackFailed: MetricsSubscriber._rollback_ended,
    ev.StepSucceeded: MetricsSubscriber._step_succeeded,
    ev.StepFailed: MetricsSubscriber._step_failed,
    ev.HookSucceeded: MetricsSubscriber._hook_succeeded,
    ev.HookFailed: MetricsSubscriber._hook_failed,
    ev.RecoveryDecided: MetricsSubscriber._decided,
    ev.RecoverySucceeded: MetricsSubscriber._recovered,
    ev.RecoveryFailed: MetricsSubscriber._not_recovered,
    **dict.fromkeys(_CIRCUIT_STATE, MetricsSubscriber._circuit),
    ev.HealthPassed: MetricsSubscriber._verdict,
    ev.HealthFailed: MetricsSubscriber._verdict,
    ev.LeaseAcquired: MetricsSubscriber._lease_acquired,
    ev.LeaseWaiting: MetricsSubscriber._waiting,
    ev.LeaseRefused: MetricsSubscriber._lease_refused,
    ev.ProviderUnavailable: MetricsSubscriber._provider_unavailable,
}

MetricsSubscriber.patterns = tuple(TYPE_OF[event_class] for event_class in _HANDLERS)
