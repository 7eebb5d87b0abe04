"""From live to parked and back: no gap, no repeat, whatever the timing."""

import random

import anyio
import pytest

from fraisier.events import Record
from fraisier.events.types import WaveStarted
from fraisier.testing import RecordingSubscriber, run_virtual
from tests.bus.world import ListJournal, bus_over, line, make_bus, numbers, step


@pytest.mark.parametrize("seed", range(40))
def test_races_between_overflow_catch_up_and_publishers_keep_the_exact_sequence(seed):
    async def main():
        rng = random.Random(seed)
        live, durable, read = RecordingSubscriber(), RecordingSubscriber(), []

        def jittery(recorder):
            async def handle(record: Record) -> None:
                if rng.random() < 0.3:
                    await anyio.sleep(rng.random() * 0.004)
                await recorder(record)

            return handle

        async def publisher(bus, first):
            for number in range(first, first + 60):
                await bus.publish(step(number) if rng.random() < 0.8 else WaveStarted(wave=number))
                if rng.random() < 0.2:
                    await anyio.sleep(rng.random() * 0.01)

        async def reader(stream):
            async for record in stream:
                read.append(record.seq)
                if rng.random() < 0.2:
                    await anyio.sleep(rng.random() * 0.005)

        journal = ListJournal(commit_s=rng.choice([0.0, 0.0005]))
        async with (
            anyio.create_task_group() as readers,
            bus_over(journal, drain_s=100) as bus,
            bus.stream(capacity=4) as stream,
        ):
            readers.start_soon(reader, stream)
            bus.subscribe("live", "step.*", jittery(live), capacity=rng.choice([2, 5, 16]))
            async with anyio.create_task_group() as publishers:
                for first in (0, 100, 200):
                    publishers.start_soon(publisher, bus, first)
                await anyio.sleep(0.02)
                bus.subscribe(
                    "durable", "step.*", jittery(durable), durable=True, capacity=rng.choice([2, 7])
                )
            assert await bus.wait_idle(100)
            while len(read) < 180:
                await anyio.sleep(0.01)
        steps = [record.seq for record in journal.records if not isinstance(record.event, WaveStarted)]
        assert live.seqs() == steps
        assert durable.seqs() == steps
        assert read == list(range(1, 181))

    run_virtual(main, seed=seed)


def test_a_parked_subscriber_gets_no_ephemeral_event_and_is_told_how_many():
    async def main():
        gate, recorder = anyio.Event(), RecordingSubscriber()

        async def waits(record: Record) -> None:
            await gate.wait()
            await recorder(record)

        async with bus_over() as bus:
            bus.subscribe("waits", "*", waits, capacity=4)
            for number in range(10):
                await bus.publish(step(number))
                bus.emit(line(number))
            dropped = bus.statistics().subscribers["waits"].dropped
            gate.set()
            assert await bus.wait_idle(10)
        kept = [record for record in recorder.records if record.seq == 0]
        assert dropped == 10 - len(kept) > 0
        assert [seq for seq in recorder.seqs() if seq] == list(range(1, 11))

    run_virtual(main)


def test_a_full_buffer_loses_its_oldest_ephemeral_events_and_never_a_durable_one():
    async def main():
        gate, recorder = anyio.Event(), RecordingSubscriber()

        async def waits(record: Record) -> None:
            await gate.wait()
            await recorder(record)

        async with bus_over() as bus:
            bus.subscribe("waits", "*", waits, capacity=8)
            await anyio.sleep(0.001)
            await bus.publish(step(0))
            await anyio.sleep(0.001)
            await bus.publish(step(1))
            for number in range(100, 120):
                bus.emit(line(number))
            assert bus.statistics().subscribers["waits"].dropped == 13
            assert bus.statistics().subscribers["waits"].buffered == 8
            gate.set()
            assert await bus.wait_idle(10)
        assert numbers(recorder.records) == [0, 1, *range(113, 120)]

    run_virtual(main)


def test_publishing_ephemeral_events_lets_a_fast_subscriber_keep_up():
    async def main():
        recorder = RecordingSubscriber()

        async def talker(bus, first):
            for number in range(first, first + 200):
                await bus.publish(line(number))

        async with bus_over() as bus:
            bus.subscribe("fast", "*", recorder)
            async with anyio.create_task_group() as talkers:
                for first in range(0, 20_000, 200):
                    talkers.start_soon(talker, bus, first)
            assert await bus.wait_idle(10)
            assert bus.statistics().subscribers["fast"].dropped == 0
        assert len(recorder.records) == 20_000

    run_virtual(main)


def test_a_stream_ends_after_it_gave_everything_when_the_bus_closes():
    async def main():
        got = []

        async def reader(stream):
            async for record in stream:
                got.append(record.event.attempt)

        async with anyio.create_task_group() as readers:
            bus = make_bus()
            await bus.__aenter__()
            manager = bus.stream("step.*")
            stream = await manager.__aenter__()
            readers.start_soon(reader, stream)
            for number in range(3000):
                await bus.publish(step(number))
            await bus.__aexit__(None, None, None)
        await manager.__aexit__(None, None, None)
        assert got == list(range(3000))

    run_virtual(main)


def test_a_stream_that_was_left_takes_nothing_more():
    async def main():
        async with bus_over() as bus:
            async with bus.stream("wave.*"):
                assert list(bus.statistics().subscribers) == ["stream-1"]
            assert bus.statistics().subscribers == {}

    run_virtual(main)
