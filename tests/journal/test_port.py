"""What every journal does behind the port."""

import anyio
import msgspec
import pytest

from fraisier.errors import DatabaseTransactionError, GuardRefusedError, NotFoundError, ValidationError
from fraisier.events import types as ev
from fraisier.journal.base import Follower
from tests.journal.world import PLACE, make, opened, plan, step, story

POISON = ev.DeploymentPlanned(**PLACE, deployment_id="d-1", version="x", plan=msgspec.Raw(b'{"targets": 5}'))
"""A plan that can be encoded and not be folded."""


async def test_records_come_back_and_are_fanned_out_in_order_before_the_publisher_goes_on(journal, seen):
    for number in range(5):
        record = await journal.append(step(number))
        assert seen[-1] == record
    assert [record.seq for record in seen] == [1, 2, 3, 4, 5]
    assert journal.head == 5
    assert await journal.read(0) == seen


async def test_many_publishers_at_once_make_one_gapless_order(journal, seen):
    async def publish(lane: int) -> None:
        for number in range(5):
            await journal.append(step(number, target=f"web-{lane}"))

    async with anyio.create_task_group() as tasks:
        for lane in range(20):
            tasks.start_soon(publish, lane)
    assert [record.seq for record in seen] == list(range(1, 101))
    for lane in range(20):
        attempts = [record.event.attempt for record in seen if record.event.target == f"web-{lane}"]
        assert attempts == [1, 2, 3, 4, 5]
    assert (await journal.verify()).ok


async def test_read_takes_a_range_a_limit_and_one_deployment(journal):
    for number in range(10):
        await journal.append(step(number, deployment_id=f"d-{number % 2}"))
    assert [record.seq for record in await journal.read(3, 7)] == [4, 5, 6, 7]
    assert [record.seq for record in await journal.read(3, limit=2)] == [4, 5]
    assert [record.seq for record in await journal.read(2, deployment_id="d-1")] == [4, 6, 8, 10]
    assert await journal.read(10) == []


async def test_read_takes_a_range_a_limit_and_some_types(journal):
    for number in range(6):
        await journal.append(step(number))
        await journal.append(ev.LeaseReleased(**PLACE, epoch=number))
    assert await journal.read(0, deployment_id="d-1", types=("lease.released",)) == []
    assert len(await journal.read(0, deployment_id="d-1", types=("lease.released", "step.started"))) == 6
    kinds = ("lease.released", "lease.lost")
    assert [record.seq for record in await journal.read(2, 9, types=kinds)] == [4, 6, 8]
    assert [record.seq for record in await journal.read(2, 12, types=kinds, limit=2)] == [4, 6]
    assert {type(record.event) for record in await journal.read(0, 12, types=kinds)} == {ev.LeaseReleased}
    assert await journal.read(0, 12, types=("lease.lost",)) == []


async def test_the_tables_are_the_fold_of_the_log_whatever_happens(journal):
    for seed in range(12):
        for event in story(seed):
            await journal.append(event)
        assert await journal.check() == []


async def test_both_journals_answer_the_same(path):
    answers = []
    for kind in ("sqlite", "memory"):
        async with opened(make(kind, path)) as journal:
            at = {}
            for event in story(77, deployments=8):
                record = await journal.append(event)
                at[record.at_us] = record.seq
            answers.append(_without_times([await _everything(journal)], at))
    assert answers[0] == answers[1]


async def _everything(journal):
    listed = await journal.deployments()
    return (
        [await journal.deployment(found.id) for found in listed],
        listed,
        await journal.deployments(fraise="api", state="succeeded", limit=2),
        await journal.placements(),
        await journal.placements("api", "production"),
        await journal.releases("api", "production"),
        await journal.releases("etl", "production", "web-0"),
        await journal.lease("api", "production"),
        await journal.lease("api", "staging"),
    )


def _without_times(answers, at):
    text = repr(answers)
    for at_us, seq in at.items():
        text = text.replace(str(at_us), f"time-{seq}")
    return text


async def test_a_deployment_is_found_by_the_unique_beginning_of_its_id(journal):
    for name in ("0190-aa", "0190-ab", "0190-ab-more"):
        await journal.append(ev.DeploymentRequested(**PLACE, deployment_id=name))
    assert (await journal.deployment("0190-aa")).id == "0190-aa"
    assert (await journal.deployment("0190-ab")).id == "0190-ab"
    assert (await journal.deployment("0190-ab-")).id == "0190-ab-more"
    assert await journal.deployment("0191") is None
    with pytest.raises(NotFoundError, match="several"):
        await journal.deployment("0190-a")


async def test_lists_are_newest_first_filtered_and_bounded(journal):
    for number in range(6):
        place = {"fraise": "api" if number % 2 else "etl", "environment": "production"}
        await journal.append(ev.DeploymentRequested(**place, deployment_id=f"d-{number}"))
    await journal.append(ev.DeploymentStarted(**PLACE, deployment_id="d-3"))
    assert [found.id for found in await journal.deployments(limit=3)] == ["d-5", "d-4", "d-3"]
    assert [found.id for found in await journal.deployments(fraise="etl")] == ["d-4", "d-2", "d-0"]
    assert [found.id for found in await journal.deployments(state="running")] == ["d-3"]
    last = (await journal.deployment("d-5")).requested_us
    assert [found.id for found in await journal.deployments(since_us=last + 1)] == []


async def test_a_deployment_comes_with_plan_targets_and_steps_a_list_with_targets_only(journal):
    common = {**PLACE, "deployment_id": "d-1"}
    await journal.append(ev.DeploymentRequested(**common))
    await journal.append(ev.DeploymentPlanned(**common, plan=plan(["web-2", "web-1"])))
    await journal.append(step(target="web-1"))
    whole, listed = await journal.deployment("d-1"), (await journal.deployments())[0]
    assert list(whole.targets) == list(listed.targets) == ["web-1", "web-2"]
    assert whole.targets["web-1"].step == "fetch"
    assert whole.targets["web-1"].steps["fetch"].status == "started"
    assert b"web-2" in whole.plan
    assert listed.plan == b"" and listed.targets["web-1"].steps == {}


async def test_what_a_reader_got_is_not_changed_by_later_events(journal):
    await journal.append(step())
    before = await journal.deployment("d-1")
    await journal.append(
        ev.StepSucceeded(**PLACE, deployment_id="d-1", target="web-1", step="fetch", attempt=1)
    )
    assert before.targets["web-1"].steps["fetch"].status == "started"


async def test_a_guard_sees_the_state_of_its_own_transaction_and_refuses_for_its_caller_only(journal, seen):
    def free(tables):
        lease = tables.find_lease("api", "production")
        return "held by another" if lease is not None and lease.held else ""

    outcomes = []

    async def acquire(owner: str) -> None:
        event = ev.LeaseAcquired(**PLACE, deployment_id=owner, epoch=1, holder=ev.Holder(owner), expires_at=1)
        try:
            await journal.append(event, free)
            outcomes.append("acquired")
        except GuardRefusedError as error:
            assert error.message == "held by another"
            outcomes.append("refused")

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(acquire, f"d-{number}")
            tasks.start_soon(journal.append, step(number))
    assert sorted(outcomes) == ["acquired"] + ["refused"] * 4
    assert len(seen) == 6 and (await journal.verify()).ok


async def test_a_guard_that_raises_fails_its_own_caller_only(journal, seen):
    def broken(tables):
        raise ZeroDivisionError("a guard's mistake")

    failed = []

    async def append() -> None:
        try:
            await journal.append(step(), broken)
        except ZeroDivisionError as error:
            failed.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.append, step(1))
        tasks.start_soon(append)
        tasks.start_soon(journal.append, step(2))
    assert len(failed) == 1
    assert [record.event.attempt for record in seen] == [2, 3]


async def test_an_event_that_cannot_be_folded_fails_alone_and_leaves_no_trace(journal, seen):
    failed = []

    async def append() -> None:
        try:
            await journal.append(POISON)
        except ValidationError as error:
            failed.append(error)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(journal.append, step(number))
        tasks.start_soon(append)
        for number in range(3, 6):
            tasks.start_soon(journal.append, step(number))
    assert len(failed) == 1 and "folded" in failed[0].message
    assert [record.event.attempt for record in seen] == [1, 2, 3, 4, 5, 6]
    assert await journal.check() == []
    assert (await journal.deployment("d-1")).version == ""


async def test_events_of_one_append_are_next_to_each_other_whoever_else_appends(journal, seen):
    async def append(lane: int) -> None:
        pair = [step(0, target=f"web-{lane}"), step(1, target=f"web-{lane}")]
        records = await journal.append_all(pair)
        assert [record.seq for record in records] == [records[0].seq, records[0].seq + 1]
        assert [record.event for record in records] == pair and records[1] in seen

    async with anyio.create_task_group() as tasks:
        for lane in range(10):
            tasks.start_soon(append, lane)
            tasks.start_soon(journal.append, step(5, target="other"))
    assert len(seen) == 30 and journal.statistics().appended == 30
    assert (await journal.verify()).ok and await journal.check() == []


async def test_one_guard_is_asked_for_the_events_of_one_append_and_refuses_all_of_them(journal, seen):
    asked = []

    def once(tables):
        asked.append(tables.find_lease("api", "production"))
        return "held by another" if asked[-1] is not None else ""

    lease = ev.LeaseAcquired(**PLACE, deployment_id="d-1", epoch=1, holder=ev.Holder("d-1"), expires_at=1)
    # The first makes the guard's condition false; it was asked before that.
    await journal.append_all([lease, step(1)], once)
    with pytest.raises(GuardRefusedError, match="held by another"):
        await journal.append_all([step(2), step(3), step(4)], once)
    assert len(asked) == 2
    assert [record.event.attempt for record in seen[1:]] == [2] and journal.head == 2
    assert await journal.check() == []


@pytest.mark.parametrize("bad", [ev.StepSucceeded(deployment_id="d-1", duration_s=float("nan")), POISON])
async def test_of_the_events_of_one_append_all_are_written_or_none(journal, seen, bad):
    failed = []

    async def append() -> None:
        try:
            await journal.append_all([step(7), bad, step(8)])
        except ValidationError as error:
            failed.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.append, step(1))
        tasks.start_soon(append)
        tasks.start_soon(journal.append_all, [step(2), step(3)])
    with pytest.raises(ValidationError):  # also when nobody else waits for the same commit
        await journal.append_all([step(7), bad])
    assert len(failed) == 1
    assert [record.event.attempt for record in seen] == [2, 3, 4] and journal.statistics().appended == 3
    assert await journal.check() == []


@pytest.mark.parametrize(
    "event",
    [
        ev.StepStarted(deployment_id="d-1", step="fetch", before={"value": object()}),
        ev.StepSucceeded(deployment_id="d-1", step="fetch", duration_s=float("nan")),
        ev.StepStarted(deployment_id="d-1", target=5),  # type: ignore[arg-type]
        ev.Event(deployment_id="d-1"),
    ],
    ids=["not JSON", "not a number", "of the wrong type", "not registered"],
)
async def test_what_could_not_be_read_again_is_refused_at_once(journal, seen, event):
    with pytest.raises(ValidationError):
        await journal.append(event)
    assert seen == [] and journal.head == 0


async def test_a_noted_position_is_there_at_once_and_after_a_restart(path):
    for kind in ("sqlite", "memory"):
        journal = make(kind, path)
        async with opened(journal):
            assert await journal.position("audit") is None
            journal.save_position("audit", 7)
            assert await journal.position("audit") == 7
        async with opened(journal if kind == "memory" else make(kind, path)) as again:
            assert await again.position("audit") == 7


async def test_dead_letters_are_kept_once_each_newest_first(journal):
    await journal.dead_letter("audit", 3, "boom")
    await journal.dead_letter("audit", 4, "boom")
    await journal.dead_letter("audit", 3, "boom again")
    found = await journal.dead_letters()
    assert [(letter.seq, letter.error) for letter in found] == [(3, "boom again"), (4, "boom")]
    assert len(await journal.dead_letters(1)) == 1


async def test_followers_are_those_with_a_position_or_with_parked_events(journal):
    await journal.append(step())
    journal.save_position("audit", 1)
    await journal.flush_positions()
    await journal.dead_letter("audit", 1, "boom")
    await journal.dead_letter("mail", 1, "boom")
    await journal.dead_letter("mail", 2, "boom")
    assert await journal.followers() == [Follower("audit", 1, 1), Follower("mail", None, 2)]


async def test_a_follower_that_is_forgotten_leaves_nothing(journal):
    await journal.append(step())
    for name in ("audit", "mail"):
        journal.save_position(name, 1)
        await journal.dead_letter(name, 1, "boom")
    journal.save_position("mail", 1)
    await journal.forget("mail")
    await journal.flush_positions()
    assert await journal.followers() == [Follower("audit", 1, 1)]
    assert await journal.position("mail") is None


async def test_a_closed_journal_refuses(path):
    for kind in ("sqlite", "memory"):
        journal = make(kind, path)
        with pytest.raises(DatabaseTransactionError, match="closed"):
            await journal.append(step())
        async with opened(journal):
            await journal.append(step())
        with pytest.raises(DatabaseTransactionError, match="closed"):
            await journal.append(step())


async def test_the_head_that_a_person_kept_is_found_or_missed(journal):
    heads = []
    for number in range(5):
        await journal.append(step(number))
        heads.append(journal.head_hash)
    for head in heads:
        assert (await journal.verify(head)).ok
    result = await journal.verify("ab" * 32)
    assert not result.ok and "truncated" in result.problem and result.first_bad_seq == 6
    assert (await journal.verify()).head == heads[-1]


async def test_statistics_count_what_was_appended(journal):
    for number in range(3):
        await journal.append(step(number))
    found = journal.statistics()
    assert (found.head, found.appended, found.pending, found.foreign) == (3, 3, 0, 0)
    assert found.commits >= 1
