"""One fleet, one journal, and orchestrators that die over them."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fraisier import Orchestrator
from fraisier.config.schema import Environment
from fraisier.events import TYPE_OF, Actor, Record
from fraisier.journal.fold import DeploymentState
from fraisier.simulation.crash import CrashPoint
from fraisier.simulation.journal import MortalJournal
from fraisier.simulation.life import Lived, live
from fraisier.testing import SeededIds, VirtualClock, run_virtual
from fraisier.testing.hooks import ScriptedHooks
from fraisier.testing.processes import ScriptedProcesses
from fraisier.testing.provider import Landing, ScriptedWorld
from tests.rollout.kit import config

T = TypeVar("T")
Story = Callable[[Orchestrator], Awaitable[T]]

NOWHERE = CrashPoint()


class SimulatedFleet:
    """What outlives a process: the targets, the journal, the clock. Every `live` is a process of its own over them.

    `under_way` lists the steps whose commands were under way at a death."""

    def __init__(self, settings: Environment, *, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.world = ScriptedWorld()
        self.clock = VirtualClock()
        self.ids = SeededIds(seed, self.clock)
        self.journal = MortalJournal(clock=self.clock, ids=self.ids)
        self.processes = ScriptedProcesses()
        self.under_way: list[str] = []

    def live(self, story: Story[T], *, crash: CrashPoint = NOWHERE, landing: Landing = "lost") -> Lived[T]:
        """Run `story(orchestrator)` in a process that dies at `crash`; what it had sent by then lands as `landing` says."""
        at_death: list[tuple[int, int]] = []

        def die() -> None:
            self.journal.kill()
            self.processes.kill()
            self.under_way += self.world.crash(landing)
            at_death.append((self.journal.head, len(self.world.effects)))

        async def work() -> T:
            async with self._orchestrator() as o:
                return await story(o)

        self.journal.begin(crash)
        lived = live(work, crash=crash, on_death=die, seed=self.seed)
        if at_death:
            assert at_death == [(self.journal.head, len(self.world.effects))], "the dead had an effect"
        self.clock.shift(lived.took_s)
        return lived

    def _orchestrator(self) -> Orchestrator:
        return Orchestrator(
            config(self.settings),
            self.journal,
            clock=self.clock,
            ids=self.ids,
            rng=random.Random(self.seed),
            processes=self.processes,
            environ={"AUDIT_KEY": "0123456789abcdef"},
            providers={"local": self.world.factory},
            hook_runner=ScriptedHooks(),
            actor=Actor(user="ada", host="here", trigger="test"),
        )

    # what can be seen afterwards

    def healthy(self) -> int:
        """How many targets serve now."""
        return sum(self.world.is_healthy(name) for name in self.world.targets)

    def records(self) -> list[Record]:
        """Every journalled record, in order."""
        return run_virtual(_read_all, self.journal)

    def deployments(self) -> list[DeploymentState]:
        """Every deployment with its plan and steps, oldest first."""
        return run_virtual(_deployments, self.journal)

    def faults(self) -> list[str]:
        """What is wrong with the journal: the chain, or tables that differ from the fold of the log."""
        return run_virtual(_faults, self.journal)

    def trace(self) -> str:
        """The journal and the effects at the targets, a line each."""
        lines = []
        for record in self.records():
            event = record.event
            step = getattr(event, "step", "")
            words = [TYPE_OF[event.__class__], f"{step}@{event.target}" if step else event.target]
            words += [f"{key}={value}" for key in _TOLD if (value := getattr(event, key, ""))]
            lines.append(f"{record.seq:4} {event.deployment_id[-6:]} {' '.join(filter(None, words))}")
        effects = [f"     {step}@{name} {release[-8:]}" for step, name, release in self.world.effects]
        return "\n".join([*lines, "effects:", *effects, f"serving: {self.world.serving()}"])


_TOLD = ("attempt", "outcome", "reason", "action", "detail", "message", "epoch")


async def _read_all(journal: MortalJournal) -> list[Record]:
    found: list[Record] = []
    while page := await journal.read(found[-1].seq if found else 0):
        found.extend(page)
    return found


async def _deployments(journal: MortalJournal) -> list[DeploymentState]:
    rows = await journal.deployments(limit=1000)
    found = [await journal.deployment(row.id) for row in reversed(rows)]
    return [state for state in found if state is not None]


async def _faults(journal: MortalJournal) -> list[str]:
    verified = await journal.verify()
    return [*([] if verified.ok else [verified.problem]), *await journal.check()]
