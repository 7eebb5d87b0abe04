"""Events per CPU second through the bus, against a bounded asyncio.Queue for each reader, and against pyee.

Durability is left out on both sides: the bus runs over a journal that only numbers the events, without
keeping, encoding, hashing or folding them, because the others have nothing of the kind. The bus keeps
isolation, retries, patterns, a watchdog, one order and a bound on memory all the same. Runs are interleaved;
the ratio is taken run by run. The memory part publishes to a bus with one subscriber that is blocked, over a
journal in a file (SQLite), and lets it catch up at the end.

Usage: python benchmarks/bus.py [--events 100000] [--rounds 7] [--memory-events 200000] [--json]

pyee is installed with pip into a directory of its own that is removed again; --without-pyee leaves it out.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fraisier.bus import Bus
from fraisier.clock import SystemClock
from fraisier.events import Event, Record
from fraisier.events.types import StepStarted
from fraisier.ids import SystemIds
from fraisier.journal.base import JournalStatistics
from fraisier.journal.sqlite import SqliteJournal

EVENT = StepStarted(
    deployment_id="d", fraise="api", environment="production", target="web-1", step="fetch", attempt=1
)
CAPACITY = 1024


class NumberingJournal:
    """The part of the journal's port that the bus needs: it numbers events and keeps none of them."""

    def __init__(self) -> None:
        self.head = 0

    async def open(self, on_commit: Callable[[tuple[Record, ...]], None]) -> None:
        self._on_commit = on_commit

    async def close(self) -> None:
        pass

    async def append(self, event: Event, guard: object = None) -> Record:
        self.head = seq = self.head + 1
        record = Record(seq, "", 0, event)
        self._on_commit((record,))
        return record

    async def read(self, after: int, upto: int, *, limit: int) -> list[Record]:
        raise RuntimeError("a reader fell behind, which this comparison is not about")

    def statistics(self) -> JournalStatistics:
        return JournalStatistics(self.head, self.head, self.head, 0.0, 0, 0, 1)


def make_handler() -> tuple[list[int], Callable[[object], Awaitable[None]]]:
    """Return a coroutine function that counts its calls in the list's only item."""
    count = [0]

    async def handle(item: object) -> None:
        count[0] += 1

    return count, handle


async def through_bus(events: int, readers: int) -> None:
    """Publish `events` to that many live subscribers, and wait until all are handled."""
    clock = SystemClock()
    async with Bus(NumberingJournal(), clock=clock, ids=SystemIds(clock)) as bus:  # type: ignore[arg-type]
        counts = []
        for number in range(readers):
            count, handle = make_handler()
            counts.append(count)
            bus.subscribe(f"reader-{number}", "*", handle, capacity=CAPACITY)
        publish = bus.publish
        for _ in range(events):
            await publish(EVENT)
        assert await bus.wait_idle(60)
        assert all(count == [events] for count in counts)


def start_readers(
    tasks: asyncio.TaskGroup, queues: list[asyncio.Queue[object]]
) -> tuple[list[list[int]], list[asyncio.Task[None]]]:
    """Start a task a queue that calls a counting handler with each item; return the counts and the tasks."""
    counts, running = [], []

    async def read(queue: asyncio.Queue[object], handle: Callable[[object], Awaitable[None]]) -> None:
        get, done = queue.get, queue.task_done
        while True:
            await handle(await get())
            done()

    for number, queue in enumerate(queues):
        count, handle = make_handler()
        counts.append(count)
        running.append(tasks.create_task(read(queue, handle), name=f"reader-{number}"))
    return counts, running


async def through_queues(events: int, readers: int) -> None:
    """Put bare events into one bounded queue a reader: no journal, no seq."""
    queues: list[asyncio.Queue[object]] = [asyncio.Queue(CAPACITY) for _ in range(readers)]
    async with asyncio.TaskGroup() as tasks:
        counts, running = start_readers(tasks, queues)
        for _ in range(events):
            for queue in queues:
                await queue.put(EVENT)
        for queue in queues:
            await queue.join()
        for task in running:
            task.cancel()
    assert all(count == [events] for count in counts)


async def through_pyee(events: int, readers: int) -> None:
    """Emit `events` to that many coroutine handlers; pyee has no bound, so let them run now and then."""
    from pyee.asyncio import AsyncIOEventEmitter

    emitter: Any = AsyncIOEventEmitter()
    counts = []
    for _ in range(readers):
        count, handle = make_handler()
        counts.append(count)
        emitter.on("event", handle)
    for number in range(events):
        emitter.emit("event", EVENT)
        if number % CAPACITY == CAPACITY - 1:
            await emitter.wait_for_complete()
    await emitter.wait_for_complete()
    assert all(count == [events] for count in counts)


async def through_journal_and_queues(events: int, readers: int) -> None:
    """What one would write by hand: append to the same journal, then put the record into each reader's
    queue."""
    queues: list[asyncio.Queue[object]] = [asyncio.Queue(CAPACITY) for _ in range(readers)]
    journal = NumberingJournal()
    await journal.open(lambda records: None)
    async with asyncio.TaskGroup() as tasks:
        counts, running = start_readers(tasks, queues)
        for _ in range(events):
            record = await journal.append(EVENT)
            for queue in queues:
                await queue.put(record)
        for queue in queues:
            await queue.join()
        for task in running:
            task.cancel()
    assert all(count == [events] for count in counts)


Contender = Callable[[int, int], Awaitable[None]]


def rate(contender: Contender, events: int, readers: int) -> float:
    """Return events a CPU second of this process."""
    gc.collect()
    began = time.process_time()
    asyncio.run(contender(events, readers))  # type: ignore[arg-type]
    return events / (time.process_time() - began)


def compare(contenders: dict[str, Contender], events: int, readers: int, rounds: int) -> dict[str, Any]:
    """Run all contenders in turn, `rounds` times; return rates, and the bus's ratio to each of the others."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, contender in contenders.items():
            # pyee is an order of magnitude slower; a tenth of the events gives as steady a rate.
            measured = rate(contender, events // 10 if name == "pyee" else events, readers)
            if number:  # the first round warms up
                rates[name].append(measured)
    result: dict[str, Any] = {name: spread(values) for name, values in rates.items()}
    for name in contenders:
        if name != "bus":
            ratios = [ours / theirs for ours, theirs in zip(rates["bus"], rates[name], strict=True)]
            result[f"bus/{name}"] = spread(ratios)
    return result


def spread(values: list[float]) -> dict[str, float]:
    """Return minimum, median and maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def resident_mb() -> float:
    """Return the resident memory of this process in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


async def blocked_subscriber(events: int, directory: Path) -> dict[str, Any]:
    """Publish from 100 tasks while a subscriber is blocked; return memory on the way, and how it caught
    up."""
    gate, seen = asyncio.Event(), [0, 0]

    async def blocked(record: Record) -> None:
        await gate.wait()
        assert record.seq == seen[1] + 1
        seen[0] += 1
        seen[1] = record.seq

    clock = SystemClock()
    ids = SystemIds(clock)
    samples: list[float] = []
    async with Bus(
        SqliteJournal(directory / "bench.db", clock=clock, ids=ids), clock=clock, ids=ids, drain_s=60
    ) as bus:
        bus.subscribe("blocked", "*", blocked)

        async def publisher(count: int) -> None:
            for _ in range(count):
                await bus.publish(EVENT)

        for _ in range(10):
            async with asyncio.TaskGroup() as tasks:
                for number in range(100):
                    tasks.create_task(publisher(events // 1000), name=f"publisher-{number}")
            gc.collect()
            samples.append(round(resident_mb(), 1))
        buffered = bus.statistics().subscribers["blocked"].buffered
        gate.set()
        began = time.perf_counter()
        caught_up = await bus.wait_idle(120)
        took = time.perf_counter() - began
        head = bus.statistics().head
    return {
        "resident_mb": samples,
        "growth_mb": round(samples[-1] - samples[1], 1),
        "buffered": buffered,
        "caught_up": caught_up and seen[0] == head,
        "handled": seen[0],
        "catch_up_s": round(took, 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-events", type=int, default=200_000)
    parser.add_argument("--without-pyee", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    contenders: dict[str, Contender] = {
        "bus": through_bus,
        "queue": through_queues,
        "same journal and queue": through_journal_and_queues,
    }
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if not options.without_pyee:
            target = directory / "pyee"
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), "pyee==13.0.0"]
            subprocess.run(pip, check=True, timeout=120)
            sys.path.insert(0, str(target))
            contenders["pyee"] = through_pyee
        for readers in (1, 4):
            results[f"{readers} readers"] = compare(contenders, options.events, readers, options.rounds)
        if options.memory_events:
            results["blocked"] = asyncio.run(blocked_subscriber(options.memory_events, directory))
    if options.json:
        print(json.dumps(results))
    else:
        show(results)


def show(results: dict[str, Any]) -> None:
    """Print a table for people."""
    for title, rows in results.items():
        print(title)
        for name, value in rows.items():
            if isinstance(value, dict):
                form = "{:.2f}" if "/" in name else "{:,.0f}"
                value = "  ".join(f"{key} {form.format(number)}" for key, number in value.items())
            print(f"  {name:26} {value}")


if __name__ == "__main__":
    main()
