"""A store with a journal of any length, written by the journal's own writer in large transactions."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fraisier.audit import load_or_make_key, sign
from fraisier.events import Actor, Event, encode_body
from fraisier.events import types as ev
from fraisier.journal.connection import connect, create_file
from fraisier.journal.opening import prepare
from fraisier.journal.writer import Batch, Entry, Writer

START_US = 1_700_000_000_000_000
STEP_US = 40_000
TARGETS = ("web-1", "web-2")
STEPS = ("preflight", "fetch", "stage", "switch", "restart", "verify", "bake")
_DEPLOYMENTS_A_BATCH = 200
ACTOR = Actor(user="deploy", host="runner", trigger="cli")


def build(path: Path, rows: int) -> int:
    """Make a store with at least `rows` rows, signed with the key beside it; return how many it has."""
    create_file(path)
    connection = connect(path)
    try:
        log_id = prepare(connection, path, secrets.token_hex(16), "NORMAL", read_only=False)
        connection.execute("pragma synchronous = off").close()
        writer = Writer(connection, path, log_id)
        key = load_or_make_key("", path.parent)
        number, ended = 0, []
        while writer.seq < rows:
            events: list[Event] = []
            for record_seq, event in ended:
                head = _hash_at(connection, record_seq)
                signature = sign(key.secret, log_id, record_seq, head)
                about = {
                    "deployment_id": event.deployment_id,
                    "fraise": event.fraise,
                    "environment": "production",
                }
                events.append(
                    ev.AuditCheckpointed(
                        **about, head_seq=record_seq, head_hash=head, key_id=key.id, signature=signature
                    )
                )
            for _ in range(_DEPLOYMENTS_A_BATCH):
                number += 1
                events += deployment(number)
            ended = _append(writer, events)
        return writer.seq
    finally:
        connection.close()


def deployment(number: int) -> Iterator[Event]:
    """The facts of one deployment to two targets, about as large as real ones."""
    fraise = f"app-{number % 20}"
    version, before = f"{number:040x}", f"{max(number - 20, 0):040x}"
    about = {"deployment_id": f"{number:032x}", "fraise": fraise, "environment": "production"}
    release = f"20260101T000000-{version[-12:]}-{number:08x}"
    planned = [{"name": name, "wave": 1, "release": release, "version": version} for name in TARGETS]
    plan = {"targets": planned, "waves": [TARGETS], "settings": {"provider": "local", "note": "x" * 600}}
    yield ev.DeploymentRequested(**about, fraise_type="api", provider="local", actor=ACTOR)
    holder = ev.Holder("deploy@runner", host="runner", pid=4711)
    yield ev.LeaseAcquired(**about, epoch=number, holder=holder, expires_at=START_US)
    yield ev.DeploymentPlanned(
        **about,
        version=version,
        previous_version=before,
        strategy="rolling",
        plan=msgspec.Raw(msgspec.json.encode(plan)),
    )
    yield ev.DeploymentStarted(**about, version=version, targets=len(TARGETS))
    yield ev.WaveStarted(**about, wave=1, targets=TARGETS)
    for name in TARGETS:
        place = {**about, "target": name}
        yield ev.TargetStarted(**place, wave=1)
        for step in STEPS:
            yield ev.StepStarted(**place, step=step, attempt=1, before={"current": release})
            yield ev.StepSucceeded(
                **place,
                step=step,
                attempt=1,
                duration_s=0.25,
                evidence={"release": release, "pid": 1000 + number},
            )
        yield ev.HealthPassed(**place, provider="local", purpose="verify", check_type="http", duration_s=0.1)
        yield ev.TargetUpdated(
            **place, release=release, version=version, previous_version=before, duration_s=3.5
        )
    yield ev.WaveSucceeded(**about, wave=1)
    yield ev.DeploymentSucceeded(**about, duration_s=9.5)
    yield ev.LeaseReleased(**about, epoch=number)


def _append(writer: Writer, events: list[Event]) -> list[tuple[int, Event]]:
    """Append in one transaction; return the endings with their seqs."""
    entries = []
    for offset, event in enumerate(events, writer.seq + 1):
        at_us, event_id = START_US + offset * STEP_US, f"{offset:032x}"
        future: asyncio.Future[None] = _NOBODY
        entries.append(Entry(event, event_id, at_us, encode_body(event_id, at_us, event), None, future))
    batch = Batch(entries, {}, [])
    writer.commit(batch)
    return [
        (record.seq, record.event)
        for record in batch.records
        if isinstance(record.event, ev.DeploymentSucceeded)
    ]


_NOBODY: asyncio.Future[None] = asyncio.Future(loop=asyncio.new_event_loop())
_NOBODY.get_loop().close()


def _hash_at(connection: sqlite3.Connection, seq: int) -> str:
    found: bytes = connection.execute("select hash from journal where seq = ?", (seq,)).fetchone()[0]
    return found.hex()
