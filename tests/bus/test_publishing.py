"""What may be published and subscribed to, in which order it arrives, and what the statistics say."""

import anyio
import pytest

from fraisier.errors import BusClosedError, ConfigurationError, UsageError, ValidationError
from fraisier.events import Event, Record
from fraisier.events.types import WaveStarted
from fraisier.journal.memory import MemoryJournal
from fraisier.testing import RecordingSubscriber, SeededIds, VirtualClock, run_virtual
from tests.bus.world import bus_over, line, make_bus, numbers, step


class Invented(Event, frozen=True, tag="not-registered"):
    """An event that nobody registered."""


@pytest.mark.parametrize(
    ("pattern", "suggestion"),
    [
        ("step.strated", "step.started"),
        ("steps.*", "step.*"),
        ("deployment.suceeded", "deployment.succeeded"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest_one(pattern, suggestion):
    with pytest.raises(ConfigurationError, match=f"did you mean '{suggestion}'".replace("*", r"\*")):
        make_bus().subscribe("typo", pattern, RecordingSubscriber())


def test_a_pattern_is_literal_but_for_its_stars():
    with pytest.raises(ConfigurationError):
        make_bus().subscribe("regex", "step[.]started", RecordingSubscriber())


def test_patterns_select_and_one_event_comes_once_even_if_several_match():
    async def main():
        recorder = RecordingSubscriber()
        async with bus_over() as bus:
            bus.subscribe("recorder", ["step.*", "*.started"], recorder)
            await bus.publish(WaveStarted(wave=1))
            await bus.publish(step(1))
            bus.emit(line(2))
            assert await bus.wait_idle(5)
        assert recorder.types() == ["wave.started", "step.started", "step.output"]

    run_virtual(main)


def test_unregistered_events_are_refused():
    async def main():
        async with bus_over() as bus:
            for attempt in (bus.publish, bus.emit):
                with pytest.raises(ValidationError, match="Invented is not a registered event type"):
                    result = attempt(Invented())
                    if result is not None:
                        await result
            with pytest.raises(ValidationError):
                bus.emit(step())
            with pytest.raises(UsageError):
                bus.respond(Invented, None)

    run_virtual(main)


def test_events_published_together_arrive_in_order_and_an_ephemeral_one_is_none_of_them():
    async def main():
        recorder = RecordingSubscriber()
        async with bus_over() as bus:
            bus.subscribe("recorder", "*", recorder)
            records = await bus.publish_all([step(1), step(2)])
            assert [record.seq for record in records] == [1, 2]
            for other in (line(3), Invented()):
                with pytest.raises(ValidationError):
                    await bus.publish_all([step(3), other])
            assert await bus.wait_idle(5)
        assert recorder.records == records
        with pytest.raises(BusClosedError):
            await bus.publish_all([step(4)])

    run_virtual(main)


def test_names_are_unique_and_capacities_sensible():
    bus = make_bus()
    bus.subscribe("audit", "*", RecordingSubscriber())
    with pytest.raises(UsageError, match="named 'audit' already"):
        bus.subscribe("audit", "*", RecordingSubscriber())
    with pytest.raises(UsageError, match="at least 2"):
        bus.subscribe("tiny", "*", RecordingSubscriber(), capacity=1)


def test_all_subscribers_see_one_order_and_the_publisher_gets_the_record():
    async def main():
        first, second = RecordingSubscriber(), RecordingSubscriber()

        async def talk(bus, base):
            for number in range(base, base + 30):
                record = await bus.publish(step(number))
                assert record.event.attempt == number

        clock = VirtualClock()
        async with bus_over(MemoryJournal(clock=clock, ids=SeededIds(1, clock))) as bus:
            bus.subscribe("first", "*", first)
            bus.subscribe("second", "*", second, durable=True)
            async with anyio.create_task_group() as talkers:
                for base in range(0, 300, 100):
                    talkers.start_soon(talk, bus, base)
            assert await bus.wait_idle(5)
        assert first.seqs() == second.seqs() == list(range(1, 91))
        assert numbers(first.records) == numbers(second.records)

    run_virtual(main, seed=7)


def test_an_ephemeral_record_has_an_id_a_time_and_no_seq():
    async def main():
        async with bus_over() as bus:
            await anyio.sleep(1)
            record = await bus.publish(line(3))
        assert (record.seq, record.at_us, len(record.id)) == (0, VirtualClock().now_us(), 36)

    run_virtual(main)


def test_the_statistics_are_exact():
    async def main():
        gate = anyio.Event()

        async def waits(record: Record) -> None:
            await gate.wait()

        async with bus_over() as bus:
            bus.subscribe("waits", ["step.*", "wave.*"], waits, capacity=4)
            for number in range(10):
                await bus.publish(step(number))
            bus.emit(line())
            statistics = bus.statistics()
            assert (statistics.head, statistics.published, statistics.emitted) == (10, 10, 1)
            waiting = statistics.subscribers["waits"]
            assert (waiting.kind, waiting.patterns, waiting.passive) == ("live", ("step.*", "wave.*"), False)
            assert (waiting.parked, waiting.parks, waiting.dropped, waiting.lag) == (True, 1, 1, 10)
            gate.set()
            assert await bus.wait_idle(5)
            done = bus.statistics().subscribers["waits"]
            assert (done.handled, done.lag, done.parked, done.buffered, done.position) == (
                10,
                0,
                False,
                0,
                10,
            )

    run_virtual(main)


def test_two_buses_do_not_disturb_each_other():
    async def main():
        one, two = RecordingSubscriber(), RecordingSubscriber()

        async def broken(record: Record) -> None:
            raise ValueError

        async with bus_over() as first, bus_over() as second:
            first.subscribe("recorder", "*", one)
            first.subscribe("broken", "*", broken)
            second.subscribe("recorder", "*", two)
            await first.publish(step(1))
            await second.publish(step(2))
            assert await first.wait_idle(5)
            assert await second.wait_idle(5)
            assert (first.statistics().head, second.statistics().head) == (1, 1)
        assert (numbers(one.records), numbers(two.records)) == ([1], [2])

    run_virtual(main)


def test_waiting_for_idle_covers_what_was_published_before_it_and_no_more():
    async def main():
        async def slow(record: Record) -> None:
            await anyio.sleep(1)

        async with bus_over(drain_s=0) as bus:
            bus.subscribe("slow", "*", slow)
            for number in range(3):
                await bus.publish(step(number))
            assert await bus.wait_idle(1) is False

            async def keep_talking():
                while True:
                    await bus.publish(step())
                    await anyio.sleep(0.1)

            async with anyio.create_task_group() as talkers:
                talkers.start_soon(keep_talking)
                assert await bus.wait_idle(100) is True
                talkers.cancel_scope.cancel()
            assert bus.statistics().subscribers["slow"].handled < 50

    run_virtual(main)
