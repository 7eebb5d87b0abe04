"""Forwarding: each event reaches each receiver, in order, at least once, and no receiver changes a deployment."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from fraisier.audit.forward import Forwarder, SinkError, make_sink, sinks, subscriber_name
from fraisier.audit.forward.layout import severity_of
from fraisier.bus import Bus
from fraisier.clock import SystemClock
from fraisier.config.schema import Forward
from fraisier.events import Actor, Record
from fraisier.events import types as ev
from fraisier.ids import SystemIds
from fraisier.journal.base import Journal
from fraisier.journal.memory import MemoryJournal
from tests.observability.receivers import Receiver, entry, syslog

CLOCK = SystemClock()
PLACE = {"deployment_id": "d1", "fraise": "api", "environment": "production"}


@asynccontextmanager
async def forwarding(journal: Journal, *entries: Forward, base: Path = Path("/")) -> AsyncIterator[Bus]:
    """A bus whose events go to the entries, as an orchestrator has it."""
    made = [Forwarder(subscriber_name(one), one.types, make_sink(one, base)) for one in entries]
    bus = Bus(journal, clock=CLOCK, ids=SystemIds(CLOCK))
    for one in made:
        bus.subscribe(one.name, one.patterns, one, durable=True, from_start=False)
    async with bus:
        yield bus
    for one in made:
        await one.aclose()


def memory() -> MemoryJournal:
    return MemoryJournal(clock=CLOCK, ids=SystemIds(CLOCK))


async def until(condition: Callable[[], bool], limit_s: float = 20) -> None:
    with anyio.fail_after(limit_s):
        while not condition():
            await anyio.sleep(0.01)


async def tell(bus: Bus, count: int) -> list[int]:
    """Publish a deployment of so many events and return their seqs."""
    records = [await bus.publish(ev.DeploymentRequested(**PLACE, actor=Actor(user="alice")))]
    records += [
        await bus.publish(ev.StepFailed(**PLACE, target="web-1", step="stage")) for _ in range(count - 1)
    ]
    return [record.seq for record in records]


def lines(path: Path) -> int:
    """How many whole lines there are: the last one may be half written at this moment."""
    return path.read_bytes().count(b"\n")


def seqs(path: Path) -> list[int]:
    return [json.loads(line)["seq"] for line in path.read_text().splitlines()]


async def test_a_file_gets_a_line_for_each_event(tmp_path: Path) -> None:
    """In the public form, readable by the owner only; it may be rotated meanwhile, and passing events are left out."""
    path = tmp_path / "trail.jsonl"
    async with forwarding(memory(), Forward(file="trail.jsonl"), base=tmp_path) as bus:
        first = await tell(bus, 3)
        bus.emit(ev.StepOutput(**PLACE, line="a line of output"))
        assert await bus.wait_idle(10)
        path.rename(tmp_path / "trail.1")
        second = await tell(bus, 2)
        assert await bus.wait_idle(10)
    assert (seqs(tmp_path / "trail.1"), seqs(path)) == (first, second)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    line = json.loads((tmp_path / "trail.1").read_text().splitlines()[0])
    assert (line["type"], line["fraise"], line["data"]["actor"]["user"]) == (
        "deployment.requested",
        "api",
        "alice",
    )


async def test_only_the_types_that_are_asked_for_are_forwarded(tmp_path: Path) -> None:
    """Patterns as everywhere."""
    async with forwarding(memory(), Forward(file=f"{tmp_path}/t", types=("deployment.*",))) as bus:
        await tell(bus, 3)
        assert await bus.wait_idle(10)
    assert [json.loads(line)["type"] for line in (tmp_path / "t").read_text().splitlines()] == [
        "deployment.requested"
    ]


async def test_a_syslog_server_elsewhere_gets_rfc_5424_over_udp() -> None:
    """With facility `log audit`, severity by type, the type as the message's id, and JSON."""
    server = Receiver.udp()
    try:
        async with forwarding(memory(), Forward(syslog=f"udp://127.0.0.1:{server.port}")) as bus:
            told = await tell(bus, 3)
            assert await bus.wait_idle(10)
        await until(lambda: len(server.taken) >= 3)
    finally:
        taken = [syslog(data) for data in server.close()]
    assert [event["seq"] for event, _ in taken] == told
    heads = [(head["pri"], head["id"], head["pid"]) for _, head in taken[:2]]
    own = str(os.getpid())
    assert heads == [(str(13 * 8 + 5), "deployment.requested", own), (str(13 * 8 + 3), "step.failed", own)]
    assert taken[0][1]["host"] == socket.gethostname()


async def test_the_syslog_of_this_machine_gets_what_the_c_library_would_send(tmp_path: Path) -> None:
    """An event that is too long for it goes without its data, and is still JSON."""
    server = Receiver.unix(tmp_path / "log")
    try:
        async with forwarding(memory(), Forward(syslog=str(tmp_path / "log"))) as bus:
            await tell(bus, 2)
            await bus.publish(ev.SystemNoted(kind="long", detail="x" * 20_000))
            assert await bus.wait_idle(10)
        await until(lambda: len(server.taken) >= 3)
    finally:
        taken = [syslog(data, local=True)[0] for data in server.close()]
    assert [event["type"] for event in taken] == ["deployment.requested", "step.failed", "system.noted"]
    assert taken[2]["data"]["omitted_bytes"] > 20_000


async def test_the_journal_of_systemd_gets_fields(tmp_path: Path) -> None:
    """A value with ends of lines, and an entry beyond the size of a datagram, arrive whole."""
    server = Receiver.unix(tmp_path / "socket")
    try:
        async with forwarding(memory(), Forward(journald=str(tmp_path / "socket"))) as bus:
            await tell(bus, 2)
            await bus.publish(ev.SystemNoted(kind="long", detail="a\nb" * 200_000))
            assert await bus.wait_idle(10)
        await until(lambda: len(server.taken) >= 3)
    finally:
        first, second, long = [entry(data) for data in server.close()]
    assert (first["MESSAGE"], first["PRIORITY"]) == ("deployment.requested api production", "5")
    assert (first["SYSLOG_IDENTIFIER"], first["SYSLOG_FACILITY"]) == ("fraisier", "13")
    assert (second["FRAISIER_TARGET"], second["FRAISIER_STEP"], second["PRIORITY"]) == ("web-1", "stage", "3")
    assert json.loads(second["FRAISIER_EVENT"])["seq"] == int(second["FRAISIER_SEQ"])
    assert len(json.loads(long["FRAISIER_EVENT"])["data"]["detail"]) == 600_000


@pytest.mark.parametrize("kind", ["file", "syslog", "journald"])
async def test_what_happens_while_a_receiver_is_down_reaches_it_later(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for it, the bus closes at once, the next process goes on where it was; said once, not for each event."""
    place = tmp_path / "down" / "receiver"
    forward = Forward(**{kind: str(place)})
    journal = memory()
    with caplog.at_level(logging.INFO, logger="fraisier.audit"):
        async with forwarding(journal, forward) as bus:
            told = await tell(bus, 50)
            assert await bus.wait_idle(5)
            statistics = bus.statistics().subscribers[subscriber_name(forward)]
            assert (statistics.handled, statistics.dead_letters) == (0, 0)
        assert [line.levelname for line in caplog.records] == ["WARNING"]
        place.parent.mkdir()
        server = None if kind == "file" else Receiver.unix(place)
        async with forwarding(journal, forward) as bus:
            told += await tell(bus, 5)
            assert await bus.wait_idle(10)
    if server is None:
        assert seqs(place) == told
    else:
        await until(lambda: len(server.taken) >= len(told))
        read = (lambda data: syslog(data, local=True)[0]["seq"]) if kind == "syslog" else _seq_of_entry
        assert [read(data) for data in server.close()] == told
    assert await journal.dead_letters() == []


def _seq_of_entry(data: bytes) -> int:
    return int(entry(data)["FRAISIER_SEQ"])


async def test_a_receiver_that_comes_back_is_served_in_the_same_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In order and without a gap, also beyond what the inbox holds."""
    with caplog.at_level(logging.INFO, logger="fraisier.audit"):
        async with forwarding(memory(), Forward(file=f"{tmp_path}/late/trail")) as bus:
            told = await tell(bus, 3000)
            (tmp_path / "late").mkdir()
            await until(lambda: (tmp_path / "late/trail").exists() and lines(tmp_path / "late/trail") == 3000)
    assert seqs(tmp_path / "late/trail") == told
    assert [line.levelname for line in caplog.records] == ["WARNING", "INFO"]


async def test_a_pipe_that_nobody_reads_holds_up_nothing(tmp_path: Path) -> None:
    """Neither the bus nor its end."""
    os.mkfifo(tmp_path / "pipe")
    async with forwarding(memory(), Forward(file=f"{tmp_path}/pipe")) as bus:
        with anyio.fail_after(5):
            await tell(bus, 20)
            assert await bus.wait_idle(5)


def test_how_grave_an_event_is() -> None:
    """As syslog counts: 3 is an error, 4 a warning, 5 a notice."""
    found = {
        name: severity_of(name)
        for name in ("step.failed", "deployment.aborted", "security.reported", "deployment.succeeded")
    }
    assert found == {
        "step.failed": 3,
        "deployment.aborted": 4,
        "security.reported": 4,
        "deployment.succeeded": 5,
    }


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("file", "/nowhere/trail.jsonl"),
        ("syslog", "/nowhere/log"),
        ("syslog", "udp://255.255.255.255:514"),  # no broadcast without being told to
        ("journald", "/nowhere/socket"),
    ],
)
async def test_what_cannot_be_reached_is_named(key: str, place: str) -> None:
    """One error for whatever goes wrong with a receiver, and the next event tries again."""
    sink = make_sink(Forward(**{key: place}), Path("/"))
    for _ in range(2):
        with pytest.raises(SinkError, match=re.escape(place)):
            await sink.send(Record(1, "e1", 0, ev.DeploymentRequested(**PLACE)))
    sink.close()


async def test_a_syslog_that_takes_no_more_is_waited_for(tmp_path: Path) -> None:
    """A full socket is no loss: what was sent again later arrives once the reader reads on."""
    slow = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    slow.bind(str(tmp_path / "log"))
    async with forwarding(memory(), Forward(syslog=str(tmp_path / "log"))) as bus:
        told = await tell(bus, 600)
        server = Receiver(slow)
        await until(lambda: len(server.taken) >= 600)
    assert [syslog(data, local=True)[0]["seq"] for data in server.close()] == told


async def test_a_receiver_that_is_stuck_is_given_up_for_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The event that it did not take in time comes again when it reads on."""
    monkeypatch.setattr(sinks, "SEND_S", 0.05)
    stuck = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stuck.bind(str(tmp_path / "log"))
    async with forwarding(memory(), Forward(syslog=str(tmp_path / "log"))) as bus:
        told = await tell(bus, 600)
        await until(lambda: "no answer within" in caplog.text)
        server = Receiver(stuck)
        await until(lambda: len(server.taken) >= 600)
    assert [syslog(data, local=True)[0]["seq"] for data in server.close()] == told


@pytest.mark.parametrize("host", ["no-such-host.invalid", "[::1]"])
async def test_a_server_whose_name_or_port_answers_nothing_holds_up_nobody(host: str) -> None:
    """UDP may not even tell that nobody listens."""
    async with forwarding(memory(), Forward(syslog=f"udp://{host}:9")) as bus:
        with anyio.fail_after(10):
            await tell(bus, 5)
            assert await bus.wait_idle(8)


async def test_a_torn_line_stays_a_line_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a write that ran out of space the whole event comes again, on a new line."""
    path, write, calls = tmp_path / "trail", os.write, []

    def short(descriptor: int, data: Any) -> int:
        calls.append(len(data))
        if len(calls) == 2:
            return write(descriptor, data[:10])
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", short)
    async with forwarding(memory(), Forward(file=str(path))) as bus:
        told = await tell(bus, 3)
        await until(lambda: len(calls) >= 5)
        assert await bus.wait_idle(5)
    lines = path.read_text().splitlines()
    assert len(lines[1]) == 10
    assert [json.loads(line)["seq"] for line in [lines[0], *lines[2:]]] == told


def test_a_long_destination_has_a_name_that_a_file_can_have() -> None:
    """Two of them do not share one."""
    names = {subscriber_name(Forward(file=f"/{'x' * 200}/{number}")) for number in range(2)}
    assert len(names) == 2
    assert max(map(len, names)) <= 80
    assert subscriber_name(Forward(file="/var/log/a.jsonl")) == "forward:file:/var/log/a.jsonl"
