"""The orchestrator's cache of artifacts: bounded, shared by processes, complete files only."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread

from fraisier.errors import ProviderUnavailableError

KEEP = 20
"""How many artifacts of a source stay."""
YOUNG_S = 3600.0
"""An artifact that was used within this time may be in use by another process, and stays."""
_LOCK_POLL_S = 0.05


class Cache:
    """A directory of ours; everything in it can be made again."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)

    def path(self, *parts: str) -> Path:
        """Return a path in the cache; its directory exists. Raises ProviderUnavailableError."""
        path = self.directory.joinpath(*parts)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ProviderUnavailableError(
                f"the cache {path.parent} cannot be written: {error.strerror}",
                cause=error,
                hint="set --store (the cache lies beside it) to a directory that you can write",
            ) from error
        return path

    def artifact(self, source: str, version: str, *, suffix: str = "tar") -> Path:
        """Return where the artifact of a version is kept. `source` may be any text."""
        safe = version if version.replace("-", "").isalnum() and len(version) <= 100 else short_hash(version)
        return self.path("artifacts", short_hash(source), f"{safe}.{suffix}")

    def has(self, artifact: Path) -> bool:
        """Whether the artifact is there; using it keeps it from being removed."""
        with suppress(OSError):
            os.utime(artifact)
            return True
        return False

    @contextmanager
    def new_file(self, artifact: Path) -> Iterator[Path]:
        """Give a temporary path that becomes `artifact` by renaming when the block ends well."""
        temporary = artifact.with_name(f".{artifact.name}.{os.getpid()}.{time.monotonic_ns():x}")
        try:
            yield temporary
            temporary.replace(artifact)
        finally:
            temporary.unlink(missing_ok=True)

    @asynccontextmanager
    async def locked(self, name: str) -> AsyncIterator[None]:
        """Hold a lock against other processes; waits as long as the caller's scope allows."""
        path = self.path("locks", short_hash(name))
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await anyio.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(handle)

    async def prune(self, directory: Path, in_use: Callable[[Path], bool], *, now_s: float) -> None:
        """Remove all but the newest artifacts in a directory, never one that is or may be in use."""
        await anyio.to_thread.run_sync(self._prune, directory, in_use, now_s)

    def _prune(self, directory: Path, in_use: Callable[[Path], bool], now_s: float) -> None:
        found: list[tuple[float, Path]] = []
        for path in directory.iterdir():
            with suppress(OSError):
                found.append((path.stat().st_mtime, path))
        for used_s, path in sorted(found, reverse=True)[KEEP:]:
            if now_s - used_s > YOUNG_S and not in_use(path):
                with suppress(OSError):
                    path.unlink()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a private empty directory that is gone afterwards."""
        path = self.path("scratch", f"{os.getpid()}-{time.monotonic_ns():x}")
        path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def short_hash(text: str) -> str:
    """Return a name for any text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]
