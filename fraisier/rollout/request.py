"""What somebody asks for, and which targets they mean."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from fraisier.config.schema import Config, Environment, Fraise, Target
from fraisier.errors import UsageError
from fraisier.events import Actor


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every wish about a fraise in an environment says."""

    fraise: str
    environment: str
    limit: tuple[str, ...] = ()
    force: bool = False
    lock_wait_s: float = 0.0
    actor: Actor = Actor()

    def options(self) -> dict[str, Any]:
        """Return the options that were given, for the record."""
        given: dict[str, Any] = msgspec.to_builtins(self)
        for key in ("fraise", "environment", "actor"):
            given.pop(key, None)
        return given


class DeployRequest(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A wish to bring a version (empty: the head of the branch) of a fraise to targets of an environment."""

    version: str = ""
    exclude: tuple[str, ...] = ()
    strategy: str = ""
    skip_hooks: bool = False
    retry_of: str = ""


class RollbackRequest(Request, frozen=True, kw_only=True, omit_defaults=True):
    """A wish to go back: to each target's own previous good release, or to one that is named."""

    to: str = ""


def suggestion(word: str, known: Sequence[str]) -> str:
    """Return "; did you mean 'x'?" or what is known, to end an error message with."""
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f" (known: {', '.join(sorted(known)) or 'none'})"


def find_environment(config: Config, fraise: str, environment: str) -> tuple[Fraise, Environment]:
    """Return the fraise and its environment. Raises UsageError, with the nearest name, when there is none."""
    found = config.fraises.get(fraise)
    if found is None:
        raise UsageError(
            f"there is no fraise {fraise!r}{suggestion(fraise, list(config.fraises))}", code="NOT_FOUND"
        )
    settings = found.environments.get(environment)
    if settings is None:
        known = list(found.environments)
        raise UsageError(
            f"fraise {fraise!r} has no environment {environment!r}{suggestion(environment, known)}",
            code="NOT_FOUND",
        )
    return found, settings


def select(targets: Sequence[Target], limit: Sequence[str], exclude: Sequence[str]) -> tuple[Target, ...]:
    """Return the targets that the globs mean, in their order. Raises UsageError for a glob that matches nothing."""
    names = [target.name for target in targets]
    for option, globs in (("--limit", limit), ("--exclude", exclude)):
        for glob in globs:
            if not any(fnmatchcase(name, glob) for name in names):
                raise UsageError(
                    f"{option} {glob}: no target matches{suggestion(glob, names)}", context={"option": option}
                )
    chosen = tuple(
        target
        for target in targets
        if (not limit or any(fnmatchcase(target.name, glob) for glob in limit))
        and not any(fnmatchcase(target.name, glob) for glob in exclude)
    )
    if not chosen:
        raise UsageError("--limit and --exclude leave no target")
    return chosen
