"""What the caller of `append` is told is what is on the disk."""

import asyncio
import resource
import threading
from contextlib import contextmanager

import anyio
import pytest

from fraisier.errors import DatabaseTransactionError
from tests.journal.world import make, opened, raw, step, store


def rows(path):
    with raw(path) as connection:
        return [body for (body,) in connection.execute("select target from journal order by seq").fetchall()]


async def test_a_publisher_cancelled_by_a_scope_goes_on_once_its_row_is_durable(path):
    async with store(path) as journal:
        durable_at_end = []

        async def publish(scope):
            with scope:
                try:
                    await journal.append(step(target="web-1"))
                finally:
                    durable_at_end.append(rows(path))

        scope = anyio.CancelScope()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish, scope)
            await anyio.lowlevel.checkpoint()
            scope.cancel()
        assert scope.cancelled_caught
        assert durable_at_end == [["web-1"]]


async def test_a_publisher_cancelled_natively_again_and_again_still_learns_its_outcome(path):
    async with store(path) as journal:
        durable_at_end = []

        async def publish():
            try:
                await journal.append(step(target="web-1"))
            finally:
                durable_at_end.append(rows(path))

        task = asyncio.ensure_future(publish())
        await asyncio.sleep(0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert durable_at_end == [["web-1"]]
        assert (await journal.append(step())).seq == 2


async def test_a_publisher_cancelled_before_it_began_writes_nothing(path):
    async with store(path) as journal:
        task = asyncio.ensure_future(journal.append(step()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await journal.append(step(target="web-2"))
        assert rows(path) == ["web-2"]


async def test_appends_beyond_the_bound_wait_for_room(path):
    async with store(path, synchronous="NORMAL") as journal:
        waiting = []

        async def publish(number):
            await journal.append(step(number))
            waiting.append(journal.statistics().pending)

        async with anyio.create_task_group() as tasks:
            for number in range(10_050):
                tasks.start_soon(publish, number)
            await anyio.lowlevel.checkpoint()
            assert journal.statistics().pending <= 10_000
        assert len(waiting) == 10_050
        assert journal.statistics().largest_batch <= 10_000


async def test_closing_writes_what_is_pending_and_ends_the_threads(path):
    before = set(threading.enumerate())
    journal = make("sqlite", path)
    await journal.open(lambda records: None)
    assert set(threading.enumerate()) > before
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(journal.append, step(number))
        await anyio.lowlevel.checkpoint()
        await journal.close()
    assert set(threading.enumerate()) <= before
    assert len(rows(path)) == 50


async def test_positions_reach_the_disk_without_any_further_event(path):
    async with store(path, poll_s=0.01) as journal:
        journal.save_position("audit", 3)
        with anyio.fail_after(5):
            while not _position(path):
                await anyio.sleep(0.01)
        journal.save_position("audit", 4)
        await journal.flush_positions()
        assert _position(path) == [(4,)]


def _position(path):
    with raw(path) as connection:
        return connection.execute("select seq from positions where subscriber = 'audit'").fetchall()


@contextmanager
def largest_file(size: int):
    """No file of this process may grow beyond `size` bytes: what a full disk looks like from inside."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_takes_no_more_fails_the_append_with_path_and_cause_and_keeps_nothing(path):
    seen = []
    async with store(path, seen, poll_s=3600) as journal:
        await journal.append(step(target="web-1"))
        size = max(found.stat().st_size for found in path.parent.iterdir())
        failures = []

        async def publish(number):
            try:
                await journal.append(step(number, target="x" * 20_000))
            except DatabaseTransactionError as error:
                failures.append(error)

        with largest_file(size):
            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(publish, number)
        assert len(failures) == 5
        assert str(path) in failures[0].message and "disk" in failures[0].message
        await journal.append(step(target="web-2"))
        assert rows(path) == ["web-1", "web-2"]
        assert [record.seq for record in seen] == [1, 2]
        assert await journal.check() == []


async def test_a_store_that_another_program_keeps_locked_for_a_while_delays_but_fails_nothing(path):
    async with store(path) as journal:
        with raw(path) as other:
            other.execute("begin immediate")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(journal.append, step(target="web-1"))
                await anyio.sleep(0.05)
                other.execute("rollback")
        assert rows(path) == ["web-1"]


async def test_a_store_that_was_replaced_or_removed_takes_no_more_appends(path):
    async with store(path, poll_s=3600) as journal:
        await journal.append(step())
        path.rename(path.with_name("moved.db"))
        with pytest.raises(DatabaseTransactionError, match="replaced or removed"):
            await journal.append(step())
        path.with_name("moved.db").rename(path)
        assert (await journal.append(step())).seq == 2


async def test_readers_leave_no_cursor_open_so_the_write_ahead_log_stays_small(path):
    async with store(path, synchronous="NORMAL") as journal:
        for _ in range(6):
            async with anyio.create_task_group() as tasks:
                for number in range(1000):
                    tasks.start_soon(journal.append, step(number, target=f"web-{number}"))
            await journal.read(0, limit=5)
            await journal.deployments(limit=1)
            await journal.deployment("d-1")
        assert path.with_name("fraisier.db-wal").stat().st_size < 8_000_000


async def test_a_journal_may_be_opened_again_after_it_was_closed(path):
    journal = make("sqlite", path)
    for expected in (1, 2):
        async with opened(journal):
            assert (await journal.append(step())).seq == expected


async def test_a_commit_whose_task_is_cancelled_from_outside_is_neither_lost_nor_written_twice(path):
    seen = []
    async with store(path, seen) as journal:
        outcomes = []

        async def publish():
            outcomes.append(await journal.append(step(target="web-1")))

        with raw(path) as other:
            # While another program holds the lock, the commit is under way in its thread and cannot end.
            other.execute("begin immediate")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publish)
                await anyio.sleep(0.02)
                (commit,) = [task for task in asyncio.all_tasks() if task.get_name() == "journal:commit"]
                commit.cancel()
                await anyio.sleep(0.02)
                other.execute("rollback")
        assert [record.seq for record in outcomes] == [1]
        assert rows(path) == ["web-1"] and len(seen) == 1
