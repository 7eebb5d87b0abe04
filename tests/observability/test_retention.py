"""Retention: what is old enough loses its body and nothing else, under a signed record that comes first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from fraisier.audit import AuditKey, AuditSubscriber, verify
from fraisier.audit.retention import PruneReport, prune, records_of, sign_pruned
from fraisier.events import TYPE_OF, Actor, Record
from fraisier.events import types as ev
from fraisier.journal.memory import MemoryJournal
from fraisier.testing import SeededIds

KEY = AuditKey(b"k" * 32, "0123456789abcdef")
DAY_US = 86_400_000_000
BOB = Actor(user="bob", host="desk", trigger="cli")


class Calendar:
    """A clock that stands on a day."""

    day = 0

    def now_us(self) -> int:
        return self.day * DAY_US


def ignore(records: list[Record]) -> None:
    """Tell nobody."""


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
async def journal(calendar: Calendar) -> AsyncIterator[MemoryJournal]:
    """On day 0 a deployment ended and another one began; on day 9 the one ended that began then."""
    memory = MemoryJournal(clock=calendar, ids=SeededIds(1, calendar))
    await memory.open(ignore)
    for day, name, ends in ((0, "old", True), (0, "open", False), (9, "young", True)):
        calendar.day = day
        await deploy(memory, name, ends=ends)
    calendar.day = 10
    yield memory
    await memory.close()


async def deploy(journal: MemoryJournal, name: str, *, ends: bool) -> None:
    place = {"deployment_id": name, "fraise": "api", "environment": "production"}
    await journal.append(ev.DeploymentRequested(**place, actor=BOB))
    await journal.append(ev.DeploymentStarted(**place))
    if ends:
        ended = await journal.append(ev.DeploymentSucceeded(**place, duration_s=1.0))
        await AuditSubscriber(journal, journal.append, KEY.secret, KEY.id)(ended)


async def prune_before(journal: MemoryJournal, day: int, **options: Any) -> PruneReport:
    return await prune(journal, journal.append, KEY, before_us=day * DAY_US, **options)


async def left(journal: MemoryJournal) -> list[str]:
    """The rows that still have a body, as `deployment:type`."""
    return [f"{row.event.deployment_id}:{TYPE_OF[row.event.__class__]}" for row in await journal.read(0)]


WHOLE = [
    "old:deployment.requested",
    "old:deployment.started",
    "old:deployment.succeeded",
    "old:audit.checkpointed",
    "open:deployment.requested",
    "open:deployment.started",
    "young:deployment.requested",
    "young:deployment.started",
    "young:deployment.succeeded",
    "young:audit.checkpointed",
]


async def test_old_bodies_go_and_the_chain_still_holds(journal: MemoryJournal) -> None:
    """Signatures stay, and so does what has not ended; who did it, and why, is on record."""
    report = await prune_before(journal, 5, message="a year is over", actor=BOB)
    assert (report.rows, report.records, report.held_back) == (3, 1, {})
    assert await left(journal) == [*WHOLE[3:], ":audit.pruned"]
    ((record, event),) = [found async for found in records_of(journal)]
    assert (record.seq, event.ranges, event.message, event.actor) == (11, ((1, 3),), "a year is over", BOB)
    verified = await verify(journal, KEY)
    assert (verified.ok, verified.rows, verified.checkpoints) == (True, 11, 2)
    again = await prune_before(journal, 5)
    assert (again.rows, again.records) == (0, 0)


async def test_what_is_to_be_kept_is_kept(journal: MemoryJournal) -> None:
    """By a glob over the types; the record says so."""
    assert (await prune_before(journal, 5, keep=["*.requested"])).rows == 2
    assert "old:deployment.requested" in await left(journal)
    assert [event.kept async for _, event in records_of(journal)] == [("*.requested",)]


async def test_a_dry_run_counts_and_changes_nothing(journal: MemoryJournal) -> None:
    head = journal.head_hash
    report = await prune_before(journal, 5, dry_run=True)
    assert (report.rows, report.records, report.head) == (3, 1, head)
    assert (await left(journal), journal.head_hash) == (WHOLE, head)


async def test_what_a_subscriber_has_not_handled_is_held_back(journal: MemoryJournal) -> None:
    """Unless nobody is to be waited for. The audit's own position holds up nothing."""
    journal.save_position("forward:file", 1)
    journal.save_position(AuditSubscriber.name, 0)
    await journal.flush_positions()
    report = await prune_before(journal, 5)
    assert (report.rows, report.held_back) == (1, {"forward:file": 1})
    assert (await left(journal))[:2] == WHOLE[1:3]
    forced = await prune_before(journal, 5, wait_for_subscribers=False)
    assert (forced.rows, forced.held_back) == (2, {})


async def test_a_prune_that_was_cut_off_is_finished_by_the_next(
    journal: MemoryJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is there before the first body goes."""
    with monkeypatch.context() as patched:
        patched.setattr(journal, "expire", fail)
        with pytest.raises(OSError, match="power"):
            await prune_before(journal, 5)
    assert await left(journal) == [*WHOLE, ":audit.pruned"]
    assert (await verify(journal, KEY)).ok
    assert (await prune_before(journal, 0)).rows == 0
    assert await left(journal) == [*WHOLE[3:], ":audit.pruned"]
    assert (await verify(journal, KEY)).ok


async def fail(*_: Any) -> int:
    raise OSError("no power")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"key_id": "another"}, "signed with the key another, not with 0123456789abcdef"),
        ({"message": "nothing to see"}, "the signature of the prune at 12 is false"),
    ],
)
async def test_a_false_record_of_a_prune_is_found(
    journal: MemoryJournal, change: dict[str, str], problem: str
) -> None:
    """Whoever may write but has no key can take nothing away unseen."""
    await prune_before(journal, 5)
    ((_, event),) = [found async for found in records_of(journal)]
    assert event.signature == sign_pruned(KEY.secret, journal.log_id, event)
    await journal.append(msgspec.structs.replace(event, **change))
    verified = await verify(journal, KEY)
    assert (verified.ok, verified.first_bad_seq) == (False, 12)
    assert problem in verified.problem
