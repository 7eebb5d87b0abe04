"""Retention: what may go, what stays, and that a body which is gone was let go by somebody."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fraisier.audit import (
    AuditKey,
    AuditSubscriber,
    PruneReport,
    load_or_make_key,
    prune,
    sign_pruned,
    verify,
)
from fraisier.clock import SystemClock
from fraisier.errors import DatabaseTransactionError, NotFoundError
from fraisier.events import TYPE_OF, Actor
from fraisier.events import types as ev
from fraisier.ids import SystemIds
from fraisier.journal.base import Journal
from fraisier.journal.expiry import as_ranges
from fraisier.journal.memory import MemoryJournal
from fraisier.journal.sqlite import SqliteJournal
from tests.journal.world import raw, story
from tests.observability.big_store import build

KEY = AuditKey(b"k" * 32, "0123456789abcdef")
ALICE = Actor(user="alice", host="laptop", trigger="cli")
PLACE = {"fraise": "api", "environment": "production"}
TICK_US = 1_000_000


class Ticking:
    """A clock that goes on by a second at each look."""

    def __init__(self) -> None:
        self.now = 0

    def now_us(self) -> int:
        self.now += TICK_US
        return self.now


@asynccontextmanager
async def opened(kind: str, path: Path) -> AsyncIterator[Any]:
    clock = Ticking()
    ids = SystemIds(clock, random.Random(1))
    journal: Any = (
        MemoryJournal(clock=clock, ids=ids)
        if kind == "memory"
        else SqliteJournal(path / "j.db", clock=clock, ids=ids)
    )
    await journal.open(lambda records: None)
    try:
        yield journal
    finally:
        await journal.close()


@pytest.fixture(params=["memory", "sqlite"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    async with opened(request.param, tmp_path) as made:
        yield made


async def deployed(journal: Journal, number: int, *, ends: bool = True) -> None:
    """Three rows and a signature; without an end two rows."""
    about = {"deployment_id": f"d{number}", **PLACE}
    await journal.append(ev.DeploymentRequested(**about, actor=ALICE))
    await journal.append(ev.DeploymentStarted(**about, version="v1"))
    if ends:
        ended = await journal.append(ev.DeploymentSucceeded(**about, duration_s=1.0))
        await AuditSubscriber(journal, journal.append, KEY.secret, KEY.id)(ended)


async def pruned(journal: Journal, **options: Any) -> PruneReport:
    return await prune(journal, journal.append, KEY, **{"before_us": 1 << 60, "actor": ALICE, **options})


async def told(journal: Journal) -> list[int]:
    return [record.seq for record in await journal.read(0)]


async def test_old_bodies_go_and_signatures_stay(journal: Any) -> None:
    """Twice over; each prune names its rows, who asked and why, and the trail verifies after each."""
    await deployed(journal, 1)
    await deployed(journal, 2)
    second_deployment = (await journal.read(4))[0].at_us
    first = await pruned(journal, before_us=second_deployment, message="policy")
    assert (first.rows, first.records, first.held_back) == (3, 1, {})
    assert await told(journal) == [4, 5, 6, 7, 8, 9]
    record = (await journal.read(8))[0].event
    assert isinstance(record, ev.AuditPruned)
    assert (record.ranges, record.rows, record.message, record.actor) == (((1, 3),), 3, "policy", ALICE)
    assert (await verify(journal, KEY)).ok
    assert (await pruned(journal)).rows == 3
    assert await told(journal) == [4, 8, 9, 10]
    report = await verify(journal, KEY)
    assert (report.ok, report.rows, report.checkpoints) == (True, 10, 2)
    assert await journal.check() == []
    assert (await pruned(journal)).rows == 0
    assert journal.head == 10


async def test_what_is_not_over_or_was_to_stay_is_left(journal: Any) -> None:
    """A deployment without an end, and types that are asked for."""
    await deployed(journal, 1)
    await deployed(journal, 2, ends=False)
    report = await pruned(journal, keep=("deployment.s*",))
    assert (report.rows, await told(journal)) == (1, [2, 3, 4, 5, 6, 7])
    assert (await verify(journal, KEY)).ok


async def test_a_dry_run_changes_nothing(journal: Any) -> None:
    """It tells the same number."""
    await deployed(journal, 1)
    assert (await pruned(journal, dry_run=True)).rows == 3
    assert await told(journal) == [1, 2, 3, 4]
    assert (await pruned(journal)).rows == 3
    left = await told(journal)
    assert (await pruned(journal, dry_run=True)).rows == 0
    assert await told(journal) == left


async def test_what_a_durable_subscriber_has_not_handled_stays(journal: Any) -> None:
    """It is named, with the place where it is; without waiting for it, all goes."""
    await deployed(journal, 1)
    journal.save_position("forward:file:/x", 2)
    journal.save_position("audit", 1)
    await journal.flush_positions()
    report = await pruned(journal)
    assert (report.rows, report.held_back) == (2, {"forward:file:/x": 2})
    assert (await pruned(journal, wait_for_subscribers=False)).rows == 1


async def test_a_subscriber_that_is_forgotten_holds_nothing_back(journal: Any) -> None:
    """It is put on record with what it had not received; looking before does nothing, and nobody else is forgotten."""
    await deployed(journal, 1)
    journal.save_position("forward:file:/gone", 1)
    journal.save_position("forward:file:/kept", 2)
    await journal.flush_positions()
    looked = await pruned(journal, forget=("forward:file:/gone",), dry_run=True)
    assert (looked.rows, looked.forgotten) == (2, ("forward:file:/gone",))
    assert await told(journal) == [1, 2, 3, 4]
    report = await pruned(journal, forget=("forward:file:/gone",), message="moved")
    assert (report.rows, report.forgotten) == (2, ("forward:file:/gone",))
    assert report.held_back == {"forward:file:/kept": 2}
    noted = next(record.event for record in await journal.read(4) if isinstance(record.event, ev.SystemNoted))
    assert (noted.kind, noted.detail, noted.actor) == ("subscriber.forgotten", "forward:file:/gone", ALICE)
    assert noted.data == {"position": 1, "dead_letters": 0, "message": "moved"}
    assert [one.subscriber for one in await journal.followers()] == ["forward:file:/kept"]
    assert (await verify(journal, KEY)).ok


async def test_who_is_to_be_forgotten_is_looked_for_first(journal: Any) -> None:
    """A name with a slip is told with the nearest one, and nothing goes."""
    await deployed(journal, 1)
    journal.save_position("forward:file:/trail", 4)
    await journal.flush_positions()
    with pytest.raises(NotFoundError, match="did you mean 'forward:file:/trail'") as raised:
        await pruned(journal, forget=("forward:file:/trial",))
    assert raised.value.hint == "known: forward:file:/trail"
    with pytest.raises(NotFoundError, match=r"no subscriber 'x'$"):
        await pruned(journal, forget=("x",))
    assert await told(journal) == [1, 2, 3, 4]


async def test_a_prune_that_was_cut_off_is_finished_by_the_next(journal: Any) -> None:
    """Recorded and not done is no fault, and is done later."""
    await deployed(journal, 1)
    expire = journal.expire

    async def killed(ranges: Any) -> int:
        raise DatabaseTransactionError("killed")

    journal.expire = killed
    with pytest.raises(DatabaseTransactionError):
        await pruned(journal)
    journal.expire = expire
    assert await told(journal) == [1, 2, 3, 4, 5]
    assert (await verify(journal, KEY)).ok
    assert (await pruned(journal)).rows == 0
    assert await told(journal) == [4, 5]
    assert (await verify(journal, KEY)).ok


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"signature": "0" * 64}, "signature of the prune at 5 is false"),
        ({"message": "another reason"}, "signature of the prune at 5 is false"),
        ({"key_id": "feedfeedfeedfeed"}, "signed with the key feedfeedfeedfeed"),
        ({"ranges": ((1, 2),)}, "the body of row 3 is gone"),
        ({"ranges": ((1, 5),)}, "the body of row 1 is gone"),
        ({"columns_hash": "0" * 64}, "a column was edited"),
    ],
)
async def test_a_false_record_of_a_prune_is_found(journal: Any, change: dict[str, Any], word: str) -> None:
    """Whoever wrote it does not have the key, or it does not say what happened."""
    await deployed(journal, 1)

    async def publish(event: Any) -> Any:
        return await journal.append(msgspec.structs.replace(event, **change))

    await prune(journal, publish, KEY, before_us=1 << 60)
    report = await verify(journal, KEY)
    assert not report.ok
    assert word in report.problem


def test_a_signature_covers_all_that_a_record_says() -> None:
    """In one log; its own two fields do not count."""
    event = ev.AuditPruned(ranges=((1, 2),), rows=2, before_at=9, message="m", actor=ALICE)
    good = sign_pruned(b"k", "log", event)
    replace = msgspec.structs.replace
    assert good == sign_pruned(b"k", "log", replace(event, key_id="x", signature="y"))
    others = [
        replace(event, ranges=((1, 3),)),
        replace(event, rows=3),
        replace(event, before_at=8),
        replace(event, actor=Actor()),
    ]
    assert good not in {sign_pruned(b"k", "log", other) for other in others}
    assert good not in (sign_pruned(b"j", "log", event), sign_pruned(b"k", "gol", event))


@pytest.mark.parametrize("seqs", [[], [3], [1, 2, 3], [1, 3, 4, 9]])
def test_ranges_name_exactly_their_rows(seqs: list[int]) -> None:
    """Ascending, without gaps."""
    ranges = list(as_ranges(seqs))
    assert [seq for first, last in ranges for seq in range(first, last + 1)] == seqs
    assert all(after[0] > before[1] + 1 for before, after in pairwise(ranges))


@pytest.mark.parametrize("seed", range(6))
async def test_the_tables_of_a_pruned_log_are_sound_and_edits_of_them_are_found(
    tmp_path: Path, seed: int
) -> None:
    """Whatever happened before and after the prune; a deployment that began after it is compared with the log."""
    about = {"deployment_id": "d-later", **PLACE}
    async with opened("sqlite", tmp_path) as journal:
        for event in story(seed, deployments=6):
            await journal.append(event)
        tables = [await journal.placements(), await journal.deployments(limit=99), await journal.leases()]
        assert (await pruned(journal, before_us=journal.head * TICK_US // 2)).rows > 0
        assert [
            await journal.placements(),
            await journal.deployments(limit=99),
            await journal.leases(),
        ] == tables
        await journal.append(ev.DeploymentRequested(**about, actor=ALICE))
        await journal.append(ev.DeploymentStarted(**about, version="v1"))
        assert await journal.check() == []
        with raw(tmp_path / "j.db") as connection:
            connection.execute(
                "update deployments set body = replace(body, 'alice', 'mallory') where id = 'd-later'"
            )
            connection.execute(
                "delete from deployments where first_seq = (select min(first_seq) from deployments)"
            )
        faults = await journal.check()
    assert any("d-later differs" in fault for fault in faults)
    assert any("is in the log, but not in the tables" in fault for fault in faults)


async def test_a_large_log_is_pruned_in_portions_that_others_can_write_between(tmp_path: Path) -> None:
    """More rows than one record names; the file says afterwards that it is sound."""
    path = tmp_path / "big.db"
    rows = build(path, 60_000)
    clock = SystemClock()
    journal = SqliteJournal(path, clock=clock, ids=SystemIds(clock))
    await journal.open(lambda records: None)
    try:
        key = load_or_make_key("", tmp_path)
        report = await prune(journal, journal.append, key, before_us=1 << 60)
        assert (report.records, rows - report.rows < 3_000) == (2, True)
        left = {TYPE_OF[record.event.__class__] for record in await journal.read(0, limit=100_000)}
        assert left == {"audit.checkpointed", "audit.pruned"}
        assert (await verify(journal, key)).ok
        assert await journal.check() == []
        assert len(await journal.deployments(limit=10_000)) > 1_000
    finally:
        await journal.close()
