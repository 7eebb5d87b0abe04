"""Versions that are archives: a file of this machine or a download, with its digest."""

from __future__ import annotations

import importlib
from pathlib import Path

import anyio.to_thread

from fraisier.errors import ProviderConfigurationError
from fraisier.providers.base import Artifact, ConnectionGuard, always_open
from fraisier.providers.sources.cache import Cache
from fraisier.providers.sources.remote import server_of
from fraisier.providers.sources.tarball import digest_of, normalise
from fraisier.redaction import UnreadableURLError, mask_address, read_url

_SHORT = 12


class ArchiveSource:
    """One archive. `address` is a path or an http(s) URL (resolved), `sha256` what its content must be."""

    def __init__(self, address: str, sha256: str, cache: Cache, guard: ConnectionGuard = always_open) -> None:
        self._address = address
        self._sha256 = sha256.strip().lower()
        self._cache = cache
        self._guard = guard
        self._shown = mask_address(address)
        if self._is_url and not self._sha256:
            raise ProviderConfigurationError("source.sha256 is needed with the URL of an archive")
        if self._is_url:
            try:
                read_url(address)
            except UnreadableURLError as error:
                raise ProviderConfigurationError(f"source.archive: {error}") from None

    @property
    def _is_url(self) -> bool:
        return self._address.startswith(("http://", "https://"))

    async def resolve(self, ref: str) -> Artifact:
        """Return the archive under the name `ref` (empty: the first digits of its digest).

        Raises ProviderConfigurationError.
        """
        async with self._cache.locked(self._shown):
            if self._sha256:
                file = self._cache.artifact(self._shown, self._sha256)
                if self._cache.has(file):
                    return self._artifact(ref, self._sha256, file)
            return await (self._downloaded(ref) if self._is_url else self._taken(ref, self._path()))

    async def _downloaded(self, ref: str) -> Artifact:
        fetcher = importlib.import_module("fraisier.providers.sources.download")
        with self._cache.scratch() as scratch:
            raw = scratch / (self._shown.rpartition("/")[2] or "archive")
            async with self._guard(server_of(self._address)):
                digest: str = await fetcher.download(self._address, raw)
            return await self._kept(ref, raw, digest)

    async def _taken(self, ref: str, path: Path) -> Artifact:
        try:
            digest = await anyio.to_thread.run_sync(digest_of, path)
        except OSError as error:
            raise ProviderConfigurationError(
                f"source.archive: {path} cannot be read: {error.strerror}"
            ) from error
        return await self._kept(ref, path, digest)

    async def _kept(self, ref: str, raw: Path, digest: str) -> Artifact:
        if self._sha256 and digest != self._sha256:
            raise ProviderConfigurationError(
                f"{self._shown} is not what source.sha256 says: its digest is {digest}",
                context={"expected": self._sha256, "found": digest},
                hint="check where the archive came from before you change source.sha256",
            )
        file = self._cache.artifact(self._shown, digest)
        if not self._cache.has(file):
            with self._cache.new_file(file) as temporary:
                await anyio.to_thread.run_sync(normalise, raw, temporary)
        return self._artifact(ref, digest, file)

    def _artifact(self, ref: str, digest: str, file: Path) -> Artifact:
        return Artifact(
            version=ref or digest[:_SHORT], ref=ref, kind="archive", digest=digest, file=str(file)
        )

    def _path(self) -> Path:
        return Path(self._address.removeprefix("file://")).expanduser().absolute()
