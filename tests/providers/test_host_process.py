"""Deployments to this machine with `process` services: real repositories, processes and ports."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import anyio
import pytest

from fraisier.config.schema import Service
from fraisier.errors import ProviderError
from tests.ports import free_port
from tests.providers.host_kit import Kit, ask, commit, is_running, server, until


async def test_a_version_is_brought_and_serves(kit: Kit) -> None:
    """Every step gives evidence, `current` is a relative link, and the look agrees with what answers."""
    port = free_port()
    provider, context = kit.provider(), kit.context(**server(port))
    evidence = await kit.deploy(provider, context, "r1")
    assert os.readlink(kit.app() / "current") == "releases/r1"
    assert await ask(port) == "v1"
    facts = await provider.inspect(context)
    assert (facts.release, facts.running, facts.running_release) == ("r1", True, "r1")
    assert facts.invocation == evidence["restart"]["invocation"] and facts.pid == evidence["restart"]["pid"]
    assert evidence["stage"]["release_path"] == str(kit.app() / "releases/r1")
    assert evidence["switch"] == {"current": "r1", "previous": ""}
    assert await provider.serves_old_release(context, port, "r1") == ""


async def test_a_second_version_replaces_the_process(kit: Kit) -> None:
    """After the restart the old process is gone, the new one has another invocation and runs the new release."""
    port = free_port()
    provider, context = kit.provider(), kit.context(**server(port))
    old = await kit.deploy(provider, context, "r1")
    assert await ask(port) == "v1"
    commit(kit.repo, {"version.txt": "v2"})
    provider = kit.provider()
    new = await kit.deploy(provider, context, "r2")
    assert await ask(port) == "v2"
    assert not is_running(old["restart"]["pid"])
    assert (
        new["restart"]["previous_invocation"] == old["restart"]["invocation"] != new["restart"]["invocation"]
    )
    assert new["switch"]["previous"] == "r1"
    assert (await provider.inspect(context)).running_release == "r2"


async def test_the_environment_of_a_service(kit: Kit) -> None:
    """A service sees its variables, secrets and facts; secrets are in no argv and not in the pid file."""
    service = Service(process="sh -c 'env >seen.env; exec sleep 1000' \"${SECRET}\"")
    env = {"A": 'it\'s "quoted"\nünï', "PATH": kit.environ["PATH"], "MARK": "mine", "TOKEN": "${SECRET}"}
    provider, context = kit.provider(), kit.context(service=service, env=env)
    evidence = await kit.deploy(provider, context, "r1")
    seen = kit.app() / "releases/r1/seen.env"
    await until(lambda: seen.exists() and "FRAISIER_TARGET=t1" in seen.read_text())
    text = seen.read_text()
    assert 'A=it\'s "quoted"\nünï\n' in text and "MARK=mine\n" in text and "TOKEN=s3cr3t-value\n" in text
    assert "FRAISIER_DEPLOYMENT_ID=dep-r1\n" in text
    assert f"FRAISIER_RELEASE_PATH={kit.app()}/releases/r1\n" in text
    assert "s3cr3t" not in (kit.app() / ".fraisier/service.pid").read_text()
    assert "s3cr3t" not in str(evidence)
    group = os.getpgid(evidence["restart"]["pid"])
    assert group == evidence["restart"]["pid"] == os.getsid(evidence["restart"]["pid"])


@pytest.mark.parametrize("name", ["a) S 1 (b", "(sd-pam)", ")", "a b\nc d"])
async def test_a_program_may_have_any_name(kit: Kit, name: str) -> None:
    """The kernel tells the name of a process in the middle of its numbers; it is not taken for one of them."""
    (kit.repo / name).write_text("#!/bin/sh\nwhile :; do sleep 0.1; done\n")
    (kit.repo / name).chmod(0o755)
    commit(kit.repo, {"version.txt": "odd"})
    provider = kit.provider()
    context = kit.context(service=Service(process=f"'./{name}'", stop_timeout_s=2))
    evidence = await kit.deploy(provider, context, "r1")
    pid = evidence["restart"]["pid"]
    await until(lambda: Path(f"/proc/{pid}/comm").read_text() == f"{name[:15]}\n")
    facts = await provider.inspect(context)
    assert (facts.running, facts.running_release) == (True, "r1")
    assert facts.invocation == evidence["restart"]["invocation"]
    await provider.control("stop", context)
    assert not is_running(pid) and (await provider.inspect(context)).running is False


async def test_children_of_the_service_end_with_it(kit: Kit) -> None:
    """Children in the group, and those that left it by setsid, are ended by a stop."""
    service = Service(
        process="sh -c 'sleep 1000 & echo $! >a; setsid sleep 1001 & echo $! >b; wait'", stop_timeout_s=2
    )
    provider, context = kit.provider(), kit.context(service=service)
    await kit.deploy(provider, context, "r1")
    files = [kit.app() / "releases/r1" / name for name in "ab"]
    await until(lambda: all(file.exists() and file.read_text().strip() for file in files))
    children = [int(file.read_text()) for file in files]
    assert all(is_running(pid) for pid in children)
    await provider.control("stop", context)
    assert not any(is_running(pid) for pid in children)
    assert (await provider.inspect(context)).running is False


async def test_a_service_that_ignores_term_is_killed(kit: Kit) -> None:
    """A process that ignores TERM is killed after stop_timeout, and the evidence says so."""
    service = Service(
        process="sh -c 'trap \"\" TERM; echo ready >ready; while :; do sleep 1; done'", stop_timeout_s=0.2
    )
    provider, context = kit.provider(), kit.context(service=service)
    first = await kit.deploy(provider, context, "r1")
    await until(lambda: (kit.app() / "releases/r1/ready").exists())
    second = await kit.call(provider, context, "restart", "r1")
    assert second["forced"] is True
    assert not is_running(first["restart"]["pid"]) and is_running(second["pid"])


async def test_a_crash_at_the_start_is_seen_with_its_last_words(kit: Kit) -> None:
    """A service that exits at once is not running, and the look tells what it said; only this start's lines count."""
    good = kit.context(service=Service(process="sh -c 'echo old words; exec sleep 1000'"))
    provider = kit.provider()
    await kit.deploy(provider, good, "r1")
    bad = kit.context(service=Service(process="sh -c 'echo cannot bind the port >&2; exit 3'"))
    await kit.call(provider, bad, "restart", "r1")
    facts = await provider.inspect(bad)
    with anyio.fail_after(10):
        while facts.running:
            facts = await provider.inspect(bad)
    assert "cannot bind the port" in facts.detail and "old words" not in facts.detail
    assert "cannot bind the port" in await provider.tail(bad, 5)


async def test_a_command_that_does_not_exist_is_told(kit: Kit) -> None:
    """A process that cannot be executed ends the look with the shell's words."""
    provider, context = kit.provider(), kit.context(service=Service(process="no-such-program-here --x"))
    await kit.deploy(provider, context, "r1")
    facts = await provider.inspect(context)
    with anyio.fail_after(10):
        while facts.running or "not found" not in facts.detail:
            facts = await provider.inspect(context)
    assert "no-such-program-here" in facts.detail


@pytest.mark.parametrize("forged", ["start", "boot", "garbage"])
async def test_a_foreign_pid_file_is_not_trusted(kit: Kit, forged: str) -> None:
    """A pid that is somebody else's by now is neither taken for the service nor ended by a stop."""
    provider, context = kit.provider(), kit.context(service=Service(process="sleep 1000"))
    await kit.deploy(provider, context, "r1")
    await provider.control("stop", context)
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        try:
            stat = Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()[19]
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            lines = {
                "start": f"{stranger.pid} {int(stat) - 5} {boot} r1 dep-r1",
                "boot": f"{stranger.pid} {stat} 00000000-0000-0000-0000-000000000000 r1 dep-r1",
                "garbage": "-1 $(touch /tmp/never) x\n",
            }
            (kit.app() / ".fraisier/service.pid").write_text(lines[forged] + "\n")
            assert (await provider.inspect(context)).running is False
            await provider.control("stop", context)
            assert stranger.poll() is None
            assert (await provider.control("start", context))["running"] is True
            assert stranger.poll() is None
        finally:
            stranger.kill()


async def test_a_lost_pid_file_does_not_hide_the_old_process(kit: Kit) -> None:
    """A restart ends the old process even when nothing on disk names it any more."""
    port = free_port()
    provider, context = kit.provider(), kit.context(**server(port))
    first = await kit.deploy(provider, context, "r1")
    assert await ask(port) == "v1"
    (kit.app() / ".fraisier/service.pid").unlink()
    await kit.call(provider, context, "restart", "r1")
    assert not is_running(first["restart"]["pid"])
    assert await ask(port) == "v1"


async def test_an_old_listener_is_evidence_against(kit: Kit) -> None:
    """A 200 from a process of an older release is found out by who holds the port."""
    port = free_port()
    provider, context = kit.provider(), kit.context(**server(port))
    await kit.deploy(provider, context, "r1")
    assert await ask(port) == "v1"
    pid = (await provider.inspect(context)).pid
    (kit.app() / ".fraisier/service.pid").unlink()
    idle = kit.context(service=Service(process="sleep 1000"))
    artifact = await provider.resolve(idle.settings, "")
    for step in ("stage", "switch"):
        await kit.call(provider, idle, step, "r2", artifact=artifact, version=artifact.version)
    said = await provider.serves_old_release(idle, port, "r2")
    assert f"process {pid}" in said and "r1" in said
    assert await provider.serves_old_release(idle, free_port(), "r2") == ""


async def test_a_restart_that_came_through_is_recognised(kit: Kit) -> None:
    """A second attempt keeps what the first one started; the first attempt of another deployment does not."""
    provider, context = kit.provider(), kit.context(service=Service(process="sleep 1000"))
    first = await kit.deploy(provider, context, "r1")
    again = await kit.call(provider, context, "restart", "r1", attempt=2)
    assert again["invocation"] == first["restart"]["invocation"]
    other = await kit.call(provider, context, "restart", "r1", attempt=2, deployment_id="another")
    assert other["invocation"] != first["restart"]["invocation"]


async def test_undoing_a_first_deployment_leaves_nothing_current(kit: Kit) -> None:
    """With an empty release, restart stops the service and switch removes the link."""
    provider, context = kit.provider(), kit.context(service=Service(process="sleep 1000"))
    first = await kit.deploy(provider, context, "r1")
    assert (await kit.call(provider, context, "restart", ""))["running"] is False
    assert await kit.call(provider, context, "switch", "") == {"current": "", "previous": "r1"}
    assert not is_running(first["restart"]["pid"]) and not (kit.app() / "current").is_symlink()
    assert (await provider.inspect(context)).release == ""


async def test_control_starts_stops_restarts_and_removes(kit: Kit) -> None:
    """Services can be steered outside a deployment; remove keeps what `shared` holds, and says so."""
    provider = kit.provider()
    context = kit.context(service=Service(process="sleep 1000"), shared=("data/",))
    first = await kit.deploy(provider, context, "r1")
    (kit.app() / "shared/data/kept").write_text("precious")
    assert (await provider.control("start", context))["unchanged"] is True
    restarted = await provider.control("restart", context)
    assert restarted["previous_invocation"] == first["restart"]["invocation"]
    assert (await provider.control("stop", context))["stopped"] == restarted["invocation"]
    assert (await provider.control("stop", context)) == {"running": False}
    started = await provider.control("start", context)
    assert is_running(started["pid"])
    removed = await provider.control("remove", context)
    assert removed["removed"] is True and removed["left"] == str(kit.app())
    assert not is_running(started["pid"])
    assert sorted(path.name for path in kit.app().iterdir()) == ["shared"]
    assert (kit.app() / "shared/data/kept").read_text() == "precious"
    with pytest.raises(ProviderError, match="no current release"):
        await provider.control("start", context)


async def test_logs_are_read_and_followed(kit: Kit) -> None:
    """The last lines come first, then each new one, and closing leaves nothing running."""
    service = Service(
        process="sh -c 'echo one; echo two; while [ ! -e go ]; do sleep 0.05; done; echo three; exec sleep 1000'"
    )
    provider, context = kit.provider(), kit.context(service=service)
    await kit.deploy(provider, context, "r1")
    log = kit.app() / ".fraisier/service.log"
    await until(lambda: "two" in log.read_text())
    assert [line async for line in provider.logs(context, lines=2, follow=False)] == ["one", "two"]
    seen: list[str] = []
    with anyio.fail_after(10):
        stream = provider.logs(context, lines=1, follow=True)
        async for line in stream:
            seen.append(line)
            if line == "two":
                (kit.app() / "releases/r1/go").touch()
            if line == "three":
                break
        await stream.aclose()
    assert seen == ["two", "three"]


async def test_a_dead_main_process_with_living_children_is_restarted_cleanly(kit: Kit) -> None:
    """Workers whose leader was killed are ended before the new start."""
    service = Service(process="sh -c 'sleep 1000 & echo $! >child; wait'")
    provider, context = kit.provider(), kit.context(service=service)
    first = await kit.deploy(provider, context, "r1")
    child_file = kit.app() / "releases/r1/child"
    await until(lambda: child_file.exists() and child_file.read_text().strip())
    child = int(child_file.read_text())
    os.kill(first["restart"]["pid"], signal.SIGKILL)
    await until(lambda: not is_running(first["restart"]["pid"]))
    assert is_running(child) and (await provider.inspect(context)).running is False
    await kit.call(provider, context, "restart", "r1")
    assert not is_running(child)


@pytest.mark.skipif(not shutil.which("busybox"), reason="busybox is missing: apt-get install busybox-static")
async def test_a_target_with_nothing_but_busybox(kit: Kit) -> None:
    """Every script works with busybox as the shell and for every tool."""
    tools = kit.root / "busybox"
    tools.mkdir()
    busybox = shutil.which("busybox")
    assert busybox is not None
    for name in subprocess.run(
        [busybox, "--list"], check=True, capture_output=True, text=True
    ).stdout.split():
        (tools / name).symlink_to(busybox)
    (tools / "git").symlink_to(shutil.which("git") or "git")
    kit.environ["PATH"] = str(tools)
    port = free_port()
    provider, context = kit.provider(), kit.context(**server(port), shared=("data/", ".env"))
    first = await kit.deploy(provider, context, "r1")
    assert await ask(port) == "v1"
    await kit.deploy(provider, context, "r2")
    assert not is_running(first["restart"]["pid"]) and await ask(port) == "v1"
    assert await provider.serves_old_release(context, port, "r2") == ""
    assert (await kit.call(provider, context, "cleanup", "r2"))["removed"] == ["r1"]
    assert (await provider.control("remove", context))["removed"] is True
