"""What the journal's tests share: journals, seeded stories of events, and raw access to a store's file."""

import random
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from fraisier.clock import SystemClock
from fraisier.events import Event, Record
from fraisier.events import types as ev
from fraisier.ids import SystemIds
from fraisier.journal.base import Journal
from fraisier.journal.expiry import ColumnsDigest
from fraisier.journal.memory import MemoryJournal
from fraisier.journal.sqlite import SqliteJournal

PLACE: dict[str, Any] = {"fraise": "api", "environment": "production"}
STEPS = ("fetch", "stage", "migrate", "switch", "restart", "verify", "cleanup")
TRIGGERS = ("journal_insert", "journal_update", "journal_delete")


def make(kind: str, path: Path, **options: Any) -> Journal:
    clock = SystemClock()
    if kind == "memory":
        return MemoryJournal(clock=clock, ids=SystemIds(clock))
    return SqliteJournal(path, clock=clock, ids=SystemIds(clock), **options)


@asynccontextmanager
async def opened(journal: Any, seen: list[Record] | None = None) -> AsyncIterator[Any]:
    await journal.open((lambda records: None) if seen is None else seen.extend)
    try:
        yield journal
    finally:
        await journal.close()


def store(path: Path, seen: list[Record] | None = None, **options: Any) -> Any:
    """An open SQLite journal as a context manager."""
    return opened(make("sqlite", path, **options), seen)


def step(number: int = 0, deployment_id: str = "d-1", target: str = "web-1") -> Event:
    return ev.StepStarted(
        **PLACE, deployment_id=deployment_id, target=target, step="fetch", attempt=number + 1
    )


def plan(targets: list[str], undoes: tuple[str, ...] = (), release: str = "r1") -> msgspec.Raw:
    rows = [{"name": name, "wave": 1, "release": release, "version": f"v-{release}"} for name in targets]
    return msgspec.Raw(msgspec.json.encode({"targets": rows, "undoes": undoes, "waves": [targets]}))


def _opening(
    rng: random.Random, common: dict[str, Any], targets: list[str], earlier: list[str]
) -> list[Event]:
    kind = rng.choice(["deploy", "deploy", "rollback"])
    undoes = tuple(rng.sample(earlier, 1)) if kind == "rollback" and earlier else ()
    frozen = plan(targets, undoes, f"r{rng.randrange(4)}")
    return [
        ev.DeploymentRequested(
            **common, kind=kind, actor=ev.Actor("ann", "desk", "cli"), request={"version": "main"}
        ),
        ev.DeploymentPlanned(**common, version="abc", strategy="rolling", plan=frozen),
        ev.LeaseAcquired(
            **common, epoch=rng.randrange(1, 5), holder=ev.Holder("ann", pid=7), expires_at=10**15
        ),
        ev.DeploymentStarted(**common, version="abc", targets=len(targets)),
    ]


def _step(rng: random.Random, common: dict[str, Any]) -> list[Event]:
    named = {**common, "step": rng.choice(STEPS), "attempt": rng.randrange(1, 3)}
    failed = ev.StepFailed(**named, message="no", code="X", known=rng.random() < 0.5)
    evidence: dict[str, Any] = {"removed": ["r0"]} if named["step"] == "cleanup" else {"exit_status": 0}
    done = ev.StepSucceeded(**named, duration_s=0.25, evidence=evidence)
    return [ev.StepStarted(**named, before={"pid": rng.randrange(9)}), rng.choice([failed, done, done])]


def _of_target(rng: random.Random, common: dict[str, Any]) -> list[Event]:
    release = f"r{rng.randrange(4)}"
    return rng.choice(
        [
            lambda: _step(rng, common),
            lambda: _step(rng, common),
            lambda: [
                ev.TargetStarted(**common, wave=1),
                ev.TargetUpdated(**common, release=release, version="abc"),
            ],
            lambda: [ev.TargetFailed(**common, release=release, bad=True, reason="deadline", detail="late")],
            lambda: [
                ev.TargetUnreachable(**common, reason="timeout"),
                ev.TargetInDoubt(**common, detail="?"),
            ],
            lambda: [ev.HealthPassed(**common, counts={"pass": 2}), ev.HealthFailed(**common, reason="fall")],
            lambda: [
                ev.TargetRolledBack(**common, release="r0"),
                ev.TargetUnchanged(**common, release=release),
            ],
            lambda: [ev.ServiceSucceeded(**common, action="remove")] if rng.random() < 0.2 else [],
        ]
    )()


def _end(rng: random.Random, common: dict[str, Any]) -> list[Event]:
    last: list[Event] = [
        ev.DeploymentSucceeded(**common, duration_s=2.5),
        ev.DeploymentSucceeded(**common, outcome="unchanged"),
        ev.DeploymentFailed(**common, reason="partial", detail="one"),
        ev.DeploymentRolledBack(**common, reason="deadline"),
        ev.DeploymentNeedsAttention(**common, reason="in_doubt"),
        ev.DeploymentInterrupted(**common),
        ev.DeploymentPaused(**common),
        ev.DeploymentSuperseded(**common, by="d-9"),
    ]
    return [
        ev.RecoveryDecided(**common, action="rollback"),
        rng.choice(last),
        ev.LeaseRenewed(**common, epoch=rng.randrange(1, 5), expires_at=10**15),
        ev.LeaseReleased(**common, epoch=rng.randrange(1, 5)),
    ]


def story(seed: int, deployments: int = 4) -> list[Event]:
    """Events of several deployments that run at the same time, in an order that only the seed knows."""
    rng = random.Random(seed)
    lanes: list[list[Event]] = []
    for number in range(deployments):
        common = {
            "deployment_id": f"d-{number}",
            "fraise": rng.choice(["api", "etl"]),
            "environment": "production",
        }
        targets = [f"web-{index}" for index in range(rng.randrange(1, 5))]
        lane = _opening(rng, common, targets, [f"d-{other}" for other in range(number)])
        lane.append(ev.WaveStarted(**common, wave=1, targets=tuple(targets)))
        for _ in range(rng.randrange(12)):
            lane.extend(_of_target(rng, {**common, "target": rng.choice([*targets, "stray"])}))
        lane.append(rng.choice([ev.WaveSucceeded(**common, wave=1), ev.WaveFailed(**common, wave=1)]))
        lanes.append(lane + _end(rng, common))
    told: list[Event] = []
    while lanes := [lane for lane in lanes if lane]:
        told.append(rng.choice(lanes).pop(0))
    return told


async def prune_first(journal: Any, count: int) -> None:
    """Record that the bodies of the first rows are pruned, and remove them."""
    digest = ColumnsDigest()
    for row in await journal.old_rows(1 << 62, 0, limit=count):
        digest.add(row)
    await journal.append(ev.AuditPruned(ranges=((1, count),), rows=count, columns_hash=digest.hex()))
    assert await journal.expire([(1, count)]) == count


@contextmanager
def raw(path: Path, *, unprotected: bool = False) -> Iterator[sqlite3.Connection]:
    """A plain connection to a store; `unprotected` drops the triggers, as a forger would."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        if unprotected:
            for trigger in TRIGGERS:
                connection.execute(f"drop trigger if exists {trigger}")
        yield connection
    finally:
        connection.close()
