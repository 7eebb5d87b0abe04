"""What chain and fold cost, and what group commit gains, as ratios within one run.

    python benchmarks/journal.py [--quick]

Writers take turns on the same events, each on a file of its own: the journal; the same journal without chain and fold
(bare); one transaction an event as one writes it with aiosqlite (plain: bare rows, execute and commit under a lock); and
the whole journal with batches of one (single: chain, fold and the one hop all the same, so the gain of grouping alone).
A row prints events a second as min / median / max, then the ratio of medians.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiosqlite
import anyio

from fraisier.clock import SystemClock
from fraisier.events import TYPE_OF, Event, Record, encode_body
from fraisier.events import types as ev
from fraisier.ids import SystemIds
from fraisier.journal.chain import GENESIS
from fraisier.journal.sqlite import SqliteJournal
from fraisier.journal.writer import INSERT_ROW, Batch, Entry, Writer

STEPS = ("preflight", "fetch", "stage", "drain", "switch", "restart", "verify", "admit")
TARGETS = 100


class BareWriter(Writer):
    """The same group commit of the same rows, without hashes and without tables."""

    def _enter(self, entries: list[Entry], records: list[Record]) -> list[tuple[Any, ...]]:
        seq = self.seq
        rows = []
        for entry in entries:
            seq += 1
            event = entry.event
            rows.append(
                (
                    seq, TYPE_OF[event.__class__], event.deployment_id, event.fraise, event.environment, event.target,
                    entry.at_us, entry.body, GENESIS, GENESIS,
                )
            )  # fmt: skip
            record = entry.record = Record(seq, entry.event_id, entry.at_us, event)
            records.append(record)
        self.seq = seq
        return rows


class BareJournal(SqliteJournal):
    """The journal over the bare writer."""

    def _make_writer(self, connection: Any) -> Writer:
        return BareWriter(connection, self.path, self.log_id)


class SingleJournal(SqliteJournal):
    """The whole journal, but one transaction an event."""

    def _flush(self) -> None:
        self._scheduled = False
        if self._in_flight is None and self._writer is not None and self._pending:
            self._submit(Batch([self._pending.pop(0)], {}, []), self._writer.commit)


class PlainJournal(SqliteJournal):
    """One transaction an event, bare rows: what is written without a journal's design, a hop a statement."""

    async def open(self, on_commit: Any) -> None:
        await super().open(on_commit)
        self._plain = await aiosqlite.connect(self.path)
        await self._plain.execute("pragma synchronous = full")
        self._turn = asyncio.Lock()
        self._last = 0

    async def append(self, event: Event, guard: Any = None) -> Record:
        event_id, at_us = self._ids.event(), self._clock.now_us()
        body = encode_body(event_id, at_us, event)
        name = TYPE_OF[event.__class__]
        place = (event.deployment_id, event.fraise, event.environment, event.target)
        async with self._turn:
            self._last += 1
            await self._plain.execute(INSERT_ROW, (self._last, name, *place, at_us, body, GENESIS, GENESIS))
            await self._plain.commit()
            return Record(self._last, event_id, at_us, event)

    async def close(self) -> None:
        await self._plain.close()
        await super().close()


def _of_target(deployment_id: str, name: str) -> list[Event]:
    common: dict[str, Any] = {
        "deployment_id": deployment_id, "fraise": "api", "environment": "production", "target": name,
    }  # fmt: skip
    release = "20260102T030405Z-0123abc-77aa"
    found: list[Event] = [ev.TargetStarted(**common, wave=1)]
    for step in STEPS:
        before = {"current": "releases/20260101T000000Z-89abcde-66bb", "pid": 4711}
        evidence = {"exit_status": 0, "current": f"releases/{release}"}
        found.append(ev.StepStarted(**common, step=step, attempt=1, before=before))
        found.append(ev.StepSucceeded(**common, step=step, attempt=1, duration_s=0.125, evidence=evidence))
    found.append(ev.TargetUpdated(**common, release=release, version="0123abc", duration_s=12.5))
    return found


def _beginning(deployment_id: str) -> list[Event]:
    common = {"deployment_id": deployment_id, "fraise": "api", "environment": "production"}
    return [
        ev.DeploymentRequested(**common, fraise_type="api", provider="bare_metal"),
        ev.DeploymentStarted(**common, version="0123abc", targets=TARGETS),
    ]


async def _publish(journal: SqliteJournal, publishers: int, count: int) -> float:
    """Append about `count` events of one deployment from so many publishers; return events a second."""
    deployment_id = SystemIds(SystemClock()).deployment()
    for event in _beginning(deployment_id):
        await journal.append(event)
    lanes: list[list[Event]] = [[] for _ in range(publishers)]
    for index in range(TARGETS):
        lanes[index % publishers].extend(_of_target(deployment_id, f"web-{index:03d}"))
    share = max(1, count // publishers)

    async def run(events: list[Event]) -> None:
        for event in (events * (share // len(events) + 1))[:share]:
            await journal.append(event)

    started = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for lane in lanes:
            tasks.start_soon(run, lane)
    return share * publishers / (time.perf_counter() - started)


async def _once(kind: type[SqliteJournal], directory: Path, publishers: int, count: int) -> float:
    clock = SystemClock()
    path = directory / f"{kind.__name__}-{publishers}-{time.monotonic_ns()}.db"
    journal = kind(path, clock=clock, ids=SystemIds(clock))
    await journal.open(lambda records: None)
    try:
        return await _publish(journal, publishers, count)
    finally:
        await journal.close()
        path.unlink()


def _row(name: str, rates: list[float]) -> str:
    low, middle, high = min(rates), statistics.median(rates), max(rates)
    return f"  {name:<28}{low:>9,.0f} {middle:>9,.0f} {high:>9,.0f} events/s"


async def _compare(
    directory: Path,
    rounds: int,
    publishers: int,
    count: int,
    other: type[SqliteJournal],
    other_count: int,
    target: float,
) -> bool:
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(rounds):
        # The one that goes first changes, so that neither profits from what the machine does at the time.
        for kind in (SqliteJournal, other) if turn % 2 else (other, SqliteJournal):
            rate = await _once(kind, directory, publishers, other_count if kind is other else count)
            (theirs if kind is other else ours).append(rate)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ours) / statistics.median(theirs)
    held = ratio >= target
    verdict = f"target >= {target}: {'held' if held else 'MISSED'}" if target else "no target"
    print(f"{publishers} publisher(s), journal against {other.__name__}:")
    print(_row("journal", ours))
    print(_row(other.__name__, theirs))
    print(
        f"  ratio {ratio:.2f} (pairs {min(ratios):.2f} / {statistics.median(ratios):.2f} / {max(ratios):.2f}), {verdict}"
    )
    return held


async def main() -> int:
    """Run every comparison; return 1 when a target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer events and rounds")
    parser.add_argument("--directory", help="where the files go (default: a temporary directory)")
    options = parser.parse_args()
    scale, rounds = (1, 3) if options.quick else (5, 11)
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        held = [
            await _compare(directory, rounds, 1, 400 * scale, BareJournal, 400 * scale, 0.75),
            await _compare(directory, rounds, 100, 10_000 * scale, BareJournal, 10_000 * scale, 0.5),
            await _compare(directory, rounds, 100, 10_000 * scale, PlainJournal, 500 * scale, 15.0),
        ]
        # For information: no target was set against a single that shares all the rest of the design.
        await _compare(directory, rounds, 100, 10_000 * scale, SingleJournal, 500 * scale, 0.0)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
