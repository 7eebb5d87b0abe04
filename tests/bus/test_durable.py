"""Durable subscribers: at least once across restarts, one owner each."""

import os
import signal
import subprocess
import sys

import anyio

from fraisier.bus import Postponed
from fraisier.events import Record
from fraisier.events.types import SecurityReported
from fraisier.journal.claims import FileClaims
from fraisier.testing import RecordingSubscriber, run_virtual
from tests.bus.world import ListJournal, bus_over, line, numbers, step


def test_it_goes_on_after_a_restart_where_it_stopped():
    async def main():
        journal, first, second = ListJournal(), RecordingSubscriber(), RecordingSubscriber()
        async with bus_over(journal) as bus:
            bus.subscribe("audit", "step.*", first, durable=True)
            for number in range(5):
                await bus.publish(step(number))
        async with bus_over(journal) as bus:
            for number in range(5, 8):
                await bus.publish(step(number))
        async with bus_over(journal) as bus:
            await bus.publish(step(8))
            bus.subscribe("audit", "step.*", second, durable=True)
            await bus.publish(step(9))
        assert numbers(first.records) == [0, 1, 2, 3, 4]
        assert numbers(second.records) == [5, 6, 7, 8, 9]
        assert journal.positions == {"audit": 10}

    run_virtual(main)


def test_without_a_stored_position_it_starts_at_the_beginning_or_from_now():
    async def main():
        journal, everything, news = ListJournal(), RecordingSubscriber(), RecordingSubscriber()
        async with bus_over(journal) as bus:
            await bus.publish(step(0))
        async with bus_over(journal) as bus:
            bus.subscribe("everything", "*", everything, durable=True)
            bus.subscribe("news", "*", news, durable=True, from_start=False)
            await bus.publish(step(1))
        assert numbers(everything.records) == [0, 1]
        assert numbers(news.records) == [1]
        assert journal.positions == {"everything": 2, "news": 2}

    run_virtual(main)


def test_the_position_moves_only_after_the_handler_returned():
    async def main():
        journal, seen = ListJournal(), []

        async def stuck_at_two(record: Record) -> None:
            if record.event.attempt == 2:
                await anyio.sleep_forever()
            seen.append(record.event.attempt)

        async with bus_over(journal, drain_s=0.5) as bus:
            bus.subscribe("audit", "*", stuck_at_two, durable=True)
            for number in range(4):
                await bus.publish(step(number))
        assert seen == [0, 1]
        assert journal.positions == {"audit": 2}
        rest = RecordingSubscriber()
        async with bus_over(journal) as bus:
            bus.subscribe("audit", "*", rest, durable=True)
        assert numbers(rest.records) == [2, 3]

    run_virtual(main)


def test_the_position_is_written_while_idle_and_while_a_slow_handler_works():
    async def main():
        journal = ListJournal()

        async def slow(record: Record) -> None:
            await anyio.sleep(1)

        async with bus_over(journal, drain_s=60) as bus:
            bus.subscribe("slow", "*", slow, durable=True)
            for number in range(3):
                await bus.publish(step(number))
            await anyio.sleep(2.9)
            assert journal.positions == {"slow": 2}
            await anyio.sleep(1)
            assert journal.positions == {"slow": 3}
            flushes = journal.calls.count("flush")
            await anyio.sleep(100)
            assert journal.calls.count("flush") == flushes

    run_virtual(main)


def test_what_nobody_wanted_is_dealt_with():
    """While the subscriber rests, and at the end; nothing is written again when nothing new came."""

    async def main():
        journal, never = ListJournal(), RecordingSubscriber()
        async with bus_over(journal) as bus:
            bus.subscribe("security", "security.*", never, durable=True)
            for number in range(40):
                await bus.publish(step(number))
            await anyio.sleep(6)
            assert journal.positions == {"security": 40}
            flushes = journal.calls.count("flush")
            await anyio.sleep(100)
            assert journal.calls.count("flush") == flushes
            await bus.publish(step(40))
        assert journal.positions == {"security": 41}
        assert never.records == []

    run_virtual(main)


def test_what_is_wanted_and_not_done_is_never_passed_over():
    """Whether the handler works, waits for its next try, or was told to come back later; and whatever came after it."""

    async def working(record: Record) -> None:
        await anyio.sleep_forever()

    async def failing(record: Record) -> None:
        raise ValueError("no")

    async def postponing(record: Record) -> None:
        raise Postponed(1)

    async def main():
        for handler in (working, failing, postponing):
            journal, rest = ListJournal(), RecordingSubscriber()
            async with bus_over(journal, drain_s=0.1, retries=20, watchdog_s=1000) as bus:
                bus.subscribe("audit", "security.*", handler, durable=True)
                await bus.publish(step(0))
                await anyio.sleep(6)
                await bus.publish(SecurityReported(kind="probe"))
                for number in range(1, 5):
                    await bus.publish(step(number))
                await anyio.sleep(6)
                assert journal.positions == {"audit": 1}
                await bus.publish(step(5))
            assert journal.positions == {"audit": 1}
            async with bus_over(journal) as bus:
                bus.subscribe("audit", "security.*", rest, durable=True)
            assert [record.seq for record in rest.records] == [2]
            assert journal.positions == {"audit": 7}

    run_virtual(main)


def test_ephemeral_events_do_not_move_the_position():
    async def main():
        journal, recorder = ListJournal(), RecordingSubscriber()
        async with bus_over(journal) as bus:
            bus.subscribe("output", "*", recorder, durable=True)
            await bus.publish(step(0))
            assert await bus.wait_idle(5)
            bus.emit(line(1))
            assert await bus.wait_idle(5)
        assert numbers(recorder.records) == [0, 1]
        assert journal.positions == {"output": 1}

    run_virtual(main)


def test_a_second_bus_is_passive_until_the_owner_lets_go(tmp_path):
    async def main():
        journal, owner, heir = ListJournal(), RecordingSubscriber(), RecordingSubscriber()
        other = ListJournal()
        other.records, other.positions = journal.records, journal.positions
        async with bus_over(other, claims=FileClaims(tmp_path)) as second:
            async with bus_over(journal, claims=FileClaims(tmp_path)) as first:
                first.subscribe("notify", "*", owner, durable=True)
                await first.publish(step(0))
                assert await first.wait_idle(5)
                second.subscribe("notify", "*", heir, durable=True)
                await second.publish(step(1))
                assert await second.wait_idle(5)
                await anyio.sleep(10)
                assert second.statistics().subscribers["notify"].passive is True
                assert first.statistics().subscribers["notify"].passive is False
                assert heir.records == []
            await anyio.sleep(2)
            assert second.statistics().subscribers["notify"].passive is False
            assert await second.wait_idle(5)
            assert numbers(heir.records) == [1]

    run_virtual(main)


def test_the_right_of_a_killed_process_is_free_again(tmp_path):
    program = (
        "import sys, pathlib\n"
        "from fraisier.journal.claims import FileClaims\n"
        "claims = FileClaims(pathlib.Path(sys.argv[1]))\n"
        "print(claims.claim('a/b'), flush=True)\n"
        "sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=pipe, stdout=pipe, text=True
    )
    with holder:
        assert holder.stdout.readline() == "True\n"
        claims = FileClaims(tmp_path)
        assert claims.claim("a/b") is False
        assert claims.claim("other") is True
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(10)
        assert claims.claim("a/b") is True
        assert claims.claim("a/b") is True
        claims.release("a/b")
        claims.release("a/b")
        heir = FileClaims(tmp_path)
        assert heir.claim("a/b") is True
        heir.release("a/b")
    claims.release("other")
