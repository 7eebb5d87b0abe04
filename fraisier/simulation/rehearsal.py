"""Plays a deployment that nobody has begun: the production code over targets as they were found, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec

from fraisier.config.schema import AuditSettings, Config, StoreSettings
from fraisier.errors import FraisierError
from fraisier.events import Actor, Event, Record
from fraisier.events import types as ev
from fraisier.orchestrator import Orchestrator
from fraisier.rollout.result import DeploymentResult, result_of
from fraisier.simulation.life import unwind
from fraisier.simulation.links import Weather
from fraisier.simulation.loop import VirtualLoop
from fraisier.simulation.ordered import ordered_cancellation
from fraisier.simulation.past import Past, within_reach
from fraisier.simulation.process import Process
from fraisier.simulation.processes import SimulatedTable
from fraisier.simulation.provider import SimulatedProvider
from fraisier.simulation.rehearsed import RehearsedHooks, RehearsedProvider, hosts_as_found
from fraisier.simulation.store import SharedStore
from fraisier.simulation.time import SeededIds, VirtualClock
from fraisier.simulation.world import World

_LIMIT_S = 90 * 24 * 3600.0
_MACHINE = "here"

replace = msgspec.structs.replace


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be rehearsed. `options` are those of `Orchestrator.deploy`; `fails` are the steps that fail, by target;
    the process is killed when its `kill_after`-th fact is durable (0: never), and `resume` follows."""

    config: Config
    environ: Mapping[str, str]
    actor: Actor
    now_us: int
    options: Mapping[str, Any] = {}
    fails: Mapping[str, frozenset[str]] = {}
    kill_after: int = 0
    seed: int = 0


class Moment(msgspec.Struct, frozen=True):
    """What happened `at_s` seconds after the beginning: a fact, with its place in the journal, or something that was done
    to the process."""

    at_s: float
    kind: Literal["fact", "killed", "resumed"]
    seq: int = 0
    event: Event | None = None


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """How it went. `facts` is how many the first process wrote; `error` is set when the last process raised one, and then
    `result` is what the journal tells."""

    moments: tuple[Moment, ...]
    result: DeploymentResult
    error: FraisierError | None
    facts: int
    killed: bool
    took_s: float


def rehearse(past: Past, wish: Wish) -> Rehearsal:
    """Play the deployment to its end, and return how it went. Nothing real is looked at or touched.

    Raises what the deployment itself would raise before its first fact, and the errors of `VirtualLoop`."""
    loop = VirtualLoop(seed=wish.seed, limit_s=_LIMIT_S, keeps_tasks=True)
    stage = _Stage(past, wish, loop)
    with ordered_cancellation():
        try:
            return loop.run_until_complete(stage.play())
        finally:
            for process in stage.processes:
                process.kill()
            unwind(loop)


class _Stage:
    """The simulated world with its store, and the one or two processes of a rehearsal."""

    def __init__(self, past: Past, wish: Wish, loop: VirtualLoop) -> None:
        self.processes: list[Process] = []
        self._past = past
        self._wish = wish
        self._loop = loop
        plan = past.plan
        fraise = wish.config.fraises[plan.fraise]
        settings = within_reach(fraise.environments[plan.environment])
        environments = {**fraise.environments, plan.environment: settings}
        # What is left out would reach a real key, or a real store.
        self._config = replace(
            wish.config,
            fraises={**wish.config.fraises, plan.fraise: replace(fraise, environments=environments)},
            store=StoreSettings(),
            audit=AuditSettings(),
        )
        rng = random.Random(wish.seed)  # noqa: S311 - how long a step takes is no secret
        self._clock = VirtualClock(wish.now_us)
        self._ids = SeededIds(wish.seed, self._clock)
        self._world = World(rng, hosts_as_found(past, settings, wish.fails))
        self._world.durations_s = dict(past.durations_s)
        self._world.weather = {
            name: Weather(cut=True) for name, look in past.seen.items() if look.unreachable
        }
        self._store = SharedStore(clock=self._clock, ids=self._ids, rng=rng)
        self._fill(self._store)
        self._store.observers.append(self._note)
        self._moments: list[Moment] = []
        self._deployment_id = ""

    def _fill(self, store: SharedStore) -> None:
        tables, past = store._tables, self._past
        for place in past.placements:
            tables.placements[place.fraise, place.environment, place.target] = replace(place)
        for known in past.releases:
            key = (known.fraise, known.environment, known.target, known.release)
            tables.release_rows[key] = replace(known)
        for state in past.deployments:
            tables.deployments[state.id] = state
        if past.lease is not None:
            tables.leases[past.lease.fraise, past.lease.environment] = past.lease

    async def play(self) -> Rehearsal:
        """Deploy; when the process was killed, resume."""
        plan, wish = self._past.plan, self._wish

        async def deploy(orchestrator: Orchestrator) -> DeploymentResult:
            return await orchestrator.deploy(plan.fraise, plan.environment, **wish.options)

        async def resume(orchestrator: Orchestrator) -> DeploymentResult | None:
            return await orchestrator.resume(self._deployment_id)

        first, result, error = await self._live("deploy", deploy, kill_after=wish.kill_after)
        facts = len(self._store.records)
        if first.dead:
            self._mark("killed")
            self._mark("resumed")
            _, result, error = await self._live("resume", resume)
        if result is None:
            state = await self._store.deployment(self._deployment_id)
            if state is None:
                raise error or FraisierError("the rehearsal ended before its first fact")
            result = result_of(state, self._store.head_hash)
        return Rehearsal(
            moments=tuple(self._moments),
            result=result,
            error=error,
            facts=facts,
            killed=first.dead,
            took_s=self._world.now_s(),
        )

    async def _live(
        self,
        name: str,
        work: Callable[[Orchestrator], Awaitable[DeploymentResult | None]],
        *,
        kill_after: int = 0,
    ) -> tuple[Process, DeploymentResult | None, FraisierError | None]:
        """Be one process until it ends or dies; return it with what it returned or raised."""
        process = Process(name, pid=len(self.processes) + 1)
        self.processes.append(process)
        over = asyncio.Event()
        process.on_death.append(over.set)

        async def run() -> DeploymentResult | None:
            try:
                async with self._orchestrator(process, kill_after) as orchestrator:
                    return await work(orchestrator)
            finally:
                over.set()

        task = self._loop.spawn(process, run())
        await over.wait()
        if process.dead:
            return process, None, None
        try:
            return process, await task, None
        except FraisierError as error:
            return process, None, error
        finally:
            process.ended = True

    def _orchestrator(self, process: Process, kill_after: int) -> Orchestrator:
        door = self._store.door(process)
        door.dies_after = kill_after
        world, artifact = self._world, self._past.plan.artifact
        known = {one.pid: one for one in self.processes}

        def make_provider(_services: object) -> SimulatedProvider:
            return RehearsedProvider(world, process, artifact)

        return Orchestrator(
            self._config,
            door,
            clock=self._clock,
            ids=self._ids,
            rng=random.Random(self._wish.seed),  # noqa: S311 - jitter
            processes=SimulatedTable(process, _MACHINE, known),
            environ=self._wish.environ,
            providers={self._past.plan.provider: make_provider},
            actor=self._wish.actor,
            hook_runner=RehearsedHooks(self._wish.fails),
        )

    def _note(self, record: Record, _process: Process | None) -> None:
        if not self._deployment_id and isinstance(record.event, ev.DeploymentRequested):
            self._deployment_id = record.event.deployment_id
        self._moments.append(Moment(self._world.now_s(), "fact", record.seq, record.event))

    def _mark(self, kind: Literal["killed", "resumed"]) -> None:
        self._moments.append(Moment(self._world.now_s(), kind))
