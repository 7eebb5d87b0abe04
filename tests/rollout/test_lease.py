"""The lease: one holder, whoever races for it; what ends it; and freezes, which people put on it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from fraisier import Orchestrator
from fraisier.errors import DeploymentLockError, LeaseLostError, UsageError
from fraisier.events import Holder
from fraisier.events import types as ev
from fraisier.rollout.processes import SystemProcesses
from fraisier.rollout.result import DeploymentResult
from fraisier.testing import run_virtual
from fraisier.testing.provider import commit
from tests.rollout.kit import Stage, environment, now_s, replace

ROOT = Path(__file__).parents[2]
API = {"fraise": "api", "environment": "production"}
V1 = commit("v1")
HOUR_US = 3_600_000_000
STRANGER = Holder(
    owner="eve@far", host="far", boot_id="b", pid=7, pid_start="9", version="1", pid_ns="pid:[1]"
)


# who gets it


@contextmanager
def racers(store: str) -> Iterator[list[subprocess.Popen[str]]]:
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.rollout.race_process", store, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for name in ("ann", "bob")
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def tell(processes: list[subprocess.Popen[str]]) -> list[str]:
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.stdout.readline().strip() for process in processes]


@pytest.mark.once
@pytest.mark.slow
def test_of_two_processes_that_race_for_a_lease_exactly_one_gets_it_every_time(tmp_path: Path) -> None:
    """500 races in one store: never both, never neither, and the epoch counts the winners."""
    won: list[int] = []
    with racers(f"sqlite:///{tmp_path}/fraisier.db") as processes:
        assert [process.stdout.readline() for process in processes] == ["READY\n"] * 2
        for _ in range(500):
            said = tell(processes)
            winners = [word for word in said if word.startswith("won ")]
            assert (len(winners), said.count("lost")) == (1, 1), said
            won.append(int(winners[0].split()[1]))
            assert tell(processes) == ["free", "free"]
    assert won == list(range(1, 501))


async def give_to_stranger(o: Orchestrator, *, expires_in_us: int, epoch: int = 1) -> None:
    """Let somebody on another machine hold the lease."""
    now_us = o._world.clock.now_us()
    await o.bus.publish(
        ev.LeaseAcquired(
            **API, deployment_id="d-far", epoch=epoch, holder=STRANGER, expires_at=now_us + expires_in_us
        )
    )


def test_the_wait_tells_at_once_who_holds_the_lease_and_since_when_and_so_does_the_refusal() -> None:
    stage = Stage(environment(1))

    async def story(o: Orchestrator) -> DeploymentResult:
        await give_to_stranger(o, expires_in_us=HOUR_US)
        return await o.deploy("api", "production", version="v1", lock_wait_s=20)

    result = stage.play(story)
    events = {type(record.event): record for record in stage.records()}
    waiting, refused = events[ev.LeaseWaiting], events[ev.LeaseRefused]
    said = r"api in production is being deployed by eve@far \(host far, pid 7\) since \S+Z"
    assert result.outcome == "locked"
    for told in (waiting.event.detail, refused.event.detail, result.detail):
        assert re.fullmatch(said, told)
    assert refused.at_us - waiting.at_us == pytest.approx(20_000_000, abs=1_000_000)


def test_a_holder_that_was_silent_for_its_whole_lease_is_taken_over_although_the_clock_says_otherwise() -> (
    None
):
    """The expiry lies an hour ahead, because a clock was set back; a wait of the lease's own length is enough."""
    stage = Stage(environment(1))

    async def story(o: Orchestrator) -> tuple[DeploymentResult, float]:
        await give_to_stranger(o, expires_in_us=30_000_000)
        stage.clock.shift(-3600.0)
        return await o.deploy("api", "production", version="v1", lock_wait_s=600), await now_s()

    result, took_s = stage.play(story)
    assert result.outcome == "succeeded"
    assert 30 <= took_s < 60
    (taken,) = [r.event for r in stage.records() if type(r.event) is ev.LeaseAcquired and r.event.epoch == 2]
    assert taken.took_over == "eve@far"


def test_a_holder_that_gives_signs_of_life_is_never_taken_over_by_waiting() -> None:
    stage = Stage(environment(1))

    async def story(o: Orchestrator) -> DeploymentResult:
        await give_to_stranger(o, expires_in_us=30_000_000)
        stage.clock.shift(-3600.0)

        async def live() -> None:
            while True:
                await anyio.sleep(5)
                far_us = o._world.clock.now_us() + HOUR_US
                await o.bus.publish(ev.LeaseRenewed(**API, deployment_id="d-far", epoch=1, expires_at=far_us))

        async with anyio.create_task_group() as group:
            group.start_soon(live)
            result = await o.deploy("api", "production", version="v1", lock_wait_s=200)
            group.cancel_scope.cancel()
        return result

    assert stage.play(story).outcome == "locked"


def test_a_deployment_that_lost_its_lease_ends_there_and_says_who_has_it() -> None:
    """Nothing more is written by it, nothing is undone, and no step begins."""
    stage = Stage(environment(2))
    stage.world.delays_s["restart"] = 60.0

    async def story(o: Orchestrator) -> str:
        async with anyio.create_task_group() as group:

            async def steal() -> None:
                async with o.subscribe("target.started") as started:
                    async for _ in started:
                        await give_to_stranger(o, expires_in_us=HOUR_US, epoch=2)
                        return

            group.start_soon(steal)
            await anyio.sleep(0)
            with pytest.raises(LeaseLostError) as caught:
                await o.deploy("api", "production", version="v1")
        return caught.value.message

    said = stage.play(story)
    assert re.search(r"was taken over by eve@far \(host far, pid 7\) at \S+Z for d-far", said)
    records = stage.records()
    at = next(n for n, r in enumerate(records) if getattr(r.event, "epoch", 0) == 2)
    after = {type(record.event) for record in records[at + 1 :]}
    assert after <= {ev.LeaseLost, ev.AuditCheckpointed}
    assert ev.LeaseLost in after


# which holder is dead


def test_a_holder_is_dead_or_alive_only_where_its_pid_was_given() -> None:
    """Another pid namespace, boot or host, and a record without a namespace, leave it unknown."""
    processes = SystemProcesses()
    me = processes.holder("ann@here")
    assert me.host == socket.gethostname()
    assert me.pid_ns == os.readlink("/proc/self/ns/pid")
    child = subprocess.Popen(["sleep", "60"])
    try:
        stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        other = replace(me, pid=child.pid, pid_start=stat[19])
        assert (processes.is_alive(other), processes.is_dead(other)) == (True, False)
        reused = replace(other, pid_start="1")
        assert (processes.is_alive(reused), processes.is_dead(reused)) == (False, True)
    finally:
        child.kill()
        child.wait()
    assert (processes.is_alive(other), processes.is_dead(other)) == (False, True)
    for elsewhere in (
        {"pid_ns": "pid:[1]"},
        {"pid_ns": ""},
        {"boot_id": "another"},
        {"host": "another"},
        {"boot_id": ""},
    ):
        stranger = replace(other, **elsewhere)
        assert (processes.is_alive(stranger), processes.is_dead(stranger)) == (False, False)


# freezes


async def ends(o: Orchestrator, what: str) -> tuple[str, str]:
    """Try to change something; return the code or outcome, and what was said."""
    try:
        match what:
            case "deploy":
                result = await o.deploy("api", "production", version="v2")
            case "rollback":
                result = await o.rollback("api", "production")
            case "retry":
                failed = (await o.journal.deployments(state="failed"))[0]
                result = await o.retry(failed.id)
            case _:
                await o.control(what, "api", "production")  # type: ignore[arg-type]
                return "done", ""
    except DeploymentLockError as error:
        return "locked", error.message
    return result.outcome, result.detail or ""


@pytest.mark.parametrize("what", ["deploy", "rollback", "retry", "start", "stop", "restart", "remove"])
def test_a_freeze_stops_what_would_change_something_and_says_who_and_why(what: str) -> None:
    stage = Stage(environment(2))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    stage.world.fail("stage", target="t1", times=3)
    stage.play(lambda o: o.deploy("api", "production", version="v2"))

    async def story(o: Orchestrator) -> tuple[str, str]:
        await o.freeze("api", "production", "the database\nmoves", for_s=3600)
        return await ends(o, what)

    outcome, said = stage.play(story)
    assert outcome == "locked"
    assert re.search(r"frozen by ada@here since \S+Z until \S+Z: the database moves", said)
    assert set(stage.world.serving().values()) == {V1}


def test_a_freeze_ends_by_itself_and_a_wait_may_outlast_it() -> None:
    stage = Stage(environment(1))

    async def story(o: Orchestrator) -> tuple[str, float, str]:
        await o.freeze("api", "production", "maintenance", for_s=60)
        first = await o.deploy("api", "production", version="v1", lock_wait_s=30)
        second = await o.deploy("api", "production", version="v1", lock_wait_s=60)
        ended_s = await now_s()
        left = await o.lock_status()
        assert left == {"leases": [], "freezes": []}
        return first.outcome, ended_s, second.outcome

    first, ended_s, second = stage.play(story)
    assert (first, second) == ("locked", "succeeded")
    assert 60 <= ended_s < 90


def test_a_freeze_lets_a_deployment_that_runs_finish_and_go_back_by_itself() -> None:
    """Its way back is part of it; whoever freezes is told that it runs."""
    stage = Stage(environment(2))
    stage.play(lambda o: o.deploy("api", "production", version="v1"))
    stage.world.delays_s["restart"] = 10.0
    stage.world.unhealthy.add(commit("v2"))

    async def story(o: Orchestrator) -> tuple[DeploymentResult, dict[str, Any]]:
        results: list[DeploymentResult] = []

        async def run() -> None:
            results.append(await o.deploy("api", "production", version="v2"))

        async with anyio.create_task_group() as group, o.subscribe("target.started") as started:
            group.start_soon(run)
            async for _ in started:
                break
            frozen = await o.freeze("api", "production", "stop it")
        return results[0], frozen

    result, frozen = stage.play(story)
    assert result.outcome == "rolled_back"
    assert frozen["running"]["deployment_id"] == result.deployment_id
    assert set(stage.world.serving().values()) == {V1}


def test_force_overrides_a_freeze_on_the_record_and_leaves_it_in_place() -> None:
    stage = Stage(environment(1))

    async def story(o: Orchestrator) -> tuple[list[str], list[Any]]:
        await o.freeze("api", "production", "moving house")
        outcomes = [
            (await o.deploy("api", "production", version="v1", force=True)).outcome,
            (await o.deploy("api", "production", version="v2")).outcome,
        ]
        return outcomes, (await o.lock_status("api", "production"))["freezes"]

    outcomes, freezes = stage.play(story)
    assert outcomes == ["succeeded", "locked"]
    assert [(row["owner"], row["message"], row["until"]) for row in freezes] == [
        ("ada@here", "moving house", None)
    ]
    (taken,) = [r.event for r in stage.records() if type(r.event) is ev.LeaseAcquired]
    assert taken.overrode == "ada@here: moving house"


def test_what_makes_a_begun_deployment_safe_is_not_stopped_by_a_freeze() -> None:
    """A resume goes on; the next deployment is refused."""
    stage = Stage(environment(2))
    stage.world.delays_s["restart"] = 5.0

    async def interrupted(o: Orchestrator) -> str:
        async with anyio.create_task_group() as group, o.subscribe("target.started") as started:

            async def stop() -> None:
                async for _ in started:
                    o.stop("Ctrl-C")
                    return

            group.start_soon(stop)
            return (await o.deploy("api", "production", version="v1")).outcome

    async def frozen(o: Orchestrator) -> list[str]:
        await o.freeze("api", "production", "no")
        resumed = await o.resume()
        return [resumed.outcome, (await o.deploy("api", "production", version="v2")).outcome]

    assert stage.play(interrupted) == "interrupted"
    assert stage.play(frozen) == ["succeeded", "locked"]
    assert set(stage.world.serving().values()) == {V1}


def test_only_its_owner_renews_a_freeze_and_anybody_releases_it() -> None:
    stage = Stage(environment(1))

    async def story(o: Orchestrator) -> list[Any]:
        await o.freeze("api", "production", "one", for_s=60)
        renewed = await o.freeze("api", "production", "two")
        return [renewed["message"], renewed["until"]]

    assert stage.play(story) == ["two", None]

    async def stranger() -> dict[str, Any]:
        async with stage.orchestrator(user="bob") as o:
            with pytest.raises(DeploymentLockError, match=r"frozen by ada@here .*: two"):
                await o.freeze("api", "production", "mine")
            for message in ("", "  ", "x" * 1001):
                with pytest.raises(UsageError):
                    await o.freeze("api", "production", message)
            with pytest.raises(UsageError, match="did you mean"):
                await o.freeze("apo", "production", "mine")
            first = await o.thaw("api", "production")
            assert [row["kind"] for row in first["released"]] == ["freeze"]
            return await o.thaw("api", "production")

    nothing = run_virtual(stranger)
    assert nothing["released"] == []
    assert nothing["running"] is None
    (thawed,) = [r.event for r in stage.records() if type(r.event) is ev.LeaseThawed]
    assert (thawed.owner, thawed.message, thawed.actor.user) == ("ada@here", "two", "bob")


def test_a_lease_is_released_by_hand_only_when_its_holder_is_gone_or_by_force() -> None:
    """The audit says who broke it, and the holder that lives finds it lost."""
    stage = Stage(environment(1))
    stage.world.delays_s["restart"] = 60.0

    async def story(o: Orchestrator) -> str:
        failures: list[LeaseLostError] = []

        async def run() -> None:
            try:
                await o.deploy("api", "production", version="v1")
            except LeaseLostError as error:
                failures.append(error)

        async with anyio.create_task_group() as group, o.subscribe("target.started") as started:
            group.start_soon(run)
            async for _ in started:
                break
            (row,) = (await o.lock_status())["leases"]
            assert (row["state"], row["pid"], row["epoch"]) == ("alive", os.getpid(), 1)
            assert 0 < row["expires_in_s"] <= 30
            with pytest.raises(DeploymentLockError, match="is being deployed by ada@here") as refused:
                await o.thaw("api", "production")
            assert "--force" in refused.value.hint
            await o.thaw("api", "production", force=True)
        return failures[0].message

    assert "was broken by ada@here" in stage.play(story)
    (broken,) = [r.event for r in stage.records() if getattr(r.event, "broken_by", "")]
    assert (broken.broken_by, broken.holder.pid) == ("ada@here", os.getpid())


def test_an_expired_lease_of_a_stranger_is_released_without_force() -> None:
    stage = Stage(environment(1))

    async def story(o: Orchestrator) -> list[str]:
        await give_to_stranger(o, expires_in_us=30_000_000)
        assert [row["state"] for row in (await o.lock_status())["leases"]] == ["unknown"]
        with pytest.raises(DeploymentLockError):
            await o.thaw("api", "production")
        await anyio.sleep(31)
        return [row["owner"] for row in (await o.thaw("api", "production"))["released"]]

    assert stage.play(story) == ["eve@far"]
