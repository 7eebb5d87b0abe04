"""Long commands as jobs: started once, followed, found again, ended with all that they started."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from fraisier.errors import FencedError, InDoubtError, ProviderUnavailableError
from fraisier.providers.jobs import Command, JobName, Jobs, OpenDoor
from fraisier.transports.base import Completed
from fraisier.transports.local import LocalTransport
from tests.providers.host_kit import Kit, is_running, make_repo, marked_processes, until

NO_BUSYBOX = pytest.mark.skipif(
    not shutil.which("busybox"), reason="busybox is missing: apt-get install busybox-static"
)
SHELLS = ("dash", "bash", pytest.param("busybox", marks=NO_BUSYBOX))
NAME = JobName("dep-1", "stage")


class Room:
    """Jobs below a directory, through the standing shell of a local transport."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.transport = LocalTransport({"PATH": os.environ["PATH"], "FROM": "outside"})
        self.directory = root / "state" / "jobs"
        self.jobs = Jobs(OpenDoor(self.transport, "here"), str(self.directory), where="here", grace_s=0.3)
        self.lines: list[tuple[str, str]] = []

    async def run(self, text: str, name: JobName = NAME, **env: str) -> Completed:
        return await self.jobs.run(name, self.command(text, **env), on_output=self.hear)

    def command(self, text: str, *, durable: bool = False, **env: str) -> Command:
        return Command(text, str(self.root), env, durable)

    def hear(self, stream: str, line: str) -> None:
        self.lines.append((stream, line))

    def of(self, stream: str) -> list[str]:
        return [line for where, line in self.lines if where == stream]


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    made = Room(tmp_path)
    yield made
    await made.transport.aclose()
    kill_below(tmp_path)


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Path]:
    make_repo(tmp_path / "repo")
    yield tmp_path
    kill_below(tmp_path)


def job_processes(root: Path) -> list[int]:
    """Return living processes of jobs below a directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            told = f"FRAISIER_JOB={root}".encode() in (entry / "environ").read_bytes()
            if told and is_running(int(entry.name)):
                found.append(int(entry.name))
    return found


def kill_below(root: Path) -> None:
    for pid in marked_processes(str(root)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# what a job tells


@pytest.mark.parametrize(
    "text",
    [
        "true",
        "echo out; echo err >&2; exit 1",
        "exit 126",
        "no-such-command",
        "kill -TERM $$",
        "printf 'no end'; printf 'neither' >&2",
        "head -c 200000 /dev/zero | tr '\\0' x; echo; echo after",
        "printf 'a\\000b\\377\\303\\n\\r\\n\\n'; printf '\\303\\274' >&2",
        "cat; echo read nothing",
        "set -u; echo $0 $# $FROM $MINE $PWD; umask; trap; grep -E 'SigIgn|SigBlk' /proc/self/status",
        "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i + 1)); done",
        "echo 'not closed",
        "exec 3>kept; echo x >&3; cat kept",
    ],
)
async def test_a_job_tells_what_a_plain_run_tells(room: Room, text: str) -> None:
    """Exit code, tails and lines are those of `sh -c` in the same place with the same environment."""
    done = await room.run(text, MINE="m i n e")
    plain: list[tuple[str, str]] = []
    wanted = await room.transport.run(
        text,
        cwd=str(room.root),
        env={"MINE": "m i n e"},
        on_output=lambda stream, line: plain.append((stream, line)),
    )
    assert done == wanted
    for stream in ("stdout", "stderr"):
        assert room.of(stream) == [line for where, line in plain if where == stream]


async def test_a_directory_that_is_not_there_ends_with_126(room: Room) -> None:
    """As for a plain run: the command is not run anywhere else."""
    done = await room.jobs.run(NAME, Command("touch wrong", str(room.root / "missing"), {}))
    assert done.exit_code == 126 and "cannot enter the directory" in done.stderr


async def test_a_path_of_the_command_does_not_disturb_the_job(room: Room) -> None:
    """The PATH is the command's own; what the job needs itself is found without it."""
    (room.root / "sh").symlink_to("/bin/sh")
    done = await room.run('echo "$PATH"; mkdir x', PATH=str(room.root))
    assert (done.exit_code, done.stdout) == (127, f"{room.root}\n")


async def test_secrets_are_in_the_environment_only(room: Room) -> None:
    """No file of the job holds a value of the environment, and no command line; others cannot read its output."""
    look = "tr '\\0' ' ' </proc/$$/cmdline; tr '\\0' ' ' </proc/$PPID/cmdline; echo; echo ${#SECRET}"
    done = await room.run(look, SECRET="s3cr3t-value")
    assert done.stdout.endswith("\n12\n") and "s3cr3t" not in done.stdout
    for file in (room.directory / str(NAME)).iterdir():
        assert file.is_dir() or b"s3cr3t" not in file.read_bytes()
    assert (room.directory / str(NAME)).stat().st_mode & 0o77 == 0


# once


async def test_a_second_launch_attaches(room: Room) -> None:
    """Two launches at the same time start one command, and both tell all of its output."""
    heard: list[list[str]] = [[], []]

    async def launch(number: int) -> None:
        done = await room.jobs.run(
            NAME,
            room.command("echo x >>count; echo begun; sleep 0.3; echo done"),
            on_output=lambda stream, line: heard[number].append(line),
        )
        assert done.exit_code == 0

    async with anyio.create_task_group() as group:
        for number in range(2):
            group.start_soon(launch, number, name=f"launch-{number}")
    assert (room.root / "count").read_text() == "x\n" and heard == [["begun", "done"]] * 2


async def test_an_ended_job_tells_its_end_again(room: Room) -> None:
    """The exit code and the whole output are there for whoever asks later."""
    first = await room.run("echo x >>count; echo y; exit 3")
    assert await room.run("echo other") == first == Completed(3, "y\n", "")
    assert (await room.jobs.settle(NAME)).exit_code == 3 and (room.root / "count").read_text() == "x\n"


async def test_what_is_found_not_begun_never_begins(room: Room) -> None:
    """After the look that found no job, a launch that comes late starts nothing."""
    assert (await room.jobs.settle(NAME)).state == "void"
    with pytest.raises(ProviderUnavailableError, match="could not be started"):
        await room.run("touch begun")
    assert not (room.root / "begun").exists()
    assert [(receipt.name, receipt.state) for receipt in await room.jobs.survey()] == [(NAME, "void")]


async def test_a_launch_that_stopped_half_way_never_begins(room: Room) -> None:
    """A directory without a process id may still be one that a launch has just made: the look decides."""
    (room.directory / str(NAME)).mkdir(parents=True)
    assert [receipt.state for receipt in await room.jobs.survey()] == ["new"]
    assert (await room.jobs.settle(NAME)).state == "void"


async def test_a_wrapper_that_was_killed_leaves_doubt(room: Room) -> None:
    """Begun, without an exit code: nobody may say how it ended; what it started is ended."""
    text = "echo $$ >pid; echo $PPID >wrapper; echo begun; sleep 1000"
    with pytest.raises(InDoubtError, match="ended without an exit code"):
        async with anyio.create_task_group() as group:

            async def kill() -> None:
                await until(lambda: room.of("stdout") == ["begun"])
                os.kill(int((room.root / "wrapper").read_text()), signal.SIGKILL)

            group.start_soon(kill, name="kill")
            try:
                await room.run(text)
            except InDoubtError as error:
                raised = error
        raise raised
    assert not is_running(int((room.root / "pid").read_text()))
    assert (await room.jobs.settle(NAME)).state == "lost"


async def test_names_are_read_back(room: Room) -> None:
    """The directory's name says whose job it is; a stranger's directory is nobody's job."""
    for name in (JobName("a.b-c", "migrate", 12, 3), JobName("d", "stage-undo")):
        assert JobName.parse(str(name)) == name
    assert JobName.parse("notes") is None and JobName.parse("a.b.c.d") is None
    (room.directory / "notes").mkdir(parents=True)
    assert await room.jobs.survey() == []


# the end


async def test_what_a_command_leaves_in_its_group_goes(room: Room) -> None:
    """A child in the background does not outlive a successful command, also one that ignores TERM."""
    done = await room.run("(trap '' TERM; sleep 1000) & echo $! >child; echo done")
    assert (done.exit_code, done.stdout) == (0, "done\n")
    assert not is_running(int((room.root / "child").read_text()))


@pytest.mark.parametrize(
    "text", ["sleep 1000", "trap '' TERM; sleep 1000 & sleep 1000", "set -m; sleep 1000 & wait"]
)
async def test_cancellation_leaves_no_process(room: Room, text: str) -> None:
    """Whoever follows ends the job with everything in its session when it must not wait any longer."""
    with anyio.move_on_after(5) as scope:

        async def cancel() -> None:
            await until(lambda: room.of("stdout") == ["begun"])
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(cancel, name="cancel")
            await room.run(f"echo begun; {text}")
    assert scope.cancelled_caught and job_processes(room.directory) == []


async def test_a_cancelled_launch_starts_nothing_later(room: Room) -> None:
    """However early the cancellation comes, no process of the job is there afterwards."""
    for number in range(1, 13):
        with anyio.move_on_after(number * 0.001):
            await room.run("sleep 1000", JobName("d", "stage", 1, number))
    await until(lambda: job_processes(room.directory) == [], limit_s=2)
    assert {receipt.state for receipt in await room.jobs.survey()} <= {"void", "lost", "ended"}


async def test_a_newer_holder_keeps_its_job(room: Room) -> None:
    """Who is refused as the older holder stops following, and ends nothing."""

    class Fenced(OpenDoor, frozen=True):
        async def script(self, text: str, *, what: str, changes: bool = False) -> str:
            if room.lines:
                raise FencedError("a newer token was seen")
            return await super().script(text, what=what, changes=changes)

    jobs = Jobs(Fenced(room.transport, "here"), str(room.directory), where="here", grace_s=0.3)
    with pytest.raises(FencedError):
        await jobs.run(NAME, room.command("echo begun; sleep 0.5; echo end"), on_output=room.hear)
    assert (await room.jobs.settle(NAME)).state == "running"
    assert (await room.jobs.follow(NAME)).stdout == "begun\nend\n"


async def test_a_job_that_begins_while_somebody_looks_runs(room: Room) -> None:
    """Between reading who leads it and seeing that it has begun, it wrote who leads it."""
    place = room.directory / str(NAME)
    place.mkdir(parents=True)
    os.mkfifo(place / "rc")  # here the look waits, after it has found nobody
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        async with anyio.create_task_group() as tasks:
            seen: list[str] = []

            async def look() -> None:
                seen.extend(receipt.state for receipt in await room.jobs.survey())

            tasks.start_soon(look)
            with await anyio.to_thread.run_sync(lambda: open(place / "rc", "w")):
                stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
                boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
                (place / "pid").write_text(f"{process.pid} {stat[19]} {boot}\n")
                (place / "go").mkdir()
                (place / "rc").unlink()
        assert seen == ["running"]
    finally:
        process.kill()
        process.wait()


# every shell


class OtherShell:
    """A door whose every script runs in a new process of one shell."""

    def __init__(self, root: Path, shell: str) -> None:
        self.sh = root / "bin" / "sh"
        self.sh.parent.mkdir()
        self.sh.symlink_to(shutil.which(shell) or shell)

    async def script(self, text: str, *, what: str, changes: bool = False) -> str:
        done = await anyio.run_process([str(self.sh), "-c", text], check=False)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
        return done.stdout.decode()

    async def run(
        self, command: str | Sequence[str], *, cwd: str = "", env: Mapping[str, str] | None = None
    ) -> Completed:
        argv = [word.replace("/bin/sh", str(self.sh)) for word in command]
        done = await anyio.run_process(argv, check=False, env={**os.environ, **(env or {})})
        return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize("shell", SHELLS)
async def test_every_shell_runs_a_job(tmp_path: Path, shell: str) -> None:
    """Launch, wrapper and looks say the same in dash, bash and busybox ash."""
    jobs = Jobs(OtherShell(tmp_path, shell), str(tmp_path / "it's/jobs"), where="here", grace_s=0.2)
    texts = ["echo o; echo e >&2; exit 3", "kill -TERM $$", "sleep 1000 & echo $! >child"]
    ends = [
        await jobs.run(JobName("d", "stage", 1, number), Command(text, str(tmp_path), {}, durable=True))
        for number, text in enumerate(texts, 1)
    ]
    assert [end.exit_code for end in ends] == [3, 143, 0]
    assert (ends[0].stdout, ends[0].stderr) == ("o\n", "e\n")
    assert not is_running(int((tmp_path / "child").read_text()))
    assert (await jobs.settle(JobName("d", "stage", 2))).state == "void"
    long = JobName("d", "stage", 3)
    with anyio.move_on_after(0.5):
        await jobs.run(long, Command("trap '' TERM; sleep 1000", str(tmp_path), {}))
    assert job_processes(tmp_path) == []
    states = [receipt.state for receipt in await jobs.survey()]
    assert states == ["ended", "ended", "ended", "void", "lost"]
    await jobs.forget(await jobs.survey())
    assert list((tmp_path / "it's/jobs").iterdir()) == []


# a process that is killed


class Life:
    """One process that takes a step."""

    def __init__(self, root: Path, step: str, settings: dict[str, Any], **more: Any) -> None:
        order = json.dumps({"root": str(root), "step": step, "settings": settings, **more})
        self.log = root / f"life-{len(list(root.glob('life-*')))}"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.providers.job_process", order],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[2],
            )

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    async def killed_after(self, happened: Callable[[], bool]) -> None:
        try:
            await until(happened)
        finally:
            self.process.kill()
            self.process.wait(10)
        assert not any(line.startswith(("evidence", "error")) for line in self.lines), self.lines

    async def ended(self, limit_s: float = 20.0) -> list[str]:
        try:
            await until(lambda: self.process.poll() is not None, limit_s)
        finally:
            self.process.kill()
            self.process.wait(10)
        return self.lines


def steps_of(root: Path) -> str:
    """Return a command that says when it begins, waits for the file `go`, and notes each run in `count`."""
    return f"echo begun; echo x >>{root}/count; until [ -e {root}/go ]; do sleep 0.02; done; echo end"


@pytest.mark.parametrize("build_on", ["target", "orchestrator"])
async def test_a_build_outlives_its_orchestrator(repo: Path, build_on: str) -> None:
    """Killed in the first or the second of three builds, the next process goes on: each ran once, all output is told."""
    settings = {
        "build": ["echo first; echo 1 >>one", steps_of(repo), "echo last; cat one >three"],
        "build_on": build_on,
    }
    step = "stage" if build_on == "target" else "fetch"
    first = Life(repo, step, settings)
    await first.killed_after(lambda: "begun" in first.lines)
    second = Life(repo, step, settings, attempt=2, resumes=1)
    await second.killed_after(lambda: second.lines == ["first", "begun"])
    third = Life(repo, step, settings, attempt=3, resumes=2)
    await until(lambda: third.lines == ["first", "begun"])
    (repo / "go").touch()
    lines = await third.ended()
    assert lines[:4] == ["first", "begun", "end", "last"] and lines[4].startswith("evidence"), lines
    assert (repo / "count").read_text() == "x\n"
    if build_on == "orchestrator":
        stage = await Life(repo, "stage", settings).ended()
        assert stage[-1].startswith("evidence") and list((repo / "cache").glob("builds/*/*")) == []
    release = repo / "srv/t1/releases/r1"
    assert (release / "three").read_text() == "1\n" and (release / ".fraisier-release").read_text()


async def test_a_build_that_ended_alone_is_taken(repo: Path) -> None:
    """What ended while nobody followed counts, with its output; what it left in its group is gone all the same."""
    settings = {"build": [f"sleep 1000 & {steps_of(repo)}", "echo second"]}
    first = Life(repo, "stage", settings)
    await first.killed_after(lambda: "begun" in first.lines)
    (repo / "go").touch()
    await until(lambda: job_processes(repo) == [])
    lines = await Life(repo, "stage", settings, attempt=2, resumes=1).ended()
    assert lines[:3] == ["begun", "end", "second"] and (repo / "count").read_text() == "x\n"


async def test_a_build_that_failed_alone_is_begun_afresh(repo: Path) -> None:
    """A failed or lost build leaves a tree that is not gone on with."""
    settings = {"build": [f"touch was-here; ls; {steps_of(repo)}; [ -e {repo}/pass ]"]}
    first = Life(repo, "stage", settings)
    await first.killed_after(lambda: "begun" in first.lines)
    (repo / "go").touch()
    await until(lambda: job_processes(repo) == [])
    (repo / "pass").touch()
    lines = await Life(repo, "stage", settings, attempt=2, resumes=1).ended()
    assert lines[-1].startswith("evidence") and (repo / "count").read_text() == "x\nx\n"
    assert not (repo / "srv/t1/releases/r1/count").exists()


async def test_a_tree_that_was_removed_is_not_gone_on_with(repo: Path) -> None:
    """A failed stage takes its jobs away before its tree, so that the next attempt begins with the first build."""
    settings = {"build": [f"echo x >>{repo}/count; touch made", f"[ -e {repo}/pass ] && ls made"]}
    assert (await Life(repo, "stage", settings).ended())[-1].startswith("error BuildError")
    assert list((repo / "srv/t1/.fraisier/jobs").iterdir()) == []
    (repo / "pass").touch()
    lines = await Life(repo, "stage", settings, attempt=2, resumes=1).ended()
    assert (
        lines[0] == "made" and lines[-1].startswith("evidence") and (repo / "count").read_text() == "x\nx\n"
    )


@pytest.mark.parametrize("build_on", ["target", "orchestrator"])
async def test_a_superseded_build_is_ended(repo: Path, build_on: str) -> None:
    """A build of another deployment does not run beside the next one's."""
    settings = {"build": [steps_of(repo)], "build_on": build_on}
    first = Life(repo, "stage", settings, deployment_id="dep-old")
    await first.killed_after(lambda: "begun" in first.lines)
    old = [pid for pid in job_processes(repo) if is_running(pid)]
    second = Life(repo, "stage", settings, deployment_id="dep-new")
    await until(lambda: "begun" in second.lines)
    assert old and not any(map(is_running, old))
    (repo / "go").touch()
    assert (await second.ended())[-1].startswith("evidence") and (repo / "count").read_text() == "x\nx\n"
    assert not list(repo.glob("srv/t1/.fraisier/jobs/dep-old.*"))


async def test_a_build_that_takes_too_long_is_ended(repo: Path) -> None:
    """The deadline of a build on the orchestrator ends it within a second, with all that it started."""
    settings = {"build": ["sleep 60 & sleep 60"], "build_on": "orchestrator", "build_timeout_s": 0.5}
    lines = await Life(repo, "fetch", settings).ended(5)
    assert lines[-1].startswith("error DeploymentTimeoutError") and job_processes(repo) == []


# migrations


async def begun_migration(root: Path, **migrate: str) -> tuple[dict[str, Any], Path]:
    """Stage, begin a migration in a process that is killed, and return the settings and the job's directory."""
    settings: dict[str, Any] = {"migrate": {"command": steps_of(root), **migrate}}
    assert (await Life(root, "stage", settings).ended())[-1].startswith("evidence")
    life = Life(root, "migrate", settings)
    await life.killed_after(lambda: "begun" in life.lines)
    return settings, root / "srv/t1/.fraisier/jobs/dep-r1.migrate.1.1"


@pytest.mark.parametrize("resumes", [1, 2])
async def test_a_migration_that_never_began_is_run(repo: Path, resumes: int) -> None:
    """No receipt, or one that says that it had not begun: this attempt runs it."""
    (repo / "go").touch()
    settings = {"migrate": {"command": steps_of(repo)}}
    await Life(repo, "stage", settings).ended()
    if resumes == 2:
        (repo / "srv/t1/.fraisier/jobs/dep-r1.migrate.2.1").mkdir(parents=True)
    lines = await Life(repo, "migrate", settings, attempt=resumes + 1, resumes=resumes).ended()
    assert lines[-1].startswith("evidence") and (repo / "count").read_text() == "x\n"


@pytest.mark.parametrize("code", [0, 3])
async def test_a_migration_that_ended_alone_is_taken(repo: Path, code: int) -> None:
    """Its exit code and output are this attempt's, success or failure; it does not run again."""
    settings, job = await begun_migration(repo)
    settings["migrate"]["command"] = "touch never"
    (repo / "go").touch()
    await until((job / "rc").exists)
    (job / "rc").write_text(f"{code}\n")
    lines = await Life(repo, "migrate", settings, attempt=2, resumes=1).ended()
    assert lines[:2] == ["begun", "end"] and (repo / "count").read_text() == "x\n"
    assert lines[2].startswith("error MigrationError" if code else "evidence")


async def test_a_migration_that_runs_is_waited_for(repo: Path) -> None:
    """Also by a third process, when the second one that waited was killed too; and by a later attempt of its own."""
    settings, _ = await begun_migration(repo)
    second = Life(repo, "migrate", settings, attempt=2, resumes=1)
    await second.killed_after(lambda: "begun" in second.lines)
    third = Life(repo, "migrate", settings, attempt=3, resumes=2)
    await until(lambda: "begun" in third.lines)
    (repo / "go").touch()
    lines = await third.ended()
    assert lines[:2] == ["begun", "end"] and lines[2].startswith("evidence")
    assert (repo / "count").read_text() == "x\n"


@pytest.mark.parametrize("resume", ["manual", "rerun"])
async def test_a_migration_in_doubt_is_repeated_only_when_it_may_be(repo: Path, resume: str) -> None:
    """Begun, not running, no exit code: `manual` stops with doubt, again and again; `rerun` runs it again."""
    settings, job = await begun_migration(repo, resume=resume)
    wrapper = int((job / "pid").read_text().split()[0])
    os.kill(wrapper, signal.SIGKILL)
    other = await Life(repo, "stage", settings, deployment_id="dep-other").ended()
    assert other[-1].startswith("error ProviderUnavailableError"), "the command itself still runs"
    os.killpg(wrapper, signal.SIGKILL)
    (repo / "go").touch()
    for attempt in (2, 3):
        lines = await Life(repo, "migrate", settings, attempt=attempt, resumes=attempt - 1).ended()
        if resume == "manual":
            assert lines[-1].startswith("error InDoubtError") and (repo / "count").read_text() == "x\n"
        else:
            assert lines[-1].startswith("evidence") and (repo / "count").read_text() == "x\nx\n"


@pytest.mark.parametrize("step", ["stage", "migrate"])
async def test_a_running_migration_of_another_deployment_is_left_alone(repo: Path, step: str) -> None:
    """The next deployment is refused, with its name, and the migration goes on."""
    settings, job = await begun_migration(repo)
    lines = await Life(repo, step, settings, deployment_id="dep-other").ended()
    assert lines[-1].startswith("error ProviderUnavailableError") and "dep-r1 still runs here" in lines[-1]
    (repo / "go").touch()
    await until((job / "rc").exists)
    assert (job / "rc").read_text() == "0\n" and (repo / "count").read_text() == "x\n"


async def test_an_older_holder_cannot_end_what_the_newer_one_follows(kit: Kit) -> None:
    """The new holder attaches under its own token; when the old one is cancelled, neither job nor tree are touched."""
    context = kit.context(build=(steps_of(kit.root),))
    provider = kit.provider()
    artifact = await provider.resolve(context.settings, "")
    common: dict[str, Any] = {
        "artifact": artifact,
        "version": artifact.version,
        "log_id": "a" * 32,
        "deployment_id": "d",
    }
    heard: list[str] = []
    async with anyio.create_task_group() as group:
        old = anyio.CancelScope()

        async def older() -> None:
            with old:
                await kit.call(provider, context, "stage", "r1", token=(1, 5), **common)

        async def newer() -> None:
            hear = {"on_output": lambda stream, line: heard.append(line)}
            more = {"token": (2, 9), "attempt": 2, "resumes": 1}
            await kit.call(kit.provider(), context, "stage", "r1", **more, **hear, **common)

        plain = kit.context()
        await kit.call(provider, plain, "stage", "r0", token=(1, 1), **common)
        group.start_soon(older, name="older")
        await until(lambda: "begun" in kit.output)
        group.start_soon(newer, name="newer")
        await until(lambda: heard == ["begun"])
        old.cancel()
        await until(lambda: old.cancelled_caught)
        (kit.root / "go").touch()
    assert heard == ["begun", "end"] and (kit.root / "count").read_text() == "x\n"
    assert (kit.app() / "releases/r1/.fraisier-release").read_text()
