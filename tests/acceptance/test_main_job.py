"""The promise of the tool, on real processes, through the command line."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable

import pytest

from tests.acceptance.kit import Project, outcomes, run_all, steps_of

Make = Callable[..., Project]
pytestmark = pytest.mark.once


@pytest.mark.timeout(240)
def test_fifty_targets_pass_and_one_sick_target_brings_all_back(project: Make) -> None:
    """50 real processes in a ramp; then a version that is sick on target 3 only: later waves are never touched."""
    fifty = project(count=50, rollout="{strategy: rolling, batch: [1, 10%, 100%]}")
    good = fifty.commit("v1")
    first = fifty.deploy("v1", timeout_s=120)
    assert (first.code, first.result["outcome"]) == (0, "succeeded"), first.err
    assert set(fifty.answers().values()) == {"v1"}

    fifty.commit("v2", "sick:t3")
    before = fifty.pids()
    second = fifty.deploy("v2", timeout_s=120)
    result = second.result
    assert (second.code, result["outcome"]) == (3, "rolled_back"), second.err
    assert set(fifty.answers().values()) == {"v1"}
    told = outcomes(result)
    untouched = {f"t{n}" for n in range(6, 51)}
    assert {name for name, outcome in told.items() if outcome == "untouched"} == untouched
    after = fifty.pids()
    for name in untouched:
        assert after[name] == before[name]
        assert set(steps_of(second, name, result["deployment_id"])) <= {"preflight", "fetch", "stage"}
    assert {target["version"] for target in result["targets"]} == {good}


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("exit", "health_check_failed"), ("sick", "health_check_failed"), ("mute", "health_check_failed")],
)
def test_a_release_that_does_not_come_up_is_rolled_back(project: Make, mode: str, reason: str) -> None:
    web = project(check="interval: 50ms, timeout: 1s, rise: 1, fall: 2, deadline: 2s")
    web.commit("v1")
    assert web.deploy("v1").code == 0
    web.commit("v2", mode)
    run = web.deploy("v2")
    assert (run.code, run.result["outcome"], run.result["reason"]) == (3, "rolled_back", reason), run.err
    assert set(web.answers().values()) == {"v1"}


def test_a_release_that_exits_at_start_fails_at_once_and_shows_its_last_words(project: Make) -> None:
    web = project(check="interval: 50ms, timeout: 1s, rise: 1, fall: 2, deadline: 60s")
    web.commit("v1")
    web.deploy("v1")
    web.commit("v2", "exit")
    run = web.deploy("v2", timeout_s=40)
    assert run.code == 3
    assert run.result["duration_s"] < 30
    assert "no database" in json.dumps(run.result)


def test_a_release_that_dies_within_min_healthy_time_is_rolled_back(project: Make) -> None:
    web = project(count=2, rollout="{batch: [1, 100%], min_healthy_time: 2s}", env='LIFE_S: "0.8"')
    web.commit("v1")
    assert web.deploy("v1").code == 0
    web.commit("v2", "dies")
    run = web.deploy("v2")
    assert (run.code, run.result["outcome"]) == (3, "rolled_back"), run.err
    assert "bake" in steps_of(run, "t1", run.result["deployment_id"])
    assert set(web.answers().values()) == {"v1"}


def test_a_release_that_starts_slowly_but_within_the_deadline_passes(project: Make) -> None:
    web = project(count=2, env='LIFE_S: "1.5"')
    web.commit("v1", "slow")
    run = web.deploy("v1")
    assert (run.code, run.result["outcome"]) == (0, "succeeded"), run.err
    assert set(web.answers().values()) == {"v1"}


def test_a_200_from_the_old_process_is_no_evidence(project: Make) -> None:
    """v1 serves from a child that escapes every stop; v2 runs but never listens: the old answer must not count."""
    web = project(count=1, check="interval: 50ms, timeout: 1s, rise: 1, fall: 2, deadline: 2s")
    web.commit("v1", "escape")
    first = web.deploy("v1")
    assert first.code == 0, first.err
    web.commit("v2", "mute")
    run = web.deploy("v2")
    assert run.code in (3, 4), run.err
    assert run.result["outcome"] != "succeeded"
    failed = [line for line in run.lines if line["type"] == "health.failed"]
    assert failed
    assert failed[0]["data"]["reason"] == "wrong_release"
    assert web.answers() == {"t1": "v1"}


def test_eight_deployments_of_eight_fraises_share_one_store(project: Make) -> None:
    """All succeed, one chain verifies, nobody sees a locked database."""
    eight = [project(count=2) for _ in range(8)]
    for one in eight:
        one.commit("v1")
    store = eight[0].store
    commands = []
    for number, one in enumerate(eight):
        path = one.root / "fraises.yaml"
        path.write_text(path.read_text().replace("  web:", f"  web{number}:"))
        argv = one.argv("deploy", f"web{number}", "production", "--json")
        argv[argv.index("--store") + 1] = store
        commands.append(argv)
    runs = run_all(commands, 120)
    assert [run.code for run in runs] == [0] * 8, [run.err for run in runs]
    assert "locked" not in "".join(run.err + run.out for run in runs)
    verified = eight[0].run("audit", "verify", "--json")
    assert verified.code == 0, verified.out
    assert verified.document["ok"]
    owners = {row["fraise"] for row in eight[0].run("history", "--json").document["deployments"]}
    assert owners == {f"web{n}" for n in range(8)}


TAMPERING = {
    "edited body": "update journal set body = replace(body, 'v1', 'v9') where seq = 4",
    "edited column": "update journal set target = 'elsewhere' where seq = (select min(seq) from journal where target <> '')",
    "deleted row": "delete from journal where seq = 5",
    "swapped rows": "update journal set seq = -1 where seq = 6; update journal set seq = 6 where seq = 7; "
    "update journal set seq = 7 where seq = -1",
    "inserted row": "insert into journal select (select max(seq) + 1 from journal), "
    + "{columns} from journal where seq = 3",
}


@pytest.mark.parametrize("what", TAMPERING)
def test_audit_verify_finds_tampering_and_says_where(project: Make, what: str) -> None:
    web = project(count=1)
    web.commit("v1")
    assert web.deploy("v1").code == 0
    assert web.run("audit", "verify").code == 0
    path = web.store.removeprefix("sqlite:///")
    with sqlite3.connect(path) as db:
        for (name,) in db.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            db.execute(f"drop trigger {name}")
        columns = [row[1] for row in db.execute("pragma table_info(journal)") if row[1] != "seq"]
        db.executescript(TAMPERING[what].replace("{columns}", ", ".join(columns)))
    db.close()
    run = web.run("audit", "verify", "--json")
    assert run.code == 7, run.out
    assert run.document["ok"] is False
    assert run.document["first_bad_seq"] > 0
    assert run.document["problem"]


def test_audit_verify_with_a_kept_head_finds_a_truncated_tail(project: Make) -> None:
    web = project(count=1)
    web.commit("v1")
    head = web.deploy("v1").result["audit_head"]
    assert re.fullmatch("[0-9a-f]{64}", head)
    assert web.run("audit", "verify", "--head", head).code == 0
    path = web.store.removeprefix("sqlite:///")
    with sqlite3.connect(path) as db:
        for (name,) in db.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            db.execute(f"drop trigger {name}")
        db.execute("delete from journal where seq > 8")
    db.close()
    run = web.run("audit", "verify", "--head", head, "--json")
    assert run.code == 7
    assert "truncated" in run.document["problem"]


def test_rollback_status_history_and_show_tell_the_same_story(project: Make) -> None:
    web = project(count=2)
    old, new = web.commit("v1"), web.commit("v2")
    web.deploy("v1")
    web.deploy("v2")
    assert set(web.answers().values()) == {"v2"}
    back = web.run("rollback", "web", "production", "--json")
    assert (back.code, back.result["outcome"], back.result["version"]) == (0, "succeeded", old)
    assert set(web.answers().values()) == {"v1"}
    status = web.run("status", "web", "production", "--live", "--json").document["fraises"][0]
    assert {target["version"] for target in status["targets"]} == {old}
    assert {target["live"]["version"] for target in status["targets"]} == {old}
    rows = web.run("history", "--json").document["deployments"]
    assert [row["version"] for row in rows] == [old, new, old]
    shown = web.run("show", rows[1]["deployment_id"], "--json").document
    assert {target["outcome"] for target in shown["targets"]} == {"updated"}


def test_unchanged_force_and_an_edited_env(project: Make) -> None:
    web = project(count=1)
    web.commit("v1")
    web.deploy("v1")
    pid = web.pids()
    assert web.deploy("v1").result["outcome"] == "unchanged"
    assert web.pids() == pid
    assert web.deploy("v1", "--force").result["outcome"] == "succeeded"
    assert web.pids() != pid
    web.env = 'MODE_X: "new"'
    web.write()
    assert web.deploy("v1").result["outcome"] == "succeeded"


def test_stop_start_and_remove_act_on_the_service_and_its_files(project: Make) -> None:
    web = project(count=2)
    web.commit("v1")
    web.deploy("v1")
    assert web.run("stop", "web", "production", "--limit", "t1", "-y").code == 0
    assert web.answers()["t1"] != "v1"
    assert web.run("start", "web", "production", "-y").code == 0
    assert web.run("health", "web", "production", "--json").code == 0
    assert set(web.answers().values()) == {"v1"}
    assert web.run("remove", "web", "production", "-y").code == 0
    assert not web.processes()
    assert not (web.root / "srv" / "t1" / "current").exists()
