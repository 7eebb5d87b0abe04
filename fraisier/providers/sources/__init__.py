"""Where versions come from: git, an archive, a directory. Everything here happens on the orchestrator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fraisier.clock import Clock
from fraisier.config.resolve import Resolver
from fraisier.config.schema import Environment
from fraisier.errors import ProviderConfigurationError, ProviderError
from fraisier.providers.base import Artifact, ConnectionGuard, always_open
from fraisier.providers.sources.archive import ArchiveSource
from fraisier.providers.sources.built import Builder, BuildJob
from fraisier.providers.sources.cache import Cache
from fraisier.providers.sources.directory import DirectorySource
from fraisier.providers.sources.git import GitSource
from fraisier.providers.sources.remote import parse_remote

__all__ = ["BuildJob", "Sources"]

_NAME_MAX = 200


class Sources:
    """The sources of one deployment: each repository is fetched once, each build done once."""

    def __init__(
        self,
        *,
        cache_dir: str,
        resolver: Resolver,
        environ: Mapping[str, str],
        clock: Clock,
        guard: ConnectionGuard = always_open,
    ) -> None:
        self._cache = Cache(cache_dir)
        self._resolver = resolver
        self._environ = environ
        self._clock = clock
        self._guard = guard
        self._git: dict[str, GitSource] = {}
        self._in_use: set[Path] = set()
        self._builder = Builder(self._cache, resolver, environ)

    async def resolve(self, settings: Environment, ref: str) -> Artifact:
        """Return what `ref` means in the environment's source, with its tar in the cache."""
        if len(ref) > _NAME_MAX or not ref.isprintable():
            raise ProviderConfigurationError(f"{ref[:_NAME_MAX]!r} cannot be a version")
        source = settings.source
        if source is None:
            raise ProviderConfigurationError(
                "there is no source: set git_repo, or source with git, archive or path"
            )
        if source.git:
            artifact = await self._repository(self._address(source.git, "source.git")).resolve(
                ref, settings.branch
            )
        elif source.archive:
            address = self._address(source.archive, "source.archive")
            artifact = await ArchiveSource(address, source.sha256, self._cache, self._guard).resolve(ref)
        elif source.path:
            path = self._text(source.path, "source.path")
            artifact = await DirectorySource(path, self._cache).resolve(ref)
        else:
            raise ProviderConfigurationError("source needs one of git, archive and path")
        self._use(artifact)
        return artifact

    async def present(self, settings: Environment, artifact: Artifact) -> Artifact:
        """Return the artifact with its file surely there; one that the cache has lost is made again from the source.

        Raises ProviderError when the source gives something else by now.
        """
        if artifact.file and self._cache.has(Path(artifact.file)):
            self._use(artifact)
            return artifact
        again = await self.resolve(settings, artifact.version if artifact.kind == "git" else artifact.ref)
        if again.digest != artifact.digest:
            raise ProviderError(
                f"the source is not what was planned any more: {artifact.digest[:12]} became {again.digest[:12]}",
                hint="deploy again, so that the plan is made for what is there now",
            )
        return again

    async def built(self, job: BuildJob) -> Artifact:
        """Return the artifact with the environment's `build` done on this machine."""
        artifact = await self._builder.built(job)
        self._use(artifact)
        return artifact

    async def end_build(self, job: BuildJob) -> None:
        """End what an earlier process builds on this machine for the same fraise and environment."""
        await self._builder.end(job)

    async def prune(self) -> None:
        """Bound the cache: the newest artifacts of each source that was used here stay."""
        for folder in {path.parent for path in self._in_use}:
            await self._cache.prune(folder, self._in_use.__contains__, now_s=self._clock.now_us() / 1e6)

    def _use(self, artifact: Artifact) -> None:
        self._in_use.add(Path(artifact.file))

    def _repository(self, address: str) -> GitSource:
        if address not in self._git:
            self._git[address] = GitSource(parse_remote(address), self._cache, self._environ, self._guard)
        return self._git[address]

    def _address(self, template: str, where: str) -> str:
        return self._resolver.address(template, {}, where=where)

    def _text(self, template: str, where: str) -> str:
        return self._resolver.text(template, {}, where=where)
