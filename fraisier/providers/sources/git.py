"""Versions from a git repository, through one bare mirror that every deployment of this machine shares."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Mapping
from pathlib import Path

import anyio

from fraisier.commands import git as commands
from fraisier.errors import FraisierError, GitProviderError, ProviderConnectionError, ProviderUnavailableError
from fraisier.providers.base import Artifact, ConnectionGuard, always_open
from fraisier.providers.outcome import last_lines
from fraisier.providers.sources.cache import Cache, short_hash
from fraisier.providers.sources.remote import Remote, server_of
from fraisier.transports.base import Completed
from fraisier.transports.child import run_child

_OUT_OF_REACH = (
    "Could not resolve host",
    "Connection refused",
    "Connection timed out",
    "Connection reset",
    "Network is unreachable",
    "No route to host",
    "Operation timed out",
    "Failed to connect",
    "Couldn't connect to server",
    "The requested URL returned error: 429",
    "The requested URL returned error: 5",
    "early EOF",
)
_REFUSED = (
    "Authentication failed",
    "could not read Username",
    "could not read Password",
    "Permission denied",
    "returned error: 40",
)


class GitSource:
    """One repository. It is fetched once in the life of this object, unless a commit is asked for that is known already."""

    def __init__(
        self,
        remote: Remote,
        cache: Cache,
        environ: Mapping[str, str],
        guard: ConnectionGuard = always_open,
    ) -> None:
        self._remote = remote
        self._guard = always_open if remote.is_local else guard
        self._cache = cache
        self._env = remote.environment(environ)
        self._mirror = str(cache.path("git", f"{short_hash(remote.url)}.git"))
        self._turn = anyio.Lock(fast_acquire=True)
        self._fetched = False

    async def resolve(self, ref: str, branch: str) -> Artifact:
        """Return the commit that `ref` (empty: the head of `branch`) means, with its tar in the cache.

        Raises GitProviderError, ProviderConnectionError.
        """
        wanted = ref or f"refs/heads/{branch}"
        if not commands.is_ref(wanted):
            raise GitProviderError(
                f"{wanted!r} cannot be a branch, a tag or a commit", context={"ref": wanted}
            )
        async with self._turn, self._cache.locked(self._mirror):
            if not (commands.is_full_commit(ref) and await self._known(ref)):
                await self._fetch()
            commit = await self._commit(wanted, ref)
            file = await self._archive(commit)
        return Artifact(version=commit, ref=ref or branch, kind="git", digest=commit, file=str(file))

    async def _fetch(self) -> None:
        if self._fetched:
            return
        mirror = Path(self._mirror)
        is_new = not (mirror / "HEAD").exists()
        if is_new:
            await self._git(commands.init(self._mirror))
        argv = commands.fetch(self._mirror, self._remote.url, local=self._remote.is_local, whole=is_new)
        async with self._guard(server_of(self._remote.url)):
            done = await self._run_with_us(argv)
            if done.exit_code != 0:
                raise self._problem(f"cannot fetch {self._remote.url}", done)
        self._fetched = True

    async def _known(self, commit: str) -> bool:
        if not (Path(self._mirror) / "HEAD").exists():
            return False
        return (await self._run(commands.commit(self._mirror, commit))).exit_code == 0

    async def _commit(self, wanted: str, ref: str) -> str:
        """Return the one commit that a name stands for; two different ones are an error, never a choice."""
        found = await self._named(wanted)
        if ref and commands.may_be_commit(ref):
            done = await self._run(commands.commit(self._mirror, ref))
            if done.exit_code == 0:
                found.setdefault("commit", done.stdout.strip())
            elif "ambiguous" in done.stderr and not found:
                raise GitProviderError(
                    f"{ref!r} is the beginning of several objects of {self._remote.url}",
                    context={"ref": ref},
                    hint="give more digits of the commit",
                )
            elif commands.is_full_commit(ref):
                found |= await self._fetch_commit(ref)
        commits = set(found.values())
        if len(commits) == 1:
            return commits.pop()
        if commits:
            raise GitProviderError(
                f"{ref!r} is ambiguous in {self._remote.url}: "
                + ", ".join(f"{name} is {commit[:12]}" for name, commit in found.items()),
                context={"ref": ref, "candidates": found},
                hint="write refs/heads/NAME, refs/tags/NAME or the full commit",
            )
        raise await self._not_found(wanted)

    async def _named(self, wanted: str) -> dict[str, str]:
        names = [wanted] if wanted.startswith("refs/") else [f"refs/heads/{wanted}", f"refs/tags/{wanted}"]
        found: dict[str, str] = {}
        for line in (await self._git(commands.named(self._mirror, *names))).stdout.splitlines():
            name, kind, plain = line.split(" ")
            if name not in names:
                continue
            if kind == "commit":
                found[name] = plain
                continue
            # A tag may stand for another tag, or for something that is no commit at all.
            done = await self._run(commands.commit(self._mirror, plain))
            if done.exit_code == 0:
                found[name] = done.stdout.strip()
        return found

    async def _fetch_commit(self, commit: str) -> dict[str, str]:
        """Ask for a commit that no branch or tag leads to; many servers give it."""
        argv = commands.fetch(self._mirror, self._remote.url, local=self._remote.is_local, refspecs=(commit,))
        argv.remove("--prune")
        if (await self._run_with_us(argv)).exit_code == 0 and await self._known(commit):
            return {"commit": commit}
        return {}

    async def _not_found(self, wanted: str) -> FraisierError:
        names = (await self._run(commands.branches(self._mirror))).stdout.split()
        name = wanted.removeprefix("refs/heads/")
        near = difflib.get_close_matches(name, names, n=3)
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else f"there are {', '.join(names[:8])}"
            if names
            else "it is empty"
        )
        return GitProviderError(
            f"{name!r} is neither a branch, a tag nor a commit of {self._remote.url}",
            context={"ref": name},
            hint=hint,
        )

    async def _archive(self, commit: str) -> Path:
        artifact = self._cache.artifact(self._remote.url, commit)
        if not self._cache.has(artifact):
            with self._cache.new_file(artifact) as temporary:
                await self._git(commands.archive(self._mirror, commit, str(temporary)))
        return artifact

    async def _git(self, argv: list[str]) -> Completed:
        done = await self._run(argv)
        if done.exit_code != 0:
            raise self._problem(
                f"`git {argv[1] if argv[1] != '-C' else argv[3]}` failed for {self._remote.url}", done
            )
        return done

    async def _run_with_us(self, argv: list[str]) -> Completed:
        """Run a command that is not left behind when this process is killed, where the machine can do that."""
        return await self._run(commands.mortal(argv) if _can_be_mortal(self._env.get("PATH")) else argv)

    async def _run(self, argv: list[str]) -> Completed:
        done = await run_child(argv, env=self._env)
        if done.exit_code == 127:
            raise ProviderUnavailableError("git is not installed on this machine", hint="install git")
        return done

    def _problem(self, what: str, done: Completed) -> FraisierError:
        said = self._remote.masked(" ".join(last_lines(done.stderr, 4)))
        kind = GitProviderError
        if any(sign in said for sign in _OUT_OF_REACH) and not any(sign in said for sign in _REFUSED):
            return ProviderConnectionError(
                f"{what}: {said}",
                context={"exit_code": done.exit_code},
                hint="check the network and the repository's address",
            )
        return kind(f"{what}: {said}", context={"exit_code": done.exit_code})


def _can_be_mortal(path: str | None) -> bool:
    """Whether the tool is there that lets a child die with us; the one of busybox does not know how."""
    found = shutil.which("setpriv", path=path)
    return found is not None and Path(found).resolve().name == "setpriv"
