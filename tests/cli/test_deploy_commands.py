"""`plan`, `deploy`, `rollback`, `retry` and the service commands, from the outside: outcomes, exit codes, streams."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable

from tests.cli.conftest import Project

RESULT = {
    "type",
    "outcome",
    "reason",
    "deployment_id",
    "fraise",
    "environment",
    "version",
    "previous_version",
    "duration_s",
    "audit_head",
    "targets",
}
TARGET = {"name", "outcome", "version", "previous_version", "duration_s", "error"}
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


def served(project: Project) -> list[str]:
    """Return what every target answers now."""
    answers = []
    for port in project.ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            answers.append(answer.read().decode())
    return answers


def test_a_plan_names_waves_targets_and_steps_and_changes_nothing(project: Project) -> None:
    found = project.json("plan", "shop", "staging")
    assert found["changes"] is True
    assert found["waves"] == [["t1"], ["t2"]]
    assert found["targets"][0].keys() >= {"name", "current", "wanted", "steps"}
    assert found["targets"][0]["current"] is None
    assert found["targets"][0]["wanted"] == project.git("rev-parse", "HEAD")
    assert "switch" in found["targets"][0]["steps"]
    assert "WAVE" in project.run("plan", "shop", "staging", "--detailed-exitcode", code=10).stdout
    dry = project.run("deploy", "shop", "staging", "--dry-run")
    assert "2 of 2 targets change" in dry.stdout
    assert project.json("deploy", "shop", "staging", "--dry-run") == project.json("plan", "shop", "staging")
    assert not (project.root / "srv").exists()
    assert project.json("history")["deployments"] == []


def test_json_lines_are_the_events_and_then_the_result(project: Project) -> None:
    done = project.run("deploy", "shop", "staging", "--json")
    *events, result = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr == ""
    assert result.keys() >= RESULT
    assert (result["type"], result["outcome"]) == ("result", "succeeded")
    assert result["version"] == project.git("rev-parse", "HEAD")
    assert [target.keys() >= TARGET for target in result["targets"]] == [True, True]
    assert {event["deployment_id"] for event in events} == {result["deployment_id"]}
    assert all(event.keys() == EVENT for event in events)
    types = [event["type"] for event in events]
    assert types[0] == "deployment.requested"
    assert "deployment.succeeded" in types
    assert "health.sampled" in types
    assert served(project) == ["one", "one"]
    durable = [event["id"] for event in events if event["seq"]]
    recorded = [event["id"] for event in project.lines("events", result["deployment_id"])]
    assert durable == recorded[: len(durable)]


def test_quiet_json_leaves_the_ephemeral_events_out(project: Project) -> None:
    *events, result = project.lines("deploy", "shop", "staging", "-q")
    assert result["outcome"] == "succeeded"
    assert all(event["seq"] for event in events)


def test_on_a_pipe_progress_is_plain_lines_on_stderr(project: Project) -> None:
    done = project.run("deploy", "shop", "staging")
    assert done.stdout == ""
    assert "shop/staging t1: switch done" in done.stderr
    assert "SUCCEEDED shop in staging" in done.stderr
    assert "audit head" in done.stderr
    assert "\x1b" not in done.stderr
    quiet = project.run("deploy", "shop", "staging", "-q")
    assert quiet.stderr.startswith("UNCHANGED shop in staging")


def test_a_log_format_replaces_the_lines_by_structured_ones(project: Project) -> None:
    done = project.run("deploy", "shop", "staging", "--log-format", "json")
    logged = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert "deployment.succeeded" in [line["message"] for line in logged]


def test_a_bad_version_is_rolled_back_and_exits_with_3(project: Project) -> None:
    project.run("deploy", "shop", "staging")
    good = project.git("rev-parse", "HEAD")
    bad = project.commit("two", broken=True)
    *events, result = project.lines("deploy", "shop", "staging", code=3)
    assert (result["outcome"], result["version"], result["previous_version"]) == ("rolled_back", bad, good)
    assert "rollback.succeeded" in [event["type"] for event in events]
    assert served(project) == ["one", "one"]
    assert project.json("history", "--status", "rolled_back")["deployments"][0]["version"] == bad


def test_a_first_deployment_that_fails_exits_with_1(project: Project) -> None:
    project.commit("bad", broken=True)
    told = project.run("deploy", "shop", "staging", code=1).stderr
    assert "FAILED shop in staging" in told
    assert "status 500" in told
    assert "next: fraisier show" in told
    assert "next: fraisier logs shop staging --target t1" in told
    assert [row["kind"] for row in project.json("history", "--status", "failed")["deployments"]] == ["deploy"]


def test_rollback_goes_back_and_retry_is_refused_when_nothing_is_left(project: Project) -> None:
    project.run("deploy", "shop", "staging")
    project.commit("two")
    second = project.lines("deploy", "shop", "staging")[-1]
    assert served(project) == ["two", "two"]
    preview = project.json("rollback", "shop", "staging", "--dry-run")
    assert (preview["kind"], preview["changes"]) == ("rollback", True)
    assert served(project) == ["two", "two"]
    back = project.lines("rollback", "shop", "staging")[-1]
    assert back["outcome"] == "succeeded"
    assert served(project) == ["one", "one"]
    # The rollback undid what the second deployment had reached, so a retry brings it again.
    again = project.lines("retry", second["deployment_id"])[-1]
    assert again["outcome"] == "succeeded"
    assert served(project) == ["two", "two"]
    refused = project.json("retry", again["deployment_id"], code=2)["error"]
    assert "nothing to retry" in refused["message"]


def test_limit_and_exclude_choose_targets(project: Project) -> None:
    first = project.lines("deploy", "shop", "staging", "--limit", "t1")[-1]
    assert [target["name"] for target in first["targets"]] == ["t1"]
    second = project.lines("deploy", "shop", "staging", "--exclude", "t1")[-1]
    assert [target["name"] for target in second["targets"]] == ["t2"]


def test_several_fraises_give_a_result_each_and_the_worst_exit_code(
    make_project: Callable[..., Project],
) -> None:
    project = make_project(targets=2)
    port_one, port_two = project.ports
    worker = project.environment(
        targets=[{"name": "w1", "vars": {"port": port_two}}],
        app_path=f"{project.root}/srv/{{{{ target.name }}}}",
    )
    broken = project.environment(targets=[{"name": "b1", "vars": {"port": port_one}}], build=["exit 9"])
    fraises = {
        "api": {"environments": {"staging": broken}},
        "worker": {"environments": {"staging": worker}},
        "late": {
            "depends_on": ["api"],
            "environments": {"staging": worker | {"app_path": f"{project.root}/late"}},
        },
    }
    project.write_config(fraises)
    lines = project.lines("deploy", "api,worker,late", "staging", code=1)
    results = {line["fraise"]: line["outcome"] for line in lines if line["type"] == "result"}
    assert results == {"api": "failed", "worker": "succeeded", "late": "skipped"}
    assert [line["type"] for line in lines[-3:]] == ["result"] * 3


def test_a_reader_that_goes_away_does_not_end_the_deployment(project: Project) -> None:
    process = project.start("deploy", "shop", "staging", "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(40) in (0, 141)
    assert process.stderr.read() == ""
    process.stderr.close()
    assert project.json("history")["deployments"][0]["outcome"] == "succeeded"


def test_the_service_can_be_stopped_started_restarted_and_removed(project: Project) -> None:
    project.run("deploy", "shop", "staging")
    stopped = project.json("stop", "shop", "staging", "--limit", "t1")
    assert stopped == {"action": "stop", "targets": [{"name": "t1", "ok": True, "error": None}]}
    unhealthy = project.json("health", code=1)
    assert unhealthy["healthy"] is False
    assert [row["healthy"] for row in unhealthy["targets"]] == [False, True]
    assert "t1: started" in project.run("start", "shop", "staging", "--limit", "t1").stdout
    assert project.json("health")["healthy"] is True
    assert project.json("restart", "shop", "staging")["targets"][1]["ok"] is True
    project.run("remove", "shop", "staging")
    assert not any((project.root / "srv" / name / "current").exists() for name in ("t1", "t2"))
    assert [target["version"] for target in project.json("status")["fraises"][0]["targets"]] == [None, None]
