"""The store fails, before a deployment and in the middle of one: what is said, what is served, and how it goes on."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.acceptance.faulty import (
    Running,
    Served,
    Tracer,
    disk,
    filled,
    may_mount,
    read_only,
    unjournalled,
    until,
)
from tests.acceptance.kit import Run

pytestmark = pytest.mark.once

MOUNTS = may_mount()
needs_disk = pytest.mark.skipif(
    not MOUNTS, reason="making a small disk needs root in a mount namespace of its own"
)
needs_strace = pytest.mark.skipif(
    not MOUNTS or not shutil.which("strace"),
    reason="failing system calls needs strace, and root in a mount namespace of its own",
)
needs_faketime = pytest.mark.skipif(not shutil.which("faketime"), reason="a clock set back needs faketime")
NO_OVERRIDE = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
needs_setpriv = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("setpriv"), reason="permissions without root's power need setpriv"
)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two targets that serve, with a store on a disk of its own where that can be had, and a backup of the store."""
    root = tmp_path_factory.mktemp("served")
    with ExitStack() as stack:
        if MOUNTS:
            stack.enter_context(disk(root / "state"))
        web = Served(root, count=2)
        stack.callback(web.end)
        assert web.deploy(web.next_version()).code == 0
        assert web.run("db", "backup", str(root / "backup.db")).code == 0
        yield web


def expect_told(run: Run, *words: str, code: int = 1) -> dict[str, str]:
    """One message says what happened, where, and what to try; nobody sees a traceback. Return it."""
    assert run.code == code, run.out + run.err
    assert "Traceback" not in run.out + run.err
    if run.out:
        assert run.err == ""
        errors = [json.loads(line)["error"] for line in run.out.splitlines() if line.startswith('{"error"')]
    else:
        lines = run.err.splitlines()
        message = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        hints = [line.removeprefix("  try: ") for line in lines if line.startswith("  try: ")]
        assert len(lines) == 2, run.err
        errors = [{"message": message[0], "hint": hints[0]}]
    assert len(errors) == 1
    for word in words:
        assert word in errors[0]["message"] + errors[0]["hint"], errors[0]
    return dict(errors[0])


def expect_refused(web: Served, version: str, *words: str, prefix: tuple[str, ...] = ()) -> None:
    """A deployment that cannot begin says why, to people and to programs, and leaves every target as it is."""
    before = web.shown()
    for options in (["--json"], ["-y"]):
        argv = [*prefix, *web.argv("deploy", "web", "production", "--version", version, *options)]
        expect_told(Running(web, *argv).end(), str(web.db), *words)
    assert web.shown() == before


def expect_goes_on(web: Served, version: str) -> None:
    """The next deployment reaches every target, and the store is sound."""
    web.reached.unlink(missing_ok=True)
    web.go.touch()
    run = web.deploy(version)
    assert (run.code, set(web.answers().values())) == (0, {version}), run.out[-2000:] + run.err
    expect_sound(web)


def expect_sound(web: Served) -> None:
    check = web.run("db", "check")
    assert check.code == 0, check.out + check.err


@contextmanager
def configured(web: Served, old: str, new: str) -> Iterator[None]:
    """Another configuration for a while."""
    path = web.root / "fraises.yaml"
    text = path.read_text()
    path.write_text(text.replace(old, new, 1))
    try:
        yield
    finally:
        path.write_text(text)


# before the start


@needs_disk
@pytest.mark.parametrize(
    ("fault", "words"),
    [(filled, ("the disk is full", "free some space")), (read_only, ("read-only", "mount"))],
    ids=["full", "read-only"],
)
def test_a_disk_that_takes_nothing_lets_no_deployment_begin(
    web: Served, fault: Callable[[Served], AbstractContextManager[None]], words: tuple[str, ...]
) -> None:
    version = web.next_version()
    with fault(web):
        expect_refused(web, version, *words)
    expect_goes_on(web, version)


@needs_strace
def test_a_disk_that_fails_from_the_start_lets_no_deployment_begin(web: Served) -> None:
    version, tracer = web.next_version(), Tracer(web, "fsync,fdatasync:error=EIO")
    expect_refused(web, version, "I/O error", "smartctl", prefix=tuple(tracer.argv))
    assert tracer.fired
    expect_goes_on(web, version)


@needs_setpriv
@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_a_store_without_permission_lets_no_deployment_begin(web: Served, mode: int) -> None:
    version = web.next_version()
    web.db.chmod(mode)
    try:
        expect_refused(web, version, "permission", prefix=tuple(NO_OVERRIDE))
    finally:
        web.db.chmod(0o600)
    expect_goes_on(web, version)


# damage


def damage_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xa5" * 100)


def damage_page(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute(
            "select rootpage from sqlite_master where name = 'deployments'"
        ).fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text_instead(path: Path) -> None:
    path.write_text("this is a note, not a database\n" * 200)


def short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_header, ("not a database", "fraisier db restore")),
        (damage_page, ("damaged", "fraisier db check", "fraisier db restore")),
        (empty, ("is empty", "fraisier db restore")),
        (text_instead, ("not a database", "fraisier db restore")),
        (short, ("damaged", "fraisier db restore")),
    ],
)
def test_a_damaged_store_lets_no_deployment_begin_and_a_backup_brings_it_back(
    web: Served, damage: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    """The backup is older than what runs: the deployment after it looks at the targets and goes on from there."""
    version = web.next_version()
    damage(web.db)
    expect_refused(web, version, *words)
    assert web.run("db", "check").code == 1
    restored = web.run("db", "restore", str(web.root / "backup.db"))
    assert restored.code == 0, restored.err
    expect_goes_on(web, version)


def test_a_directory_in_the_place_of_the_store_lets_no_deployment_begin(web: Served) -> None:
    version, aside = web.next_version(), web.root / "aside.db"
    shutil.move(web.db, aside)
    web.db.mkdir()
    expect_refused(web, version, "directory", "--store")
    web.db.rmdir()
    shutil.move(aside, web.db)
    expect_goes_on(web, version)


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_a_write_ahead_log_that_lost_its_end_loses_facts_but_no_soundness(web: Served, keep: float) -> None:
    """A process that was killed leaves its facts beside the store. Those that the disk lost are found out by looking."""
    version = web.next_version(gate="build")
    running = Running(web, *web.argv("deploy", "web", "production", "--version", version, "--json"))
    until(web.reached.exists, "the build")
    running.process.kill()
    running.end()
    web.go.touch()
    before, log = web.shown(), web.db.with_name("fraisier.db-wal")
    os.truncate(log, int(log.stat().st_size * keep))
    with log.open("ab") as file:
        file.write(b"\xa5" * 5000)
    first = web.deploy(version)
    if first.code == 5:
        # The lease that the disk lost was seen at the targets, which refuse what looks older.
        assert "fenced" in first.out
        assert web.shown() == before
    expect_goes_on(web, version)


# in the middle


def under_way(web: Served, gate: str) -> tuple[str, Running]:
    """A deployment that waits at its gate."""
    version = web.next_version(gate)
    running = Running(web, *web.argv("deploy", "web", "production", "--version", version, "--json"))
    until(web.reached.exists, f"the {gate}")
    return version, running


@contextmanager
def failing(web: Served, running: Running, inject: str) -> Iterator[None]:
    tracer = Tracer(web, inject)
    with tracer.attached(running.process.pid):
        yield
    assert tracer.fired, "the fault did not happen"


def no_room(web: Served, running: Running) -> AbstractContextManager[None]:
    return filled(web)


def no_sync(web: Served, running: Running) -> AbstractContextManager[None]:
    return failing(web, running, "fsync,fdatasync:error=EIO")


def one_sync_fails(web: Served, running: Running) -> AbstractContextManager[None]:
    return failing(web, running, "fsync,fdatasync:error=EIO:when=1")


def became_read_only(web: Served, running: Running) -> AbstractContextManager[None]:
    return failing(web, running, "pwrite64,ftruncate,fallocate:error=EROFS")


Fault = Callable[[Served, Running], AbstractContextManager[None]]


@needs_strace
@pytest.mark.parametrize(
    ("fault", "gate", "words"),
    [
        (no_room, "build", ("the disk is full", "free some space")),
        (no_room, "service", ("the disk is full", "free some space")),
        (no_sync, "build", ("I/O error", "smartctl")),
        (one_sync_fails, "service", ("I/O error", "smartctl")),
        (became_read_only, "service", ("cannot be written",)),
    ],
)
def test_a_store_that_fails_in_the_middle_ends_the_deployment_where_it_is(
    web: Served, fault: Fault, gate: str, words: tuple[str, ...]
) -> None:
    """No step begins after the fault, even one whose disk is well again at once: what came before is not recorded."""
    before, head = web.shown(), web.head
    version, running = under_way(web, gate)
    with fault(web, running):
        during = web.shown()
        web.go.touch()
        run = running.end()
    told = expect_told(run, str(web.db), *words, "not recorded", "fraisier resume")
    assert ("what the targets serve was not changed" in told["message"]) == (gate == "build")
    after, intents = web.shown(), web.intents(head)
    assert unjournalled(before, after, intents) == []
    assert after["t2"].pid == before["t2"].pid, "a target whose turn came after the fault was touched"
    assert {name: (seen.current, seen.releases) for name, seen in after.items()} == {
        name: (seen.current, seen.releases) for name, seen in during.items()
    }
    assert {step for _, step in intents} <= {
        "preflight",
        "fetch",
        "stage",
        "drain",
        "switch",
        "restart",
        "verify",
    }
    expect_goes_on(web, version)


@needs_disk
def test_a_store_that_takes_no_heartbeat_ends_a_deployment_that_waits_in_a_long_step(web: Served) -> None:
    """The lease could not be renewed, so somebody else might take it: the step is ended, not waited for."""
    before, head = web.shown(), web.head
    with configured(web, "fraises:", "lease: {ttl: 3s, heartbeat: 0.2s}\nfraises:"):
        version, running = under_way(web, "build")
        with filled(web):
            run = running.end()
    expect_told(run, str(web.db), "the disk is full", "not recorded: stage on t1, stage on t2")
    assert unjournalled(before, web.shown(), web.intents(head)) == []
    expect_goes_on(web, version)


# the clock


_WITHOUT_HEIRS = (
    "import os, runpy; del os.environ['LD_PRELOAD']; runpy.run_module('fraisier', run_name='__main__')"
)


def with_own_clock(web: Served, version: str, **setting: str) -> Running:
    """A deployment by a process whose wall clock is off. What it starts has the machine's clock."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    env = {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
    python, _, _, *words = web.argv("deploy", "web", "production", "--json", "--version", version)
    env |= {"FAKETIME_DISABLE_SHM": "1", **setting}
    return Running(web, python, "-c", _WITHOUT_HEIRS, *words, env=env)


def _went_back(running: Running) -> bool:
    lines = running.out.read_text().split("\n")[:-1]
    times = [json.loads(line)["time"] for line in lines]
    return bool(times) and times[-1] < times[0]


@pytest.mark.slow
@needs_faketime
def test_a_clock_set_back_between_deployments_changes_no_order(web: Served) -> None:
    """The newest releases have the oldest names; history, retention and rollback go by the order of what happened."""
    current: list[str] = []
    with configured(web, "        rollout:", "        keep_releases: 2\n        rollout:"):
        for offset in ("+0", "-2d", "-1d"):
            version = web.next_version()
            run = with_own_clock(web, version, FAKETIME=offset).end()
            assert (run.code, set(web.answers().values())) == (0, {version}), run.out[-2000:]
            seen = web.shown()["t1"]
            current.append(Path(seen.current).name)
        assert current[1] < current[2] < current[0], "the clock was not set back"
        assert seen.releases == {*current[1:]}
    rows = web.run("history", "--limit", "3", "--json").document["deployments"]
    assert [row["started_at"] for row in rows] != sorted((row["started_at"] for row in rows), reverse=True)
    assert rows[0]["deployment_id"] == run.result["deployment_id"]
    assert all(0 < row["duration_s"] < 60 for row in rows)
    back = web.run("rollback", "web", "production", "--json")
    assert (back.code, Path(web.shown()["t1"].current).name) == (0, current[1]), back.out[-2000:]
    expect_sound(web)


@pytest.mark.slow
@needs_faketime
def test_a_clock_set_back_in_the_middle_stretches_no_wait_and_keeps_no_lease(web: Served) -> None:
    version = web.next_version("build")
    with configured(web, "fraises:", "lease: {heartbeat: 0.2s}\nfraises:"):
        offset = web.root / "clock"
        offset.write_text("+0")
        running = with_own_clock(
            web, version, FAKETIME_TIMESTAMP_FILE=str(offset), FAKETIME_CACHE_DURATION="1"
        )
        until(web.reached.exists, "the build")
        offset.write_text("-2d")
        until(lambda: _went_back(running), "a heartbeat at the new time")
        web.go.touch()
        run = running.end()
    assert (run.code, set(web.answers().values())) == (0, {version}), run.out[-2000:] + run.err
    times = [line["time"] for line in run.lines if "time" in line]
    assert times[0] > times[-1], "the clock was not set back"
    sequence = [line["seq"] for line in run.lines if line.get("seq")]
    assert sequence == sorted(sequence)
    assert 0 < run.result["duration_s"] < 30
    assert all(0 <= target["duration_s"] < 30 for target in run.result["targets"])
    expect_goes_on(web, web.next_version())


def test_after_all_that_the_audit_trail_verifies(web: Served) -> None:
    verify = web.run("audit", "verify")
    assert verify.code == 0, verify.out + verify.err
