"""git command lines, as argv. What comes from outside stands behind `--` or in a full ref name."""

from __future__ import annotations

import re

SAFE_UPLOAD_PACK = "git -c 'safe.directory=*' upload-pack"
"""For repositories of this machine that belong to another user; git asks about the owner on that side."""

REFSPECS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")

_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\.lock(/|$)|^[-/.]|[/.]$|^@$")
_HEX = re.compile(r"[0-9a-fA-F]{4,64}\Z")
_FULL = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")


def is_ref(name: str) -> bool:
    """Whether `name` can be a branch, a tag or a commit; never an option or an expression."""
    return bool(name) and len(name) <= 255 and _BAD_REF.search(name) is None


def may_be_commit(name: str) -> bool:
    """Whether `name` can be a full or short commit id."""
    return _HEX.match(name) is not None


def is_full_commit(name: str) -> bool:
    """Whether `name` is a commit id in full."""
    return _FULL.match(name) is not None


def mortal(argv: list[str]) -> list[str]:
    """Let a command die with the process that starts it: git would wait for a silent server for ever."""
    return ["setpriv", "--pdeathsig", "KILL", *argv]


def init(mirror: str) -> list[str]:
    """Make an empty mirror, without the sample files that nobody reads there."""
    return ["git", "init", "--quiet", "--bare", "--template=", "--", mirror]


def fetch(
    mirror: str, url: str, *, local: bool, refspecs: tuple[str, ...] = REFSPECS, whole: bool = False
) -> list[str]:
    """Bring branches and tags of `url` into the mirror; what is gone there goes here.

    With `whole`, which is for a mirror that is empty yet, what comes stays one pack instead of a file an object."""
    own = [f"--upload-pack={SAFE_UPLOAD_PACK}"] if local else []
    options = ["--quiet", "--force", "--prune", "--no-tags", "--no-write-fetch-head", "--no-auto-gc"]
    packed = ["-c", "fetch.unpackLimit=1"] if whole else []
    return ["git", "-C", mirror, *packed, "fetch", *options, *own, "--", url, *refspecs]


def named(mirror: str, *refs: str) -> list[str]:
    """Print `REF OBJECT PEELED` for each of the full ref names that exists (and for refs below them)."""
    return [
        "git",
        "-C",
        mirror,
        "for-each-ref",
        "--format=%(refname) %(objecttype) %(objectname)",
        "--",
        *refs,
    ]


def branches(mirror: str) -> list[str]:
    """Print the newest branches and tags, for a suggestion."""
    return [
        "git",
        "-C",
        mirror,
        "for-each-ref",
        "--count=200",
        "--sort=-creatordate",
        "--format=%(refname:lstrip=2)",
    ]


def commit(mirror: str, name: str) -> list[str]:
    """Print the full id of the commit that `name` (a commit id, full or short) means."""
    return ["git", "-C", mirror, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}"]


def archive(mirror: str, commit_id: str, output: str) -> list[str]:
    """Write the tree of a commit as a tar."""
    return [
        "git",
        "-C",
        mirror,
        "-c",
        "tar.umask=0022",
        "archive",
        "--format=tar",
        f"--output={output}",
        commit_id,
    ]
