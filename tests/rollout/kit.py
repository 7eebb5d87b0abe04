"""A whole orchestrator over targets in memory, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import msgspec

from fraisier import Orchestrator
from fraisier.config.schema import (
    Config,
    Environment,
    Fraise,
    HealthCheck,
    Recovery,
    Retry,
    Rollout,
    Service,
    Source,
    Target,
)
from fraisier.error_handler import ErrorHandler
from fraisier.events import TYPE_OF, Actor, Record
from fraisier.journal.memory import MemoryJournal
from fraisier.rollout.processes import SystemProcesses
from fraisier.rollout.result import DeploymentResult
from fraisier.testing import SeededIds, VirtualClock, run_virtual
from fraisier.testing.provider import ScriptedWorld

T = TypeVar("T")

CHECK = HealthCheck(type="exec", command="probe", deadline_s=20.0)
NO_WAIT = Recovery(retry=Retry(max_attempts=3, base_delay_s=0.1))


def environment(
    count: int = 4, *, check: HealthCheck | None = CHECK, rollout: Rollout | None = None, **keys: Any
) -> Environment:
    """An environment of `count` targets t1, t2, …"""
    keys.setdefault("recovery", NO_WAIT)
    return Environment(
        provider="local",
        targets=tuple(Target(name=f"t{number}") for number in range(1, count + 1)),
        source=Source(git="https://git.example.com/app.git"),
        app_path="/srv/{{ target.name }}",
        service=Service(process="./serve"),
        health_check=check,
        rollout=rollout or Rollout(),
        **keys,
    )


def config(settings: Environment, **fraises: Fraise) -> Config:
    """A configuration with the fraise `api` in `production`, and others."""
    return Config(fraises={"api": Fraise(name="api", environments={"production": settings}), **fraises})


class Stage:
    """An orchestrator with its world and journal; `play` runs a story in it."""

    def __init__(
        self, settings: Environment, *, seed: int = 1, journal: MemoryJournal | None = None, **fraises: Fraise
    ) -> None:
        self.world = ScriptedWorld()
        self.clock = VirtualClock()
        self.ids = SeededIds(seed, self.clock)
        self.journal = journal or MemoryJournal(clock=self.clock, ids=self.ids)
        self.config = config(settings, **fraises)
        self.seed = seed
        self.error_handler: ErrorHandler | None = None

    def orchestrator(self, settings: Environment | None = None, *, user: str = "ada") -> Orchestrator:
        """A new orchestrator over the same world and journal."""
        return Orchestrator(
            self.config if settings is None else config(settings),
            self.journal,
            clock=self.clock,
            ids=self.ids,
            rng=random.Random(self.seed),
            processes=SystemProcesses(),
            environ={"AUDIT_KEY": "0123456789abcdef"},
            providers={"local": self.world.factory},
            actor=Actor(user=user, host="here", trigger="test"),
            error_handler=self.error_handler,
        )

    def play(
        self,
        story: Callable[[Orchestrator], Awaitable[T]],
        *,
        seed: int | None = None,
        settings: Environment | None = None,
    ) -> T:
        """Run `story(orchestrator)` in virtual time and return what it returns; the next story begins when it ended."""
        took_s = 0.0

        async def main() -> T:
            nonlocal took_s
            try:
                async with self.orchestrator(settings) as o:
                    return await story(o)
            finally:
                took_s = anyio.current_time()

        try:
            return run_virtual(main, seed=seed)
        finally:
            self.clock.shift(took_s)

    def journal_says(self, type: str, step: str, deployment_id: str) -> bool:
        """Whether an event of the type and step is in the journal by now."""
        return any(
            TYPE_OF[record.event.__class__] == type
            and getattr(record.event, "step", "") == step
            and record.event.deployment_id == deployment_id
            for record in self.journal._records
        )

    def records(self) -> list[Record]:
        """Every journalled record, in order."""
        return run_virtual(_read_all, self.journal)

    def told(self, *types: str, deployment_id: str = "") -> list[tuple[str, str]]:
        """(type, target or step@target) of the journalled events of these types, in order."""
        found = []
        for record in self.records():
            name = TYPE_OF[record.event.__class__]
            if types and name not in types:
                continue
            if deployment_id and record.event.deployment_id != deployment_id:
                continue
            step = getattr(record.event, "step", "")
            found.append((name, f"{step}@{record.event.target}" if step else record.event.target))
        return found


async def _read_all(journal: MemoryJournal) -> list[Record]:
    found: list[Record] = []
    while page := await journal.read(found[-1].seq if found else 0):
        found.extend(page)
    return found


def outcomes(result: DeploymentResult) -> dict[str, str]:
    """Outcome by target."""
    return {target.name: target.outcome for target in result.targets}


async def now_s() -> float:
    """The virtual time."""
    await anyio.sleep(0)
    return anyio.current_time()


replace = msgspec.structs.replace
