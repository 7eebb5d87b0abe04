"""Builds on the orchestrator: once for all targets, in a private directory, shipped as an artifact of its own.

The commands run as jobs, so that a build whose process was killed is gone on with by the next one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from fraisier.config.resolve import Resolver
from fraisier.config.schema import Environment
from fraisier.config.template import Name, pieces
from fraisier.errors import BuildError, DeploymentTimeoutError, FraisierError, ProviderUnavailableError
from fraisier.providers.base import Artifact
from fraisier.providers.jobs import Command, JobName, Jobs, OpenDoor, is_sound
from fraisier.providers.outcome import failed
from fraisier.providers.sources.cache import Cache, short_hash
from fraisier.providers.sources.tarball import snapshot
from fraisier.transports.base import OnOutput, Transport
from fraisier.transports.child import run_child
from fraisier.transports.local import LocalTransport


class BuildJob(msgspec.Struct, frozen=True):
    """What to build. `names` may stand in templates; a target's may not, since the result is for all of them."""

    artifact: Artifact
    settings: Environment
    names: Mapping[str, str]
    deployment_id: str
    on_output: OnOutput | None = None


class Builder:
    """Builds each job once; a build that failed has failed for every target."""

    def __init__(self, cache: Cache, resolver: Resolver, environ: Mapping[str, str]) -> None:
        self._cache = cache
        self._resolver = resolver
        self._environ = environ
        self._failures: dict[str, FraisierError] = {}

    async def built(self, job: BuildJob) -> Artifact:
        """Return the artifact with `build` done. Raises ProviderError, DeploymentTimeoutError, ConfigurationError."""
        recipe = msgspec.json.encode(
            [job.settings.build, job.settings.env, job.deployment_id, job.artifact.digest]
        ).decode()
        name = f"built-{job.artifact.version[:40]}-{short_hash(recipe)}"
        file = self._cache.artifact(f"built:{job.artifact.file.rpartition('/')[0]}", name)
        async with self._cache.locked(str(file)):
            if name in self._failures:
                raise self._failures[name]
            if not self._cache.has(file):
                try:
                    await self._build(job, file)
                except FraisierError as error:
                    if not error.recoverable:
                        self._failures[name] = error
                    raise
        return msgspec.structs.replace(job.artifact, file=str(file))

    async def end(self, job: BuildJob) -> None:
        """End what an earlier process builds here for the same fraise and environment, if it does, and remove it."""
        if job.settings.build_on != "orchestrator" or not job.settings.build:
            return
        floor = self._cache.path("builds", _floor(job), "any").parent
        transport = LocalTransport(self._environ)
        try:
            for room in await anyio.to_thread.run_sync(_directories, floor):
                await _demolish(transport, room)
        finally:
            with anyio.CancelScope(shield=True):
                await transport.aclose()

    async def _build(self, job: BuildJob, file: Path) -> None:
        limit_s = job.settings.build_timeout_s
        # The place is the same for the next process, should this one be killed. One deployment at a time has the lease, so
        # that what lies beside it belongs to deployments that are over.
        room = self._cache.path("builds", _floor(job), file.stem, "release").parent
        transport = LocalTransport(self._environ)
        try:
            with anyio.move_on_after(limit_s) as scope:
                for other in await anyio.to_thread.run_sync(_directories, room.parent):
                    if other != room:
                        await _demolish(transport, other)
                try:
                    await self._build_in(room, transport, job, file)
                finally:
                    with anyio.CancelScope(shield=True):
                        await anyio.to_thread.run_sync(_remove, room)
        finally:
            with anyio.CancelScope(shield=True):
                await transport.aclose()
        if scope.cancelled_caught:
            raise DeploymentTimeoutError(
                f"the build on the orchestrator took longer than build_timeout ({limit_s:g} s)",
                recoverable=False,
            )

    async def _build_in(self, room: Path, transport: Transport, job: BuildJob, file: Path) -> None:
        jobs, tree = _jobs(transport, room), room / "release"
        lives = [receipt.name.attempt for receipt in await jobs.survey()]
        life = max(lives, default=0) + 1
        of = JobName(job.deployment_id or "-", "build", life)
        begun = await jobs.begun(of.deployment_id, of.step, before=life) if lives else {}
        if not is_sound(begun):
            begun = {}
            await _demolish(transport, room)
            await self._unpack(job, tree)
        env = self._env(job, tree)
        for number, template in enumerate(job.settings.build, 1):
            text, secrets = self._resolver.command(template, job.names, where=f"build.{number}")
            if number not in begun and lives:
                # A launch of the process before us may still be on its way.
                late = await jobs.settle(JobName(of.deployment_id, of.step, life - 1, number))
                begun |= {number: late} if late.begun else {}
            if number in begun:
                done = await jobs.follow(begun[number].name, on_output=job.on_output)
            else:
                command = Command(text, str(tree), {**env, **secrets})
                name = msgspec.structs.replace(of, number=number)
                done = await jobs.run(name, command, on_output=job.on_output)
            if done.exit_code != 0:
                raise failed("build on the orchestrator", template, done, BuildError)
        with self._cache.new_file(file) as temporary:
            await anyio.to_thread.run_sync(snapshot, tree, temporary)

    async def _unpack(self, job: BuildJob, tree: Path) -> None:
        await anyio.to_thread.run_sync(_make, tree)
        done = await run_child(["tar", "-xof", job.artifact.file, "-C", str(tree)], env=self._environ)
        if done.exit_code != 0:
            raise ProviderUnavailableError(f"cannot unpack {job.artifact.file}: {done.stderr.strip()}")

    def _env(self, job: BuildJob, tree: Path) -> dict[str, str]:
        own = {
            name: self._resolver.text(value, job.names, where=f"env.{name}")
            for name, value in job.settings.env.items()
            if not _of_a_target(value)
        }
        facts = {
            "FRAISIER_FRAISE": job.names.get("fraise", ""),
            "FRAISIER_ENVIRONMENT": job.names.get("environment", ""),
            "FRAISIER_VERSION": job.artifact.version,
            "FRAISIER_RELEASE_PATH": str(tree),
            "FRAISIER_DEPLOYMENT_ID": job.deployment_id,
        }
        return {**self._environ, **own, **facts}


def _floor(job: BuildJob) -> str:
    """Return the name of the directory that all builds of a fraise in an environment share."""
    return short_hash(f"{job.names.get('fraise', '')}:{job.names.get('environment', '')}")


def _jobs(transport: Transport, room: Path) -> Jobs:
    where = "the orchestrator"
    return Jobs(OpenDoor(transport, where), str(room / "jobs"), where=where)


async def _demolish(transport: Transport, room: Path) -> None:
    """End what is built in a place, and remove it."""
    jobs = _jobs(transport, room)
    for receipt in await jobs.survey():
        await jobs.end(receipt.name)
    await anyio.to_thread.run_sync(_remove, room)


def _remove(room: Path) -> None:
    # Jobs go first: a tree that is half removed must not be gone on with.
    shutil.rmtree(room / "jobs", ignore_errors=True)
    shutil.rmtree(room, ignore_errors=True)


def _make(tree: Path) -> None:
    tree.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    tree.mkdir()


def _directories(floor: Path) -> list[Path]:
    return [path for path in floor.iterdir() if path.is_dir()] if floor.is_dir() else []


def _of_a_target(value: str) -> bool:
    """Whether a value differs between targets, so that a build for all of them cannot have it."""
    return any(isinstance(piece, Name) and piece.name.startswith("target.") for piece in pieces(value))
