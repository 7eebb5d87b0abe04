"""The journal in memory, where it differs: no thread, no real time, and it outlives its owner."""

import threading

import anyio

from fraisier.errors import DatabaseConnectionError
from fraisier.journal.memory import MemoryJournal
from fraisier.testing import SeededIds, VirtualClock, run_virtual
from tests.journal.world import opened, step, story


def test_it_runs_under_a_made_up_clock_without_threads():
    async def main():
        journal = MemoryJournal(clock=VirtualClock(), ids=SeededIds())
        async with opened(journal):
            with anyio.fail_after(1):
                for event in story(3):
                    await journal.append(event)
            assert await journal.check() == []
            assert (await journal.verify()).rows == journal.head > 20
            return journal.head_hash

    before = threading.active_count()
    assert run_virtual(main) == run_virtual(main)
    assert threading.active_count() == before


async def test_what_it_holds_is_there_for_the_next_owner():
    journal = MemoryJournal(clock=VirtualClock(), ids=SeededIds())
    async with opened(journal):
        await journal.append(step())
    seen = []
    async with opened(journal, seen):
        assert (await journal.append(step(1))).seq == 2
        assert [record.seq for record in await journal.read(0)] == [1, 2]
    assert [record.seq for record in seen] == [2]


async def test_it_has_one_owner_at_a_time():
    journal = MemoryJournal(clock=VirtualClock(), ids=SeededIds())
    async with opened(journal):
        try:
            await journal.open(lambda records: None)
        except DatabaseConnectionError as error:
            assert "open already" in error.message
        else:
            raise AssertionError("a second owner was let in")


async def test_a_cancelled_publisher_has_written_or_not_never_later():
    journal, seen = MemoryJournal(clock=VirtualClock(), ids=SeededIds()), []
    async with opened(journal, seen):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await journal.append(step())
        assert scope.cancelled_caught
        assert len(seen) == journal.head
