"""Locks on real processes, through the command line."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.acceptance.kit import Project, Run

Make = Callable[..., Project]
pytestmark = pytest.mark.once

SLOW = {"count": 2, "env": 'LIFE_S: "6"'}
"""A version in mode `slow` listens after six seconds, so that there is time to do something meanwhile."""


@contextmanager
def deploying(web: Project, version: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A deployment of another process that has restarted its first target and waits for it to become healthy."""
    argv = web.argv("deploy", "web", "production", "--version", version, "--json", *options)
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    try:
        for line in process.stdout:
            if "step.started" in line and '"verify"' in line:
                break
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> Run:
    out, err = process.communicate(timeout=60)
    return Run(process.returncode, out, err)


def locks(web: Project) -> dict[str, Any]:
    return web.run("lock", "status", "--json").document


def until(what: Callable[[], bool], within_s: float = 20.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_second_deploy_is_refused_with_who_and_since_when_and_the_first_is_undisturbed(
    project: Make,
) -> None:
    web = project(**SLOW)
    web.commit("v1", "slow")
    web.commit("v2")
    with deploying(web, "v1") as first:
        (lease,) = locks(web)["leases"]
        assert (lease["pid"], lease["state"], lease["epoch"]) == (first.pid, "alive", 1)
        second = web.deploy("v2")
        assert second.code == 5, second.err
        assert second.result["outcome"] == "locked"
        refused = [line for line in second.lines if line["type"] == "lease.refused"]
        said = rf"being deployed by \S+ \(host \S+, pid {first.pid}\) since \d{{4}}-\S+Z"
        assert re.search(said, refused[0]["data"]["detail"])
        plain = web.run("deploy", "web", "production", "--version", "v2", "--lock-wait", "0.5s")
        assert plain.code == 5
        assert len(re.findall(said, plain.err)) >= 2, "once at once, and again at the end"
        done = ended(first)
    assert (done.code, done.result["outcome"]) == (0, "succeeded"), done.err
    assert set(web.answers().values()) == {"v1"}
    assert locks(web) == {"leases": [], "freezes": []}


def test_a_holder_that_was_killed_is_replaced_at_once(project: Make) -> None:
    """With a lease of half an hour: nobody waits for its end."""
    web = project(**SLOW, extra="lease: {ttl: 30m}")
    web.commit("v1", "slow")
    web.commit("v2")
    with deploying(web, "v1") as first:
        first.kill()
        first.wait()
        (lease,) = locks(web)["leases"]
        assert (lease["state"], lease["pid"]) == ("dead", first.pid)
        second = web.deploy("v2")
    assert (second.code, second.result["outcome"]) == (0, "succeeded"), second.err
    assert set(web.answers().values()) == {"v2"}


def test_a_killed_holder_is_released_by_hand_without_force(project: Make) -> None:
    web = project(**SLOW, extra="lease: {ttl: 30m}")
    web.commit("v1", "slow")
    with deploying(web, "v1") as first:
        assert web.run("lock", "release", "web", "production").code == 5
        first.kill()
        first.wait()
        released = web.run("lock", "release", "web", "production")
        assert released.code == 0, released.err
        assert f"pid {first.pid}, dead" in released.out
    assert locks(web)["leases"] == []


def test_a_holder_that_was_stopped_past_its_expiry_finds_its_lock_lost(project: Make) -> None:
    """The second deployment's result stands; the first writes nothing more and says who has the lock."""
    web = project(**SLOW, extra="lease: {ttl: 2s, heartbeat: 0.5s}")
    web.commit("v1", "slow")
    web.commit("v2")
    with deploying(web, "v1") as first:
        until(lambda: stopped_outside_of_a_commit(web, first))
        until(lambda: locks(web)["leases"][0]["expires_in_s"] == 0)
        second = web.deploy("v2")
        assert (second.code, second.result["outcome"]) == (0, "succeeded"), second.err
        first.send_signal(signal.SIGCONT)
        lost = ended(first)
    assert lost.code == 5, lost.err
    error = lost.lines[-1]["error"]
    assert error["code"] == "LEASE_LOST"
    assert re.search(r"was taken over by \S+ \(host \S+, pid \d+\)", error["message"])
    assert set(web.answers().values()) == {"v2"}
    states = {row["deployment_id"]: row["outcome"] for row in history(web)}
    assert sorted(states.values()) == ["succeeded", "superseded"]
    (old,) = [key for key, outcome in states.items() if outcome == "superseded"]
    told = [line["type"] for line in web.run("events", old, "--json").lines]
    assert set(told[told.index("deployment.superseded") + 1 :]) <= {"lease.lost", "audit.checkpointed"}
    assert web.run("audit", "verify").code == 0


def stopped_outside_of_a_commit(web: Project, process: subprocess.Popen[str]) -> bool:
    """Stop the process, but not while it holds the lock of the database file, which nobody could take from it."""
    process.send_signal(signal.SIGSTOP)
    store = sqlite3.connect(web.store.removeprefix("sqlite:///"), timeout=0, isolation_level=None)
    try:
        store.execute("begin immediate")
        store.execute("rollback")
    except sqlite3.OperationalError:
        process.send_signal(signal.SIGCONT)
        return False
    finally:
        store.close()
    return True


def history(web: Project) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = web.run("history", "--json").document["deployments"]
    return rows


def test_a_lock_that_is_broken_by_force_stops_its_holder_and_is_on_record(project: Make) -> None:
    web = project(**SLOW, extra="lease: {ttl: 30s, heartbeat: 0.2s}")
    web.commit("v1", "slow")
    with deploying(web, "v1") as first:
        broken = web.run("lock", "release", "web", "production", "--force", "--json")
        assert (broken.code, [row["kind"] for row in broken.document["released"]]) == (0, ["lease"])
        lost = ended(first)
    assert lost.code == 5, lost.err
    assert "was broken by" in lost.lines[-1]["error"]["message"]
    assert "LOCK BROKEN by" in web.run("events").out


def test_a_freeze_in_all_its_cases(project: Make) -> None:
    web = project(count=1)
    web.commit("v1")
    web.commit("v2")
    assert web.deploy("v1").code == 0
    user = os.environ.get("USER", "")

    nothing = web.run("lock", "release", "web", "production")
    assert (nothing.code, "nothing to release" in nothing.out) == (0, True)
    assert web.run("lock", "acquire", "web", "production").code == 2
    assert web.run("lock", "acquire", "webb", "production", "-m", "x").code == 2

    frozen = web.run("lock", "acquire", "web", "production", "-m", "database maintenance", "--for", "2h")
    assert frozen.code == 0, frozen.err
    assert re.search(r"frozen until \d{4}-\S+Z: database maintenance", frozen.out)
    (row,) = locks(web)["freezes"]
    assert (row["message"], user in row["owner"]) == ("database maintenance", True)
    assert "database maintenance" in web.run("lock", "status", "web").out

    for words in (
        ["deploy", "web", "production", "--version", "v2"],
        ["rollback", "web", "production"],
        ["restart", "web", "production"],
        ["stop", "web", "production"],
    ):
        refused = web.run(*words)
        assert refused.code == 5, (words, refused.err)
        assert re.search(r"frozen by \S+ since \S+Z until \S+Z: database maintenance", refused.err), words
    assert web.answers() == {"t1": "v1"}

    forced = web.deploy("v2", "--force")
    assert (forced.code, web.answers()) == (0, {"t1": "v2"}), forced.err
    (taken,) = [line for line in forced.lines if line["type"] == "lease.acquired"]
    assert taken["data"]["overrode"].endswith(": database maintenance")
    assert len(locks(web)["freezes"]) == 1

    renewed = web.run("lock", "acquire", "web", "production", "-m", "still at it", "--json")
    assert (renewed.document["message"], renewed.document["until"]) == ("still at it", None)
    stranger = web.run("lock", "acquire", "web", "production", "-m", "mine", env={"LOGNAME": "stranger"})
    assert (stranger.code, "still at it" in stranger.err) == (5, True), stranger.err

    released = web.run("lock", "release", "web", "production")
    assert (released.code, "released the freeze of" in released.out) == (0, True)
    assert web.deploy("v1").code == 0

    web.run("lock", "acquire", "web", "production", "-m", "a moment", "--for", "1s")
    waited = web.deploy("v2", "--lock-wait", "30s")
    assert (waited.code, web.answers()) == (0, {"t1": "v2"}), waited.err
    told = web.run("audit", "list", "--type", "lease.*").out
    assert "frozen by" in told
    assert "OVERRIDING THE FREEZE of" in told
    assert re.search(r"freeze of \S+ released by \S+ \(cli\): still at it", told)


def test_a_freeze_does_not_disturb_a_deployment_that_runs_and_says_that_it_does(project: Make) -> None:
    web = project(**SLOW)
    web.commit("v1", "slow")
    with deploying(web, "v1") as first:
        frozen = web.run("lock", "acquire", "web", "production", "-m", "enough for today")
        assert frozen.code == 0
        assert re.search(r"deployment \S+ of \S+ runs since \S+ and goes on", frozen.err)
        done = ended(first)
    assert (done.code, done.result["outcome"]) == (0, "succeeded"), done.err
    assert web.deploy("v1", "--lock-wait", "0.3s").code == 5
