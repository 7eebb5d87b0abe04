"""Commands that look at a deployed project: JSON shapes, tables, streams."""

from __future__ import annotations

import getpass
import json
import socket
import sqlite3

import pytest

from tests.cli.conftest import Project

HISTORY = {
    "deployment_id",
    "fraise",
    "environment",
    "version",
    "previous_version",
    "outcome",
    "reason",
    "trigger",
    "actor",
    "started_at",
    "finished_at",
    "duration_s",
    "rollback_of",
}
EVENT = {
    "id",
    "seq",
    "type",
    "time",
    "deployment_id",
    "fraise",
    "environment",
    "target",
    "step",
    "attempt",
    "data",
}


def latest(project: Project) -> str:
    """Return the id of the newest deployment."""
    found: str = project.json("history", "--limit", "1")["deployments"][0]["deployment_id"]
    return found


def test_status_shows_version_and_health_of_every_target(deployed: Project) -> None:
    found = deployed.json("status")["fraises"]
    assert [(row["fraise"], row["environment"]) for row in found] == [("shop", "staging")]
    assert found[0]["deployment"]["state"] == "succeeded"
    for target in found[0]["targets"]:
        assert target["version"] == deployed.git("rev-parse", "HEAD")
        assert target["health"] == "healthy"
        assert target["since"].endswith("Z")
    assert deployed.json("status-all") == {"fraises": found}
    assert "t1" in deployed.run("status", "shop", "staging").stdout


def test_live_status_asks_the_targets(deployed: Project) -> None:
    for target in deployed.json("status", "shop", "staging", "--live")["fraises"][0]["targets"]:
        assert target["live"]["version"] == target["version"]
        assert (target["live"]["running"], target["live"]["healthy"]) == (True, True)
    assert "yes" in deployed.run("status", "--live").stdout


def test_health_runs_the_checks_now(deployed: Project) -> None:
    found = deployed.json("health", "shop", "staging")
    assert found["healthy"] is True
    assert [row["target"] for row in found["targets"]] == ["t1", "t2"]
    assert "healthy" in deployed.run("health").stdout


def test_history_has_the_documented_fields_and_filters(deployed: Project) -> None:
    rows = deployed.json("history", "--fraise", "shop", "--environment", "staging")["deployments"]
    assert rows[-1].keys() >= HISTORY
    assert rows[-1]["outcome"] == "succeeded"
    assert deployed.json("history", "--fraise", "other")["deployments"] == []
    assert deployed.json("history", "--status", "failed")["deployments"] == []
    assert "succeeded" in deployed.run("history").stdout


def test_show_finds_a_deployment_by_the_beginning_of_its_id(deployed: Project) -> None:
    whole = latest(deployed)
    found = deployed.json("show", whole[:13])
    assert found["deployment_id"] == whole
    steps = [step["step"] for step in found["targets"][0]["steps"]]
    assert "switch" in steps
    assert "verify" in steps
    assert "switch" in deployed.run("show", whole).stdout


def test_an_id_that_several_deployments_begin_with_is_refused(deployed: Project) -> None:
    deployed.run("deploy", "shop", "staging")
    error = deployed.json("show", "0", code=2)["error"]
    assert error["code"] == "NOT_FOUND"


def test_stats_counts_outcomes(deployed: Project) -> None:
    found = deployed.json("stats", "--days", "1")
    assert found["outcomes"]["succeeded"] == 1
    assert found["duration_s"]["max"] > 0
    assert "success rate 100%" in deployed.run("stats").stdout


def test_events_are_json_lines_or_plain_lines(deployed: Project) -> None:
    records = deployed.lines("events", latest(deployed)[:13])
    assert all(record.keys() == EVENT for record in records)
    assert records[0]["type"] == "deployment.requested"
    assert [record["seq"] for record in records] == sorted(record["seq"] for record in records)
    last_two = deployed.lines("events", "-n", "2")
    assert len(last_two) == 2
    assert "SUCCEEDED" in deployed.run("events").stdout


def test_audit_list_verify_and_export_agree(deployed: Project) -> None:
    listed = deployed.json("audit", "list", "--type", "deployment.*")["events"]
    exported = [
        json.loads(line)
        for line in deployed.run("audit", "export", "--type", "deployment.*").stdout.splitlines()
    ]
    assert listed == exported
    verified = deployed.json("audit", "verify")
    assert verified.keys() >= {"ok", "rows", "head", "first_bad_seq", "problem"}
    assert (verified["ok"], verified["first_bad_seq"], verified["problem"]) == (True, None, None)
    assert verified["checkpoints"] >= 1
    assert deployed.run("audit", "export", "--format", "csv").stdout.startswith("seq,time,type")
    for head in (verified["head"], verified["head"].upper()):
        assert deployed.json("audit", "verify", "--head", head)["ok"] is True


def test_a_line_of_the_trail_says_when_and_who(deployed: Project) -> None:
    """In full: events of other days and other people stand beside each other. Nothing found is said, too."""
    me = f"{getpass.getuser()}@{socket.gethostname()}"
    listed = deployed.json("audit", "list")["events"]
    lines = deployed.run("audit", "list").stdout.splitlines()
    assert [line.split(" ")[0] for line in lines] == [f"{row['time'][:19]}Z" for row in listed]
    assert {line.split(" ")[1] for line in lines} == {me, "-"}
    assert f" {me} shop/staging: audit.checkpointed" in "\n".join(lines)
    nobody = deployed.run("audit", "list", "--actor", "nobody-else")
    assert (nobody.stdout, nobody.stderr.strip()) == ("", "no event matches")


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("audit", "list", "--type", "deployment.suceeded"), 'did you mean "deployment.succeeded"?'),
        (("audit", "export", "--type", "deploymnet.*"), 'did you mean "deployment.*"?'),
        (("history", "--status", "roled_back"), 'did you mean "rolled_back"?'),
        (("history", "--status", "*"), "it is one of aborted, "),
        (("db", "prune", "--older-than", "1d", "--keep", "securty.*"), 'did you mean "security.*"?'),
    ],
)
def test_a_filter_that_can_match_nothing_is_refused(
    deployed: Project, words: tuple[str, ...], near: str
) -> None:
    """An empty answer would say that nothing of the kind happened."""
    refused = deployed.json(*words, code=2)["error"]
    assert near in refused["hint"]


@pytest.mark.parametrize("status", ["succeeded", "running", "skipped", "planned"])
def test_every_outcome_and_state_may_be_asked_for(deployed: Project, status: str) -> None:
    found = deployed.json("history", "--status", status)["deployments"]
    assert bool(found) == (status == "succeeded")


def test_a_head_that_is_not_in_the_trail_exits_with_7(deployed: Project) -> None:
    found = deployed.json("audit", "verify", "--head", "ab" * 32, code=7)
    assert found["ok"] is False
    assert found["problem"]
    assert "NOT OK" in deployed.run("audit", "verify", "--head", "ab" * 32, code=7).stdout


@pytest.mark.parametrize("head", ["", "zzz", "ab" * 4, "ab" * 33])
def test_what_is_no_whole_hash_is_no_head(project: Project, head: str) -> None:
    """A script whose variable is empty must not be told that nothing was cut off."""
    refused = project.json("audit", "verify", "--head", head, code=2)["error"]
    assert "64 hex digits" in refused["message"]
    assert refused["hint"]


def test_a_changed_row_exits_with_7_and_names_it(deployed: Project) -> None:
    backup = deployed.root / "tampered.db"
    deployed.run("db", "backup", str(backup))
    with sqlite3.connect(backup) as database:
        for (trigger,) in database.execute(
            "select name from sqlite_master where type = 'trigger'"
        ).fetchall():
            database.execute(f"drop trigger {trigger}")
        database.execute("update journal set body = replace(body, 'shop', 'shot') where seq = 2")
    database.close()
    found = deployed.json("--store", f"sqlite:///{backup}", "audit", "verify", code=7)
    assert found["first_bad_seq"] == 2


def test_logs_are_prefixed_with_their_target(deployed: Project) -> None:
    as_text = deployed.run("logs", "shop", "staging", "-n", "100").stdout.splitlines()
    assert "t1 | listening" in as_text
    assert "t2 | listening" in as_text
    one = deployed.lines("logs", "shop", "staging", "--target", "t1", "-n", "100")
    assert {"target": "t1", "line": "listening"} in one
    assert {row["target"] for row in one} == {"t1"}


def test_a_sound_store_is_checked_backed_up_and_restored(deployed: Project) -> None:
    assert deployed.json("db", "check")["ok"] is True
    assert deployed.json("db", "upgrade")["before"] == deployed.json("db", "upgrade")["after"]
    copy = deployed.root / "copy.db"
    made = deployed.json("db", "backup", str(copy))
    assert made["head"] == deployed.json("audit", "verify")["head"]
    refused = deployed.json("db", "backup", str(copy), code=2)
    assert "exists" in refused["error"]["message"]
    elsewhere = f"sqlite:///{deployed.root}/elsewhere.db"
    restored = deployed.json("--store", elsewhere, "db", "restore", str(copy))
    assert restored["replaced"] is None
    assert deployed.json("--store", elsewhere, "audit", "verify")["head"] == made["head"]


def test_plan_says_that_there_is_nothing_to_do(deployed: Project) -> None:
    found = deployed.json("plan", "shop", "staging", "--detailed-exitcode")
    assert (found["changes"], found["waves"]) == (False, [])
    assert {target["action"] for target in found["targets"]} == {"unchanged"}
    assert "nothing to do" in deployed.run("plan", "shop", "staging").stdout
