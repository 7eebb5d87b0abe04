"""The rows of one deployment are found by the stretches of the log that hold them."""

import itertools
import random

import anyio
import pytest

from fraisier.journal.maintenance import rebuild
from fraisier.journal.spans import GAP, stretches
from tests.journal.world import raw, step, store


async def write(journals, owners):
    """Append an event for each owner, in this order, each by a journal that its turn gives it."""
    for turn, owner in enumerate(owners):
        await journals[turn % len(journals)].append(step(turn, deployment_id=owner, target=f"web-{turn}"))


def expected(owners, owner):
    return [seq for seq, found in enumerate(owners, 1) if found == owner]


async def told(journal, owner, **wanted):
    return [record.seq for record in await journal.read(0, deployment_id=owner, limit=10_000, **wanted)]


def kept(path, owner):
    with raw(path) as connection:
        return list(stretches(connection, owner))


async def test_rows_close_to_each_other_are_one_stretch_and_rows_far_apart_are_two(path):
    owners = ["d-1", "d-2", "d-1", *["d-2"] * GAP, "d-1", "d-1"]
    async with store(path) as journal:
        await write([journal], owners)
        assert await told(journal, "d-1") == expected(owners, "d-1")
    assert kept(path, "d-1") == [(1, 3), (GAP + 4, GAP + 5)]
    assert kept(path, "d-2") == [(2, GAP + 3)]


async def test_what_two_journals_write_about_the_same_deployments_is_read_once_and_in_order(path):
    rng = random.Random(7)
    owners = rng.choices(["d-1", "d-2", "d-3", ""], [5, 3, 1, 1], k=300)
    async with store(path) as first, store(path) as second:
        await write([first, second], owners)
        for owner in ("d-1", "d-2", "d-3"):
            assert await told(first, owner) == expected(owners, owner)
        assert await first.check() == []
    overlapping = kept(path, "d-1")
    assert all(last < following for (_, last), (following, _) in itertools.pairwise(overlapping))


@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_pages_join_to_the_whole(path, limit):
    owners = [owner for _ in range(4) for owner in ("d-1", "d-1", *["d-2"] * (GAP + 1))]
    async with store(path) as journal:
        await write([journal], owners)
        seen, after = [], 0
        while page := await journal.read(after, deployment_id="d-1", limit=limit):
            assert len(page) <= limit
            seen.extend(record.seq for record in page)
            after = page[-1].seq
        assert seen == expected(owners, "d-1")
        assert await told(journal, "d-1", upto=seen[2]) == seen[:3]
        assert await told(journal, "d-1", types=["step.failed"]) == []


async def test_more_deployments_at_once_than_are_remembered(path):
    owners = [f"d-{number % 100}" for number in range(400)]
    async with store(path) as journal:
        await write([journal], owners)
        for owner in ("d-0", "d-50", "d-99"):
            assert await told(journal, owner) == expected(owners, owner)
        assert await journal.check() == []


async def test_a_stretch_that_is_lost_is_found_by_the_check_and_made_again(path):
    owners = ["d-1", "d-2", "d-1"]
    async with store(path) as journal:
        await write([journal], owners)
    before = kept(path, "d-1")
    with raw(path) as connection:
        connection.execute("delete from spans where deployment_id = 'd-1'")
    async with store(path) as journal:
        faults = await journal.check()
    assert [fault.split(":")[0] for fault in faults] == [
        f"the table spans lacks row {seq} of the deployment d-1" for seq in (1, 3)
    ]
    await rebuild(path)
    assert kept(path, "d-1") == before
    async with store(path) as journal:
        assert await told(journal, "d-1") == [1, 3]
        assert await journal.check() == []


async def test_publishers_that_share_a_commit(path):
    async with store(path) as journal:
        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(journal.append, step(number, deployment_id=f"d-{number % 3}"))
        found = [await told(journal, f"d-{number}") for number in range(3)]
        assert sorted(seq for seqs in found for seq in seqs) == list(range(1, 61))
        assert [len(seqs) for seqs in found] == [20, 20, 20]
