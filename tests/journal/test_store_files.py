"""The store as a file: where it is, who may read it, and what is refused."""

import os
import sqlite3
import stat
from contextlib import suppress

import pytest

from fraisier.clock import SystemClock
from fraisier.errors import ConfigurationError, DatabaseConnectionError
from fraisier.events import types as ev
from fraisier.ids import SystemIds
from fraisier.journal.memory import MemoryJournal
from fraisier.journal.schema import VERSION, script
from fraisier.journal.sqlite import SqliteJournal
from fraisier.journal.store import choose_store_url, default_store_url, open_journal, store_path
from tests.journal.world import PLACE, make, opened, prune_first, raw, step, store


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


async def test_directories_are_private_and_so_is_every_file_of_the_store(tmp_path):
    path = tmp_path / "a" / "b" / "fraisier.db"
    before = os.umask(0)
    try:
        async with store(path) as journal:
            await journal.append(step())
            assert {mode(found) for found in path.parent.iterdir()} == {0o600}
            assert len(list(path.parent.iterdir())) == 3
    finally:
        os.umask(before)
    assert mode(path.parent) == mode(path.parent.parent) == 0o700


async def test_a_store_that_was_copied_or_closed_is_one_file(path):
    async with store(path) as journal:
        await journal.append(step())
    assert [found.name for found in path.parent.iterdir()] == ["fraisier.db"]


async def expect_refused(path, **options):
    journal = make("sqlite", path, **options)
    with pytest.raises(DatabaseConnectionError) as caught:
        await journal.open(lambda records: None)
    assert str(path) in caught.value.message
    return caught.value


async def test_a_directory_that_cannot_be_made_is_an_error_with_the_path(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    await expect_refused(tmp_path / "file" / "fraisier.db")


async def test_a_file_that_is_no_database_is_refused_and_left_alone(path):
    path.parent.mkdir()
    path.write_text("hello " * 1000)
    error = await expect_refused(path)
    assert "not a database" in error.message
    assert path.read_text() == "hello " * 1000


async def test_the_database_of_another_program_is_refused_and_left_alone(path):
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("create table users (name text)")
    connection.close()
    assert "another program" in (await expect_refused(path)).message


async def test_a_newer_schema_is_refused_with_what_to_do(path):
    async with store(path):
        pass
    with raw(path) as connection:
        connection.execute("update meta set value = '99' where key = 'schema_version'")
    error = await expect_refused(path)
    assert "schema version 99" in error.message and "upgrade fraisier" in error.hint
    assert not error.recoverable


async def test_a_read_only_journal_does_not_make_a_store(path):
    await expect_refused(path, read_only=True)
    assert not path.exists()


def take_away_what_is_younger_than_the_tables(connection):
    connection.execute("drop index journal_tally")
    connection.execute("drop table spans")
    with suppress(sqlite3.OperationalError):  # the table itself may be gone
        connection.execute("alter table placements drop column served")
    connection.execute("create index journal_deployment on journal (deployment_id) where deployment_id <> ''")


async def to_first_version(path):
    """Make a store of today, then take away what came after the first migration."""
    async with store(path) as journal:
        for number in range(5):
            await journal.append(step(number, target=f"web-{number}"))
        head, log_id = journal.head_hash, journal.log_id
    created = [
        line.split()[2] for line in script("0002_tables.sql").splitlines() if line.startswith("create table")
    ]
    with raw(path) as connection:
        for table in created:
            connection.execute(f"drop table {table}")
        take_away_what_is_younger_than_the_tables(connection)
        connection.execute("update meta set value = '1' where key = 'schema_version'")
    return head, log_id


async def test_an_older_store_is_migrated_when_it_is_opened_and_its_tables_are_filled(path):
    head, log_id = await to_first_version(path)
    async with store(path) as journal:
        assert (journal.head_hash, journal.log_id) == (head, log_id)
        assert len((await journal.deployment("d-1")).targets) == 5
        assert [record.seq for record in await journal.read(0, deployment_id="d-1")] == [1, 2, 3, 4, 5]
        assert await journal.check() == []
    with raw(path) as connection:
        assert connection.execute("select value from meta where key = 'schema_version'").fetchone() == (
            str(VERSION),
        )


OLD_LEASE = (
    "insert into leases (fraise, environment, epoch, held, holder, deployment_id, acquired_us, expires_us)"
    """ values ('api', 'production', 3, 1, '{"owner":"ann@desk","host":"desk","pid":7}', 'd-1', 100, 200)"""
)


async def to_second_version(path, *, expire=False):
    """Make a store as the second schema had it: leases without signs of life and freezes. Return the head of its log."""
    modern = path.with_name("modern.db")
    holder = ev.Holder(owner="ann@desk", host="desk", pid=7)
    async with store(modern) as journal:
        for number in range(5):
            await journal.append(step(number, target=f"web-{number}"))
        await journal.append(
            ev.LeaseAcquired(**PLACE, deployment_id="d-1", epoch=3, holder=holder, expires_at=200)
        )
        if expire:
            await prune_first(journal, 1)
        head = journal.head_hash
    with raw(path) as connection:
        for name in ("0001_journal.sql", "0002_tables.sql"):
            connection.executescript(script(name))
        connection.execute("attach ? as modern", (str(modern),))
        for table in ("meta", "journal", "deployments", "deployment_targets", "deployment_steps"):
            connection.execute(f"insert into {table} select * from modern.{table}")
        connection.execute("update meta set value = '2' where key = 'schema_version'")
        connection.execute(OLD_LEASE)
        connection.execute("detach modern")
    return head


@pytest.mark.parametrize("expired", [False, True])
async def test_a_store_without_freezes_is_migrated_and_keeps_its_leases(path, expired):
    """Also one whose first bodies have expired: its tables cannot be made again, and are kept as they are."""
    head = await to_second_version(path, expire=expired)
    async with store(path) as journal:
        assert journal.head_hash == head
        lease = await journal.lease("api", "production")
        assert (lease.epoch, lease.held, lease.holder.owner) == (3, True, "ann@desk")
        assert (lease.frozen_by, lease.frozen_until_us, lease.broken_by) == ("", 0, "")
        assert len((await journal.deployment("d-1")).targets) == 5
        await journal.append(ev.LeaseFrozen(**PLACE, owner="ann@desk", message="why", until_at=9))
        (frozen,) = await journal.leases()
        assert (frozen.epoch, frozen.frozen_by, frozen.frozen_until_us) == (3, "ann@desk", 9)
        assert await journal.check() == []


async def healthy(journal, target, release="r-1"):
    await journal.append(ev.HealthPassed(**PLACE, deployment_id="d-1", target=target, release=release))


@pytest.mark.parametrize("expired", [False, True])
async def test_a_store_of_an_older_version_is_folded_anew_or_keeps_what_no_log_tells_any_more(path, expired):
    """Which targets ever served is new in the tables; without the bodies, only that they have a good release tells it."""
    async with store(path) as journal:
        for number in range(5):
            await journal.append(step(number))
        await healthy(journal, "web-0")
        if expired:
            await prune_first(journal, 1)
        head = journal.head
    with raw(path) as connection:
        take_away_what_is_younger_than_the_tables(connection)
        connection.execute("update placements set good_release = 'r-1'")
        connection.execute("update deployments set fraise = 'told apart'")
        connection.execute("update meta set value = '3' where key = 'schema_version'")
    async with store(path) as journal:
        assert journal.head == head
        assert len(await journal.read(1, deployment_id="d-1")) == 5
        ((place),) = await journal.placements()
        assert (place.served, place.good_release) == (True, "r-1" if expired else "")
    with raw(path) as connection:
        kept = connection.execute("select distinct fraise from deployments").fetchall()
        assert kept == [("told apart",) if expired else ("",)]
        assert connection.execute(
            "select count(*) from sqlite_master where name in ('journal_tally', 'spans')"
        ).fetchone() == (2,)


async def test_an_older_store_is_not_migrated_by_a_read_only_journal(path):
    await to_first_version(path)
    error = await expect_refused(path, read_only=True)
    assert "schema version 1" in error.message and "db upgrade" in error.hint


async def test_a_migration_that_fails_changes_nothing(path):
    await to_first_version(path)
    with raw(path) as connection:
        connection.execute("create table leases (in_the_way text)")
    await expect_refused(path)
    with raw(path) as connection:
        tables = {
            name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")
        }
        assert tables == {"meta", "journal", "leases"}


@pytest.mark.parametrize(
    ("environ", "uid", "url"),
    [
        ({"HOME": "/home/ann"}, 0, "sqlite:////var/lib/fraisier/fraisier.db"),
        ({"HOME": "/home/ann"}, 1000, "sqlite:////home/ann/.local/state/fraisier/fraisier.db"),
        ({"HOME": "/home/ann", "XDG_STATE_HOME": "/s"}, 1000, "sqlite:////s/fraisier/fraisier.db"),
        (
            {"HOME": "/home/ann", "XDG_STATE_HOME": "s"},
            1000,
            "sqlite:////home/ann/.local/state/fraisier/fraisier.db",
        ),
    ],
)
def test_the_default_store_is_in_the_state_directory(environ, uid, url):
    assert default_store_url(environ, uid) == url


def test_the_option_wins_over_the_environment_over_the_configuration():
    environ = {"FRAISIER_STORE": "memory:", "HOME": "/h"}
    assert (
        choose_store_url(option="sqlite:///a", environ=environ, configured="sqlite:///b", uid=1)
        == "sqlite:///a"
    )
    assert choose_store_url(option="", environ=environ, configured="sqlite:///b", uid=1) == "memory:"
    assert choose_store_url(option="", environ={}, configured="sqlite:///b", uid=1) == "sqlite:///b"


async def test_a_url_gives_the_journal_that_it_names(tmp_path):
    clock = SystemClock()
    ids = SystemIds(clock)
    assert isinstance(open_journal("memory:", clock=clock, ids=ids), MemoryJournal)
    stored = open_journal(f"sqlite:///{tmp_path}/x.db", clock=clock, ids=ids)
    assert isinstance(stored, SqliteJournal)
    async with opened(stored):
        assert (tmp_path / "x.db").exists()


@pytest.mark.parametrize(
    "url", ["", "sqlite:///", "sqlite://x.db", "x.db", "postgres://ann:hunter2@db/fraisier"]
)
def test_a_url_that_names_no_store_is_a_configuration_error_without_its_password(url):
    with pytest.raises(ConfigurationError) as caught:
        store_path(url)
    assert "hunter2" not in caught.value.message + str(caught.value.context)
