"""Whatever is done to the log behind our back, `verify` tells at which row, and what."""

import re
import sqlite3
from hashlib import sha256

import pytest

from fraisier.journal.chain import Chain
from tests.journal.world import prune_first, raw, step, store


async def fill(path, count=10):
    """A store with `count` rows; returns the head's hash."""
    async with store(path) as journal:
        for number in range(count):
            await journal.append(step(number))
        return journal.head_hash


async def verified(path, head=""):
    async with store(path) as journal:
        return await journal.verify(head)


@pytest.mark.parametrize(
    "statement",
    [
        "update journal set target = 'x' where seq = 3",
        "update journal set body = x'00' where seq = 3",
        "update journal set hash = x'00' where seq = 3",
        "update journal set body = null, at = 0 where seq = 3",
        "delete from journal where seq = 3",
        "insert or replace into journal select * from journal where seq = 3",
        "replace into journal select * from journal where seq = 10",
        "insert into journal select seq + 5, type, '', '', '', '', at, body, body_hash, hash from journal where seq = 9",
    ],
)
async def test_the_store_itself_refuses_changes(path, statement):
    await fill(path)
    with raw(path) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    assert (await verified(path)).ok


async def test_a_body_that_was_pruned_is_accepted_through_its_hash(path):
    async with store(path) as journal:
        for number in range(8):
            await journal.append(step(number))
        await prune_first(journal, 4)
        await journal.append(step(9))
    result = await verified(path)
    assert result.ok and result.rows == 10
    async with store(path) as journal:
        assert [record.seq for record in await journal.read(0, limit=2)] == [5, 6]
        assert await journal.check() == []


@pytest.mark.parametrize(
    ("statement", "bad", "says"),
    [
        ("update journal set body = null where seq = 5", 5, "the body of row 5 is gone"),
        ("update journal set body = null where seq = 9", 9, "the body of row 9 is gone"),
        ("update journal set target = 'web-9' where seq = 3", 1, "a column was edited of a row"),
        ("update journal set hash = x'00' where seq = 3", 3, "wrong kind|does not follow|edited, replaced"),
        ("update journal set type = 'step.output' where seq = 9", 9, "the column `type`"),
    ],
)
async def test_beside_a_prune_tampering_shows_as_ever(path, statement, bad, says):
    """Rows 1 to 4 are pruned, and row 9 says so."""
    async with store(path) as journal:
        for number in range(8):
            await journal.append(step(number))
        await prune_first(journal, 4)
        await journal.append(step(10))
    with raw(path, unprotected=True) as connection:
        connection.execute(statement)
    result = await verified(path)
    assert (result.ok, result.first_bad_seq) == (False, bad)
    assert re.search(says, result.problem)


@pytest.mark.parametrize(
    ("statement", "bad", "says"),
    [
        (
            "update journal set body = replace(body, 'fetch', 'FETCH') where seq = 4",
            4,
            "the body of row 4 was edited",
        ),
        ("update journal set body = '{}' where seq = 4", 4, "wrong kind"),
        ("update journal set target = 'web-9' where seq = 4", 4, "the column `target` of row 4 was edited"),
        ("update journal set deployment_id = 'd-9' where seq = 4", 4, "the column `deployment_id` of row 4"),
        ("update journal set fraise = 'etl' where seq = 4", 4, "the column `fraise` of row 4"),
        ("update journal set environment = 'x' where seq = 4", 4, "the column `environment` of row 4"),
        ("update journal set type = 'step.failed' where seq = 4", 4, "the column `type` of row 4"),
        ("update journal set at = at + 1 where seq = 4", 4, "the column `at` of row 4"),
        ("delete from journal where seq = 4", 4, "row 4 is missing"),
        ("delete from journal where seq between 4 and 6", 4, "rows 4 to 6 are missing"),
        ("delete from journal where seq = 1", 1, "row 1 is missing"),
        (
            "update meta set value = '00' || substr(value, 3) where key = 'log_id'",
            1,
            "the log's id was changed",
        ),
    ],
)
async def test_an_edited_or_deleted_row_is_named(path, statement, bad, says):
    await fill(path)
    with raw(path, unprotected=True) as connection:
        connection.execute("update journal set body = cast(body as blob)")
        connection.execute(
            statement.replace("replace(body", "cast(replace(body").replace("'FETCH')", "'FETCH') as blob)")
        )
    result = await verified(path)
    assert not result.ok
    assert (result.first_bad_seq, result.rows) == (bad, bad - 1)
    assert says in result.problem


@pytest.mark.parametrize(("one", "other"), [(4, 5), (3, 8), (1, 2)])
async def test_swapped_rows_are_named(path, one, other):
    await fill(path)
    with raw(path, unprotected=True) as connection:
        for old, new in ((one, -1), (other, one), (-1, other)):
            connection.execute("update journal set seq = ? where seq = ?", (new, old))
    result = await verified(path)
    assert result.first_bad_seq == one
    assert result.problem == f"rows {one} and {other} were swapped"


async def test_an_inserted_row_is_named(path):
    await fill(path)
    with raw(path, unprotected=True) as connection:
        for seq in range(10, 4, -1):
            connection.execute("update journal set seq = ? where seq = ?", (seq + 1, seq))
        connection.execute(
            "insert into journal select 5, type, deployment_id, fraise, environment, target, at, body, body_hash, hash"
            " from journal where seq = 4"
        )
    result = await verified(path)
    assert result.first_bad_seq == 5 and "a row was inserted at 5" in result.problem


async def test_a_row_rewritten_with_fresh_hashes_breaks_the_row_after_it(path):
    await fill(path)
    with raw(path, unprotected=True) as connection:
        log_id = connection.execute("select value from meta where key = 'log_id'").fetchone()[0]
        previous = connection.execute("select hash from journal where seq = 3").fetchone()[0]
        body = (
            connection.execute("select body from journal where seq = 4")
            .fetchone()[0]
            .replace(b"fetch", b"FETCH")
        )
        digest = sha256(body).digest()
        link = Chain(log_id).link(4, previous, digest)
        connection.execute(
            "update journal set body = ?, body_hash = ?, hash = ? where seq = 4", (body, digest, link)
        )
    result = await verified(path)
    assert result.first_bad_seq == 5 and "does not follow row 4" in result.problem


async def test_a_truncated_tail_shows_against_the_head_that_a_person_kept(path):
    head = await fill(path)
    with raw(path, unprotected=True) as connection:
        connection.execute("delete from journal where seq > 7")
    assert (await verified(path)).ok
    result = await verified(path, head)
    assert not result.ok and result.first_bad_seq == 8
    assert "truncated: the log ends at row 7" in result.problem


async def test_check_names_what_lies_beyond_a_truncated_log_and_the_missing_triggers(path):
    async with store(path) as journal:
        for number in range(5):
            await journal.append(step(number))
        journal.save_position("audit", 5)
    with raw(path, unprotected=True) as connection:
        connection.execute("delete from journal where seq > 3")
    async with store(path) as journal:
        faults = await journal.check()
    assert any("subscriber audit is at 5, beyond the head 3" in fault for fault in faults)
    assert sum("trigger" in fault for fault in faults) == 3


async def test_check_names_tables_that_differ_from_the_log(path):
    await fill(path)
    with raw(path) as connection:
        connection.execute("update deployment_targets set begun = 1")
        connection.execute(
            "insert into placements values ('api', 'x', 'web-1', '', '', '', '', '', '', '', 0, 0, '', 0)"
        )
    async with store(path) as journal:
        faults = await journal.check()
    assert any("the deployment d-1 differs" in fault for fault in faults)
    assert any("placements has a row that the log does not give" in fault for fault in faults)
