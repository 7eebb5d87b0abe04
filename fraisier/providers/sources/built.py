"""Builds on the orchestrator: once for all targets, in a private directory, shipped as an artifact of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from fraisier.config.resolve import Resolver
from fraisier.config.schema import Environment
from fraisier.config.template import Name, pieces
from fraisier.errors import DeploymentTimeoutError, FraisierError, ProviderUnavailableError
from fraisier.providers.base import Artifact
from fraisier.providers.outcome import failed
from fraisier.providers.sources.cache import Cache, short_hash
from fraisier.providers.sources.tarball import snapshot
from fraisier.transports.base import OnOutput
from fraisier.transports.child import run_child


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

    async def _build(self, job: BuildJob, file: Path) -> None:
        limit_s = job.settings.build_timeout_s
        with self._cache.scratch() as scratch, anyio.move_on_after(limit_s) as scope:
            tree = scratch / "release"
            tree.mkdir()
            env = self._env(job, tree)
            done = await run_child(["tar", "-xof", job.artifact.file, "-C", str(tree)], env=self._environ)
            if done.exit_code != 0:
                raise ProviderUnavailableError(f"cannot unpack {job.artifact.file}: {done.stderr.strip()}")
            for number, template in enumerate(job.settings.build, 1):
                text, secrets = self._resolver.command(template, job.names, where=f"build.{number}")
                done = await run_child(
                    ["sh", "-c", text], env={**env, **secrets}, cwd=str(tree), on_output=job.on_output
                )
                if done.exit_code != 0:
                    raise failed("build on the orchestrator", template, done)
            with self._cache.new_file(file) as temporary:
                await anyio.to_thread.run_sync(snapshot, tree, temporary)
        if scope.cancelled_caught:
            raise DeploymentTimeoutError(
                f"the build on the orchestrator took longer than build_timeout ({limit_s:g} s)",
                recoverable=False,
            )

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


def _of_a_target(value: str) -> bool:
    """Whether a value differs between targets, so that a build for all of them cannot have it."""
    return any(isinstance(piece, Name) and piece.name.startswith("target.") for piece in pieces(value))
