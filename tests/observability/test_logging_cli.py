"""What the command line logs: chosen by option, environment and configuration, with the place on every line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.acceptance.conftest import project  # noqa: F401 - a fixture
from tests.acceptance.kit import Project, Run

pytestmark = pytest.mark.once


def logged(done: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.err.splitlines() if line.startswith('{"timestamp"')]


def test_each_place_that_names_a_level_or_format_is_heeded_in_its_order(
    project: Callable[..., Project],  # noqa: F811
) -> None:
    """Nothing is logged unless somebody asks; then for machines where no terminal is, and as each one says."""
    web = project(count=1)
    web.commit("v1")
    silent = web.run("deploy", "web", "production")
    assert (silent.code, logged(silent)) == (0, [])
    assert "deployment.succeeded" not in silent.err

    again = ("deploy", "web", "production", "--force")
    events = [line for line in logged(web.run(*again, "-v")) if line["logger"] == "fraisier.events"]
    assert {line["level"] for line in events} == {"INFO"}
    assert all(line["context"]["deployment_id"] for line in events)

    steps = [line for line in logged(web.run(*again, "-vv")) if line["message"] == "step.started"]
    places = {(line["context"]["target"], line["context"]["step"]) for line in steps}
    assert {("t1", "switch"), ("t1", "restart"), ("t1", "verify")} <= places

    quiet = web.run(*again, env={"FRAISIER_LOG_LEVEL": "error"})
    assert (quiet.code, logged(quiet)) == (0, [])
    console = web.run(*again, env={"FRAISIER_LOG_LEVEL": "info", "FRAISIER_LOG_FORMAT": "console"})
    assert "INFO     fraisier.events: deployment.succeeded" in console.err

    file = web.root / "fraises.yaml"
    file.write_text(f"logging: {{level: info, format: console}}\n{file.read_text()}")
    assert "INFO     fraisier.events: deployment.succeeded" in web.run(*again).err
    assert logged(web.run(*again, "--log-format", "json"))
    wrong = web.run(*again, "--json", env={"FRAISIER_LOG_LEVEL": "loud"})
    assert (wrong.code, wrong.document["error"]["code"]) == (2, "CONFIG_ERROR")
    assert "FRAISIER_LOG_LEVEL" in wrong.document["error"]["message"]


@pytest.mark.parametrize("variable", ["FRAISIER_LOG_LEVEL", "FRAISIER_LOG_FORMAT"])
@pytest.mark.parametrize("words", [("history",), ("status",), ("list",), ("metrics", "--once")])
def test_every_command_refuses_a_wrong_word(
    project: Callable[..., Project],  # noqa: F811 - the fixture that is imported
    words: tuple[str, ...],
    variable: str,
) -> None:
    """Also those that log nothing, before they do anything."""
    refused = project(count=1).run(*words, "--log-format", "json", env={variable: "loud"})
    assert (refused.code, refused.out) == (2, "")
    assert f"{variable} is 'loud'" in refused.err
