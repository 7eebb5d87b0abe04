"""Tars of ours: normalised, so that the same content is the same tar and nothing in it can leave its directory."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from fraisier.errors import ProviderConfigurationError, ProviderUnavailableError

MEMBERS_MAX = 1_000_000
BYTES_MAX = 16 * 1024**3


class Bounds:
    """Counts what goes into a tar. Raises ProviderConfigurationError beyond any sane release."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._members = 0
        self._bytes = 0

    def add(self, size_bytes: int) -> None:
        """Count one more member."""
        self._members += 1
        self._bytes += size_bytes
        if self._members > MEMBERS_MAX or self._bytes > BYTES_MAX:
            raise ProviderConfigurationError(
                f"{self._origin} holds more than {MEMBERS_MAX} files or {BYTES_MAX >> 30} GiB: it is no release"
            )


def normalise(archive: Path, output: Path) -> None:
    """Write the content of a tar (any compression that Python knows) or zip as a normalised tar.

    Raises ProviderConfigurationError for what is neither, and for members that would leave the release or are devices.
    """
    try:
        with tarfile.open(output, "w", format=tarfile.PAX_FORMAT) as out:
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as source:
                    _from_zip(source, out, archive.name)
            else:
                with tarfile.open(archive, "r:*") as tar:
                    _from_tar(tar, out, archive.name)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise ProviderConfigurationError(
            f"{archive.name} cannot be read as a tar or zip: {error}", cause=error
        ) from error


def snapshot(directory: Path, output: Path, *, leave_out: Iterable[Path] = ()) -> str:
    """Write a directory as a tar and return the SHA-256, in hex, of it; times and owners do not count.

    `.git` at the top and the paths in `leave_out` are left out. Raises ProviderUnavailableError for what cannot be read.
    """
    skipped = {directory / ".git", *leave_out}
    bounds = Bounds(str(directory))
    with output.open("wb") as raw, tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as out:
        for path, relative in _walk(directory, skipped):
            _add_path(out, path, relative, bounds)
    return digest_of(output)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _walk(directory: Path, skipped: set[Path]) -> Iterator[tuple[Path, str]]:
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        raise ProviderUnavailableError(
            f"{directory} cannot be read: {error.strerror}", cause=error
        ) from error
    for name in names:
        path = directory / name
        if path in skipped:
            continue
        yield path, name
        if path.is_dir() and not path.is_symlink():
            for inner, relative in _walk(path, skipped):
                yield inner, f"{name}/{relative}"


def _add_path(out: tarfile.TarFile, path: Path, relative: str, bounds: Bounds) -> None:
    try:
        info = path.lstat()
        if stat.S_ISLNK(info.st_mode):
            out.addfile(_member(relative, tarfile.SYMTYPE, linkname=str(path.readlink())))
        elif stat.S_ISDIR(info.st_mode):
            out.addfile(_member(relative, tarfile.DIRTYPE, mode=0o755))
        elif stat.S_ISREG(info.st_mode):
            with path.open("rb") as stream:
                bounds.add(info.st_size)
                mode = 0o755 if info.st_mode & 0o111 else 0o644
                out.addfile(_member(relative, tarfile.REGTYPE, mode=mode, size=info.st_size), stream)
    except OSError as error:
        # tarfile reports a file that became shorter while it was read as an OSError, too.
        raise ProviderUnavailableError(
            f"{path} cannot be read: {error.strerror or error}", cause=error
        ) from error


def _from_tar(tar: tarfile.TarFile, out: tarfile.TarFile, origin: str) -> None:
    bounds = Bounds(origin)
    for member in tar:
        name = _inside(member.name, origin)
        if not name:
            continue
        bounds.add(member.size if member.isreg() else 0)
        if member.isdir():
            out.addfile(_member(name, tarfile.DIRTYPE, mode=0o755))
        elif member.issym():
            _check_link(name, member.linkname, origin)
            out.addfile(_member(name, tarfile.SYMTYPE, linkname=member.linkname))
        elif member.islnk():
            out.addfile(_member(name, tarfile.LNKTYPE, linkname=_inside(member.linkname, origin)))
        elif member.isreg():
            stream = tar.extractfile(member)
            assert stream is not None
            out.addfile(_member(name, tarfile.REGTYPE, mode=_mode(member.mode), size=member.size), stream)
        else:
            raise ProviderConfigurationError(
                f"{origin}: {member.name!r} is a device or the like, which no release holds"
            )


def _from_zip(source: zipfile.ZipFile, out: tarfile.TarFile, origin: str) -> None:
    bounds = Bounds(origin)
    for info in source.infolist():
        name = _inside(info.filename, origin)
        if not name:
            continue
        bounds.add(info.file_size)
        mode = info.external_attr >> 16
        if info.is_dir():
            out.addfile(_member(name, tarfile.DIRTYPE, mode=0o755))
        elif stat.S_ISLNK(mode):
            target = source.read(info).decode("utf-8", "surrogateescape")
            _check_link(name, target, origin)
            out.addfile(_member(name, tarfile.SYMTYPE, linkname=target))
        else:
            with source.open(info) as stream:
                out.addfile(_member(name, tarfile.REGTYPE, mode=_mode(mode), size=info.file_size), stream)


def _member(
    name: str, kind: bytes, *, mode: int = 0o777, size: int = 0, linkname: str = ""
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname = kind, mode, size, linkname
    return info


def _mode(mode: int) -> int:
    return 0o755 if mode & 0o111 else 0o644


def _inside(name: str, origin: str) -> str:
    """Return a member's name as a relative path; empty for the top itself."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise ProviderConfigurationError(f"{origin}: {name!r} would be written outside of the release")
    return "/".join(parts)


def _check_link(name: str, target: str, origin: str) -> None:
    """Refuse a symbolic link that leads out of the release."""
    depth = len(PurePosixPath(name).parts) - 1
    for part in target.split("/"):
        depth += -1 if part == ".." else 0 if part in ("", ".") else 1
        if depth < 0 or target.startswith("/"):
            raise ProviderConfigurationError(
                f"{origin}: the link {name!r} leads outside of the release, to {target!r}"
            )
