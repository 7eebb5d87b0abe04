"""Entering and leaving: everything that was published is delivered, however the leaving comes about."""

import asyncio

import anyio
import pytest

from fraisier.bus import Bus
from fraisier.clock import SystemClock
from fraisier.errors import BusClosedError, DatabaseConnectionError, UsageError
from fraisier.events import Record
from fraisier.ids import SystemIds
from fraisier.journal.sqlite import SqliteJournal
from fraisier.testing import RecordingSubscriber, run_virtual
from tests.bus.world import ListJournal, bus_over, line, make_bus, numbers, step


class Slow(RecordingSubscriber):
    """Takes 10 ms a record."""

    async def __call__(self, record: Record) -> None:
        await anyio.sleep(0.01)
        await super().__call__(record)


async def publish_then_wait(journal, slow, **options):
    async with bus_over(journal, **options) as bus:
        bus.subscribe("slow", "*", slow, capacity=8)
        bus.subscribe("durable", "*", slow.twin, durable=True, capacity=8)
        for number in range(50):
            await bus.publish(step(number))
        await anyio.sleep_forever()


def make_slow():
    slow = Slow()
    slow.twin = Slow()
    return slow


@pytest.mark.parametrize("how", ["anyio", "native", "native three times", "asyncio.timeout"])
def test_cancelling_the_body_still_delivers_everything(how):
    async def main():
        journal, slow = ListJournal(), make_slow()
        if how == "anyio":
            with anyio.move_on_after(0.05) as scope:
                await publish_then_wait(journal, slow)
            assert scope.cancelled_caught
        elif how == "asyncio.timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await publish_then_wait(journal, slow)
        else:
            task = asyncio.create_task(publish_then_wait(journal, slow), name="body")
            await anyio.sleep(0.05)
            for _ in range(3 if how == "native three times" else 1):
                task.cancel()
                await anyio.sleep(0.01)
            with pytest.raises(asyncio.CancelledError):
                await task
        assert numbers(slow.records) == numbers(slow.twin.records) == list(range(50))
        assert journal.positions == {"durable": 50}
        assert journal.opened is False

    run_virtual(main)


def test_asking_three_times_while_it_drains_hurries():
    async def main():
        journal, slow = ListJournal(), make_slow()
        task = asyncio.create_task(publish_then_wait(journal, slow, drain_s=1000), name="body")
        await anyio.sleep(0.05)
        for _ in range(4):
            task.cancel()
            await anyio.sleep(0.001)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert anyio.current_time() < 0.1
        assert journal.opened is False
        assert journal.positions == {"durable": len(slow.twin.records)}
        assert 0 < len(slow.twin.records) < 50

    run_virtual(main)


def test_being_cancelled_only_while_leaving_is_not_forgotten():
    async def main():
        slow = make_slow()

        async def body():
            async with bus_over() as bus:
                bus.subscribe("slow", "*", slow)
                for number in range(10):
                    await bus.publish(step(number))

        task = asyncio.create_task(body(), name="body")
        await anyio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert numbers(slow.records) == list(range(10))

    run_virtual(main)


def test_the_drain_is_bounded():
    async def main():
        async def never(record: Record) -> None:
            await anyio.sleep_forever()

        async with bus_over(drain_s=5) as bus:
            bus.subscribe("never", "*", never)
            await bus.publish(step())
        assert anyio.current_time() == 5

    run_virtual(main)


def test_a_feedback_loop_ends_with_the_drain():
    async def main():
        journal = ListJournal(commit_s=0.001)
        async with bus_over(journal, drain_s=1) as bus:

            async def again(record: Record) -> None:
                await bus.publish(step(record.event.attempt + 1))

            bus.subscribe("again", "*", again)
            await bus.publish(step(0))
        assert 1 <= anyio.current_time() < 1.1
        assert journal.opened is False

    run_virtual(main)


def test_positions_are_written_before_the_journal_is_closed():
    async def main():
        journal = ListJournal()
        async with bus_over(journal) as bus:
            bus.subscribe("audit", "*", RecordingSubscriber(), durable=True)
            await bus.publish(step())
        assert journal.calls[-2:] == ["flush", "close"]
        assert journal.positions == {"audit": 1}

    run_virtual(main)


def test_an_append_under_way_is_waited_for_and_delivered():
    async def main():
        journal, recorder = ListJournal(commit_s=0.2), RecordingSubscriber()
        async with anyio.create_task_group() as publishers, bus_over(journal) as bus:
            bus.subscribe("recorder", "*", recorder)
            publishers.start_soon(bus.publish, step(7))
            await anyio.sleep(0.1)
        assert numbers(recorder.records) == [7]

    run_virtual(main)


def test_a_bus_may_be_left_in_another_task():
    async def main():
        bus, slow = make_bus(), Slow()

        async def enter():
            await bus.__aenter__()
            bus.subscribe("slow", "*", slow)

        async def leave():
            await bus.__aexit__(None, None, None)

        await asyncio.create_task(enter(), name="enter")
        await bus.publish(step(1))
        await asyncio.create_task(leave(), name="leave")
        assert numbers(slow.records) == [1]

    run_virtual(main)


def test_a_closed_or_never_entered_bus_refuses():
    async def main():
        bus = make_bus()
        with pytest.raises(BusClosedError, match="was not entered"):
            await bus.publish(step())
        async with bus:
            pass
        with pytest.raises(BusClosedError, match="is closed"):
            await bus.publish(step())
        with pytest.raises(BusClosedError):
            bus.emit(line())
        with pytest.raises(BusClosedError):
            bus.subscribe("late", "*", RecordingSubscriber())
        with pytest.raises(UsageError, match="used once"):
            await bus.__aenter__()

    run_virtual(main)


def test_what_is_subscribed_before_entering_gets_everything_from_then_on():
    async def main():
        journal, early = ListJournal(), RecordingSubscriber()
        async with bus_over(journal) as bus:
            await bus.publish(step(0))
        bus = make_bus(journal)
        bus.subscribe("early", "*", early)
        async with bus:
            await bus.publish(step(1))
        assert numbers(early.records) == [1]

    run_virtual(main)


def test_a_journal_that_cannot_be_opened_is_the_error_of_entering():
    class Broken(ListJournal):
        async def open(self, on_commit):
            raise DatabaseConnectionError("no such directory")

    async def main():
        with pytest.raises(DatabaseConnectionError, match="no such directory"):
            await make_bus(Broken()).__aenter__()
        assert {task.get_name() for task in asyncio.all_tasks() if "bus" in task.get_name()} == set()

    run_virtual(main)


def test_being_cancelled_while_entering_closes_again():
    class SlowToOpen(ListJournal):
        async def open(self, on_commit):
            await anyio.sleep(1)
            await super().open(on_commit)

    async def main():
        journal = SlowToOpen()
        with anyio.move_on_after(0.5):
            async with bus_over(journal):
                pytest.fail("it was entered")
        assert journal.calls == ["close"]
        assert len(asyncio.all_tasks()) == 1

    run_virtual(main)


def test_a_crash_of_the_host_ends_its_subscribers_and_closes_the_journal():
    class Fatal(BaseException):
        pass

    async def main():
        journal, neighbour = ListJournal(), RecordingSubscriber()

        async def fatal(record: Record) -> None:
            raise Fatal

        bus = make_bus(journal)
        await bus.__aenter__()
        bus.subscribe("fatal", "*", fatal)
        bus.subscribe("neighbour", "*", neighbour)
        await bus.publish(step())
        await anyio.sleep(0.1)
        assert journal.opened is False
        with pytest.raises(BusClosedError):
            await bus.publish(step())
        with pytest.raises(BaseExceptionGroup) as caught:
            await bus.__aexit__(None, None, None)
        assert caught.group_contains(Fatal)
        assert len(asyncio.all_tasks()) == 1

    run_virtual(main)


def test_an_error_of_the_body_comes_out_as_it_is():
    async def main():
        with pytest.raises(ZeroDivisionError):
            async with bus_over():
                raise ZeroDivisionError

    run_virtual(main)


def test_every_task_has_a_name():
    async def main():
        async with bus_over() as bus:
            bus.subscribe("audit", "*", RecordingSubscriber(), durable=True)
            await anyio.sleep(0.1)
            names = {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}
        assert names == {"bus: host", "bus: watchdog", "bus: positions", "bus: audit"}

    run_virtual(main)


def test_a_subscriber_can_be_detached():
    async def main():
        recorder = RecordingSubscriber()
        async with bus_over() as bus:
            subscription = bus.subscribe("recorder", "*", recorder)
            await bus.publish(step(0))
            assert await bus.wait_idle(5)
            bus.unsubscribe(subscription)
            await bus.publish(step(1))
            assert bus.statistics().subscribers == {}
            bus.subscribe("recorder", "*", recorder)
            await bus.publish(step(2))
        assert numbers(recorder.records) == [0, 2]

    run_virtual(main)


async def test_it_works_in_a_real_event_loop_too():
    recorder = RecordingSubscriber()
    async with bus_over(drain_s=10) as bus:
        bus.subscribe("recorder", "step.*", recorder, durable=True)
        for number in range(2000):
            await bus.publish(step(number))
    assert numbers(recorder.records) == list(range(2000))


async def test_over_a_file_nothing_is_missed_and_a_durable_subscriber_goes_on(tmp_path):
    clock = SystemClock()
    ids = SystemIds(clock)
    live, first, second = RecordingSubscriber(), RecordingSubscriber(), RecordingSubscriber()

    def over_file():
        return Bus(SqliteJournal(tmp_path / "fraisier.db", clock=clock, ids=ids), clock=clock, ids=ids)

    async def talk(bus, base):
        for number in range(base, base + 20):
            await bus.publish(step(number))

    async with over_file() as bus:
        bus.subscribe("live", "*", live, capacity=16)
        bus.subscribe("audit", "*", first, durable=True, capacity=16)
        async with anyio.create_task_group() as talkers:
            for base in range(0, 1000, 100):
                talkers.start_soon(talk, bus, base)
    async with over_file() as bus:
        bus.subscribe("audit", "*", second, durable=True)
        await bus.publish(step(7))
    assert live.seqs() == first.seqs() == list(range(1, 201))
    assert second.seqs() == [201]
