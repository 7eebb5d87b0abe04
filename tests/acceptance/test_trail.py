"""The audit trail of real deployments: who did what, forwarded, pruned, and checked by a process of its own."""

from __future__ import annotations

import csv
import getpass
import io
import json
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.kit import Project
from tests.observability.receivers import Receiver, entry, syslog

pytestmark = pytest.mark.once
ME = (getpass.getuser(), socket.gethostname(), "cli")


def trail(project: Project, *words: str) -> list[dict[str, Any]]:
    """What is on record, as `audit export` gives it."""
    done = project.run("audit", "export", *words)
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def store_of(project: Project) -> sqlite3.Connection:
    return sqlite3.connect(project.root / "state/fraisier.db", isolation_level=None)


def test_a_deployment_is_forwarded_to_every_receiver(project: Callable[..., Project], tmp_path: Path) -> None:
    """In order and complete, whether it went well or back; two entries for one place are a configuration error."""
    unix, udp, journal = Receiver.unix(tmp_path / "log"), Receiver.udp(), Receiver.unix(tmp_path / "journal")
    places = [
        f"file: {tmp_path}/trail.jsonl",
        f"syslog: {tmp_path}/log",
        f"syslog: udp://127.0.0.1:{udp.port}",
    ]
    entries = ", ".join(f"{{{place}}}" for place in [*places, f"journald: {tmp_path}/journal"])
    web = project(count=1, extra=f"\naudit: {{forward: [{entries}]}}")
    try:
        web.commit("v1")
        assert web.deploy("v1").code == 0
        web.commit("v2", "exit")
        assert web.deploy("v2").code == 3
        known = [(row["seq"], row["type"]) for row in trail(web)]
    finally:
        received = [receiver.close() for receiver in (unix, udp, journal)]
        web.end()
    lines = (tmp_path / "trail.jsonl").read_text().splitlines()
    found = [
        [json.loads(line) for line in lines],
        [syslog(data, local=True)[0] for data in received[0]],
        [syslog(data)[0] for data in received[1]],
        [json.loads(entry(data)["FRAISIER_EVENT"]) for data in received[2]],
    ]
    # What the last process wrote after its drain comes with the next one.
    for events in found:
        pairs = [(event["seq"], event["type"]) for event in events]
        assert pairs == known[: len(pairs)]
        assert "deployment.rolled_back" in [kind for _, kind in pairs]


def test_a_receiver_that_is_down_changes_no_deployment(
    project: Callable[..., Project], tmp_path: Path
) -> None:
    """Same exit code, no word on stdout; the next command delivers what waited, from the first event on."""
    web = project(count=1, extra=f"\naudit: {{forward: [{{file: {tmp_path}/later/trail.jsonl}}]}}")
    web.commit("v1")
    done = web.deploy("v1")
    assert (done.code, done.result["outcome"]) == (0, "succeeded")
    assert "out of reach" in done.err
    (tmp_path / "later").mkdir()
    assert web.deploy("v1").result["outcome"] == "unchanged"
    seqs = [json.loads(line)["seq"] for line in (tmp_path / "later/trail.jsonl").read_text().splitlines()]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) > 20


def test_who_did_what_is_found_by_time_place_type_and_person(project: Callable[..., Project]) -> None:
    """As one document, as JSON Lines and as CSV; every row of a deployment names its actor."""
    web = project(count=1)
    web.commit("v1")
    assert web.deploy("v1").code == 0
    assert web.run("lock", "acquire", "web", "production", "-m", "no changes").code == 0
    assert web.run("lock", "release", "web", "production").code == 0
    assert web.run("restart", "web", "production", "-y").code == 0
    rows = trail(web)
    asked = {"deployment.requested", "lease.frozen", "lease.thawed", "service.requested"}
    named = {row["type"]: tuple(row["actor"].values()) for row in rows if row["actor"]}
    assert {kind: named[kind] for kind in asked} == dict.fromkeys(asked, ME)
    assert all(row["actor"] for row in rows if row["type"].startswith(("step.", "wave.", "target.")))

    user, host, _ = ME
    for who in (user, f"{user}@{host}"):
        assert [row["type"] for row in trail(web, "--actor", who, "--type", "lease.frozen")] == [
            "lease.frozen"
        ]
    assert trail(web, "--actor", "nobody-else") == []
    assert trail(web, "--fraise", "api") == trail(web, "--environment", "staging") == []
    middle = rows[len(rows) // 2]["time"]
    before, after = trail(web, "--until", middle), trail(web, "--since", middle)
    assert [row["seq"] for row in before + after] == [row["seq"] for row in rows]
    assert len(trail(web, "--since", "1h")) == len(rows)
    assert trail(web, "--until", "1h") == []

    listed = web.run("audit", "list", "--type", "service.*", "--json").document["events"]
    assert [row["type"] for row in listed] == ["service.requested", "service.succeeded"]
    sheet = web.run("audit", "export", "--format", "csv", "--type", "lease.frozen")
    (row,) = csv.DictReader(io.StringIO(sheet.out))
    assert (row["actor"], json.loads(row["data"])["message"]) == (f"{user}@{host} (cli)", "no changes")
    refused = web.run("audit", "list", "--since", "yesterday")
    assert refused.code == 2
    assert "2026-01-31" in refused.err


def test_pruned_bodies_are_gone_and_the_rest_is_as_before(project: Callable[..., Project]) -> None:
    """History, status, the chain and the way back survive; who pruned, why, and what, is on record."""
    web = project(count=1)
    for version in ("v1", "v2"):
        web.commit(version)
        assert web.deploy(version).code == 0
    told = {command: web.run(command, "--json").document for command in ("history", "status")}
    older = ("db", "prune", "--older-than", "1ms", "--json")
    planned = web.run(*older, "--dry-run").document
    before = len(trail(web))
    assert (planned["dry_run"], planned["held_back"]) == (True, {})
    done = web.run(*older, "--keep", "lease.*", "-m", "retention").document
    rows = trail(web)
    kept = {row["type"] for row in rows if not row["type"].startswith("lease.")}
    assert kept == {"audit.checkpointed", "audit.pruned"}
    assert before - done["rows"] + 1 == len(rows)
    pruned = rows[-1]
    assert (tuple(pruned["actor"].values()), pruned["data"]["message"]) == (ME, "retention")
    assert pruned["data"]["rows"] == done["rows"] <= planned["rows"]

    verified = web.run("audit", "verify", "--json")
    assert (verified.code, verified.document["ok"]) == (0, True)
    assert web.run("db", "check").code == 0
    assert {command: web.run(command, "--json").document for command in told} == told
    back = web.run("rollback", "web", "production", "--json")
    assert (back.code, web.answers()) == (0, {"t1": "v1"})
    assert web.run("db", "check").code == 0
    assert web.run("audit", "verify", "--head", back.result["audit_head"]).code == 0


def test_a_body_that_was_deleted_by_hand_is_tampering(project: Callable[..., Project]) -> None:
    """Also when a forger writes a record of a prune for it, without the key."""
    web = project(count=1)
    web.commit("v1")
    assert web.deploy("v1").code == 0
    with store_of(web) as store:
        store.execute("update journal set body = null where seq = 5")
    store.close()
    gone = web.run("audit", "verify", "--json")
    assert (gone.code, gone.document["first_bad_seq"]) == (7, 5)
    assert "no row says that it was pruned" in gone.document["problem"]
    assert web.run("db", "check").code == 1
    forge(web, 5)
    forged = web.run("audit", "verify", "--json")
    assert forged.code == 7
    assert "signature of the prune" in forged.document["problem"]


def forge(web: Project, seq: int) -> None:
    """Append a record of a prune with another key, as somebody does who may write to the store but not read its key."""
    key_id = trail(web, "--type", "audit.checkpointed")[0]["data"]["key_id"]
    script = f"""
import anyio
from fraisier.audit.retention import _described, sign_pruned
from fraisier.cli.run.upkeep import writing
from fraisier.events import Actor
import msgspec
from fraisier.journal.verify import columns_between
import sqlite3

async def main():
    rows = list(columns_between(sqlite3.connect("{web.root}/state/fraisier.db"), {seq}, {seq}))
    event = _described(rows, 1, (), "", Actor())
    async with writing("{web.store}") as journal:
        signature = sign_pruned(b"another key", journal.log_id, event)
        await journal.append(msgspec.structs.replace(event, key_id="{key_id}", signature=signature))

anyio.run(main)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_what_a_forward_has_not_received_is_not_pruned(
    project: Callable[..., Project], tmp_path: Path
) -> None:
    """Unless it is forced."""
    web = project(count=1, extra=f"\naudit: {{forward: [{{file: {tmp_path}/later/trail.jsonl}}]}}")
    web.commit("v1")
    assert web.deploy("v1").code == 0
    held = web.run("db", "prune", "--older-than", "1ms", "--json").document
    assert held["rows"] == 0
    assert list(held["held_back"]) == [f"forward:file:{tmp_path}/later/trail.jsonl"]
    assert web.run("db", "prune", "--older-than", "1ms", "--force", "--json").document["rows"] > 20
    assert web.run("audit", "verify").code == 0


def lags(project: Project) -> dict[str, float]:
    """How far each forward is behind, as a scrape sees it."""
    families = text_string_to_metric_families(project.run("metrics", "--once").out)
    found = [
        (sample.labels["subscriber"], sample.value)
        for family in families
        for sample in family.samples
        if sample.name == "fraisier_subscriber_lag_events"
    ]
    assert len(dict(found)) == len(found), found
    return {name: value for name, value in found if name.startswith("forward:")}


def test_each_forward_has_a_lag_of_its_own_and_none_when_nothing_waits(
    project: Callable[..., Project], tmp_path: Path
) -> None:
    """One that wants few types is not behind because others were written; files of one name are two series."""
    (tmp_path / "b").mkdir()
    entries = f"{{file: {tmp_path}/a/trail.jsonl}}, {{file: {tmp_path}/b/trail.jsonl, types: ['security.*']}}"
    web = project(count=1, extra=f"\naudit: {{forward: [{entries}]}}")
    web.commit("v1")
    assert web.deploy("v1").code == 0
    behind, idle = sorted(lags(web).items(), key=lambda one: -one[1])
    assert behind[1] > 20
    assert idle[1] == 0
    assert [name.rpartition("-")[0] for name, _ in (behind, idle)] == ["forward:file:trail.jsonl"] * 2


def test_a_forward_that_is_configured_no_more_is_named_and_can_be_forgotten(
    project: Callable[..., Project], tmp_path: Path
) -> None:
    """Who did so, and how far it had come, is on record; a name that the store does not know is refused with the nearest."""
    web = project(count=1, extra=f"\naudit: {{forward: [{{file: {tmp_path}/later/trail.jsonl}}]}}")
    web.commit("v1")
    assert web.deploy("v1").code == 0
    name = f"forward:file:{tmp_path}/later/trail.jsonl"
    prune = ("db", "prune", "--older-than", "1ms")
    assert web.run(*prune, "--dry-run", "--json").document["unconfigured"] == []
    web.extra = ""
    web.write()
    told = web.run(*prune, "--dry-run")
    assert f"{name} is configured no more: --forget '{name}'" in told.err
    for wrong, near in ((f"{name}x", f"did you mean {name!r}?"), ("audit", "")):
        refused = web.run("db", "prune", "--forget", wrong)
        assert (refused.code, near in refused.err) == (2, True)
        assert f"no subscriber {wrong!r}" in refused.err
    assert web.run("db", "prune").code == 2
    rows = len(trail(web))
    planned = web.run(*prune, "--forget", name, "--dry-run", "--json").document
    assert (planned["forgotten"], planned["unconfigured"], planned["held_back"]) == ([name], [], {})
    assert planned["rows"] > 20
    assert len(lags(web)) == 1
    done = web.run("db", "prune", "--forget", name, "-m", "moved", "--json").document
    assert (done["forgotten"], done["unconfigured"], done["rows"], done["before"]) == ([name], [], 0, None)
    assert lags(web) == {}
    assert len(trail(web)) == rows + 1
    noted = trail(web, "--type", "system.noted")[-1]
    assert (noted["data"]["kind"], noted["data"]["detail"]) == ("subscriber.forgotten", name)
    assert (noted["data"]["data"]["message"], tuple(noted["actor"].values())) == ("moved", ME)
    assert web.run(*prune, "--json").document["rows"] == planned["rows"] + 1
    assert web.run("audit", "verify").code == 0


def test_another_key_leaves_what_the_one_before_has_signed(project: Callable[..., Project]) -> None:
    """The key beside the store goes on to be known; one that is gone from there is named in the configuration."""
    web = project(count=1)
    web.commit("v1")
    assert web.deploy("v1").code == 0
    first = web.root / "state/audit.key"
    (web.root / "second.key").write_text("second key, long enough\n")
    web.extra = '\naudit: {key: "${file:second.key}"}'
    web.write()
    assert web.run("db", "prune", "--older-than", "1ms", "-y").code == 0
    assert web.deploy("v1").code == 0
    report = web.run("audit", "verify", "--json").document
    assert (report["ok"], report["checkpoints"]) == (True, 2)

    first.rename(web.root / "first.key")
    told = web.run("audit", "verify")
    assert told.code == 7
    assert "NOT VERIFIED at row " in told.out
    assert "not known here" in told.out
    assert "audit.former_keys" in told.err
    web.extra = '\naudit: {key: "${file:second.key}", former_keys: ["${file:first.key}"]}'
    web.write()
    assert "2 signatures hold" in web.run("audit", "verify").out

    (web.root / "third.key").write_text("third key, long enough\n")
    web.extra = '\naudit: {key: "${file:third.key}", former_keys: ["${file:first.key}"]}'
    web.write()
    assert len(web.run("audit", "verify", "--json").document["unknown_keys"]) == 1
    web.extra = (
        '\naudit: {key: "${file:third.key}", former_keys: ["${file:first.key}", "${file:second.key}"]}'
    )
    web.write()
    assert web.run("audit", "verify").code == 0
    web.extra = '\naudit: {former_keys: ["${EMPTY:-}"]}'
    web.write()
    refused = web.run("audit", "verify")
    assert (refused.code, "audit.former_keys[0] is empty" in refused.err) == (2, True)
