"""The demonstration's git repository: one service, three versions of it as commits and tags."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import anyio

from fraisier.errors import FraisierError

VERSIONS: dict[str, tuple[str, dict[str, str]]] = {
    "v1": ("Say hello", {}),
    "v2": ("Say it more kindly", {'"v1"': '"v2"', 'GREETING = "Hello"': 'GREETING = "A warm hello"'}),
    "v3": (
        "Greet by name, from the greeting database",
        {'"v2"': '"v3"', "HEALTHY = True": "HEALTHY = False"},
    ),
}
"""Tag, commit message, and what the commit changes in the service's file. v3 starts well and then is not healthy."""

_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Demo",
    "GIT_AUTHOR_EMAIL": "demo@localhost",
    "GIT_COMMITTER_NAME": "Demo",
    "GIT_COMMITTER_EMAIL": "demo@localhost",
}


async def make_repository(directory: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Make a repository in a directory that does not exist yet; return the commit id of each tag.

    `environ` is what git runs with, apart from a person's own git settings, which do not count here. Raises
    FraisierError when git is missing or refuses.
    """
    env = {**{key: value for key, value in environ.items() if not key.startswith("GIT_")}, **_ENVIRONMENT}
    await _git(env, "init", "--quiet", "--initial-branch=main", str(directory))
    text = resources.files("fraisier.demo").joinpath("service", "hello.py").read_text(encoding="utf-8")
    commits = {}
    for tag, (message, changes) in VERSIONS.items():
        for old, new in changes.items():
            text = text.replace(old, new)
        await anyio.Path(directory, "hello.py").write_text(text, encoding="utf-8")
        await _git(env, "-C", str(directory), "add", "hello.py")
        await _git(env, "-C", str(directory), "commit", "--quiet", f"--message={message}")
        await _git(env, "-C", str(directory), "tag", tag)
        commits[tag] = await _git(env, "-C", str(directory), "rev-parse", "HEAD")
    return commits


async def _git(env: Mapping[str, str], *arguments: str) -> str:
    try:
        done = await anyio.run_process(["git", *arguments], env=env, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise FraisierError(
            "the demonstration needs git, and there is none", hint="install git and try again"
        ) from error
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip()
        raise FraisierError(f"`git {' '.join(arguments)}` failed: {told}")
    return done.stdout.decode().strip()
