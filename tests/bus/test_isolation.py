"""A subscriber that raises, hangs or lags harms neither the publisher nor its neighbours."""

import anyio

from fraisier.events import Record
from fraisier.testing import RecordingSubscriber, run_virtual
from tests.bus.world import ListJournal, bus_over, line, numbers, step


class Probe:
    """Notes the largest buffer seen of each subscriber."""

    def __init__(self, bus):
        self._bus = bus
        self.largest = 0

    def look(self):
        self.largest = max([self.largest, *(s.buffered for s in self._bus.statistics().subscribers.values())])


def test_a_subscriber_that_always_raises_costs_the_others_nothing():
    async def main():
        recorder, journal = RecordingSubscriber(), ListJournal()

        async def broken(record: Record) -> None:
            raise ValueError("no")

        async with bus_over(journal, retries=2) as bus:
            bus.subscribe("broken", "*", broken)
            bus.subscribe("recorder", "*", recorder)
            for number in range(20):
                await bus.publish(step(number))
            assert anyio.current_time() == 0.0
            assert await bus.wait_idle(60)
            statistics = bus.statistics().subscribers["broken"]
        assert numbers(recorder.records) == list(range(20))
        assert (statistics.handled, statistics.errors, statistics.retries, statistics.dead_letters) == (
            0,
            60,
            40,
            20,
        )
        assert [letter.seq for letter in journal.letters] == list(range(1, 21))
        assert journal.letters[0].error == "ValueError: no"

    run_virtual(main)


def test_a_failing_handler_is_called_again_and_then_goes_on_in_order():
    async def main():
        calls = []

        async def moody(record: Record) -> None:
            calls.append(record.event.attempt)
            if calls.count(record.event.attempt) < 3:
                raise OSError("not yet")

        async with bus_over() as bus:
            bus.subscribe("moody", "step.*", moody)
            for number in range(3):
                await bus.publish(step(number))
            assert await bus.wait_idle(60)
            statistics = bus.statistics().subscribers["moody"]
        assert calls == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert (statistics.handled, statistics.errors, statistics.retries, statistics.dead_letters) == (
            3,
            6,
            6,
            0,
        )

    run_virtual(main)


def test_a_hung_handler_is_interrupted_and_its_subscriber_goes_on():
    async def main():
        seen, neighbour, journal = [], RecordingSubscriber(), ListJournal()

        async def hangs_once(record: Record) -> None:
            if record.event.attempt == 1:
                await anyio.sleep_forever()
            seen.append(record.event.attempt)

        async with bus_over(journal, watchdog_s=30) as bus:
            bus.subscribe("hangs", "*", hangs_once)
            bus.subscribe("neighbour", "*", neighbour)
            for number in range(4):
                await bus.publish(step(number))
            assert anyio.current_time() == 0.0
            assert await bus.wait_idle(100)
            assert anyio.current_time() <= 60
            statistics = bus.statistics().subscribers["hangs"]
        assert seen == [0, 2, 3]
        assert numbers(neighbour.records) == [0, 1, 2, 3]
        assert (statistics.hung, statistics.dead_letters, statistics.handled) == (1, 1, 3)
        assert journal.letters[0].seq == 2

    run_virtual(main)


def test_a_slow_handler_that_moves_on_is_not_hung():
    async def main():
        recorder = RecordingSubscriber()

        async def slow(record: Record) -> None:
            await anyio.sleep(25)
            await recorder(record)

        async with bus_over(watchdog_s=30, drain_s=1000) as bus:
            bus.subscribe("slow", "*", slow)
            for number in range(10):
                await bus.publish(step(number))
            assert await bus.wait_idle(1000)
            assert bus.statistics().subscribers["slow"].hung == 0
        assert numbers(recorder.records) == list(range(10))

    run_virtual(main)


def test_a_handler_that_swallows_the_interruption_is_left_in_peace_and_can_still_be_ended():
    async def main():
        seen = []

        async def stubborn(record: Record) -> None:
            try:
                await anyio.sleep(1000)
            except BaseException:
                seen.append(record.event.attempt)

        bus_left_at = 0.0
        async with bus_over(watchdog_s=10) as bus:
            bus.subscribe("stubborn", "*", stubborn)
            await bus.publish(step(0))
            await bus.publish(step(1))
            assert await bus.wait_idle(100)
            assert bus.statistics().subscribers["stubborn"].hung == 2
            bus_left_at = anyio.current_time()
        assert seen == [0, 1]
        assert anyio.current_time() == bus_left_at

    run_virtual(main)


def test_a_subscriber_that_sleeps_for_ever_never_holds_more_than_its_capacity():
    async def main():
        recorder, journal = RecordingSubscriber(), ListJournal()

        async def blocked(record: Record) -> None:
            await anyio.sleep_forever()

        async with bus_over(journal, drain_s=1) as bus:
            probe = Probe(bus)
            bus.subscribe("blocked", "*", blocked, capacity=64)
            bus.subscribe("recorder", "*", recorder, capacity=64)
            for number in range(10_000):
                await bus.publish(step(number))
                probe.look()
            assert anyio.current_time() < 0.1
            assert await bus.wait_idle(1) is False
            statistics = bus.statistics().subscribers["blocked"]
            assert (statistics.parked, statistics.handled, statistics.parks) == (True, 0, 1)
            assert statistics.lag == 10_000
        assert numbers(recorder.records) == list(range(10_000))
        assert probe.largest <= 64

    run_virtual(main)


def test_a_subscriber_ten_thousand_behind_reads_everything_in_order_from_the_journal():
    async def main():
        gate, late = anyio.Event(), RecordingSubscriber()

        async def behind(record: Record) -> None:
            await gate.wait()
            await late(record)

        async with bus_over() as bus:
            bus.subscribe("behind", "step.*", behind, capacity=32)
            for number in range(10_000):
                await bus.publish(step(number))
            assert bus.statistics().subscribers["behind"].buffered <= 32
            gate.set()
            assert await bus.wait_idle(60)
            assert bus.statistics().subscribers["behind"].lag == 0
        assert numbers(late.records) == list(range(10_000))

    run_virtual(main)


def test_publishing_from_a_handler_to_itself_neither_blocks_nor_grows():
    async def main():
        seen = []

        async with bus_over() as bus:

            async def echo(record: Record) -> None:
                seen.append(record.event.attempt)
                if record.event.attempt < 500:
                    await bus.publish(step(record.event.attempt + 1))

            bus.subscribe("echo", "step.*", echo, capacity=4)
            await bus.publish(step(0))
            assert await bus.wait_idle(60) or seen
            while len(seen) < 501:
                await anyio.sleep(0.01)
        assert seen == list(range(501))

    run_virtual(main)


def test_an_error_text_is_cleaned_before_it_is_stored():
    async def main():
        journal = ListJournal()

        async def leaks(record: Record) -> None:
            raise ValueError("password hunter2 refused")

        async with bus_over(journal, retries=0, redact=lambda text: text.replace("hunter2", "***")) as bus:
            bus.subscribe("leaks", "*", leaks)
            await bus.publish(step())
            assert await bus.wait_idle(5)
        assert journal.letters[0].error == "ValueError: password *** refused"

    run_virtual(main)


def test_a_store_that_cannot_be_read_for_a_while_delays_only_who_needs_it():
    class Moody(ListJournal):
        failures = 3

        async def read(self, *args, **kwargs):
            if self.failures:
                self.failures -= 1
                raise OSError("disk")
            return await super().read(*args, **kwargs)

    async def main():
        gate, recorder = anyio.Event(), RecordingSubscriber()

        async def waits(record: Record) -> None:
            await gate.wait()
            await recorder(record)

        async with bus_over(Moody()) as bus:
            bus.subscribe("waits", "*", waits, capacity=4)
            for number in range(20):
                await bus.publish(step(number))
            gate.set()
            assert await bus.wait_idle(60)
            assert bus.statistics().subscribers["waits"].errors == 3
        assert numbers(recorder.records) == list(range(20))

    run_virtual(main)


def test_a_dead_letter_of_an_ephemeral_event_is_counted_but_has_no_row():
    async def main():
        journal = ListJournal()

        async def broken(record: Record) -> None:
            raise ValueError("no")

        async with bus_over(journal, retries=0) as bus:
            bus.subscribe("broken", "*", broken)
            bus.emit(line())
            assert await bus.wait_idle(5)
            assert bus.statistics().subscribers["broken"].dead_letters == 1
        assert journal.letters == []

    run_virtual(main)
