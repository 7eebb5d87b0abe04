"""Fencing at the target: an older token acts no more once a newer one was seen, and what still acts under it is ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from fraisier.commands.fence import Fence, argv, command, fence_of, guarded
from fraisier.config.schema import Migrate, Service
from fraisier.errors import FencedError, FraisierError, ProviderConnectionError, ProviderError
from fraisier.transports.lanes import Lanes
from fraisier.transports.local import LocalTransport
from tests.providers.host_kit import Kit, is_running, until

LOG = "0123456789abcdef" * 2
OTHER_LOG = "fedcba9876543210" * 2
NO_BUSYBOX = pytest.mark.skipif(
    not shutil.which("busybox"), reason="busybox is missing: apt-get install busybox-static"
)
SHELLS = (
    pytest.param(["dash"], id="dash"),
    pytest.param(["bash"], id="bash"),
    pytest.param(["busybox", "sh"], id="busybox", marks=NO_BUSYBOX),
)
HERE = [words for words in (["dash"], ["bash"], ["busybox", "sh"]) if shutil.which(words[0])]
SERVICE = Service(process="sleep 1000", stop_timeout_s=2)


def fence(app: Path, epoch: int, seq: int, log_id: str = LOG) -> Fence:
    made = fence_of(str(app), log_id=log_id, lease=("api", "test"), token=(epoch, seq))
    assert made is not None
    return made


def state_of(app: Path) -> Path:
    """Make an app that was deployed to before."""
    (app / ".fraisier").mkdir(parents=True)
    return app


def files_of(app: Path) -> dict[str, str]:
    """Return everything below an app but the fence itself: what a refused step must not have touched."""
    found = {}
    for path in sorted(app.rglob("*")):
        if path.name.startswith("fence-"):
            continue
        kind = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else "directory"
        found[str(path.relative_to(app))] = kind
    return found


async def deployed(kit: Kit, **settings: Any) -> tuple[Any, Any, Callable[..., Awaitable[Any]]]:
    """Deploy r1 and stage r2, with the tokens (5, 1) and on; return the provider, the context and how to take steps."""
    provider, context = kit.provider(), kit.context(**settings)
    artifact = await provider.resolve(context.settings, "")

    async def take(step: str, token: tuple[int, int], release: str = "r2", **more: Any) -> Any:
        more = {"log_id": LOG, "artifact": artifact, "version": artifact.version, **more}
        return await kit.call(more.pop("by", provider), context, step, release, token=token, **more)

    seq = 0
    for release, steps in (("r1", ("preflight", "fetch", "stage", "switch", "restart")), ("r2", ("stage",))):
        for step in steps:
            seq += 1
            await take(step, (5, seq), release)
    return provider, context, take


@pytest.mark.parametrize("late", [(5, 50), (4, 900)])
async def test_every_changing_step_with_an_older_token_is_refused(kit: Kit, late: tuple[int, int]) -> None:
    """After (5, 100) no step of the same epoch's past, or of an older epoch, changes anything; a newer one still may."""
    migrate = Migrate(command="touch migrated")
    provider, context, take = await deployed(kit, service=SERVICE, migrate=migrate)
    await take("preflight", (5, 100))
    before, pid = files_of(kit.app()), (await provider.inspect(context)).pid
    cases: list[tuple[str, dict[str, Any]]] = [
        ("preflight", {}),
        ("stage", {"release": "r3"}),
        ("migrate", {}),
        ("switch", {}),
        ("switch", {"release": ""}),
        ("restart", {"release": "r1"}),
        ("restart", {"release": ""}),
        ("cleanup", {"keep": ()}),
    ]
    for step, more in cases:
        with pytest.raises(FencedError, match=r"fenced: .* is refused") as raised:
            await take(step, late, **more)
        assert raised.value.recoverable is False
    for action in ("stop", "start", "restart", "remove"):
        # A service that runs is not started anew, which takes no command at all.
        if action != "start":
            with pytest.raises(FencedError):
                await provider.control(action, context, token=late, log_id=LOG)
    assert files_of(kit.app()) == before
    assert (await provider.inspect(context)).pid == pid
    for number, (step, more) in enumerate([*cases[:5], cases[6], cases[7]]):
        await take(step, (5, 200 + number), **more)
    assert not (kit.app() / "current").exists() and not is_running(pid)


async def test_commands_of_the_users_are_refused_too(kit: Kit) -> None:
    """A service's own commands do not run under an older token, and an exit code of theirs is not taken for a refusal."""
    mark = kit.root / "up"
    service = Service(start=f"touch {mark}", stop=f"rm -f {mark}; exit 76", status=f"test -e {mark}")
    provider, context, take = await deployed(kit, service=service)
    assert mark.exists()
    await take("preflight", (6, 1))
    for action in ("stop", "restart", "start"):
        with pytest.raises(FencedError):
            await provider.control(action, context, token=(5, 99), log_id=LOG)
    assert mark.exists()
    evidence = await provider.control("stop", context, token=(6, 2), log_id=LOG)
    assert evidence == {"running": False, "was_running": True} and not mark.exists()
    bad = kit.context(service=Service(start="echo no; exit 76", stop="true", status="false"))
    with pytest.raises(ProviderError, match="exit code 76"):
        await provider.control("restart", bad, token=(6, 3), log_id=LOG)


async def test_a_running_command_of_an_older_epoch_is_ended_with_its_children(kit: Kit) -> None:
    """A start command that hangs is ended by the first step of a new epoch, before that step looks at anything."""
    pids = kit.root / "pids"
    hangs = f"sleep 1000 & echo $! $$ >{pids}.new; mv {pids}.new {pids}; wait"
    provider, _, take = await deployed(kit)
    old = kit.context(service=Service(start=hangs, stop="true", status="false"))
    ended: list[FraisierError] = []

    async def late() -> None:
        try:
            await provider.control("restart", old, token=(5, 60), log_id=LOG)
        except FraisierError as error:
            ended.append(error)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(late)
            await until(pids.exists)
            acting = [int(word) for word in pids.read_text().split()]
            # The same epoch does not end what runs; a newer one does.
            await take("preflight", (5, 61), by=kit.provider())
            assert all(is_running(pid) for pid in acting)
            await take("preflight", (6, 62), by=kit.provider())
            assert not any(is_running(pid) for pid in acting)
    assert "signal 15" in ended[0].message
    with pytest.raises(FencedError):
        await take("switch", (5, 63))


async def test_a_script_that_waits_is_ended_with_its_shell(kit: Kit) -> None:
    """A stop that waits for a stubborn process loses its standing shell to the new holder; the outcome is in doubt."""
    stubborn = Service(
        process="sh -c 'trap \"\" TERM; echo >ready; while :; do sleep 1; done'", stop_timeout_s=60
    )
    _, _, take = await deployed(kit, service=stubborn)
    await until((kit.app() / "releases/r1/ready").exists)
    lost: list[FraisierError] = []

    async def late() -> None:
        try:
            await take("restart", (5, 60), "r1")
        except FraisierError as error:
            lost.append(error)

    busy = kit.app() / ".fraisier"
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(late)
            await until(lambda: any(f.read_text() == "busy\n" for f in busy.glob("fence-*-000000000060.*")))
            await take("preflight", (6, 61), by=kit.provider())
    assert isinstance(lost[0], ProviderConnectionError) and lost[0].context["in_doubt"] is True
    with pytest.raises(FencedError):
        await take("restart", (5, 60), "r1")


async def test_an_idle_shell_of_another_deployment_is_left_alone(kit: Kit) -> None:
    """A standing shell that has done its script serves on, whatever epoch comes: it is shared by targets."""
    provider, _, take = await deployed(kit)
    lane_pids = {f.name.split(".")[2] for f in (kit.app() / ".fraisier").glob("fence-*.[0-9]*")}
    await take("switch", (6, 1), by=kit.provider())
    assert lane_pids and all(is_running(int(pid)) for pid in lane_pids)
    await take("switch", (6, 2), "r1", by=provider)
    assert os.readlink(kit.app() / "current") == "releases/r1"


async def test_one_shell_that_served_both_epochs_does_not_end_itself(tmp_path: Path) -> None:
    """A registration of one's own process group is none to end, even when it was left busy."""
    app = state_of(tmp_path / "app")
    environment = {"PATH": os.environ["PATH"]}
    transport = LocalTransport(environment, lanes=(lanes := Lanes(environment, grace_s=1.0)))
    try:
        assert (await transport.shell(guarded(fence(app, 1, 1), "echo $$"))).exit_code == 0
        for file in app.glob(".fraisier/fence-*"):
            file.write_text("busy\n")
        done = await transport.shell(guarded(fence(app, 2, 2), "echo again; false"))
        assert (done.exit_code, done.stdout) == (1, "again\n")
        assert next(app.rglob("fence-*.0000000002-*")).read_text() == "idle\n"
    finally:
        await lanes.aclose()


async def test_another_journal_counts_for_itself(kit: Kit) -> None:
    """Tokens of a store that was made anew begin at the beginning, and are not refused for those of the lost one."""
    _, _, take = await deployed(kit)
    with pytest.raises(FencedError):
        await take("switch", (1, 1))
    await take("switch", (1, 1), log_id=OTHER_LOG)
    assert os.readlink(kit.app() / "current") == "releases/r2"


async def test_without_a_journal_nothing_is_fenced_and_nothing_is_made_before_its_time(kit: Kit) -> None:
    """A preflight, a stop and a cleanup leave an app alone that is not there; a call without a log id is not fenced."""
    provider, context = kit.provider(), kit.context(service=SERVICE)
    for step in ("preflight", "cleanup"):
        await kit.call(provider, context, step, "r1", token=(1, 1), log_id=LOG)
    await provider.control("stop", context, token=(1, 2), log_id=LOG)
    assert not kit.app().exists()
    await kit.deploy(provider, context, "r1")
    assert not list(kit.app().rglob("fence-*"))
    await kit.call(provider, context, "preflight", "r1", token=(1, 3), log_id=LOG)
    assert len(list((kit.app() / ".fraisier").glob("fence-*"))) == 1


async def test_unfinished_releases_are_replaced_also_without_a_fence_directory(kit: Kit) -> None:
    """A release that an older version of ours left half-staged is staged anew, with a fence from then on."""
    half = kit.app() / "releases/r1"
    half.mkdir(parents=True)
    (half / ".fraisier-release").touch()
    (half / "left").touch()
    provider, context = kit.provider(), kit.context()
    artifact = await provider.resolve(context.settings, "")
    more = {"artifact": artifact, "version": artifact.version, "token": (1, 1), "log_id": LOG}
    await kit.call(provider, context, "stage", "r1", **more)
    assert not (half / "left").exists() and (half / "version.txt").read_text() == "v1"
    again = await kit.call(provider, context, "stage", "r1", **{**more, "token": (1, 2)})
    assert again["unchanged"] is True


def run(shell: list[str], text: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*shell, "-c", text], capture_output=True, text=True, start_new_session=True, timeout=30, **more
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_what_stands_in_the_directories_does_no_harm(shell: list[str], tmp_path: Path) -> None:
    """Torn and empty registrations, leftovers of another boot, of reused numbers, and foreign files end nobody, and
    neither refuse nor let pass anything."""
    app = state_of(tmp_path / "an app's $HOME; *")
    assert run(shell, guarded(fence(app, 1, 1), "true")).returncode == 0
    space = next((app / ".fraisier").glob("fence-*")).name.partition(".")[0]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().partition("-")[0]
    token = fence(app, 1, 2).token
    bystander = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        start = Path(f"/proc/{bystander.pid}/stat").read_text().rpartition(")")[2].split()[19]
        for name in (
            f"{token}.{bystander.pid}.{start}.ffffffff",  # another boot
            f"{token}.{bystander.pid}.1.{boot}",  # the number was given away again
            f"{token}.1.1.{boot}",
            f"{token}.0.0.{boot}",
            f"{token}.-1.0.{boot}",
            f"{token}.x.y.z",
            f"{token}.",
            "zzz",
            f"x{token}.{bystander.pid}.{start}.{boot}",
            f"{token}0.{bystander.pid}.{start}.{boot}",
        ):
            (app / ".fraisier" / f"{space}.{name}").touch()
        for name in ("9", f"{token}.swp", ".hidden", "9999999999", "9999999999-99999999999x", f"{token}"):
            (app / ".fraisier" / f"{space}.{name}").touch()
        done = run(shell, guarded(fence(app, 2, 1), "echo did"))
        assert (done.returncode, done.stdout, done.stderr) == (0, "did\n", "")
        assert bystander.poll() is None
        # Torn or empty, and really ours: it acts.
        (app / ".fraisier" / f"{space}.{token}.{bystander.pid}.{start}.{boot}").write_text("id")
        assert run(shell, guarded(fence(app, 3, 1), "echo did")).returncode == 0
        assert bystander.wait(5) == -signal.SIGTERM
    finally:
        with suppress(ProcessLookupError):
            bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_token_decides_in_every_shell(shell: list[str], tmp_path: Path) -> None:
    """Highest name wins, whatever the files hold; a user's command keeps its words, its exit code and its variables."""
    app = state_of(tmp_path / "app")
    assert run(shell, guarded(fence(app, 2, 10), "echo a; false")).returncode == 1
    refused = run(shell, guarded(fence(app, 2, 9), "echo b"))
    assert (refused.returncode, refused.stdout) == (76, "")
    assert refused.stderr.startswith(
        f"fenced: {fence(app, 2, 9).token} is refused, for {fence(app, 2, 10).token}"
    )
    assert run(shell, command(fence(app, 1, 11), "echo c")).returncode == 76
    done = run(
        shell,
        command(fence(app, 2, 11), 'unset BASH_EXECUTION_STRING; set; echo "=$#"; exit 7'),
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 7 and "\n=0\n" in done.stdout and "_fr_" not in done.stdout
    words = subprocess.run(
        argv(fence(app, 2, 12), ["printf", "<%s>", "a b", "*", ""]), capture_output=True, text=True
    )
    assert words.stdout == "<a b><*><>"
    assert run(shell, argv(fence(app, 2, 11), ["echo", "x"])[2]).returncode == 76


def test_old_files_do_not_pile_up(tmp_path: Path) -> None:
    """A new epoch removes what older ones left once that is more than a few files."""
    app = state_of(tmp_path / "app")
    for seq in range(1, 25):
        assert run(["sh"], guarded(fence(app, 1, seq), "true")).returncode == 0
    assert run(["sh"], guarded(fence(app, 2, 30), "true")).returncode == 0
    left = [path.name.split(".")[1] for path in (app / ".fraisier").glob("fence-*.0*-*")]
    assert left == [fence(app, 2, 30).token]
    assert run(["sh"], guarded(fence(app, 1, 29), "true")).returncode == 76


def test_a_command_that_ignores_term_is_killed(tmp_path: Path) -> None:
    """After a short grace the group is killed, and only then the new holder acts."""
    app = state_of(tmp_path / "app")
    text = command(fence(app, 1, 1), "trap '' TERM; echo ready; while :; do sleep 1; done")
    with subprocess.Popen(["sh", "-c", text], stdout=subprocess.PIPE, start_new_session=True) as old:
        assert old.stdout is not None and old.stdout.readline() == b"ready\n"
        assert run(["sh"], guarded(fence(app, 2, 2), "true")).returncode == 0
        assert old.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize("number", range(4))
def test_in_a_race_the_older_is_refused_or_ended(number: int, tmp_path: Path) -> None:
    """Of two that begin at once, the older never acts when the newer one does: it refused, or it was seen and ended."""
    app = state_of(tmp_path / "app")
    fates = set()
    for race in range(50):
        old_text = command(fence(app, 2 * race + 1, race), f"echo acts >{app}/old; exec sleep 1000")
        new_text = command(fence(app, 2 * race + 2, race), "exit 0")
        delay = f"i=0; while [ $i -lt {(race * 37 + number * 11) % 120} ]; do i=$((i + 1)); done\n"
        shell = HERE[race % len(HERE)]
        texts = (old_text, delay * 4 + new_text) if race % 2 else (delay + old_text, delay * 2 + new_text)
        old, new = (
            subprocess.Popen([*shell, "-c", text], stderr=subprocess.DEVNULL, start_new_session=True)
            for text in texts
        )
        try:
            assert new.wait(20) == 0
            end = time.monotonic() + 5
            while old.poll() is None:
                assert time.monotonic() < end, "the older one was neither fenced nor seen"
                time.sleep(0.001)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(old.pid, signal.SIGKILL)
            old.wait()
            new.kill()
            new.wait()
        assert old.returncode in (76, -signal.SIGTERM)
        fates.add(old.returncode)
    assert fates
