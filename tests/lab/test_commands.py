"""`service: {start, stop, status}` whose commands drive a real systemd."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.lab.units import NOTIFIES, UnitProject, ended

Make = Callable[..., UnitProject]
pytestmark = [pytest.mark.lab, pytest.mark.once]

BY_COMMANDS = "{{start: systemctl start {name}, stop: systemctl stop {name}, status: systemctl is-active --quiet {name}}}"


def test_commands_deploy_upgrade_and_go_back(project: Make) -> None:
    """The same promises hold when systemd is only known through the user's commands."""
    web = project(settings=BY_COMMANDS, unit_text=NOTIFIES)
    assert ended(web.put("v1")) == (0, "succeeded", "")
    start = web.started
    assert ended(web.put("v2")) == (0, "succeeded", "")
    assert (web.answer, web.started != start) == ("v2", True)
    assert ended(web.put("v3", "sick")) == (3, "rolled_back", "health_check_failed")
    assert web.answer == "v2"
    refused = web.put("v4", "mute")
    assert ended(refused)[:2] == (3, "rolled_back")
    assert f"systemctl start {web.site.name}" in refused.out
    assert (web.answer, web.active) == ("v2", "active")


def test_commands_stop_start_and_remove(project: Make) -> None:
    web = project(settings=BY_COMMANDS)
    assert ended(web.put("v1")) == (0, "succeeded", "")
    for command, wanted in (("stop", "inactive"), ("start", "active"), ("remove", "inactive")):
        run = web.run(command, "web", "production", "-y", "--json")
        assert (run.code, web.active) == (0, wanted), run.out + run.err
    assert not (web.app / "current").exists()
