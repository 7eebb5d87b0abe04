"""Rebuilding, backing up and restoring a store."""

import stat
import subprocess
import sys

import pytest

from fraisier.clock import SystemClock
from fraisier.errors import AuditError, DatabaseConnectionError, DatabaseError, UsageError
from fraisier.events import types as ev
from fraisier.ids import SystemIds
from fraisier.journal.maintenance import backup, rebuild, restore, upgrade_store
from fraisier.journal.schema import VERSION
from tests.journal.world import PLACE, raw, step, store, story

CLOCK = SystemClock()
IDS = SystemIds(CLOCK)


async def fill(path, seed=1):
    async with store(path) as journal:
        for event in story(seed):
            await journal.append(event)
        return journal.head, journal.head_hash


async def test_a_rebuild_makes_the_tables_anew_from_the_log(path):
    head, _ = await fill(path)
    with raw(path) as connection:
        connection.execute("delete from deployment_targets")
        connection.execute("update releases set good = 1, status = 'lost'")
        connection.execute(
            "insert into leases (fraise, environment, epoch, held, holder, deployment_id, acquired_us, expires_us)"
            " values ('x', 'y', 1, 1, '{}', '', 0, 0)"
        )
    async with store(path) as journal:
        assert len(await journal.check()) >= 3
    assert await rebuild(path) == head
    async with store(path) as journal:
        assert await journal.check() == []


async def test_a_rebuild_keeps_positions_and_refuses_what_expired_bodies_would_lose(path):
    async with store(path) as journal:
        await journal.append(step())
        journal.save_position("audit", 1)
    await rebuild(path)
    with raw(path) as connection:
        assert connection.execute("select * from positions").fetchall() == [("audit", 1)]
        connection.execute("update journal set body = null")
    with pytest.raises(DatabaseError, match="1 rows have expired"):
        await rebuild(path)
    async with store(path) as journal:
        assert (await journal.deployment("d-1")).targets["web-1"].step == "fetch"


async def test_an_upgrade_tells_the_versions_before_and_after(path):
    ids = SystemIds(CLOCK)
    assert await upgrade_store(path, ids=ids) == (0, VERSION)
    assert await upgrade_store(path, ids=ids) == (VERSION, VERSION)


async def test_a_backup_of_a_store_in_use_is_one_private_file_that_verifies(path, tmp_path):
    copy = tmp_path / "copies" / "monday.db"
    async with store(path) as journal:
        for number in range(20):
            await journal.append(step(number))
        result = await backup(path, copy)
        assert result.ok and (result.rows, result.head) == (20, journal.head_hash)
        await journal.append(step(20))
    assert [found.name for found in copy.parent.iterdir()] == ["monday.db"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    async with store(copy) as journal:
        assert journal.head == 20 and await journal.check() == []


async def test_a_backup_overwrites_nothing(path, tmp_path):
    await fill(path)
    copy = tmp_path / "copy.db"
    copy.write_text("precious")
    with pytest.raises(UsageError, match="exists already"):
        await backup(path, copy)
    assert copy.read_text() == "precious"


async def test_a_backup_of_a_log_that_does_not_verify_is_refused(path, tmp_path):
    await fill(path)
    with raw(path, unprotected=True) as connection:
        connection.execute("delete from journal where seq = 2")
    with pytest.raises(AuditError, match="row 2 is missing"):
        await backup(path, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists() and not (tmp_path / "copy.db.partial").exists()


async def test_a_restore_puts_the_copy_in_place_and_keeps_the_replaced_store(path, tmp_path):
    copy = tmp_path / "copy.db"
    head, head_hash = await fill(path)
    await backup(path, copy)
    async with store(path) as journal:
        await journal.append(step())
    replaced = await restore(path, copy, clock=CLOCK, ids=IDS)
    async with store(path) as journal:
        assert (journal.head, journal.head_hash) == (head, head_hash)
    assert replaced is not None and ".replaced-" in replaced.name
    async with store(replaced) as journal:
        assert journal.head == head + 1
    assert not path.with_name(path.name + ".restoring").exists()


async def test_a_restore_to_an_empty_place_just_puts_it_there(path, tmp_path):
    await fill(path)
    elsewhere = tmp_path / "new" / "fraisier.db"
    assert await restore(elsewhere, path, clock=CLOCK, ids=IDS) is None
    async with store(elsewhere) as journal:
        assert (await journal.verify()).ok


async def test_a_restore_is_refused_while_the_store_is_open_unless_forced(path, tmp_path):
    copy = tmp_path / "copy.db"
    head, _ = await fill(path)
    await backup(path, copy)
    program = (
        "import sqlite3, sys\n"
        f"connection = sqlite3.connect({str(path)!r})\n"
        "connection.execute('select count(*) from journal').fetchall()\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(UsageError, match="open"):
            await restore(path, copy, clock=CLOCK, ids=IDS)
        assert await restore(path, copy, clock=CLOCK, ids=IDS, force=True) is not None
        other.communicate()
    async with store(path) as journal:
        assert journal.head == head and await journal.check() == []


async def test_a_restore_is_refused_while_a_lease_is_live(path, tmp_path):
    await fill(path)
    copy = tmp_path / "copy.db"
    await backup(path, copy)
    async with store(path) as journal:
        later = CLOCK.now_us() + 60_000_000
        await journal.append(ev.LeaseAcquired(**PLACE, deployment_id="d-x", epoch=99, expires_at=later))
    with pytest.raises(UsageError, match="being deployed"):
        await restore(path, copy, clock=CLOCK, ids=IDS)


@pytest.mark.parametrize("damage", ["not a database", "another program", "tampered"])
async def test_a_source_that_is_not_a_sound_store_is_refused_and_the_store_stays(path, tmp_path, damage):
    head, _ = await fill(path)
    source = tmp_path / "source.db"
    if damage == "not a database":
        source.write_text("x" * 5000)
    elif damage == "another program":
        with raw(source) as connection:
            connection.execute("create table users (name text)")
    else:
        await backup(path, source)
        with raw(source, unprotected=True) as connection:
            connection.execute("update journal set target = 'other' where seq = 3")
    with pytest.raises((AuditError, DatabaseConnectionError)):
        await restore(path, source, clock=CLOCK, ids=IDS)
    async with store(path) as journal:
        assert journal.head == head


async def test_what_is_not_there_cannot_be_maintained(path, tmp_path):
    for attempt in (
        rebuild(path),
        backup(path, tmp_path / "copy.db"),
        restore(path, path, clock=CLOCK, ids=IDS),
    ):
        with pytest.raises(DatabaseConnectionError):
            await attempt


async def test_a_restored_store_counts_under_a_new_name_at_the_targets_and_keeps_its_chain(path, tmp_path):
    copy = tmp_path / "copy.db"
    await fill(path)
    await backup(path, copy)
    async with store(path) as journal:
        assert journal.fence_id == journal.log_id
        log_id = journal.log_id
    names = {log_id}
    for _ in range(2):
        await restore(path, copy, clock=CLOCK, ids=IDS)
        async with store(path) as journal:
            assert journal.log_id == log_id
            names.add(journal.fence_id)
            assert await journal.check() == []
            await journal.append(story(2)[0])
            assert (await journal.verify()).ok
    assert len(names) == 3
