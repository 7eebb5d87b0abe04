"""A deployment whose provider fails goes through another place: through the command line, with real processes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.kit import Project, Run, outcomes
from tests.ports import free_ports

pytestmark = pytest.mark.once


class Standby(Project):
    """A project whose targets may also be served from a second set of directories and ports."""

    def __post_init__(self) -> None:
        self.spare = free_ports(self.count)
        targets = ", ".join(f"{{name: t{n}, vars: {{port: {port}}}}}" for n, port in enumerate(self.spare, 1))
        self.rollout = (
            "{strategy: all_at_once}\n"
            "        recovery:\n"
            "          retry: {max_attempts: 1}\n"
            f"          fallback: [{{name: standby, targets: [{targets}], "
            f'app_path: "{self.root}/standby/{{{{ target.name }}}}"}}]'
        )
        super().__post_init__()

    def write(self) -> None:
        super().write()
        path = self.root / "fraises.yaml"
        path.write_text(
            path.read_text().replace("        recovery: {retry: {max_attempts: 2, base_delay: 50ms}}\n", "")
        )

    def block(self) -> None:
        """Lead the targets' directories to where nothing can be made."""
        (self.root / "srv").symlink_to("/proc")

    def unblock(self) -> None:
        (self.root / "srv").unlink()

    def at_standby(self) -> list[str]:
        return [self.ask(port).split()[0] for port in self.spare]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Standby]:
    made = Standby(tmp_path, count=2, places=("srv", "standby"))
    made.commit("v1")
    yield made
    made.end()


def decided(run: Run) -> list[tuple[str, str]]:
    return [
        (line["data"]["action"], line["data"]["fallback"])
        for line in run.lines
        if line["type"] == "recovery.decided" and line["target"] is None
    ]


def test_it_deploys_through_the_fallback_and_says_so_everywhere(project: Standby) -> None:
    project.block()
    run = project.deploy("v1")
    assert (run.code, run.result["outcome"]) == (0, "succeeded")
    assert (run.result["provider"], run.result["fallback"]) == ("local", "standby")
    assert outcomes(run.result) == {
        "t1": "failed",
        "t2": "failed",
        "t1~standby": "updated",
        "t2~standby": "updated",
    }
    assert decided(run) == [("fallback", "standby")]
    assert project.at_standby() == ["v1", "v1"]
    (row,) = project.run("history", "--json").document["deployments"]
    assert (row["outcome"], row["provider"], row["fallback"]) == ("succeeded", "local", "standby")
    told = project.run("events", run.result["deployment_id"])
    assert "decided to go through the fallback standby" in told.out
    assert "the fallback serves" in told.out
    names = {
        t["name"]: t["orphaned"] for t in project.run("status", "--json").document["fraises"][0]["targets"]
    }
    assert names == {"t1": False, "t2": False, "t1~standby": False, "t2~standby": False}
    assert project.run("audit", "verify", "--json").document["ok"] is True


def test_when_its_own_place_is_back_it_is_used_again_and_the_other_can_be_removed(project: Standby) -> None:
    project.block()
    assert project.deploy("v1").result["fallback"] == "standby"
    project.unblock()
    project.commit("v2")
    run = project.deploy("v2")
    assert (run.code, run.result["fallback"], outcomes(run.result)) == (
        0,
        None,
        {"t1": "updated", "t2": "updated"},
    )
    assert project.answers() == {"t1": "v2", "t2": "v2"}
    assert project.at_standby() == ["v1", "v1"]
    removed = project.run("remove", "web", "production", "--limit", "*~standby", "-y", "--json")
    assert removed.code == 0, removed.err
    assert project.at_standby() == ["URLError", "URLError"]
    assert project.answers() == {"t1": "v2", "t2": "v2"}


def test_a_wrong_setting_is_no_reason_to_go_elsewhere(project: Standby) -> None:
    (project.root / "srv").write_text("a file in the way")
    run = project.deploy("v1")
    assert (run.code, run.result["reason"], run.result["fallback"]) == (1, "prepare_failed", None)
    assert decided(run) == [("fail", "")]
    assert project.at_standby() == ["URLError", "URLError"]


def test_killed_in_the_middle_of_a_fallback_it_is_resumed_there(project: Standby) -> None:
    project.block()
    path, go = project.root / "fraises.yaml", project.root / "go"
    build = f'        build: ["while ! test -e {go}; do sleep 0.1; done"]\n        service:'
    path.write_text(path.read_text().replace("        service:", build))
    words = project.argv("deploy", "web", "production", "--version", "v1", "--json")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["type"] == "step.started" and (event["target"], event["step"]) == (
                "t1~standby",
                "stage",
            ):
                process.kill()
    go.touch()
    run = project.run("resume", "--json")
    assert (run.code, run.result["outcome"], run.result["fallback"]) == (0, "succeeded", "standby")
    assert decided(run) == []
    assert project.at_standby() == ["v1", "v1"]
