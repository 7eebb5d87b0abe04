"""Several processes, and several journals of one process, on one store."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from fraisier.errors import GuardRefusedError
from fraisier.events import types as ev
from tests.journal.world import PLACE, make, opened, step, store, story

ROOT = Path(__file__).parents[2]


@contextmanager
def writers(path: Path, count: int, events: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ready to append, and are dead afterwards."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.journal.writer_process", str(path), f"p-{number}", str(events)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for number in range(count)
    ]
    try:
        for process in started:
            first = process.stdout.readline()
            assert first == "READY\n", (first, process.poll(), process.communicate())
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def go(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()


async def test_four_processes_write_one_chain_and_none_is_locked_out(path):
    with writers(path, 4, 60) as processes:
        go(processes)
        ends = [await anyio.to_thread.run_sync(process.communicate) for process in processes]
        assert [process.returncode for process in processes] == [0] * 4, ends
    acknowledged = sorted(int(line) for out, _ in ends for line in out.split())
    assert len(acknowledged) >= 4 * 60
    async with store(path) as journal:
        assert journal.head == len(acknowledged) == acknowledged[-1]
        assert await journal.check() == []


async def test_a_killed_writer_loses_nothing_it_acknowledged_and_the_others_go_on(path):
    with writers(path, 2, 0) as processes:
        go(processes)
        for _ in range(20):
            for process in processes:
                process.stdout.readline()
        processes[0].kill()
        first = processes[0].communicate()[0].split()
        later = [processes[1].stdout.readline() for _ in range(50)]
        processes[1].kill()
        second = processes[1].communicate()[0].split()
    async with store(path) as journal:
        assert await journal.check() == []
        acknowledged = [int(line) for line in [*first, *later, *second] if line.strip()]
        assert journal.head >= max(acknowledged)
        assert (await journal.append(step())).seq == journal.head


async def test_what_another_journal_wrote_is_seen_within_its_poll_in_order_and_once(path):
    seen = []
    arrived = anyio.Event()

    def take(records):
        seen.extend(records)
        if len(seen) >= 10:
            arrived.set()

    listener = make("sqlite", path)
    async with store(path) as writer:
        await listener.open(take)
        try:
            for number in range(10):
                await writer.append(step(number))
            started = time.monotonic()
            with anyio.fail_after(5):
                await arrived.wait()
            assert time.monotonic() - started < 1.0
        finally:
            await listener.close()
    assert [record.seq for record in seen] == list(range(1, 11))
    assert listener.statistics().foreign == 10


async def test_foreign_records_come_before_own_ones_that_follow_them(path):
    one, two = [], []
    # Polls that never come: what is seen here is seen by the appends themselves.
    async with store(path, one, poll_s=3600) as first, store(path, two, poll_s=3600) as second:
        for number in range(4):
            await first.append(step(number))
            await second.append(step(number + 100))
        await first.append(step(99))
    assert [record.seq for record in one] == list(range(1, 10))
    assert [record.seq for record in two] == list(range(1, 9))
    assert one[:8] == two


@pytest.mark.parametrize("seed", range(6))
async def test_the_tables_are_the_fold_of_the_log_however_two_journals_take_turns(path, seed):
    async with store(path, poll_s=3600) as first, store(path, poll_s=0.01) as second:
        for number, event in enumerate(story(seed, deployments=5)):
            await (first if (number * 7 + seed) % 3 else second).append(event)
        assert await first.check() == []
        assert (await first.verify()).head == (await second.verify()).head


async def test_a_guard_sees_what_another_journal_wrote_a_moment_ago(path):
    def free(tables):
        lease = tables.find_lease("api", "production")
        return "held" if lease is not None and lease.held else ""

    def lease(owner):
        return ev.LeaseAcquired(**PLACE, deployment_id=owner, epoch=1, holder=ev.Holder(owner), expires_at=1)

    async with store(path, poll_s=3600) as first, store(path, poll_s=3600) as second:
        await first.append(lease("d-1"), free)
        with pytest.raises(GuardRefusedError, match="held"):
            await second.append(lease("d-2"), free)
        await second.append(ev.LeaseReleased(**PLACE, deployment_id="d-1", epoch=1))
        await first.append(lease("d-3"), free)
        assert (await second.lease("api", "production")).deployment_id == "d-3"


async def test_two_journals_may_create_the_same_store_at_once(path):
    journals = [make("sqlite", path) for _ in range(4)]
    async with anyio.create_task_group() as tasks:
        for journal in journals:
            tasks.start_soon(journal.open, lambda records: None)
    ids = {journal.log_id for journal in journals}
    for journal in journals:
        await journal.close()
    assert len(ids) == 1 and len(ids.pop()) == 32


async def test_a_read_only_journal_follows_and_refuses_to_write(path):
    seen = []
    async with store(path) as writer:
        await writer.append(step())
        async with opened(make("sqlite", path, read_only=True, poll_s=0.01), seen) as reader:
            assert reader.head == 1
            await writer.append(step(1))
            with anyio.fail_after(5):
                while not seen:
                    await anyio.sleep(0.01)
            with pytest.raises(Exception, match="read-only"):
                await reader.append(step())
    assert [record.seq for record in seen] == [2]
