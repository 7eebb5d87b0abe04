"""`plan --simulate`: what the rehearsal tells, what can be made to fail in it, and that nothing real is touched."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Project

PLAN = ("plan", "shop", "staging")
SIMULATE = (*PLAN, "--simulate")


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project that serves one version while the next one waits in the repository; the tests only look at it."""
    made = Project(tmp_path_factory.mktemp("upgraded"))
    try:
        made.run("deploy", "shop", "staging")
        made.commit("two")
        yield made
    finally:
        made.close()


def found(timeline: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the entries of one type."""
    return [entry for entry in timeline if entry["type"] == kind]


def rows(project: Project) -> int:
    """Return how many rows the real journal has."""
    count: int = project.json("audit", "verify")["rows"]
    return count


def test_a_rehearsal_shows_both_waves_and_the_exit_code(untouched: Project) -> None:
    told = untouched.json(*SIMULATE)
    assert told["simulated"] is True
    assert told["plan"] == untouched.json(*PLAN)
    assert (told["outcome"], told["exit_code"], told["killed"]) == ("succeeded", 0, False)
    assert [target["outcome"] for target in told["targets"]] == ["updated", "updated"]
    timeline = told["timeline"]
    assert [(entry["wave"], entry["type"]) for entry in timeline if entry["type"].startswith("wave.")] == [
        (1, "wave.started"),
        (1, "wave.succeeded"),
        (2, "wave.started"),
        (2, "wave.succeeded"),
    ]
    restarts = [entry["target"] for entry in found(timeline, "step.succeeded") if entry["step"] == "restart"]
    assert restarts == ["t1", "t2"]
    assert [entry["at_s"] for entry in timeline] == sorted(entry["at_s"] for entry in timeline)
    assert told["duration_s"] >= timeline[-1]["at_s"] > 0
    text = untouched.run(*SIMULATE).stdout
    assert "wave 2     all healthy" in text
    assert text.endswith("a real run would have ended with exit code 0: success, or nothing to do\n")


def test_a_rehearsal_writes_no_more_than_a_plan_and_touches_no_target(upgraded: Project) -> None:
    def processes() -> set[str]:
        below = f"{upgraded.root}/"
        return {
            entry.name
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and cwd(entry).startswith(below)
        }

    def cwd(entry: Path) -> str:
        try:
            return str((entry / "cwd").readlink())
        except OSError:
            return ""

    def files() -> set[Path]:
        return {path for path in (upgraded.root / "srv").rglob("*") if path.name != "service.log"}

    before = rows(upgraded)
    upgraded.run(*PLAN)
    planned = rows(upgraded)
    untouched = (files(), processes())
    upgraded.run(*SIMULATE, "--fail", "t1:restart", "--kill-after", "30")
    assert rows(upgraded) - planned == planned - before
    assert (files(), processes()) == untouched
    assert len(upgraded.json("history")["deployments"]) == 1


def test_a_sick_version_is_taken_back_in_the_rehearsal(upgraded: Project) -> None:
    told = upgraded.json(*SIMULATE, "--fail", "t2:verify")
    assert (told["outcome"], told["exit_code"]) == ("rolled_back", 3)
    assert [target["outcome"] for target in told["targets"]] == ["rolled_back", "rolled_back"]
    assert [target["version"] for target in told["targets"]] == [
        target["current"] for target in told["plan"]["targets"]
    ]
    failed = found(told["timeline"], "target.failed")
    assert [(entry["target"], entry["step"]) for entry in failed] == [("t2", "verify")]
    assert found(told["timeline"], "recovery.decided")[-1]["detail"].startswith("decided to roll back")
    assert "exit code 3" in upgraded.run(*SIMULATE, "--fail", "t2:verify").stdout


@pytest.mark.parametrize(
    ("fault", "outcome", "code"),
    [
        ("t*:preflight", "failed", 1),
        ("t2:fetch", "failed", 1),
        ("t1:stage", "failed", 1),
        ("t1:switch", "rolled_back", 3),
        ("t?:restart", "rolled_back", 3),
    ],
)
def test_each_step_can_be_made_to_fail(upgraded: Project, fault: str, outcome: str, code: int) -> None:
    told = upgraded.json(*SIMULATE, "--fail", fault)
    assert (told["outcome"], told["exit_code"]) == (outcome, code)
    step = fault.partition(":")[2]
    assert {entry["step"] for entry in found(told["timeline"], "step.failed")} == {step}


def test_a_killed_orchestrator_is_followed_by_a_resume(upgraded: Project) -> None:
    whole = upgraded.json(*SIMULATE)
    told = upgraded.json(*SIMULATE, "--kill-after", str(whole["facts"] // 2))
    kinds = [entry["type"] for entry in told["timeline"]]
    at = kinds.index("rehearsal.killed")
    assert kinds[at + 1] == "rehearsal.resumed"
    assert "deployment.resumed" in kinds[at:]
    # One more, where that one becomes durable together with the next.
    assert told["facts"] - whole["facts"] // 2 in (0, 1)
    assert (told["killed"], told["outcome"], told["exit_code"]) == (True, "succeeded", 0)
    after = upgraded.json(*SIMULATE, "--kill-after", "4000")
    assert (after["killed"], after["facts"]) == (False, whole["facts"])
    assert "it never came to that" in upgraded.run(*SIMULATE, "--kill-after", "4000").stdout


def test_a_kill_in_the_middle_of_the_way_back_still_ends_at_the_last_good_release(upgraded: Project) -> None:
    fail = ("--fail", "t2:verify")
    whole = upgraded.json(*SIMULATE, *fail)
    (begun,) = found(whole["timeline"], "rollback.started")
    told = upgraded.json(*SIMULATE, *fail, "--kill-after", str(begun["seq"] + 6))
    assert (told["killed"], told["outcome"], told["exit_code"]) == (True, "rolled_back", 3)


def test_the_seed_decides_the_order_and_nothing_else_does(upgraded: Project) -> None:
    def order(seed: int) -> list[tuple[Any, ...]]:
        timeline = upgraded.json(*SIMULATE, "--seed", str(seed))["timeline"]
        return [(entry["at_s"], entry["type"], entry["target"], entry["step"]) for entry in timeline]

    assert order(7) == order(7)
    assert len({tuple(order(seed)) for seed in range(4)}) > 1


def test_what_is_frozen_is_locked_in_the_rehearsal_too(project: Project) -> None:
    project.run("lock", "acquire", "shop", "staging", "-m", "stocktaking")
    told = project.json(*SIMULATE)
    assert (told["outcome"], told["exit_code"]) == ("locked", 5)
    assert project.json(*SIMULATE, "--force")["outcome"] == "succeeded"


def test_migrations_and_hooks_are_part_of_it_and_run_nowhere(make_project: Callable[..., Project]) -> None:
    project = make_project(targets=3)
    command = f"touch {project.root}/ran"
    check = project.environment()["health_check"] | {"from": "orchestrator"}
    project.write_config(
        hooks={"before_deploy": [{"name": "backup", "command": command}], "after_switch": [command]},
        migrate={"command": command, "rollback_command": command},
        health_check=check,
    )
    told = project.json(*SIMULATE)
    assert (told["outcome"], told["exit_code"]) == ("succeeded", 0)
    hooks = found(told["timeline"], "hook.succeeded")
    first, *others = [entry["target"] for entry in hooks]
    assert (first, sorted(others)) == (None, ["t1", "t2", "t3"])  # side by side, in whichever order
    migrated = [
        entry["target"] for entry in found(told["timeline"], "step.succeeded") if entry["step"] == "migrate"
    ]
    assert migrated == ["t1"]
    assert project.json(*SIMULATE, "--fail", "t1:migrate")["reason"] == "migrate_failed"
    assert not (project.root / "ran").exists()


def test_a_hook_that_fails_has_its_consequence_in_the_rehearsal(make_project: Callable[..., Project]) -> None:
    project = make_project(targets=2)
    project.write_config(
        hooks={"before_deploy": [{"name": "backup", "command": "true"}], "after_switch": ["true"]}
    )
    told = project.json(*SIMULATE, "--fail", "*:hook:backup")
    assert (told["outcome"], told["exit_code"], told["reason"]) == ("failed", 1, "hook_failed")
    assert told["fail"] == {"": ["hook:backup"]}
    assert [entry["type"] for entry in told["timeline"] if entry["type"].startswith("hook.")][
        -1
    ] == "hook.failed"
    told = project.json(*SIMULATE, "--fail", "t2:hook:after_switch-1")
    assert [(entry["target"], entry["step"]) for entry in found(told["timeline"], "hook.failed")] == [
        ("t2", "hook:after_switch-1")
    ]
    assert told["outcome"] == "failed"  # and there was nothing to go back to
    told_by = [
        project.run(*SIMULATE, "--fail", fault, code=2).stderr
        for fault in ("t1:hook:bakcup", "t1:hook:backup")
    ]
    assert "did you mean 'backup'?" in told_by[0]
    assert "*:hook:backup" in told_by[1]


def test_a_version_that_ends_while_it_bakes_is_taken_back(upgraded: Project, tmp_path: Path) -> None:
    config = tmp_path / "bakes.yaml"
    document = yaml.safe_load((upgraded.root / "fraises.yaml").read_text())
    document["fraises"]["shop"]["environments"]["staging"]["rollout"]["min_healthy_time"] = "20s"
    config.write_text(yaml.safe_dump(document))
    told = upgraded.json("-c", str(config), *SIMULATE, "--fail", "t1:bake")
    assert (told["outcome"], told["exit_code"]) == ("rolled_back", 3)
    assert [(entry["target"], entry["step"]) for entry in found(told["timeline"], "target.failed")] == [
        ("t1", "bake")
    ]
    assert "takes no such step there" in upgraded.run(*SIMULATE, "--fail", "t1:bake", code=2).stderr


def test_a_fraise_without_a_service_can_be_rehearsed(project: Project) -> None:
    settings = project.environment()
    del settings["service"], settings["health_check"]
    project.write_config({"shop": {"type": "etl", "environments": {"staging": settings}}})
    assert project.json(*SIMULATE)["exit_code"] == 0
    refused = project.run(*SIMULATE, "--fail", "t1:verify", code=2).stderr
    assert "without a service and a health check nothing can fail there" in refused
    project.run("deploy", "shop", "staging")
    project.commit("two")
    told = project.json(*SIMULATE, "--fail", "t2:switch")
    assert (told["outcome"], told["exit_code"]) == ("rolled_back", 3)


def test_nothing_to_do_is_a_rehearsal_too(project: Project) -> None:
    project.run("deploy", "shop", "staging")
    told = project.json(*SIMULATE, "--detailed-exitcode")
    assert (told["plan"]["changes"], told["outcome"], told["exit_code"]) == (False, "unchanged", 0)
    project.commit("two")
    told = project.json(*SIMULATE, "--detailed-exitcode", "--fail", "t1:verify", code=10)
    assert told["exit_code"] == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--fail", "t9:restart"), "no target matches 't9'"),
        (("--fail", "t1:restrat"), "there is no step 'restrat'; did you mean 'restart'?"),
        (("--fail", "t1"), "it is not TARGET:STEP"),
        (("--fail", "t1:migrate"), "takes no such step there"),
        (("--fail", "t1:switch", "--limit", "t2"), "this plan changes no target that 't1' means"),
        (("--kill-after", "0"), "--kill-after"),
    ],
)
def test_a_fault_that_cannot_come_is_a_usage_error(
    untouched: Project, arguments: tuple[str, ...], told: str
) -> None:
    assert told in untouched.run(*SIMULATE, *arguments, code=2).stderr


@pytest.mark.parametrize("arguments", [("--fail", "t1:restart"), ("--kill-after", "3"), ("--seed", "0")])
def test_faults_without_a_rehearsal_are_a_usage_error(untouched: Project, arguments: tuple[str, ...]) -> None:
    assert "add --simulate" in untouched.run(*PLAN, *arguments, code=2).stderr


def test_no_plan_without_a_rehearsal_loads_the_simulator(untouched: Project) -> None:
    script = (
        f"import sys; sys.argv = {['fraisier', *untouched.command(*PLAN)[3:]]!r}\n"
        "from fraisier.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith('fraisier.simulation')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=untouched.root,
        env=untouched.environ,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
