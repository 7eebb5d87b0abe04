"""The standing shells that the targets of one machine share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from fraisier.errors import ProviderConnectionError
from fraisier.transports.lanes import Lanes
from fraisier.transports.local import LocalTransport

ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.fixture
async def lanes() -> AsyncIterator[Lanes]:
    made = Lanes(ENVIRONMENT, grace_s=0.3)
    try:
        yield made
    finally:
        await made.aclose()


def target(lanes: Lanes) -> LocalTransport:
    return LocalTransport(ENVIRONMENT, lanes=lanes)


async def test_many_targets_make_do_with_few_shells(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short scripts of forty targets at once run in a handful of processes, as long as nobody has waited for too long: how
    long that is on a slow machine has no part in this."""
    monkeypatch.setattr("fraisier.transports.lanes._PATIENCE_S", 60.0)
    monkeypatch.setattr("fraisier.transports.lanes._QUEUE_S", 60.0)
    pids: list[str] = []

    async def ask(transport: LocalTransport) -> None:
        for _ in range(3):
            pids.append((await transport.shell("echo $$")).stdout)

    async with anyio.create_task_group() as group:
        for _ in range(40):
            group.start_soon(ask, target(lanes))
    assert len(pids) == 120 and len(set(pids)) == lanes.open == 4


async def test_scripts_that_wait_for_each_other_hold_up_nobody(lanes: Lanes, tmp_path: Path) -> None:
    """Thirty scripts that end only when all thirty have begun: as many shells are opened as it takes."""
    script = f"""\
: >{tmp_path}/$$
while :; do set -- {tmp_path}/*; [ $# -lt 30 ] || break; sleep 0.01; done
echo $#
"""
    answers: list[str] = []

    async def ask(transport: LocalTransport) -> None:
        answers.append((await transport.shell(script)).stdout)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(ask, target(lanes))
    assert answers == ["30\n"] * 30


async def test_one_shell_that_is_quick_does_not_keep_everybody_waiting(lanes: Lanes, tmp_path: Path) -> None:
    """All shells but one are busy for long; those who queue behind that one get more before long."""
    gate = tmp_path / "gate"
    answers: list[str] = []

    async def busy(transport: LocalTransport) -> None:
        await transport.shell(f"while [ ! -e {gate} ]; do sleep 0.01; done")

    async def quick(transport: LocalTransport) -> None:
        await transport.shell("sleep 0.015")
        answers.append((await transport.shell("sleep 0.015; echo done")).stdout)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as holding:
            for _ in range(3):
                holding.start_soon(busy, target(lanes))
            await anyio.sleep(0.05)
            async with anyio.create_task_group() as queue:
                for _ in range(60):
                    queue.start_soon(quick, target(lanes))
            gate.touch()
    assert answers == ["done\n"] * 60 and lanes.open > 4


async def test_who_gives_up_waiting_costs_nobody_a_shell(lanes: Lanes, tmp_path: Path) -> None:
    """Most of those that wait are cancelled; what they would have been handed goes to the next, again and again."""
    gate = tmp_path / "gate"

    async def busy(transport: LocalTransport) -> None:
        await transport.shell(f"while [ ! -e {gate} ]; do sleep 0.01; done")

    for _ in range(5):
        gate.unlink(missing_ok=True)
        async with anyio.create_task_group() as holding:
            for _ in range(4):
                holding.start_soon(busy, target(lanes))
            await anyio.sleep(0.01)
            with anyio.move_on_after(0.015):
                async with anyio.create_task_group() as impatient:
                    for _ in range(10):
                        impatient.start_soon(target(lanes).shell, "echo never")
            gate.touch()
    pids = {(await target(lanes).shell("echo $$")).stdout for _ in range(5)}
    assert len(pids) == 1 and lanes.open <= 14
    await lanes.aclose()
    assert lanes.open == 0


async def test_the_place_of_a_shell_that_ended_is_free_again(lanes: Lanes) -> None:
    """Scripts that end their shell, and shells that are killed, are each followed by a new one."""
    transport = target(lanes)
    for _ in range(6):
        assert (await transport.shell("exit 3")).exit_code == 3
        with pytest.raises(ProviderConnectionError):
            await transport.shell("kill -KILL $$")
    assert lanes.open == 0
    assert (await transport.shell("echo on")).stdout == "on\n"
    assert lanes.open == 1


async def test_a_machine_that_starts_no_shell_says_so_to_everybody_who_waits(tmp_path: Path) -> None:
    """Nobody waits for ever for a shell that cannot be started."""
    lanes = Lanes({"PATH": str(tmp_path)}, grace_s=0.3)
    failed: list[str] = []

    async def ask() -> None:
        try:
            await target(lanes).shell("echo never")
        except ProviderConnectionError as error:
            failed.append(error.message)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(12):
                group.start_soon(ask)
    assert len(failed) == 12 and all("cannot start a shell" in message for message in failed)
    assert lanes.open == 0
