"""A deployment that was refused hides none that acted on the targets."""

from __future__ import annotations

from typing import Any

from tests.cli.conftest import Project


def shown(project: Project) -> Any:
    return project.json("status", "shop", "staging")["fraises"][0]["deployment"]


def test_status_shows_the_deployment_that_needs_a_person_whatever_was_refused_since(project: Project) -> None:
    """First one that was refused alone, then one that waits for a person behind two that were refused."""
    project.run("lock", "acquire", "shop", "staging", "-m", "later")
    (refused,) = [
        line for line in project.lines("deploy", "shop", "staging", code=5) if line["type"] == "result"
    ]
    assert shown(project) == {"id": refused["deployment_id"], "state": "failed"}
    project.run("lock", "release", "shop", "staging")
    project.write_config(migrate={"command": "sleep 60", "timeout": "300ms"})
    stuck = project.lines("deploy", "shop", "staging", code=4)[-1]["deployment_id"]
    project.run("deploy", "shop", "staging", code=4)
    project.run("lock", "acquire", "shop", "staging", "-m", "later")
    project.run("deploy", "shop", "staging", code=5)
    assert shown(project) == {"id": stuck, "state": "needs_attention"}
