"""Runs one trial: the production code in processes of its own, in a world that breaks, until it is calm again.

First everything may go wrong and only safety is asked for; then the faults end, and everything must come to an end, too.
"""

from __future__ import annotations

import asyncio
import random
import re
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import anyio
import msgspec

from fraisier.config.schema import Config, Fraise, LeaseSettings, Target
from fraisier.errors import FraisierError
from fraisier.events import TYPE_OF, Actor, Record
from fraisier.orchestrator import Orchestrator
from fraisier.rollout.fallback import is_beside
from fraisier.simulation.census import census
from fraisier.simulation.evidence import Evidence
from fraisier.simulation.generator import SECRET
from fraisier.simulation.hooks import SimulatedHooks
from fraisier.simulation.hosts import ReceiptKey, SimulatedHost
from fraisier.simulation.judge import Judge
from fraisier.simulation.life import unwind
from fraisier.simulation.links import Weather
from fraisier.simulation.loop import VirtualLoop
from fraisier.simulation.ordered import ordered_cancellation
from fraisier.simulation.process import Process
from fraisier.simulation.processes import SimulatedTable
from fraisier.simulation.provider import SimulatedProvider
from fraisier.simulation.spec import Act, Fault, Spec
from fraisier.simulation.store import SharedStore, StoreDoor
from fraisier.simulation.time import SeededIds, VirtualClock
from fraisier.simulation.world import World, commit

T = TypeVar("T")

FRAISE, ENVIRONMENT = "api", "production"
ENDS_WITHIN_S = 2 * 3600.0
"""Once the world is calm, every process must end within so many virtual seconds."""

_LIMIT_S = 7 * 24 * 3600.0
_LOOK_S = 60.0
_REPAIRS = 4

Story = Callable[[Orchestrator], Awaitable[str]]


class Verdict(msgspec.Struct):
    """What a trial came to. `findings` are broken promises; `counters` say what happened, `asked` which rules were looked
    at; `trace` tells the story, a line each."""

    seed: int
    findings: list[str]
    counters: Counter[str]
    asked: Counter[str]
    deployments: int
    took_s: float
    trace: str = ""


def run_trial(spec: Spec, *, trace: bool = False, fifo: bool = False) -> Verdict:
    """Run a trial to its end and judge it."""
    loop = VirtualLoop(seed=None if fifo else spec.seed, limit_s=_LIMIT_S, keeps_tasks=True)
    trial = Trial(spec)
    with ordered_cancellation():
        try:
            loop.run_until_complete(trial.main())
        except Exception as error:  # noqa: BLE001 - a world that cannot go on is a finding of its own
            trial.judge.findings.append(f"P3: the world stopped: {type(error).__name__}: {error}")
        finally:
            took_s = loop.time()
            for process in trial.processes:
                process.kill()
            unwind(loop)
    return trial.verdict(took_s, trace=trace)


class Trial:
    """One world with its store, its processes and its judge."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.rng = random.Random(spec.seed + 1)  # noqa: S311 - a trial is no secret
        self.clock = VirtualClock()
        self.ids = SeededIds(spec.seed, self.clock)
        self.store = SharedStore(clock=self.clock, ids=self.ids, rng=self.rng)
        self.world = World(
            self.rng,
            {
                target.name: SimulatedHost(target.name, supervised=spec.supervised)
                for target in (*spec.settings.targets, *_beside(spec))
            },
        )
        self.world.durations_s = dict(spec.durations_s)
        for version, host, behaviour in spec.behaviours:
            self.world.behaviours[commit(version), host] = behaviour
        if spec.failing_migrations:
            self.world.failing_migrations.add(commit("v2"))
        self.world.failing_hooks.update((name, commit("v2")) for name in spec.failing_hooks)
        self.judge = Judge(self.store, self.world)
        self.evidence = Evidence(self.judge)
        self.config = self._config(spec.settings.timeout_s)
        self.processes: list[Process] = []
        self.doors: dict[Process, StoreDoor] = {}
        self.orchestrators: dict[Process, Orchestrator] = {}
        self.tasks: dict[Process, asyncio.Task[str]] = {}
        self.pids: dict[int, Process] = {}
        self.told: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.busy_s = 0.0
        self.hint = self.reason = ""

    # the story

    async def main(self) -> None:
        """Live through the trial."""
        if self.spec.settled:
            await self._must(self._start(Act(at_s=0, kind="deploy", version="v1")), "succeeded")
        if self.spec.impatient_s:
            self.config = self._config(self.spec.impatient_s)
        begun_s = self.world.now_s()
        self._schedule_faults(begun_s)
        for act in self.spec.acts:
            await self._until(begun_s + act.at_s)
            self._act(act)
        await self._until(begun_s + self.spec.calm_at_s)
        self._calm()
        await self._until(
            max((one.at_s + one.for_s for one in self.spec.faults), default=0.0) + begun_s + 1.0
        )
        await self._all_end()
        if any(lease.frozen_by for lease in self.store._tables.leases.values()):
            await self._must(self._start(Act(at_s=0, kind="thaw")))
        await self._repair()
        self._look_at_the_end()

    def _config(self, timeout_s: float) -> Config:
        settings = msgspec.structs.replace(self.spec.settings, timeout_s=timeout_s)
        return Config(
            fraises={FRAISE: Fraise(name=FRAISE, environments={ENVIRONMENT: settings})},
            lease=LeaseSettings(ttl_s=self.spec.lease_ttl_s, heartbeat_s=self.spec.heartbeat_s),
        )

    async def _until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - self.world.now_s()))

    def _act(self, act: Act) -> None:
        living = [process for process in self.processes if not process.gone]
        match act.kind:
            case "kill":
                for process in living[-1:]:
                    self._tell(f"kill -9 {process.name}")
                    self.outcomes["processes killed"] += 1
                    process.kill()
            case "stop":
                for process in living[-1:]:
                    self._tell(f"SIGSTOP {process.name}")
                    self.outcomes["processes stopped"] += 1
                    process.stopped = True
            case "continue":
                self._continue(living)
            case "interrupt":
                for process in living[-1:]:
                    if process in self.orchestrators and not process.stopped:
                        self._tell(f"SIGINT {process.name}")
                        self.outcomes["processes interrupted"] += 1
                        self.orchestrators[process].stop("interrupted")
            case _:
                self._start(act)

    def _continue(self, processes: list[Process]) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        for process in processes:
            if process.stopped:
                self._tell(f"SIGCONT {process.name}")
                loop.go_on(process)

    # processes

    def _start(self, act: Act) -> Process:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        pid = len(self.processes) + 1
        process = Process(f"{act.kind}-{pid}", pid=pid, dies_at=act.dies_at)
        self.processes.append(process)
        self.pids[pid] = process
        door = self.doors[process] = self.store.door(process)
        door.dies_before, door.dies_after, door.busy_s = act.dies_before, act.dies_after, self.busy_s
        self._tell(f"start {process.name} {act.version} on machine {act.machine}")
        self.tasks[process] = loop.spawn(process, self._live(process, door, act))
        return process

    async def _live(self, process: Process, door: StoreDoor, act: Act) -> str:
        """Be one process from its start to its end, and return how it ended."""
        try:
            async with self._orchestrator(process, door, act) as o:
                self.orchestrators[process] = o
                ended = await self._story(act, o)
        except FraisierError as error:
            ended = error.code
        except Exception as error:  # noqa: BLE001 - whatever a process raises beside our own errors is a finding
            if not process.dead:
                trace = "".join(traceback.format_exception(error)[-12:])
                self.judge.findings.append(f"a process raised {error!r}\n{trace}")
            ended = "CRASHED"
        process.ended = not process.dead
        self.orchestrators.pop(process, None)
        if not process.dead:
            self.outcomes[f"{act.kind}: {ended}"] += 1
            self._tell(f"end {process.name}: {ended}")
        return ended

    @asynccontextmanager
    async def _orchestrator(self, process: Process, door: StoreDoor, act: Act) -> AsyncIterator[Orchestrator]:
        o = Orchestrator(
            self.config,
            door,
            clock=self.clock,
            ids=self.ids,
            rng=random.Random(self.spec.seed),  # noqa: S311 - jitter
            processes=SimulatedTable(process, act.machine, self.pids),
            environ={"SENTINEL": SECRET},
            providers={"local": SimulatedProvider.of(self.world, process)},
            hook_runner=SimulatedHooks(self.world, process),
            actor=Actor(user="ada", host=act.machine, trigger="simulation"),
        )
        if act.observer:
            self.outcomes[f"observers: {act.observer}"] += 1
            o.bus.subscribe(f"bad-{act.observer}", "*", _observer(act.observer), capacity=8)
        async with o:
            yield o

    async def _story(self, act: Act, o: Orchestrator) -> str:
        match act.kind:
            case "deploy":
                result = await o.deploy(
                    FRAISE,
                    ENVIRONMENT,
                    version=act.version,
                    force=act.force,
                    limit=act.limit,
                    lock_wait_s=act.lock_wait_s,
                )
            case "rollback":
                result = await o.rollback(FRAISE, ENVIRONMENT, lock_wait_s=act.lock_wait_s)
            case "retry":
                ended = [state.id for state in await o.journal.deployments(limit=20) if state.is_terminal]
                if not ended:
                    return "nothing"
                result = await o.retry(ended[0])
            case "freeze":
                await o.freeze(FRAISE, ENVIRONMENT, "no changes now")
                return "frozen"
            case "thaw":
                await o.thaw(FRAISE, ENVIRONMENT)
                return "thawed"
            case "resume":
                return await self._resume(o, act.lock_wait_s)
            case _:
                unfinished = await o.open_deployments()
                chosen = [state for state in unfinished if not state.rollback_of]
                if not chosen:
                    return "nothing"
                steered = await getattr(o, act.kind)(chosen[-1].id)
                return str(steered.effect)
        self.hint, self.reason = result.hint or "", result.reason or ""
        return result.outcome

    async def _resume(self, o: Orchestrator, lock_wait_s: float) -> str:
        ended = "nothing"
        for state in await o.open_deployments():
            if state.rollback_of:
                continue
            try:
                result = await o.resume(state.id, lock_wait_s=lock_wait_s)
            except FraisierError as error:
                ended = error.code
                continue
            ended = result.outcome if result is not None else "nothing"
        return ended

    async def _must(self, process: Process, *wanted: str) -> str:
        """Wait until a process that nothing disturbs has ended; anything but `wanted` is a finding."""
        task = self.tasks[process]
        await asyncio.wait({task}, timeout=ENDS_WITHIN_S)
        ended = task.result() if task.done() else "never"
        if wanted and ended not in wanted:
            self.judge.findings.append(f"P6: {process.name} ended as {ended}, not {' or '.join(wanted)}")
        return ended

    # faults

    def _schedule_faults(self, begun_s: float) -> None:
        for fault in self.spec.faults:
            self.world.later(fault.at_s, self._break, fault)

    def _break(self, fault: Fault) -> None:
        self.outcomes[f"faults: {fault.kind}"] += 1
        self._tell(f"fault {fault.kind} {fault.host} for {fault.for_s:g} s")
        world = self.world
        hosts = [fault.host] if fault.host else list(world.hosts)
        match fault.kind:
            case "weather" | "cut" | "hole":
                weather = Weather(
                    lost=fault.lost,
                    unanswered=fault.unanswered,
                    silent=fault.silent,
                    delay_s=fault.delay_s,
                    cut=fault.kind == "cut",
                    hole=fault.kind == "hole",
                )
                for name in hosts:
                    world.weather[name] = weather
                world.later(fault.for_s, self._clear, hosts)
            case "reboot":
                for name in hosts[:1]:
                    world.reboot(name, down_s=fault.for_s)
            case "disk_full":
                for name in hosts:
                    world.hosts[name].disk_full = True
                world.later(fault.for_s, self._empty_disks, hosts)
            case "clock":
                self.clock.shift(fault.by_s)
            case _:
                self._break_store(fault)

    def _break_store(self, fault: Fault) -> None:
        living = [door for process, door in self.doors.items() if not process.gone]
        match fault.kind:
            case "store_busy":
                self.busy_s = 0.4
                for door in living:
                    door.busy_s = self.busy_s
                self.world.later(fault.for_s, self._idle_store)
            case "store_fails":
                for door in living:
                    door.fails = "the disk reported an I/O error"
            case "store_loses":
                for process in self.processes:  # the power of every machine that had it open is cut, too
                    process.kill()
                if self.store.lose_tail(fault.rows):
                    self.judge.forget_tail()

    def _clear(self, hosts: list[str]) -> None:
        for name in hosts:
            self.world.weather.pop(name, None)

    def _empty_disks(self, hosts: list[str]) -> None:
        for name in hosts:
            self.world.hosts[name].disk_full = False

    def _idle_store(self) -> None:
        self.busy_s = 0.0
        for door in self.doors.values():
            door.busy_s = 0.0

    # afterwards

    def _calm(self) -> None:
        self._tell("calm")
        self.config = self._config(self.spec.settings.timeout_s)
        self.world.calm()
        self._idle_store()
        self._continue(self.processes)

    async def _all_end(self) -> None:
        """Let every process that still lives come to its end; what a person paused is gone on with."""
        until_s = self.world.now_s() + ENDS_WITHIN_S
        while living := [self.tasks[one] for one in self.processes if not one.gone]:
            if self.world.now_s() > until_s:
                names = ", ".join(process.name for process in self.processes if not process.gone)
                self.judge.findings.append(f"P3: {names} did not end within {ENDS_WITHIN_S:g} s")
                for process in self.processes:
                    process.kill()
                return
            await asyncio.wait(set(living), timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            paused = [d for d in await self.store.deployments() if d.state == "paused"]
            if paused and any(not process.gone for process in self.processes):
                await self._must(self._start(Act(at_s=0, kind="resume", machine="c")))

    async def _repair(self) -> None:
        """Resume what is unfinished, then deploy a version that is good everywhere: it must come through."""
        for number in range(_REPAIRS):
            if not await self._unfinished():
                break
            # Of a holder that is dead elsewhere nothing is known before its lease has expired, and after the clock was set
            # back, before it was silent for as long.
            wait_s = self.spec.lease_ttl_s * 1.5 if number else 0.0
            await self._must(self._start(Act(at_s=0, kind="resume", lock_wait_s=wait_s)))
        self._look_at_repaired()
        lost = not self.judge.trusts_tokens
        for last in range(3 + 2 * len(self.world.hosts)):
            act = Act(at_s=0, kind="deploy", version="v9", force=True, lock_wait_s=4000.0)
            ended = await self._must(self._start(act))
            if ended in ("succeeded", "unchanged"):
                return
            if down := self._named_by_hint():  # what is down is repaired first, as the refusal says
                await self._must(self._start(msgspec.structs.replace(act, limit=down)))
                continue
            if ended == "failed" and self.reason == "partial":
                continue  # what came and went at the first look kept others from their turn
            if not (lost and last == 0):
                break
        self.judge.findings.append(f"P6: after everything the next deployment ended as {ended}")

    def _named_by_hint(self) -> tuple[str, ...]:
        found = re.search(r"--limit ([^ ,]+(?:,[^ ,]+)*)", self.hint)
        return tuple(found[1].split(",")) if found else ()

    async def _unfinished(self) -> bool:
        states = await self.store.deployments(limit=200)
        return any(
            not d.is_terminal
            and d.state != "needs_attention"
            and not d.rollback_of
            and (d.version or d.started_us)
            for d in states
        )

    def _look_at_repaired(self) -> None:
        for d in self.store._tables.deployments.values():
            if d.is_terminal or d.rollback_of:
                continue
            if d.state in ("needs_attention", "paused") or not (d.version or d.started_us):
                continue
            self.judge.findings.append(f"P6: {d.kind} {d.id[-6:]} is left {d.state} after {_REPAIRS} repairs")

    def _look_at_the_end(self) -> None:
        findings = self.judge.findings
        serving = {version for name, version in self.world.serving().items() if not is_beside(name)}
        if not any(one.startswith("P6: after everything") for one in findings) and serving != {commit("v9")}:
            findings.append(f"P5: after the last deployment the hosts serve {serving}")
        for lease in self.store._tables.leases.values():
            if lease.held:
                findings.append(f"P7: the lease is still held by {lease.holder.owner} ({lease.holder.pid})")
        if any(SECRET.encode() in body for body in self.store.bodies):
            findings.append("P11: the secret stands in the journal")

    def verdict(self, took_s: float, *, trace: bool) -> Verdict:
        """Return what it came to, with what can only be asked at the end."""
        findings = list(dict.fromkeys(self.judge.findings))
        findings += _at_once(self._store_faults())
        findings += _repeated(self.world.migrations, self.spec)
        findings += _repeated_hooks(self.world.hooks, self.spec)
        for d in self.store._tables.deployments.values():
            self.outcomes[f"{d.kind} is {d.outcome or d.state}{f' ({d.reason})' if d.reason else ''}"] += 1
        counters = self.outcomes + self.world.counters + census(self.store.records, self.processes)
        told = self._trace() if trace or findings else ""
        asked = self.judge.asked
        return Verdict(
            self.spec.seed, findings, counters, asked, len(self.store._tables.deployments), took_s, told
        )

    async def _store_faults(self) -> list[str]:
        verified = await self.store.verify()
        faults = [] if verified.ok else [f"P8: {verified.problem}"]
        return faults + [f"P8: {fault}" for fault in await self.store.check()]

    def _tell(self, what: str) -> None:
        self.told.append(f"{self.world.now_s():10.3f} -- {what} (seq {self.store.head})")

    def _trace(self) -> str:
        lines = [*self.told, "", *map(_line, self.store.records)]
        lines.append(f"serving: {self.world.serving()}")
        return "\n".join(lines)


_TOLD = ("attempt", "outcome", "reason", "action", "detail", "message", "epoch", "release")


def _line(record: Record) -> str:
    event = record.event
    step = getattr(event, "step", "")
    words: list[Any] = [TYPE_OF[event.__class__], f"{step}@{event.target}" if step else event.target]
    words += [f"{key}={value}" for key in _TOLD if (value := getattr(event, key, ""))]
    return f"{record.seq:4} {record.at_us} {event.deployment_id[-6:]} {' '.join(filter(None, words))}"


def _beside(spec: Spec) -> list[Target]:
    """Return the targets of the fallbacks."""
    return [target for place in spec.settings.recovery.fallback for target in place.settings.targets]


def _repeated(migrations: list[tuple[str, str]], spec: Spec) -> list[str]:
    """Return the migrations that happened more often than they may."""
    migrate = spec.settings.migrate
    if migrate is None or migrate.resume == "rerun":
        return []
    most = len(spec.settings.targets) if migrate.on == "all" else 1
    times = Counter(release for kind, release in migrations if kind == "do")
    return [
        f"P6: the migration of {release} was done {count} times"
        for release, count in times.items()
        if count > most
    ]


def _repeated_hooks(hooks: list[tuple[str, ReceiptKey]], spec: Spec) -> list[str]:
    """Return the hooks that came to their end more often than they may: once for each place and deployment."""
    configured = spec.settings.hooks
    once = {
        h.name
        for point in configured.__struct_fields__
        for h in getattr(configured, point)
        if h.resume == "manual"
    }
    times = Counter((name, key[:2]) for name, key in hooks if name in once)
    return [
        f"P6: the hook {name} of {key[0][-6:]} ({key[1]}) ran {count} times"
        for (name, key), count in times.items()
        if count > 1
    ]


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """Return what work comes to that never waits: the store is in memory."""
    try:
        work.send(None)
    except StopIteration as ended:
        return cast(T, ended.value)
    raise RuntimeError("the simulated store waited")


def _observer(kind: str) -> Callable[[Record], Awaitable[None]]:
    async def handle(record: Record) -> None:
        if kind == "raises":
            raise RuntimeError("a broken observer")
        await anyio.sleep(10_000.0 if kind == "hangs" else 0.5)

    return handle
