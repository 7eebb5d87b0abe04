"""The exporter over a store: what it reads, how often, what stands where; and what it answers when it cannot."""

from __future__ import annotations

import json
import socket
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from fraisier.clock import SystemClock
from fraisier.errors import DatabaseConnectionError, UsageError
from fraisier.events import Event, Holder, Record
from fraisier.events import types as ev
from fraisier.ids import SystemIds
from fraisier.journal.memory import MemoryJournal
from fraisier.journal.sqlite import SqliteJournal
from fraisier.metrics.exporter import PAGE, Exporter
from fraisier.metrics.server import MetricsServer
from fraisier.metrics.source import Source
from fraisier.metrics.standing import PAIRS_MAX

HOUR_US = 3_600_000_000


class Clock(SystemClock):
    """The wall clock, set back or forward."""

    def __init__(self) -> None:
        super().__init__()
        self.shift_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.shift_us


class Watched(MemoryJournal):
    """Notes which part of the log was read; with `stuck` no read ends by itself."""

    def __init__(self) -> None:
        clock = Clock()
        super().__init__(clock=clock, ids=SystemIds(clock))
        self.clock = clock
        self.reads: list[tuple[int, int]] = []
        self.stuck = False

    async def read(
        self,
        after: int,
        upto: int | None = None,
        *,
        deployment_id: str = "",
        types: Sequence[str] = (),
        limit: int = 512,
    ) -> list[Record]:
        assert upto is not None
        self.reads.append((after, upto))
        if self.stuck:
            await anyio.sleep_forever()
        return await super().read(after, upto, deployment_id=deployment_id, types=types, limit=limit)

    async def tell(self, *events: Event) -> None:
        for event in events:
            await self.append(event)


@pytest.fixture
async def journal() -> AsyncIterator[Watched]:
    made = Watched()
    await made.open(lambda records: None)
    yield made
    await made.close()


def about(number: int | str, fraise: str = "api", environment: str = "production") -> dict[str, Any]:
    return {"deployment_id": f"d{number}", "fraise": fraise, "environment": environment}


def begun(number: int | str, *, expires_us: int, **place: str) -> list[Event]:
    here = about(number, **place)
    return [
        ev.DeploymentRequested(**here, provider="local", fraise_type="api"),
        ev.LeaseAcquired(**here, epoch=1, holder=Holder(owner="me", pid=7), expires_at=expires_us),
        ev.DeploymentStarted(**here),
    ]


def exporter_over(journal: Watched, *, dead: bool = False) -> Exporter:
    return Exporter(journal, clock=journal.clock, is_dead=lambda holder: dead, store_bytes=lambda: 77)


def values(exporter: Exporter, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for metric in exporter.registry.collect()
        for sample in metric.samples
        if sample.name == name and sample.value
    }


async def test_each_row_is_read_once_however_many_pages_there_are(journal: Watched) -> None:
    """The second refresh reads what is new, and nothing when nothing is."""
    count = PAGE * 2 + 10
    await journal.tell(ev.DeploymentRequested(**about(1), provider="local", fraise_type="api"))
    await journal.tell(*[ev.StepSucceeded(**about(1), step="fetch", duration_s=1)] * count)
    exporter = exporter_over(journal)
    await exporter.refresh()
    name = "fraisier_step_duration_seconds_count"
    assert values(exporter, name) == {("local", "success", "fetch"): count}
    assert journal.reads == [(0, count + 1), (PAGE, count + 1), (2 * PAGE, count + 1)]
    await exporter.refresh()
    assert len(journal.reads) == 3
    await journal.tell(ev.StepSucceeded(**about(1), step="fetch", duration_s=1))
    await exporter.refresh()
    assert journal.reads[3:] == [(count + 1, count + 2)]
    assert values(exporter, name) == {("local", "success", "fetch"): count + 1}


async def test_a_refresh_that_was_cancelled_loses_and_repeats_nothing(journal: Watched) -> None:
    await journal.tell(*begun(1, expires_us=0), ev.DeploymentSucceeded(**about(1), duration_s=1))
    exporter = exporter_over(journal)
    journal.stuck = True
    with anyio.move_on_after(0.01) as scope:
        await exporter.refresh()
    assert scope.cancelled_caught
    journal.stuck = False
    await exporter.refresh()
    await exporter.refresh()
    assert values(exporter, "fraisier_deployments_total") == {("api", "local", "success"): 1}


async def test_who_acts_is_told_by_the_lease(journal: Watched) -> None:
    """Also when its holder cannot be seen: until the lease expires."""
    now_us = journal.clock.now_us()
    await journal.tell(
        *begun(1, expires_us=now_us + HOUR_US),
        *begun(2, expires_us=now_us - 1, fraise="web"),
        ev.DeploymentRequested(**about(3, fraise="etl"), provider="local", fraise_type="etl"),
    )
    exporter = exporter_over(journal)
    await exporter.refresh()
    assert values(exporter, "fraisier_active_deployments") == {("local",): 1}
    assert values(exporter, "fraisier_lease_held") == {("production", "api"): 1}
    assert values(exporter, "fraisier_unfinished_deployments") == {
        ("production", "api", "running"): 1,
        ("production", "web", "interrupted"): 1,
        ("production", "etl", "planned"): 1,
    }
    journal.clock.shift_us = 2 * HOUR_US
    await exporter.refresh()
    assert values(exporter, "fraisier_active_deployments") == {}
    assert values(exporter, "fraisier_unfinished_deployments")["production", "api", "interrupted"] == 1


async def test_a_dead_holder_acts_no_more(journal: Watched) -> None:
    await journal.tell(*begun(1, expires_us=journal.clock.now_us() + HOUR_US))
    exporter = exporter_over(journal, dead=True)
    await exporter.refresh()
    assert values(exporter, "fraisier_active_deployments") == {}
    assert values(exporter, "fraisier_lease_held") == {}


async def test_a_linked_rollback_is_carried_out_under_the_lease_of_what_it_undoes(journal: Watched) -> None:
    """It is unfinished, not interrupted, and no second active deployment."""
    await journal.tell(
        *begun(1, expires_us=journal.clock.now_us() + HOUR_US),
        ev.RollbackStarted(**about(1), child_id="d2", provider="local", reason="health_check_failed"),
        ev.DeploymentRequested(**about(2), kind="rollback", rollback_of="d1", provider="local"),
        ev.DeploymentStarted(**about(2)),
    )
    exporter = exporter_over(journal)
    await exporter.refresh()
    assert values(exporter, "fraisier_active_deployments") == {("local",): 1}
    assert values(exporter, "fraisier_unfinished_deployments") == {
        ("production", "api", "rolling_back"): 1,
        ("production", "api", "running"): 1,
    }


async def test_freezes_targets_and_followers_are_those_of_the_tables(journal: Watched) -> None:
    """A target that has no release, because its first one was taken back, is not among them."""
    now_us = journal.clock.now_us()
    verdict = {**about(1), "target": "web-1", "check_type": "http", "counts": {"pass": 1}}
    await journal.tell(
        ev.LeaseFrozen(fraise="api", environment="production", owner="ann", until_at=now_us + HOUR_US),
        ev.DeploymentRequested(**about(1), provider="local", fraise_type="api"),
        *(ev.TargetUpdated(**about(1), target=target, release="r1") for target in ("web-1", "web-2")),
        ev.HealthPassed(**verdict, provider="local"),
        ev.HealthFailed(**{**verdict, "target": "web-2"}, provider="local"),
        ev.HealthFailed(**{**verdict, "target": "web-3"}, provider="local"),
    )
    journal.save_position("audit", 1)
    await journal.flush_positions()
    await journal.dead_letter("audit", 1, "boom")
    exporter = exporter_over(journal)
    await exporter.refresh()
    assert values(exporter, "fraisier_frozen") == {("production", "api"): 1}
    assert values(exporter, "fraisier_targets") == {
        ("production", "api", "healthy"): 1,
        ("production", "api", "unhealthy"): 1,
    }
    assert values(exporter, "fraisier_subscriber_lag_events") == {("audit",): 6}
    assert values(exporter, "fraisier_dead_letters_total") == {("audit",): 1}
    assert values(exporter, "fraisier_journal_events_total") == {(): 7}
    assert values(exporter, "fraisier_store_bytes") == {(): 77}
    journal.clock.shift_us = 2 * HOUR_US
    await exporter.refresh()
    assert values(exporter, "fraisier_frozen") == {}


async def test_names_that_no_label_can_hold_are_one_series(journal: Watched) -> None:
    """A scrape keeps any one of two series with the same labels: what they say is combined, and forwards are told apart."""
    until_us = journal.clock.now_us() + HOUR_US
    await journal.tell(
        ev.LeaseFrozen(fraise="größe", environment="production", owner="ann", until_at=until_us),
        ev.LeaseFrozen(fraise="länge", environment="production", owner="ann", until_at=until_us),
    )
    for name, seq in (
        ("forward:file:/a/trail", 1),
        ("forward:file:/b/trail", 2),
        ("ein maß", 1),
        ("zwei maß", 2),
    ):
        journal.save_position(name, seq)
        await journal.flush_positions()
        await journal.dead_letter(name, 1, "boom")
    exporter = exporter_over(journal)
    await exporter.refresh()
    found = values(exporter, "fraisier_dead_letters_total")
    assert sorted(found.values()) == [1, 1, 2]
    assert found["other",] == 2
    assert values(exporter, "fraisier_subscriber_lag_events").pop(("other",)) == 1
    lines = [line for line in (await exporter.render())[0].decode().splitlines() if line[:1] != "#"]
    assert len({line.rpartition(" ")[0] for line in lines}) == len(lines)
    assert values(exporter, "fraisier_frozen") == {("production", "other"): 1}


async def test_the_pairs_that_are_shown_are_bounded(journal: Watched) -> None:
    for number in range(PAIRS_MAX + 20):
        await journal.tell(ev.LeaseFrozen(fraise=f"f{number:04}", environment="production", owner="ann"))
    late = {"deployment_id": "z", "fraise": "z", "environment": "production"}
    await journal.tell(
        ev.DeploymentRequested(**late, provider="local", fraise_type="api"),
        ev.TargetUpdated(**late, target="web-1", release="r1"),
    )
    exporter = exporter_over(journal)
    await exporter.refresh()
    assert len(values(exporter, "fraisier_frozen")) == PAIRS_MAX
    assert values(exporter, "fraisier_unfinished_deployments") == {}
    assert values(exporter, "fraisier_targets") == {}


async def test_what_began_before_the_log_can_be_read_is_looked_up(tmp_path: Path) -> None:
    """Its bodies have expired; the tables still know provider and type, and that a rollback is part of a deployment."""
    clock = SystemClock()
    path = tmp_path / "store.db"
    writing = SqliteJournal(path, clock=clock, ids=SystemIds(clock))
    await writing.open(lambda records: None)
    for event in (
        *begun(1, expires_us=0),
        ev.RollbackStarted(**about(1), child_id="d2", provider="local", reason="health_check_failed"),
        ev.DeploymentRequested(**about(2), kind="rollback", rollback_of="d1", provider="local"),
        ev.DeploymentSucceeded(**about(2), duration_s=1),
        ev.RollbackSucceeded(**about(1), child_id="d2", provider="local", reason="health_check_failed"),
        ev.DeploymentRolledBack(**about(1), reason="health_check_failed", duration_s=2),
    ):
        await writing.append(event)
    await writing.close()
    with sqlite3.connect(path) as raw:
        raw.execute("update journal set body = null where seq <= 5")
    raw.close()
    reading = SqliteJournal(path, clock=clock, ids=SystemIds(clock), read_only=True)
    await reading.open(lambda records: None)
    exporter = Exporter(reading, clock=clock, is_dead=lambda holder: False)
    await exporter.refresh()
    await reading.close()
    assert values(exporter, "fraisier_deployments_total") == {("api", "local", "rolled_back"): 1}
    assert values(exporter, "fraisier_rollbacks_total") == {("local", "health_check_failed"): 1}


# over HTTP


class Given(Source):
    """A source with an exporter of the test's own, or with an error."""

    def __init__(self, exporter: Exporter) -> None:
        clock = SystemClock()
        super().__init__("memory:", clock=clock, ids=SystemIds(clock), is_dead=lambda holder: False)
        self.given = exporter
        self.error: DatabaseConnectionError | None = None

    async def exporter(self) -> Exporter:
        if self.error is not None:
            raise self.error
        return self.given


@asynccontextmanager
async def served(source: Source, told: list[str]) -> AsyncIterator[int]:
    async with MetricsServer(source, told.append).listening("127.0.0.1", 0) as port:
        yield port


async def ask(port: int, path: str = "/metrics", **headers: str) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=named)

    def send() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await anyio.to_thread.run_sync(send)


async def test_a_scrape_is_answered_in_its_own_time_and_never_with_half_of_the_truth(
    journal: Watched,
) -> None:
    """While the log is still being read it is 503; the next one goes on from there."""
    await journal.tell(*begun(1, expires_us=0), ev.DeploymentSucceeded(**about(1), duration_s=1))
    source, told = Given(exporter_over(journal)), list[str]()
    async with served(source, told) as port:
        journal.stuck = True
        answer = await ask(port, X_Prometheus_Scrape_Timeout_Seconds="0.2")
        assert answer == (503, "the store is still being read\n")
        assert await ask(port, "/-/ready") == (503, "the store is still being read\n")
        journal.stuck = False
        status, text = await ask(port, X_Prometheus_Scrape_Timeout_Seconds="nonsense")
    assert status == 200
    assert 'fraisier_deployments_total{fraise_type="api",provider="local",status="success"} 1.0' in text
    assert told == []


async def test_trouble_with_the_store_is_told_once_and_its_end_too(journal: Watched) -> None:
    source, told = Given(exporter_over(journal)), list[str]()
    async with served(source, told) as port:
        assert (await ask(port))[0] == 200
        source.error = DatabaseConnectionError("the disk is gone")
        for _ in range(3):
            assert await ask(port) == (503, "the store cannot be read: the disk is gone\n")
        assert await ask(port, "/-/ready") == (503, "the disk is gone\n")
        assert (await ask(port, "/-/healthy"))[0] == 200
        source.error = None
        assert (await ask(port))[0] == 200
    assert told == ["the store cannot be read: the disk is gone", "the store can be read again"]


async def test_more_scrapes_than_can_be_served_are_refused(journal: Watched) -> None:
    """The others wait in a line of bounded length."""
    source = Given(exporter_over(journal))
    await journal.tell(*begun(1, expires_us=0))
    async with served(source, []) as port:
        journal.stuck = True
        waiting = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(16)]
        try:
            for one in waiting:
                one.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = ""
            with anyio.fail_after(10):
                while "too many" not in answer:
                    _, answer = await ask(port, X_Prometheus_Scrape_Timeout_Seconds="0.05")
        finally:
            for one in waiting:
                one.close()
    assert answer == "too many scrapes at the same time\n"


async def test_the_watch_reads_the_store_before_anybody_asks(journal: Watched) -> None:
    """And then measures the event loop's lag."""
    await journal.tell(*begun(1, expires_us=0))
    source = Given(exporter_over(journal))
    server = MetricsServer(source, lambda text: None)
    async with server.listening("127.0.0.1", 0) as port, anyio.create_task_group() as group:
        group.start_soon(server.watch)
        with anyio.fail_after(10):
            while (await ask(port, "/-/ready"))[0] != 200:
                await anyio.sleep(0.01)
        assert journal.reads == [(0, 3)]
        status, text = await ask(port)
        group.cancel_scope.cancel()
    assert status == 200
    assert "fraisier_event_loop_lag_seconds " in text
    assert json.dumps(text).count("fraisier_build_info{version") == 1


async def test_where_nothing_can_listen_a_person_is_told_what_to_try(journal: Watched) -> None:
    """The place is in use, or it is none of this machine's."""
    source = Given(exporter_over(journal))
    async with served(source, []) as port:
        with pytest.raises(UsageError, match=f"port {port} is in use") as busy:
            await listen(source, "127.0.0.1", port)
        with pytest.raises(UsageError, match=r"192\.0\.2\.1 is not an address of this machine") as strange:
            await listen(source, "192.0.2.1", 0)
    assert f"sport = :{port}" in busy.value.hint
    assert "--address 127.0.0.1" in strange.value.hint


async def listen(source: Source, address: str, port: int) -> None:
    async with MetricsServer(source, lambda text: None).listening(address, port):
        pass


async def test_a_store_in_memory_is_an_empty_one(tmp_path: Path) -> None:
    """So is one that is not there; a directory in its place is an error."""
    clock = SystemClock()
    for url in ("memory:", f"sqlite:///{tmp_path}/none.db"):
        source = Source(url, clock=clock, ids=SystemIds(clock), is_dead=lambda holder: False)
        exporter = await source.exporter()
        await exporter.refresh()
        assert values(exporter, "fraisier_deployments_total") == {}
        assert await source.exporter() is exporter
        await source.close()
    source = Source(f"sqlite:///{tmp_path}", clock=clock, ids=SystemIds(clock), is_dead=lambda holder: False)
    with pytest.raises(DatabaseConnectionError, match="is a directory"):
        await source.exporter()


ROWS = 1_000_000


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_million_rows_are_read_within_seconds_and_little_memory(tmp_path: Path) -> None:
    """The bounds are wide, because they hold on any machine; docs/METRICS.md has what to expect."""
    path = tmp_path / "store.db"
    clock = SystemClock()
    writing = SqliteJournal(path, clock=clock, ids=SystemIds(clock))
    await writing.open(lambda records: None)
    template = [
        *begun("000000", expires_us=0),
        *[ev.StepStarted(**about("000000"), target="web-1", step="fetch")] * 4,
        *[ev.StepSucceeded(**about("000000"), target="web-1", step="fetch", duration_s=1)] * 4,
        ev.DeploymentSucceeded(**about("000000"), duration_s=1),
    ]
    for event in template:
        await writing.append(event)
    await writing.close()
    rows = await anyio.to_thread.run_sync(multiply, path, len(template))
    script = (
        "import resource, sys, time; from fraisier.cli.main import run; begun = time.monotonic(); code = run(sys.argv[1:]);"
        "print(time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(code)"
    )
    argv = [sys.executable, "-c", script, "--store", f"sqlite:///{path}", "metrics", "--once"]
    done = await anyio.run_process(argv)
    wanted = f'fraisier_deployments_total{{fraise_type="api",provider="local",status="success"}} {rows // len(template)}.0'
    assert wanted in done.stdout.decode()
    took_s, peak_kb = map(float, done.stderr.decode().split())
    assert took_s < 60
    assert peak_kb < 200_000


def multiply(path: Path, count: int) -> int:
    """Repeat the first rows of a log, each time for another deployment, until there are ROWS; return how many there are."""
    raw = sqlite3.connect(path)
    raw.execute("pragma synchronous = off")
    first = raw.execute("select * from journal order by seq").fetchall()
    copies = ROWS // count
    raw.executemany(
        "insert into journal values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                copy * count + row[0],
                row[1],
                f"d{copy:06}",
                *row[3:7],
                row[7].replace(b"d000000", b"d%06d" % copy),
                *row[8:],
            )
            for copy in range(1, copies)
            for row in first
        ),
    )
    raw.commit()
    raw.close()
    return copies * count
