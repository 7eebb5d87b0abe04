"""`service: {systemd: UNIT}` on a real systemd, through the command line."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.lab.kit import Host
from tests.lab.units import NOTIFIES, SIMPLE, UnitProject, ended

Make = Callable[..., UnitProject]
pytestmark = [pytest.mark.lab, pytest.mark.once]

RESTARTS = SIMPLE + "Restart=always\nRestartSec=100ms\n"
OK = (0, "succeeded", "")
BACK = (3, "rolled_back", "health_check_failed")


def test_deploy_upgrade_and_the_way_back_from_a_sick_release(project: Make, host: Host) -> None:
    """Each release runs from its own directory under a start of its own; a sick one leaves the one before it."""
    web = project(name="web@t1")
    assert ended(web.put("v1")) == OK
    assert (web.active, web.answer) == ("active", "v1")
    cwd = host.check("readlink", f"/proc/{host.show(web.unit, 'MainPID')}/cwd")
    assert cwd == f"{web.app}/releases/{web.current}"

    start_of_v1 = web.started
    assert ended(web.put("v2")) == OK
    assert (web.answer, web.active) == ("v2", "active")
    assert web.started != start_of_v1

    release_of_v2, start_of_v2 = web.current, web.started
    assert ended(web.put("v3", "sick")) == BACK
    assert (web.answer, web.current) == ("v2", release_of_v2)
    assert web.started != start_of_v2


def test_a_unit_that_ends_at_once_is_rolled_back_with_its_last_words(project: Make) -> None:
    """It is not waited for until the deadline, and the error shows what the unit wrote into the journal."""
    web = project(check="interval: 50ms, timeout: 1s, rise: 1, fall: 2, deadline: 30s")
    assert ended(web.put("v1")) == OK
    run = web.put("v2", "exit")
    assert ended(run) == BACK
    assert run.result["duration_s"] < 10
    assert "no database" in run.result["targets"][0]["error"]
    assert (web.answer, web.active) == ("v1", "active")


def test_a_unit_that_never_says_it_is_ready_is_rolled_back_with_its_last_words(project: Make) -> None:
    """Type=notify: systemd's own verdict on the start is a failure of the step, and the journal's lines are in it."""
    web = project(unit_text=NOTIFIES)
    assert ended(web.put("v1")) == OK
    run = web.put("v2", "mute")
    assert ended(run) == (3, "rolled_back", "provider_error")
    said = run.result["targets"][0]["error"]
    assert f"Job for {web.unit} failed because a timeout was exceeded" in said
    assert "starting v2 in mode mute" in said
    assert "starting v1" not in said
    assert (web.answer, web.active) == ("v1", "active")


def test_a_crash_loop_is_not_healthy_and_does_not_block_the_way_back(project: Make) -> None:
    """Probes pass between the crashes; systemd's start limit, used up by the bad release, does not stop the good one."""
    web = project(unit_text=RESTARTS, rollout="{min_healthy_time: 3s}")
    assert ended(web.put("v1")) == OK
    run = web.put("v2", "dies")
    assert ended(run) == BACK
    assert (web.answer, web.active) == ("v1", "active")

    assert ended(web.put("v3", "exit")) == BACK
    assert (web.answer, web.active) == ("v1", "active")


def test_a_first_release_in_a_crash_loop_is_stopped_and_taken_away(project: Make) -> None:
    """There is nothing to go back to, and systemd must not go on restarting what is not there."""
    web = project(unit_text=RESTARTS)
    assert ended(web.put("v1", "exit")) == (1, "failed", "health_check_failed")
    assert web.active in ("inactive", "failed")
    assert web.current == ""


def test_a_unit_that_does_not_exist_is_named_before_anything_is_switched(project: Make) -> None:
    """The preflight refuses it, says which unit on which target, and what to do."""
    web = project()
    assert ended(web.put("v1")) == OK
    release, start = web.current, web.started
    web.set(f"systemd: {web.unit}", "systemd: wbe.service")
    run = web.put("v2")
    assert ended(run) == (1, "failed", "prepare_failed")
    error = run.result["targets"][0]["error"]
    assert "the unit wbe.service on web on t1: systemd knows no such unit" in error
    assert "systemctl daemon-reload" in error
    assert (web.current, web.started, web.answer) == (release, start, "v1")
    assert os.listdir(web.app / "releases") == [release]


def test_a_unit_that_is_masked_or_broken_is_refused_with_the_command_that_helps(
    project: Make, host: Host
) -> None:
    web = project()
    web.set(f"systemd: {web.unit}", "systemd: dbus.service")
    run = web.put("v1")
    assert ended(run) == (1, "failed", "prepare_failed")
    assert "systemctl unmask dbus.service" in run.result["targets"][0]["error"]

    host.unit("broken.service", "[Service]\nType=simple\n")
    web.set("systemd: dbus.service", "systemd: broken.service")
    run = web.put("v1")
    assert ended(run) == (1, "failed", "prepare_failed")
    assert "systemd-analyze verify broken.service" in run.result["targets"][0]["error"]


def test_an_answer_from_another_release_is_no_evidence(project: Make) -> None:
    """Once the unit is pinned to the old release's directory; once a child of the old one has kept the port."""
    pinned = project()
    assert ended(pinned.put("v1")) == OK
    pinned.write_unit(f"{SIMPLE}WorkingDirectory={pinned.app}/releases/{pinned.current}\n")
    run = pinned.put("v2")
    assert ended(run) == BACK
    assert "the running process belongs to" in run.result["targets"][0]["error"]

    left = project(unit_text=SIMPLE + "KillMode=process\n")
    assert ended(left.put("v1", "escape")) == OK
    run = left.put("v2")
    assert ended(run) == BACK
    assert f"port {left.ports[0]} is served by process" in run.result["targets"][0]["error"]


def test_stop_start_restart_and_remove_act_on_the_unit(project: Make) -> None:
    web = project()
    assert ended(web.put("v1")) == OK

    def act(command: str) -> None:
        run = web.run(command, "web", "production", "-y", "--json")
        assert run.code == 0, run.out + run.err

    act("stop")
    assert (web.active, web.answer) == ("inactive", "ConnectionError")
    act("start")
    assert web.active == "active"
    start = web.started
    act("start")
    assert web.started == start
    act("restart")
    assert (web.active, web.started != start) == ("active", True)
    act("remove")
    assert web.active == "inactive"
    assert not (web.app / "releases").exists()
    assert not (web.app / "current").exists()


def test_logs_are_the_units_journal(project: Make) -> None:
    """An empty journal is no error."""
    web = project()
    nothing = web.run("logs", "web", "production")
    assert (nothing.code, nothing.out) == (0, ""), nothing.err
    assert ended(web.put("v1")) == OK
    assert ended(web.put("v2")) == OK
    shown = web.run("logs", "web", "production", "-n", "50")
    assert shown.code == 0, shown.err
    assert [line for line in shown.out.splitlines() if "starting v1 in mode ok" in line]
    assert all(line.startswith("t1 | ") for line in shown.out.splitlines())
    last = web.run("logs", "web", "production", "-n", "1", "--json")
    assert len(last.lines) == 1
    assert "starting v2 in mode ok" in last.out


@pytest.mark.timeout(30)
def test_logs_are_followed_also_before_there_are_any(project: Make, host: Host) -> None:
    """What the unit writes after it was first started is shown while it is followed."""
    web = project()
    with host.running(*web.argv("logs", "web", "production", "-f")) as following:
        assert ended(web.put("v1")) == OK
        assert following.stdout is not None
        shown = [line := following.stdout.readline()]
        while line and "starting v1 in mode ok" not in line:
            shown.append(line := following.stdout.readline())
    assert shown[0].startswith("t1 | ") and f"Started {web.unit}" in shown[0]
    assert "starting v1 in mode ok" in shown[-1]


def test_status_live_tells_what_systemd_tells(project: Make, host: Host) -> None:
    """Also of a unit that somebody stopped behind our back."""
    web = project()
    commit = web.commit("v1")
    assert ended(web.deploy("v1")) == OK

    def look() -> dict[str, object]:
        found = web.run("status", "web", "production", "--live", "--json").document
        target: dict[str, object] = found["fraises"][0]["targets"][0]
        return target

    seen = look()
    assert (seen["version"], seen["health"]) == (commit, "healthy"), seen
    assert seen["live"]["running"] is True
    host.check("systemctl", "stop", web.unit)
    seen = look()
    assert seen["live"]["running"] is False
