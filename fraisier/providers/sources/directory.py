"""Versions that are snapshots of a directory of this machine."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread

from fraisier.errors import ProviderConfigurationError
from fraisier.providers.base import Artifact
from fraisier.providers.sources.cache import Cache
from fraisier.providers.sources.tarball import snapshot

_SHORT = 12


class DirectorySource:
    """One directory; each content of it is a version."""

    def __init__(self, path: str, cache: Cache) -> None:
        self._path = Path(path).expanduser().absolute()
        self._cache = cache

    async def resolve(self, ref: str) -> Artifact:
        """Return the present content under the name `ref` (empty: the first digits of its digest).

        The digits of an earlier content give that one again, as long as the cache has it.
        """
        if not self._path.is_dir():
            raise ProviderConfigurationError(f"source.path: {self._path} is not a directory")
        async with self._cache.locked(str(self._path)):
            earlier = self._earlier(ref)
            return earlier or await self._present(ref)

    async def _present(self, ref: str) -> Artifact:
        with self._cache.scratch() as scratch:
            made = scratch / "snapshot.tar"
            digest = await anyio.to_thread.run_sync(self._snapshot, made)
            file = self._cache.artifact(str(self._path), digest)
            made.replace(file)
            return self._artifact(ref, digest, file)

    def _snapshot(self, output: Path) -> str:
        return snapshot(self._path, output, leave_out=(self._cache.directory,))

    def _earlier(self, ref: str) -> Artifact | None:
        if len(ref) != _SHORT or not set(ref) <= set("0123456789abcdef"):
            return None
        folder = self._cache.artifact(str(self._path), "x").parent
        found = sorted(folder.glob(f"{ref}*.tar"))
        return (
            self._artifact("", found[0].stem, found[0])
            if len(found) == 1 and len(found[0].stem) == 64
            else None
        )

    def _artifact(self, ref: str, digest: str, file: Path) -> Artifact:
        return Artifact(version=ref or digest[:_SHORT], ref=ref, kind="path", digest=digest, file=str(file))
