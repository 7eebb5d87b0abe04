"""The people of a trial and the processes that they start: each one is the production code with the trial's ports."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from fraisier.config.schema import Config
from fraisier.errors import FraisierError
from fraisier.events import Actor, Record
from fraisier.orchestrator import Orchestrator
from fraisier.simulation.generator import SECRET
from fraisier.simulation.hooks import SimulatedHooks
from fraisier.simulation.judge import Judge
from fraisier.simulation.loop import VirtualLoop
from fraisier.simulation.process import Process
from fraisier.simulation.processes import SimulatedTable
from fraisier.simulation.provider import SimulatedProvider
from fraisier.simulation.spec import Act
from fraisier.simulation.store import SharedStore, StoreDoor
from fraisier.simulation.time import SeededIds, VirtualClock
from fraisier.simulation.world import World

FRAISE, ENVIRONMENT = "api", "production"
ENDS_WITHIN_S = 2 * 3600.0
"""Once the world is calm, every process must end within so many virtual seconds."""


class Cast:
    """Everybody who acts in one trial. `outcomes` counts how what they did ended, `told` is the story in lines; `hint` and
    `reason` are those of the newest result."""

    def __init__(
        self,
        config: Config,
        *,
        store: SharedStore,
        world: World,
        judge: Judge,
        clock: VirtualClock,
        ids: SeededIds,
        seed: int,
    ) -> None:
        self.config = config
        self.store = store
        self.world = world
        self.judge = judge
        self.clock = clock
        self.processes: list[Process] = []
        self.doors: dict[Process, StoreDoor] = {}
        self.tasks: dict[Process, asyncio.Task[str]] = {}
        self.told: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.busy_s = 0.0
        self.hint = self.reason = ""
        self._ids = ids
        self._seed = seed
        self._orchestrators: dict[Process, Orchestrator] = {}
        self._pids: dict[int, Process] = {}

    def tell(self, what: str) -> None:
        """Add a line to the story."""
        self.told.append(f"{self.world.now_s():10.3f} -- {what} (seq {self.store.head})")

    def act(self, act: Act) -> None:
        """Do what a person does: start a process, or do something to the newest one."""
        living = [process for process in self.processes if not process.gone]
        match act.kind:
            case "kill":
                for process in living[-1:]:
                    self.tell(f"kill -9 {process.name}")
                    self.outcomes["processes killed"] += 1
                    process.kill()
            case "stop":
                for process in living[-1:]:
                    self.tell(f"SIGSTOP {process.name}")
                    self.outcomes["processes stopped"] += 1
                    process.stopped = True
            case "continue":
                self.go_on(living)
            case "interrupt":
                for process in living[-1:]:
                    if process in self._orchestrators and not process.stopped:
                        self.tell(f"SIGINT {process.name}")
                        self.outcomes["processes interrupted"] += 1
                        self._orchestrators[process].stop("interrupted")
            case _:
                self.start(act)

    def go_on(self, processes: list[Process]) -> None:
        """Continue those that were stopped."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        for process in processes:
            if process.stopped:
                self.tell(f"SIGCONT {process.name}")
                loop.go_on(process)

    def start(self, act: Act) -> Process:
        """Start the process of an act, and return it."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        pid = len(self.processes) + 1
        process = Process(f"{act.kind}-{pid}", pid=pid, dies_at=act.dies_at)
        self.processes.append(process)
        self._pids[pid] = process
        door = self.doors[process] = self.store.door(process)
        door.dies_before, door.dies_after, door.busy_s = act.dies_before, act.dies_after, self.busy_s
        self.tell(f"start {process.name} {act.version} on machine {act.machine}")
        self.tasks[process] = loop.spawn(process, self._live(process, door, act))
        return process

    async def _live(self, process: Process, door: StoreDoor, act: Act) -> str:
        """Be one process from its start to its end, and return how it ended."""
        try:
            async with self._orchestrator(process, door, act) as o:
                self._orchestrators[process] = o
                ended = await self._story(act, o)
        except FraisierError as error:
            ended = error.code
        except Exception as error:  # noqa: BLE001 - whatever a process raises beside our own errors is a finding
            if not process.dead:
                trace = "".join(traceback.format_exception(error)[-12:])
                self.judge.findings.append(f"a process raised {error!r}\n{trace}")
            ended = "CRASHED"
        process.ended = not process.dead
        self._orchestrators.pop(process, None)
        if not process.dead:
            self.outcomes[f"{act.kind}: {ended}"] += 1
            self.tell(f"end {process.name}: {ended}")
        return ended

    @asynccontextmanager
    async def _orchestrator(self, process: Process, door: StoreDoor, act: Act) -> AsyncIterator[Orchestrator]:
        o = Orchestrator(
            self.config,
            door,
            clock=self.clock,
            ids=self._ids,
            rng=random.Random(self._seed),  # noqa: S311 - jitter
            processes=SimulatedTable(process, act.machine, self._pids),
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

    async def must(self, process: Process, *wanted: str) -> str:
        """Wait until a process that nothing disturbs has ended; anything but `wanted` is a finding."""
        task = self.tasks[process]
        await asyncio.wait({task}, timeout=ENDS_WITHIN_S)
        ended = task.result() if task.done() else "never"
        if wanted and ended not in wanted:
            self.judge.findings.append(f"P6: {process.name} ended as {ended}, not {' or '.join(wanted)}")
        return ended


def _observer(kind: str) -> Callable[[Record], Awaitable[None]]:
    async def handle(record: Record) -> None:
        if kind == "raises":
            raise RuntimeError("a broken observer")
        await anyio.sleep(10_000.0 if kind == "hangs" else 0.5)

    return handle
