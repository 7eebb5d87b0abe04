"""A rollout to 50 local targets against the same work done by plain asyncio subprocesses.

The work: fetch a git repository once, export a commit for each target, switch each target's link, start each target's
service, probe each service once with `true`, which passes at once. The plain program does nothing else; Fraisier also plans,
journals, leases, reads back and reports. Both do at most 32 targets at once, on the same machine, in turn.

    python benchmarks/rollout.py [--rounds N] [--targets N]

Prints wall-clock ratios as min, median, max. Exits 1 when the median is above the limit. Single rounds spread by half, so
that the median of a few says little.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from fraisier import Orchestrator
from fraisier.config.schema import Config, Environment, Fraise, HealthCheck, Rollout, Service, Source, Target

LIMIT = 1.3
PARALLEL = 32
SERVICE = "sleep 1000"


def make_repository(root: Path) -> Path:
    """Make a repository of 40 small files with one commit."""
    repository = root / "repository"
    repository.mkdir()
    for number in range(40):
        (repository / f"module_{number}.py").write_text(f"VALUE = {number}\n" * 50)
    author = ["-c", "user.name=b", "-c", "user.email=b@example.com"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*author, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *words], cwd=repository, check=True)
    return repository


async def sh(script: str, *arguments: str) -> None:
    """Run a script to its end."""
    process = await asyncio.create_subprocess_exec("sh", "-c", script, "sh", *arguments)
    if await process.wait():
        raise RuntimeError(script)


async def plain_target(limit: asyncio.Semaphore, mirror: Path, root: Path) -> None:
    """Do the work of one target."""
    async with limit:
        release = root / "releases" / "1"
        release.mkdir(parents=True)
        await sh('git -C "$1" archive main | tar -x -C "$2"', str(mirror), str(release))
        await sh('ln -s releases/1 "$1/current.new" && mv -T "$1/current.new" "$1/current"', str(root))
        await sh(
            'cd "$1/current" && { setsid sh -c "exec $2" >"$1/log" 2>&1 </dev/null & }', str(root), SERVICE
        )
        await sh("true")


async def plain(repository: Path, work: Path, count: int) -> None:
    """The same work without Fraisier."""
    mirror = work / "mirror.git"
    await sh('git clone -q --mirror "$1" "$2"', str(repository), str(mirror))
    limit = asyncio.Semaphore(PARALLEL)
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(plain_target(limit, mirror, work / f"t{number}"))


def configured(repository: Path, work: Path, count: int) -> Config:
    """Return the work as a configuration."""
    settings = Environment(
        provider="local",
        targets=tuple(Target(name=f"t{number}") for number in range(count)),
        source=Source(git=str(repository)),
        app_path=f"{work}/{{{{ target.name }}}}",
        service=Service(process=SERVICE),
        health_check=HealthCheck(type="exec", command=("true",), rise=1, interval_s=0.01),
        rollout=Rollout(strategy="all_at_once", max_parallel=PARALLEL),
    )
    return Config(fraises={"api": Fraise(name="api", environments={"production": settings})})


async def ours(repository: Path, work: Path, count: int) -> None:
    """The work as a deployment."""
    config = configured(repository, work, count)
    async with Orchestrator(config, f"sqlite:///{work}/state/fraisier.db") as orchestrator:
        result = await orchestrator.deploy("api", "production")
    if result.outcome != "succeeded":
        raise RuntimeError(f"{result.outcome}: {result.detail}")


def end_services(work: Path) -> None:
    """Kill every process that lives below `work`."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str((entry / "cwd").readlink()).startswith(str(work)):
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue


def timed(what, repository: Path, root: Path, count: int) -> float:  # type: ignore[no-untyped-def]
    """Return the wall seconds of one run."""
    work = root / what.__name__
    work.mkdir()
    started = time.perf_counter()
    asyncio.run(what(repository, work, count))
    took = time.perf_counter() - started
    end_services(work)
    shutil.rmtree(work)
    return took


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--targets", type=int, default=50)
    options = parser.parse_args()
    ratios, mine, theirs = [], [], []
    with tempfile.TemporaryDirectory(prefix="fraisier-bench-") as name:
        root = Path(name)
        repository = make_repository(root)
        timed(ours, repository, root, 2)
        for _ in range(options.rounds):
            theirs.append(timed(plain, repository, root, options.targets))
            mine.append(timed(ours, repository, root, options.targets))
            ratios.append(mine[-1] / theirs[-1])
    median = statistics.median(ratios)
    print(
        f"{options.targets} targets, {options.rounds} rounds; seconds: plain {statistics.median(theirs):.3f}, "
        f"fraisier {statistics.median(mine):.3f}"
    )
    print(
        f"fraisier / plain: min {min(ratios):.2f}, median {median:.2f}, max {max(ratios):.2f}; limit {LIMIT}"
    )
    return 0 if median <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
