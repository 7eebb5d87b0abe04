"""Versions from git, archives and directories, as tars in the cache."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import subprocess
import tarfile
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from fraisier.config.schema import Environment, Source
from fraisier.errors import (
    FraisierError,
    GitProviderError,
    ProviderConfigurationError,
    ProviderConnectionError,
    ProviderUnavailableError,
)
from fraisier.providers.sources.cache import KEEP, Cache
from fraisier.providers.sources.remote import parse_remote, server_of
from tests.providers.host_kit import Kit, commit, git


def settings(source: Source, **more: Any) -> Environment:
    return Environment(source=source, app_path="/nowhere", **more)


def names(file: str) -> list[str]:
    with tarfile.open(file) as tar:
        return tar.getnames()


async def test_every_name_of_a_commit_leads_to_it(kit: Kit) -> None:
    """Branch, annotated tag, full and short commit, full ref and the default branch give the full commit id."""
    head = git(kit.repo, "rev-parse", "HEAD")
    git(kit.repo, "tag", "-a", "v1.0", "-m", "one")
    git(kit.repo, "branch", "feature/x")
    provider = kit.provider()
    wanted = settings(Source(git=str(kit.repo)))
    for ref in ("", "main", "v1.0", "feature/x", head, head[:8], "refs/tags/v1.0", "refs/heads/main"):
        artifact = await provider.resolve(wanted, ref)
        assert (artifact.version, artifact.digest, artifact.kind) == (head, head, "git")
    assert names(artifact.file) == ["server.py", "version.txt"]


async def test_a_repository_is_fetched_once_a_deployment(kit: Kit) -> None:
    """What is pushed in the middle of a deployment belongs to the next one; tags and branches that moved are followed."""
    wanted = settings(Source(git=str(kit.repo)))
    provider = kit.provider()
    first = await provider.resolve(wanted, "")
    commit(kit.repo, {"version.txt": "v2"})
    assert (await provider.resolve(wanted, "main")).version == first.version
    git(kit.repo, "commit", "-q", "--amend", "-m", "rewritten")
    second = await kit.provider().resolve(wanted, "main")
    assert second.version == git(kit.repo, "rev-parse", "HEAD") != first.version
    assert (await kit.provider().resolve(wanted, first.version)).version == first.version


async def test_what_is_ambiguous_is_refused(kit: Kit) -> None:
    """A branch and a tag of one name that differ are never chosen between; the full names are accepted."""
    git(kit.repo, "tag", "same")
    new = commit(kit.repo, {"version.txt": "v2"})
    git(kit.repo, "branch", "same")
    provider, wanted = kit.provider(), settings(Source(git=str(kit.repo)))
    with pytest.raises(GitProviderError, match="ambiguous") as caught:
        await provider.resolve(wanted, "same")
    assert "refs/heads/" in caught.value.hint
    assert (await provider.resolve(wanted, "refs/heads/same")).version == new


async def test_what_does_not_exist_is_told_with_a_suggestion(kit: Kit) -> None:
    """An unknown name gets the nearest one, an unknown commit too is an error, not a connection problem."""
    provider, wanted = kit.provider(), settings(Source(git=str(kit.repo)))
    with pytest.raises(GitProviderError, match="neither a branch") as caught:
        await provider.resolve(wanted, "mian")
    assert caught.value.hint == "did you mean main?"
    with pytest.raises(GitProviderError):
        await provider.resolve(wanted, "0" * 40)
    with pytest.raises(GitProviderError, match="cannot fetch"):
        await provider.resolve(settings(Source(git=str(kit.root / "nothing"))), "")


@pytest.mark.parametrize(
    "ref", ["--upload-pack=touch x", "-x", "a..b", "main~1", "main^", "a b", "x@{1}", "@", "a:b", "../x"]
)
async def test_options_and_expressions_are_no_refs(kit: Kit, ref: str) -> None:
    """A ref is a name; whatever git could read as an option or an expression is refused."""
    with pytest.raises(GitProviderError, match="cannot be a branch"):
        await kit.provider().resolve(settings(Source(git=str(kit.repo))), ref)


async def test_urls_of_files_and_repositories_of_others_work(kit: Kit) -> None:
    """A file:// URL works, and so does a repository that belongs to another user."""
    provider = kit.provider()
    assert (await provider.resolve(settings(Source(git=kit.repo.as_uri())), "")).version
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", "65534:65534", str(kit.repo)], check=True)
        assert (await kit.provider().resolve(settings(Source(git=str(kit.repo))), "")).version


async def test_two_processes_share_a_mirror(kit: Kit) -> None:
    """Providers that resolve at the same time wait for each other, and agree."""
    wanted = settings(Source(git=str(kit.repo)))
    found: list[str] = []

    async def resolve() -> None:
        found.append((await kit.provider().resolve(wanted, "")).version)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(resolve, name=f"resolve:{number}")
    assert len(found) == 4 and len(set(found)) == 1


async def test_git_is_not_disturbed_by_the_callers_repository(kit: Kit) -> None:
    """Variables of a git hook that runs us do not lead git astray."""
    kit.environ |= {"GIT_DIR": "/nowhere", "GIT_WORK_TREE": "/nowhere", "GIT_CONFIG_COUNT": "1"}
    assert (await kit.provider().resolve(settings(Source(git=str(kit.repo))), "")).version


async def test_credentials_reach_the_server_and_no_message(
    kit: Kit, unused_tcp_port_factory: Callable[[], int]
) -> None:
    """User and password of a URL travel in a header; no argv, cache name or error shows them."""
    seen: list[str] = []
    shown: list[str] = []

    async def refuse(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                argv = entry.read_bytes().decode(errors="replace")
            except OSError:
                continue
            if "git" in argv:
                shown.append(argv)
        return web.Response(status=403)

    async with serve(refuse, unused_tcp_port_factory()) as address:
        url = address.replace("://", "://bob:${SECRET}@") + "/x.git"
        with pytest.raises(GitProviderError) as caught:
            await kit.provider().resolve(settings(Source(git=url)), "")
    assert seen == ["Basic " + base64.b64encode(b"bob:s3cr3t-value").decode()]
    assert any("git" in argv for argv in shown) and not any("s3cr3t" in argv for argv in shown)
    assert "s3cr3t" not in str(caught.value.to_dict()) and "bob" not in caught.value.message


async def test_a_server_out_of_reach_is_a_connection_error(kit: Kit, unused_tcp_port: int) -> None:
    """Nothing that listens is not the repository's fault: it may be tried again."""
    with pytest.raises(ProviderConnectionError, match="cannot fetch") as caught:
        await kit.provider().resolve(settings(Source(git=f"http://127.0.0.1:{unused_tcp_port}/x.git")), "")
    assert caught.value.recoverable
    with pytest.raises(ProviderConnectionError, match="cannot download"):
        source = Source(archive=f"http://127.0.0.1:{unused_tcp_port}/x.tar", sha256="0" * 64)
        await kit.provider().resolve(settings(source), "")


@pytest.mark.parametrize("address", ["", "-x", "ext::sh -c 'touch x'", "ftp://h/x", "a\nb", "http://[bad"])
def test_addresses_that_are_none(address: str) -> None:
    """What is no address of a repository is refused without showing it."""
    with pytest.raises(ProviderConfigurationError):
        parse_remote(address)


def test_what_an_address_shows() -> None:
    """Passwords leave the URL for a header; a user of ssh stays."""
    remote = parse_remote("https://u%40x:p%2Fw@[::1]:8443/a.git")
    assert remote.url == "https://[::1]:8443/a.git"
    assert remote.authorization == "Basic " + base64.b64encode(b"u@x:p/w").decode()
    assert remote.masked("for p%2Fw and p/w") == "for *** and ***"
    assert parse_remote("ssh://git@h/x").url == "ssh://git@h/x"
    assert parse_remote("git@h:x/y.git").url == "git@h:x/y.git"
    assert parse_remote("/conf/repo").is_local and parse_remote("file:///conf/repo").is_local


async def test_a_server_that_is_busy_says_for_how_long(kit: Kit, unused_tcp_port: int) -> None:
    """What it says is in the error, cut off where it cannot be a date any more."""
    headers = {"/date": "Wed, 15 Nov 2023 12:00:00 GMT", "/seconds": "7", "/long": "9" * 500}

    async def refuse(request: web.Request) -> web.StreamResponse:
        said = headers.get(request.path)
        return web.Response(status=429 if said else 503, headers={"Retry-After": said} if said else {})

    found = {}
    async with serve(refuse, unused_tcp_port) as address:
        for path in (*headers, "/silent"):
            with pytest.raises(ProviderConnectionError) as caught:
                source = Source(archive=f"{address}{path}", sha256="0" * 64)
                await kit.provider().resolve(settings(source), "")
            found[path] = caught.value.context
    assert found == {
        "/date": {"status": 429, "retry_after": headers["/date"]},
        "/seconds": {"status": 429, "retry_after": "7"},
        "/long": {"status": 429, "retry_after": "9" * 64},
        "/silent": {"status": 503},
    }


@pytest.mark.parametrize(
    ("address", "server"),
    [
        ("https://me:secret@git.example.com/a.git", "source:git.example.com:443"),
        ("http://127.0.0.1:9/x.tar?token=secret", "source:127.0.0.1:9"),
        ("ssh://git@h/x", "source:h:22"),
        ("git@h:x/y.git", "source:h:22"),
        ("git://h/x", "source:h:9418"),
        ("https://[::1]:8443/a", "source:[::1]:8443"),
        ("http://h:port/a", "source:unknown"),
        ("http://[bad/a", "source:unknown"),
    ],
)
def test_a_server_is_known_by_host_and_port_alone(address: str, server: str) -> None:
    """Two repositories of one server share its name, and nobody's credentials are in it."""
    assert server_of(address) == server


async def test_only_what_connects_is_guarded(kit: Kit, unused_tcp_port: int) -> None:
    """A version that is known already, and a repository of this machine, need no server."""
    asked: list[str] = []

    @asynccontextmanager
    async def guard(server: str) -> AsyncIterator[None]:
        asked.append(server)
        if len(asked) > 1:
            raise ProviderUnavailableError(f"{server} is left alone")
        yield

    digest = make_tar(kit.root / "a.tar.gz", {"f": b"x"})

    async def give(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(kit.root / "a.tar.gz")

    async with serve(give, unused_tcp_port) as address:
        source = Source(archive=f"{address}/a.tar.gz", sha256=digest)
        for _ in range(2):
            assert names((await kit.provider(guard).resolve(settings(source), "")).file) == ["f"]
        with pytest.raises(ProviderUnavailableError, match=f"source:127.0.0.1:{unused_tcp_port} is left"):
            await kit.provider(guard).resolve(settings(Source(archive=f"{address}/b", sha256="0" * 64)), "")
        with pytest.raises(ProviderUnavailableError, match=f"source:127.0.0.1:{unused_tcp_port} is left"):
            await kit.provider(guard).resolve(settings(Source(git=f"{address}/b.git")), "")
    await kit.provider(guard).resolve(settings(Source(git=str(kit.repo))), "")
    assert len(asked) == 3


class serve:  # noqa: N801 - reads as a verb
    """A server with one handler, as an async context manager that gives its address."""

    def __init__(self, handler: Any, port: int) -> None:
        self._handler, self._port = handler, port

    async def __aenter__(self) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handler)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        return f"http://127.0.0.1:{self._port}"

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()


def make_tar(path: Path, members: dict[str, bytes], extra: tuple[tarfile.TarInfo, ...] = ()) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o4755
            tar.addfile(info, io.BytesIO(data))
        for info in extra:
            tar.addfile(info)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


async def test_archives_are_verified_and_normalised(kit: Kit) -> None:
    """A tar.gz and a zip become plain tars without owners, set-uid bits and times; the digest is the archive's."""
    digest = make_tar(kit.root / "a.tar.gz", {"./bin/run": b"x"}, (link("lib", "bin/run"),))
    artifact = await kit.provider().resolve(
        settings(Source(archive=str(kit.root / "a.tar.gz"), sha256=digest)), "v7"
    )
    assert (artifact.version, artifact.digest, artifact.kind) == ("v7", digest, "archive")
    with tarfile.open(artifact.file) as tar:
        members = {member.name: member for member in tar}
    assert set(members) == {"bin/run", "lib"} and (members["bin/run"].mode, members["bin/run"].mtime) == (
        0o755,
        0,
    )
    with zipfile.ZipFile(kit.root / "a.zip", "w") as archive:
        archive.writestr("top/file", "data")
    zipped = await kit.provider().resolve(settings(Source(archive=str(kit.root / "a.zip"))), "")
    assert names(zipped.file) == ["top/file"] and zipped.version == zipped.digest[:12]
    with pytest.raises(ProviderConfigurationError, match=r"is not what source\.sha256 says"):
        await kit.provider().resolve(
            settings(Source(archive=str(kit.root / "a.tar.gz"), sha256="0" * 64)), ""
        )


@pytest.mark.parametrize(
    "member",
    [
        link("x", "../../etc/passwd"),
        link("x", "/etc/passwd"),
        link("a/x", "../../b"),
        link("x", "../y", tarfile.LNKTYPE),
        link("../x", "", tarfile.REGTYPE),
        link("/x", "", tarfile.REGTYPE),
        link("dev", "", tarfile.CHRTYPE),
        link("pipe", "", tarfile.FIFOTYPE),
    ],
)
async def test_archives_cannot_leave_the_release(kit: Kit, member: tarfile.TarInfo) -> None:
    """Members that lead outside, and devices, are refused, and nothing stays in the cache."""
    make_tar(kit.root / "bad.tar", {"ok": b"x"}, (member,))
    with pytest.raises(ProviderConfigurationError, match=r"outside of the release|is a device"):
        await kit.provider().resolve(settings(Source(archive=str(kit.root / "bad.tar"))), "")
    assert [path for path in (kit.root / "cache/artifacts").rglob("*") if path.is_file()] == []


async def test_downloads(kit: Kit, unused_tcp_port: int) -> None:
    """A download is verified and kept by its digest; a second deployment does not ask again; 404 is no network problem."""
    digest = make_tar(kit.root / "a.tar.gz", {"f": b"x"})
    asked: list[str] = []

    async def give(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return (
            web.FileResponse(kit.root / "a.tar.gz")
            if request.path == "/a.tar.gz"
            else web.Response(status=404)
        )

    async with serve(give, unused_tcp_port) as address:
        for _ in range(2):
            source = Source(archive=f"{address}/a.tar.gz", sha256=digest)
            assert names((await kit.provider().resolve(settings(source), "")).file) == ["f"]
        with pytest.raises(ProviderConfigurationError, match="404"):
            await kit.provider().resolve(settings(Source(archive=f"{address}/b", sha256=digest)), "")
    assert asked == ["/a.tar.gz", "/b"]
    with pytest.raises(ProviderConfigurationError, match="sha256 is needed"):
        await kit.provider().resolve(settings(Source(archive="https://example.org/a.tar")), "")


async def test_a_directory_is_known_by_its_content(kit: Kit) -> None:
    """Times do not count, content and the executable bit do; `.git` stays out; an earlier content can be had again."""
    wanted = settings(Source(path=str(kit.repo)))
    first = await kit.provider().resolve(wanted, "")
    os.utime(kit.repo / "version.txt", (1, 1))
    again = await kit.provider().resolve(wanted, "named")
    assert first.digest == again.digest and (first.version, again.version) == (first.digest[:12], "named")
    assert names(first.file) == ["server.py", "version.txt"]
    (kit.repo / "version.txt").write_text("v2")
    second = await kit.provider().resolve(wanted, "")
    assert second.digest != first.digest
    assert (await kit.provider().resolve(wanted, first.version)).digest == first.digest
    (kit.repo / "version.txt").chmod(0o755)
    assert (await kit.provider().resolve(wanted, "")).digest not in (first.digest, second.digest)
    with pytest.raises(ProviderConfigurationError, match="is not a directory"):
        await kit.provider().resolve(settings(Source(path=str(kit.root / "nothing"))), "")


async def test_the_cache_is_bounded(tmp_path: Path) -> None:
    """The newest artifacts stay, and whatever is in use; what was used lately may be in use elsewhere."""
    cache = Cache(str(tmp_path))
    files = [cache.artifact("s", f"{number:03d}") for number in range(KEEP + 5)]
    for age, file in enumerate(files):
        file.touch()
        os.utime(file, (10_000 - age, 10_000 - age))
    await cache.prune(files[0].parent, {files[-1]}.__contains__, now_s=10_000.0)
    assert all(file.exists() for file in files)
    await cache.prune(files[0].parent, {files[-1]}.__contains__, now_s=100_000.0)
    assert [file for file in files if file.exists()] == [*files[:KEEP], files[-1]]


async def test_versions_and_sources_that_are_none(kit: Kit) -> None:
    """A version with control characters and an environment without a source are refused."""
    with pytest.raises(ProviderConfigurationError, match="cannot be a version"):
        await kit.provider().resolve(settings(Source(path=str(kit.repo))), "a\nb")
    with pytest.raises(FraisierError, match="no source"):
        await kit.provider().resolve(Environment(app_path="/x"), "")
