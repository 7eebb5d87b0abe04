"""What goes on without its process is settled before anything is called an end: migrations, builds, hooks."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.killing import Watched, none_left, own_processes
from tests.acceptance.kit import Project, Run, outcomes

Make = Callable[..., Project]


def migrate(command: str, *, more: str = "resume: manual") -> str:
    return f'        migrate: {{command: "{command}", rollback_command: "echo undo >> ../../../ran", {more}}}'


def ran(project: Project) -> list[str]:
    path = project.root / "srv" / "ran"
    return path.read_text().split() if path.exists() else []


def until_ran(project: Project, wanted: list[str]) -> None:
    """Wait until the migrations have written so much."""
    until_s = time.monotonic() + 20
    while ran(project) != wanted:
        assert time.monotonic() < until_s, ran(project)
        time.sleep(0.01)


def until_sleeps(project: Project) -> None:
    """Wait until a job runs its `sleep 60`."""
    until_s = time.monotonic() + 20
    while not any(argv.startswith("sleep 60") for argv in own_processes(project).values()):
        assert time.monotonic() < until_s, own_processes(project)
        time.sleep(0.02)


def state_of(project: Project, deployment_id: str) -> str:
    found: str = project.run("show", deployment_id, "--json").document["state"]
    return found


@pytest.mark.slow
def test_an_abort_waits_for_a_migration_whose_process_was_killed_and_undoes_it(project: Make) -> None:
    """The migration was left running; the abort ends when it has ended and was undone, not before."""
    one = project(count=2, extra=migrate("echo begin >> ../../../ran; sleep 2; echo end >> ../../../ran"))
    one.commit("v1")
    assert one.deploy("v1").code == 0
    one.commit("v2")
    deploy = Watched(one, "deploy", "web", "production", "--version", "v2", "--json")
    until_ran(one, ["begin", "end", "begin"])
    deploy.kill()
    aborted = one.run("abort", "--json")
    assert (aborted.code, aborted.document["state"]) == (0, "aborted"), aborted.out
    assert ran(one) == ["begin", "end", "begin", "end", "undo"]
    assert set(one.answers().values()) == {"v1"}
    none_left(one)


@pytest.mark.slow
def test_a_resume_that_rolls_back_waits_for_the_migration_of_another_target(project: Make) -> None:
    """One target's migration failed while another's ran on; the way back begins when that one has ended, and undoes it."""
    command = "if [ $FRAISIER_TARGET = t1 ]; then exit 1; fi; echo begin >> ../../../ran; sleep 3; echo end >> ../../../ran"
    one = project(count=2, rollout="{strategy: all_at_once}")
    one.commit("v1")
    assert one.deploy("v1").code == 0
    one.extra = migrate(command, more="on: all")
    one.write()
    one.commit("v2")
    deploy = Watched(one, "deploy", "web", "production", "--version", "v2", "--json")
    deploy.wait_for("target.failed", target="t1")
    until_ran(one, ["begin"])
    deploy.kill()
    resumed = one.run("resume", "--json")
    assert (resumed.code, resumed.result["outcome"]) == (3, "rolled_back"), resumed.out[-1500:]
    assert ran(one) == ["begin", "end", "undo"]
    assert set(one.answers().values()) == {"v1"}


@pytest.mark.slow
def test_a_migration_that_we_ended_ourselves_stays_in_doubt_until_a_person_has_looked(project: Make) -> None:
    """Neither its timeout nor a resume, a deploy or a first abort takes the doubt away; a second abort does."""
    one = project(count=2)
    one.commit("v1")
    assert one.deploy("v1").code == 0
    one.extra = migrate("echo begin >> ../../../ran; sleep 60", more="timeout: 1s")
    one.write()
    one.commit("v2")
    first = one.deploy("v2")
    assert (first.code, first.result["outcome"]) == (4, "needs_attention"), first.out[-1500:]
    none_left(one)
    resumed = one.run("resume", "--json")
    assert (resumed.code, resumed.result["reason"]) == (4, "in_doubt")
    assert one.deploy("v2").code == 4
    looked = one.run("abort", "--json")
    assert looked.document["state"] == "aborted", "needs attention was looked at, so an abort ends it"
    assert ran(one) == ["begin"]
    assert set(one.answers().values()) == {"v1"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "extra",
    [
        '        build: ["sleep 60"]',
        '        build: ["sleep 60"]\n        build_on: orchestrator',
        '        hooks: {before_switch: [{name: h, command: "sleep 60", on: target}]}',
    ],
    ids=["build", "build here", "hook"],
)
def test_an_abort_ends_builds_and_hooks_whose_process_was_killed(project: Make, extra: str) -> None:
    """Nothing of the deployment runs on, and the next one is not in anybody's way."""
    one = project(count=2, extra=extra)
    one.commit("v1")
    deploy = Watched(one, "deploy", "web", "production", "--version", "v1", "--json")
    until_sleeps(one)
    deploy.kill()
    assert any("sleep 60" in argv for argv in own_processes(one).values())
    assert one.run("abort").code == 0
    none_left(one)
    one.extra = ""
    one.write()
    assert one.deploy("v1").code == 0


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["abort", "interrupt"])
def test_a_resume_that_waits_for_the_lock_writes_nothing_about_what_another_carries_out(
    project: Make, ends: str
) -> None:
    """It hears the abort as the runner does, and Ctrl-C as anybody; neither makes an end, or a state, of its own."""
    one = project(count=3, rollout="{strategy: rolling, batch: [1, 100%], pause: 30s}")
    one.commit("v1")
    runs = Watched(one, "deploy", "web", "production", "--version", "v1", "--json")
    runs.wait_for("wave.succeeded")
    waits = Watched(one, "resume", runs.deployment_id, "--lock-wait", "60", "--json")
    waits.wait_for("lease.waiting")
    assert state_of(one, runs.deployment_id) == "running"
    if ends == "interrupt":
        waits.process.send_signal(signal.SIGINT)
        assert waits.end().code == 130
        assert state_of(one, runs.deployment_id) == "running"
    assert one.run("abort").code == 0
    assert runs.end().code == 130
    events = one.run("events", runs.deployment_id, "--json").lines
    assert [e["type"] for e in events if e["type"] in ("deployment.aborted", "deployment.interrupted")] == [
        "deployment.aborted"
    ]
    assert not [e for e in events if e["type"] == "deployment.queued"]
    if ends == "abort":
        assert waits.end().lines[-1]["outcome"] == "aborted"


@pytest.mark.slow
def test_a_stop_is_heard_while_the_source_does_not_answer(project: Make) -> None:
    """SIGTERM ends a deployment that is still being planned at once, and leaves no git behind; so does `kill -9`."""
    one = project(count=1)
    one.commit("v1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = (one.root / "fraises.yaml").read_text()
        url = f"git://127.0.0.1:{silent.getsockname()[1]}/x"
        (one.root / "fraises.yaml").write_text(text.replace(f"git_repo: {one.repo}", f"git_repo: {url}"))
        deploy = Watched(one, "deploy", "web", "production", "--json")
        deploy.wait_for("lease.acquired")
        time.sleep(0.5)
        began_s = time.monotonic()
        deploy.process.terminate()
        ended = deploy.end()
        assert (ended.code, ended.result["outcome"]) == (130, "interrupted")
        assert time.monotonic() - began_s < 5
        none_left(one)
        deploy = Watched(one, "deploy", "web", "production", "--json")
        deploy.wait_for("lease.acquired")
        time.sleep(0.5)
        deploy.kill()
        none_left(one)


@pytest.mark.slow
def test_a_refused_abort_is_not_carried_out_later(project: Make) -> None:
    """An abort that came too late was refused; the resume of what was held tries again, as it says."""
    one = project(count=2, rollout="{strategy: rolling, on_failure: hold}")
    gate = one.root / "gate"
    waits = f"until [ -e {gate} ]; do sleep 0.05; done"
    one.extra = f'        hooks: {{on_failure: [{{name: slow, command: "{waits}", on: orchestrator}}]}}\n'
    one.write()
    one.commit("v1")
    assert one.deploy("v1").code == 0
    one.commit("v2", "sick:t2")
    deploy = Watched(one, "deploy", "web", "production", "--version", "v2", "--json")
    deploy.wait_for("hook.started")
    late = one.run("abort", "--json")
    assert (late.code, late.document["effect"]) == (1, "refused"), late.out
    gate.touch()
    assert deploy.end().result["outcome"] == "paused"
    again: Run = one.run("resume", "--json")
    assert again.result["outcome"] == "paused", again.out[-1500:]
    assert one.run("abort", "--json").document["state"] == "aborted"


@pytest.mark.lab
def test_a_full_disk_at_the_target_does_not_bar_the_way_back(project: Make, tmp_path: Path) -> None:
    """The disk fills up while the new version is verified; the old one is put back all the same."""
    one = project(count=2)
    one.commit("v1")
    assert one.deploy("v1").code == 0
    disk = one.root / "srv" / "t2"
    small = tmp_path / "small"
    small.mkdir()
    one.places = (*one.places, str(small))  # what runs there is the project's, too
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("cannot mount a tmpfs here: run as root")
    try:
        one.run("remove", "web", "production", "--yes", "--limit", "t2")
        disk.symlink_to(small)
        assert one.deploy("v1").code == 0
        one.commit("v2", "sick:t2")
        deploy = Watched(one, "deploy", "web", "production", "--version", "v2", "--json")
        deploy.wait_for("step.started", step="verify", target="t2")
        with (small / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"x" * 65536)
            except OSError:
                pass
        ended = deploy.end()
        assert (ended.code, ended.result["outcome"]) == (3, "rolled_back"), ended.out[-1500:]
        assert set(outcomes(ended.result).values()) == {"rolled_back"}
        assert set(one.answers().values()) == {"v1"}
        assert json.loads(one.run("audit", "verify", "--json").out)["ok"]
    finally:
        one.end()
        time.sleep(0.3)
        subprocess.run(["umount", "-l", str(small)], check=True)
