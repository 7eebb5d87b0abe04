"""The audit trail: what is noted, how it is signed, and that tampering is found."""

from __future__ import annotations

import csv
import io
import json
import random
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fraisier.audit import (
    AuditKey,
    AuditLogger,
    AuditSubscriber,
    EventFilter,
    export,
    list_events,
    load_or_make_key,
    newest_events,
    sign,
    verify,
)
from fraisier.audit.checkpoint import ENDINGS
from fraisier.bus import Bus
from fraisier.clock import SystemClock
from fraisier.errors import ConfigurationError, NotFoundError, ProviderUnavailableError, ValidationError
from fraisier.events import EVENT_TYPES, TYPE_OF, Actor, Holder, Record
from fraisier.events import types as ev
from fraisier.ids import SystemIds
from fraisier.journal.base import Journal, OnCommit
from fraisier.journal.memory import MemoryJournal
from fraisier.journal.sqlite import SqliteJournal
from fraisier.redaction import Redactor

KEY = AuditKey(b"k" * 32, "0123456789abcdef")
PLACE = {"fraise": "api", "environment": "production"}
D1 = {"deployment_id": "d1", **PLACE}
ALICE = Actor(user="alice", host="laptop", trigger="cli")
TICK_US = 1_000_000


class Ticking:
    """A clock that goes on by a second at each look."""

    def __init__(self) -> None:
        self.now = 0

    def now_us(self) -> int:
        self.now += TICK_US
        return self.now


def nobody(records: Any) -> None:
    """The bus of a journal without one."""


@pytest.fixture
async def journal() -> AsyncIterator[MemoryJournal]:
    clock = Ticking()
    memory = MemoryJournal(clock=clock, ids=SystemIds(clock, random.Random(1)))
    await memory.open(nobody)
    yield memory
    await memory.close()


async def deploy(journal: Journal, number: int, user: str = "alice") -> None:
    place = {"deployment_id": f"d{number}", **PLACE}
    await journal.append(ev.DeploymentRequested(**place, actor=Actor(user=user)))
    ended = await journal.append(ev.DeploymentSucceeded(**place, duration_s=1.0))
    await AuditSubscriber(journal, journal.append, KEY.secret, KEY.id)(ended)


# the key


def test_a_key_is_made_once_beside_the_store(tmp_path: Path) -> None:
    """For this user only, random, and the same at the next start."""
    directory = tmp_path / "state"
    made = load_or_make_key("", directory)
    assert load_or_make_key("", directory) == made
    assert stat.S_IMODE((directory / "audit.key").stat().st_mode) == 0o600
    assert [path.name for path in directory.iterdir()] == ["audit.key"]
    assert load_or_make_key("", tmp_path / "other") != made


def test_a_configured_key_is_used_and_none_is_made(tmp_path: Path) -> None:
    """Its name says nothing about it."""
    key = load_or_make_key("my-long-configured-key\n", tmp_path)
    assert key.secret == b"my-long-configured-key"
    assert key.id not in ("", key.secret.decode())
    assert "configured" not in repr(key)
    assert list(tmp_path.iterdir()) == []


def test_a_store_in_memory_has_a_key_in_memory() -> None:
    """A new one each time."""
    assert load_or_make_key("", None) != load_or_make_key("", None)


def test_an_empty_key_file_is_refused(tmp_path: Path) -> None:
    """Signatures without a secret would be worth nothing."""
    (tmp_path / "audit.key").write_text("\n")
    with pytest.raises(ConfigurationError):
        load_or_make_key("", tmp_path)


def test_a_directory_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    """It names the file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"file/audit\.key"):
        load_or_make_key("", tmp_path / "file")


# checkpoints


async def test_each_ending_is_signed(journal: MemoryJournal) -> None:
    """Through the bus, with the hash and seq of the ending's own row."""
    clock = SystemClock()
    store = MemoryJournal(clock=clock, ids=SystemIds(clock))
    async with Bus(store, clock=clock, ids=SystemIds(clock)) as bus:
        audit = AuditSubscriber(store, bus.publish, KEY.secret, KEY.id)
        bus.subscribe("audit", audit.patterns, audit, durable=True)
        await bus.publish(ev.DeploymentStarted(**D1))
        ended = await bus.publish(ev.DeploymentFailed(**D1, reason="timeout"))
    last = (await store.read(0))[-1].event
    assert isinstance(last, ev.AuditCheckpointed)
    assert (last.head_seq, last.key_id, last.deployment_id) == (ended.seq, KEY.id, "d1")
    assert last.head_hash == await store.hash_at(ended.seq)
    assert last.signature == sign(KEY.secret, store.log_id, ended.seq, last.head_hash)


def test_every_way_to_stop_is_an_ending() -> None:
    """Those that the contract names, and all of them exist."""
    stops = {"succeeded", "failed", "rolled_back", "needs_attention", "interrupted", "superseded", "paused"}
    stops |= {"aborted"}
    assert set(ENDINGS) == {f"deployment.{stop}" for stop in stops}
    assert set(ENDINGS) <= set(EVENT_TYPES)


@pytest.mark.parametrize("change", ["key", "log", "seq", "hash"])
def test_a_signature_holds_for_one_place_in_one_log(change: str) -> None:
    """Any other key, log, seq or hash gives another signature."""
    good: dict[str, Any] = {"key": b"k", "log": "l1", "seq": 11, "hash": "ab"}
    other = good | {change: {"key": b"j", "log": "l", "seq": 1, "hash": "ac"}[change]}
    assert sign(*good.values()) != sign(*other.values())


# verification


async def test_a_trail_as_written_verifies(journal: MemoryJournal) -> None:
    """With the count of signatures and the last row that they cover."""
    await deploy(journal, 1)
    await deploy(journal, 2)
    report = await verify(journal, KEY)
    assert report.to_dict() == {
        "ok": True, "rows": 6, "head": journal.head_hash, "first_bad_seq": None, "problem": None,
        "checkpoints": 2, "signed_seq": 5, "unknown_keys": (),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("forged", "word"),
    [
        ({"signature": "0" * 64}, "is false"),
        ({"head_hash": "0" * 64}, "another row 2"),
        ({"head_seq": 1}, "another row 1"),
        ({"head_seq": 99}, "came after it"),
        ({"head_seq": 0}, "does not exist"),
        ({"key_id": "feedfeedfeedfeed"}, "was signed with the key feedfeedfeedfeed"),
    ],
)
async def test_a_false_checkpoint_in_a_whole_chain_is_found(
    journal: MemoryJournal, forged: dict[str, Any], word: str
) -> None:
    """Whoever rewrote the chain does not have the key."""
    await deploy(journal, 1)
    true = (await journal.read(2))[0].event
    await journal.append(msgspec.structs.replace(true, **forged))
    report = await verify(journal, KEY)
    assert (report.ok, report.first_bad_seq, report.checkpoints) == (False, 4, 1)
    assert word in report.problem


async def test_a_signature_by_a_former_key_holds_when_that_key_is_given(journal: MemoryJournal) -> None:
    """Else it is neither good nor false, and told apart from tampering; what is false stays so, wherever it stands."""
    former, latter = AuditKey(b"f" * 32, "feedfeedfeedfeed"), AuditKey(b"l" * 32, "1a77e41a77e41a77")
    await deploy(journal, 1)
    ended = (await journal.read(1))[0]
    for key in (former, latter):
        await AuditSubscriber(journal, journal.append, key.secret, key.id)(ended)
    await deploy(journal, 2)
    assert (await verify(journal, KEY, former=(former, latter))).checkpoints == 4
    partly = await verify(journal, KEY, former=(latter,))
    assert (partly.ok, partly.first_bad_seq, partly.checkpoints) == (False, 4, 3)
    assert partly.problem.endswith("signed with the key feedfeedfeedfeed, which is not known here")
    assert partly.unknown_keys == (former.id,)
    assert (await verify(journal, None, former=(former,))).unknown_keys == (KEY.id, latter.id)
    true = (await journal.read(3))[0].event
    await journal.append(msgspec.structs.replace(true, key_id=KEY.id))
    tampered = await verify(journal, KEY, former=(latter,))
    assert (tampered.first_bad_seq, tampered.unknown_keys) == (9, ())
    assert "is false" in tampered.problem


async def test_a_kept_head_that_is_gone_is_a_problem(journal: MemoryJournal) -> None:
    """The journal's own verdict comes first and is passed on."""
    await deploy(journal, 1)
    report = await verify(journal, KEY, head="f" * 64)
    assert not report.ok
    assert report.problem
    assert (await verify(journal, KEY, head=journal.head_hash)).ok


async def test_the_sqlite_journal_tells_the_hash_of_a_row(tmp_path: Path) -> None:
    """As the chain has it; a row that is not there is not found."""
    clock = SystemClock()
    store = SqliteJournal(tmp_path / "j.db", clock=clock, ids=SystemIds(clock))
    on_commit: OnCommit = nobody
    await store.open(on_commit)
    try:
        await deploy(store, 1)
        assert await store.hash_at(3) == store.head_hash
        assert (await verify(store, KEY)).checkpoints == 1
        with pytest.raises(NotFoundError):
            await store.hash_at(4)
    finally:
        await store.close()


# reading


async def seqs(journal: Journal, **where: Any) -> list[int]:
    return [record.seq async for record in list_events(journal, EventFilter(**where))]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7]),
        ({"type": "deployment.*"}, [1, 2, 4, 5]),
        ({"type": "audit.checkpointed"}, [3, 6]),
        ({"deployment_id": "d2"}, [4, 5, 6]),
        ({"fraise": "api"}, [1, 2, 3, 4, 5, 6]),
        ({"environment": "staging"}, []),
        ({"actor": "bob"}, [4, 5, 6]),
        ({"actor": "carol"}, [7]),
        ({"actor": "alice", "type": "*.succeeded"}, [2]),
    ],
)
async def test_events_are_found_by_what_they_are_about(
    journal: MemoryJournal, where: dict[str, Any], found: list[int]
) -> None:
    """By type pattern, place, and the person behind them."""
    await deploy(journal, 1)
    await deploy(journal, 2, user="bob")
    await AuditLogger(journal.append, actor=Actor(user="carol")).log_system_event("started")
    assert await seqs(journal, **where) == found


async def test_events_are_found_by_time(journal: MemoryJournal) -> None:
    """From the first moment on, until before the last."""
    await deploy(journal, 1)
    times = [record.at_us for record in await journal.read(0)]
    assert await seqs(journal, since_us=times[1]) == [2, 3]
    assert await seqs(journal, until_us=times[1]) == [1]


async def test_the_newest_are_the_last_pages_end(journal: MemoryJournal) -> None:
    """A log of more than a page is read to its end."""
    for number in range(400):
        await deploy(journal, number)
    newest = await newest_events(journal, EventFilter(type="*.succeeded"), limit=2)
    assert [found.record.seq for found in newest] == [1196, 1199]


async def test_export_as_json_lines_is_the_public_form(journal: MemoryJournal) -> None:
    """One object a line."""
    await deploy(journal, 1)
    rows = [json.loads(line) async for line in export(journal)]
    assert [row["type"] for row in rows] == [
        "deployment.requested",
        "deployment.succeeded",
        "audit.checkpointed",
    ]
    assert rows[1]["data"]["duration_s"] == 1.0


async def test_export_as_csv_can_be_read_back(journal: MemoryJournal) -> None:
    """Quotes, commas and ends of lines survive."""
    await AuditLogger(journal.append).log_system_event("note", 'a "b", c\nd')
    text = "\n".join([line async for line in export(journal, format="csv")])
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["seq"], row["type"], row["deployment_id"]) == ("1", "system.noted", "")
    assert json.loads(row["data"])["detail"] == 'a "b", c\nd'


# the logger


CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("log_deployment_start", ("d1", "api", "production", "v1"), {}, "deployment.started"),
    ("log_deployment_complete", ("d1", "api", "production"), {}, "deployment.succeeded"),
    ("log_deployment_complete", ("d1", "api", "production"), {"outcome": "unreachable"}, "deployment.failed"),
    (
        "log_deployment_complete",
        ("d1", "api", "production"),
        {"outcome": "needs_attention"},
        "deployment.needs_attention",
    ),
    ("log_deployment_rollback", ("d1", "api", "production"), {}, "rollback.succeeded"),
    (
        "log_deployment_rollback",
        ("d1", "api", "production"),
        {"success": False, "failed": ["web-1"]},
        "rollback.failed",
    ),
    ("log_health_check", ("api", "production", "web-1"), {"success": True}, "health.passed"),
    ("log_health_check", ("api", "production", "web-1"), {"success": False}, "health.failed"),
    ("log_configuration_change", ("fraises.yaml", ["fraises.api.env"]), {}, "config.changed"),
    ("log_provider_error", ("local", OSError("no")), {}, "provider.unavailable"),
    (
        "log_lock_acquired",
        ("api", "production"),
        {"epoch": 3, "holder": Holder(owner="me")},
        "lease.acquired",
    ),
    ("log_lock_timeout", ("api", "production"), {"waited_s": 30.0}, "lease.refused"),
    ("log_webhook_received", ("github", "push"), {"branch": "main"}, "webhook.received"),
    ("log_webhook_deployment", ("github", "d1", "api", "production"), {}, "webhook.accepted"),
    ("log_security_event", ("host_key_changed",), {"severity": "high", "fraise": "api"}, "security.reported"),
    ("log_performance_event", ("commit", 2.0), {"threshold_s": 0.5}, "performance.slow"),
    ("log_system_event", ("stopping",), {}, "system.noted"),
]


@pytest.mark.parametrize(("method", "args", "kwargs", "type_name"), CALLS)
async def test_every_method_puts_a_durable_fact_into_the_journal(
    journal: MemoryJournal, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], type_name: str
) -> None:
    """The record that is returned is the one that is there."""
    record = await getattr(AuditLogger(journal.append, actor=ALICE), method)(*args, **kwargs)
    assert isinstance(record, Record)
    assert (await journal.read(0))[-1] == record
    assert TYPE_OF[record.event.__class__] == type_name


async def test_a_deployment_noted_from_outside_is_in_the_history(journal: MemoryJournal) -> None:
    """With the person, the version and the outcome."""
    audit = AuditLogger(journal.append, actor=ALICE)
    await audit.log_deployment_start("d1", "api", "production", "v1", provider="own")
    await audit.log_deployment_complete("d1", "api", "production", duration_s=2.0)
    (found,) = await journal.deployments()
    assert (found.actor, found.version, found.state, found.duration_s) == (ALICE, "v1", "succeeded", 2.0)


async def test_no_secret_gets_into_the_trail(journal: MemoryJournal) -> None:
    """By known value in every free text, and by key in data."""
    redactor = Redactor()
    redactor.register("hunter2-and-more")
    audit = AuditLogger(journal.append, redactor=redactor)
    text = "it is hunter2-and-more"
    await audit.log_security_event("leak", text, data={"password": "short", "nested": [text]})
    await audit.log_system_event("x", text, data={"api_key": "k3y"})
    await audit.log_performance_event("x", 1.0, data={"why": text})
    await audit.log_configuration_change("f", [text], detail=text)
    await audit.log_provider_error("local", ProviderUnavailableError(text))
    await audit.log_health_check("api", "production", "web-1", success=False, message=text)
    await audit.log_deployment_complete("d1", "api", "production", outcome="failed", detail=text)
    lines = "".join([line async for line in export(journal)])
    assert "***" in lines
    assert not [secret for secret in ("hunter2", "short", "k3y") if secret in lines]


async def test_an_error_of_ours_keeps_its_code(journal: MemoryJournal) -> None:
    """So that the record can be searched for it."""
    record = await AuditLogger(journal.append).log_provider_error(
        "docker", ProviderUnavailableError("no socket")
    )
    event = record.event
    assert isinstance(event, ev.ProviderUnavailable)
    assert (event.code, event.error_type, event.recoverable) == (
        "PROVIDER_UNAVAILABLE",
        "ProviderUnavailableError",
        True,
    )


async def test_words_that_do_not_exist_are_refused(journal: MemoryJournal) -> None:
    """An outcome or severity that nobody looks for is a mistake."""
    audit = AuditLogger(journal.append)
    with pytest.raises(ValidationError, match="outcome"):
        await audit.log_deployment_complete("d1", "api", "production", outcome="great")
    with pytest.raises(ValidationError, match="severity"):
        await audit.log_security_event("x", severity="bad")
    assert journal.head == 0
