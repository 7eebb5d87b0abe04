"""Which providers there are. Each is imported when it is first used, so that a command pays only for its own."""

from __future__ import annotations

import difflib
import importlib

import msgspec

from fraisier.errors import ConfigurationError
from fraisier.providers.base import ProviderFactory


class ProviderInfo(msgspec.Struct, frozen=True):
    """What can be told of a provider without loading it. `keys` are those of an environment that it acts on."""

    type: str
    summary: str
    home: str
    keys: dict[str, str]


_HOST_KEYS = {
    "targets": "one or more hosts; each has its own app_path",
    "git_repo": "a repository (URL or path), short for source.git",
    "source": "git, archive (with sha256) or path",
    "branch": "what `deploy` without --version takes",
    "app_path": "absolute; holds releases/<id>, shared/ and current",
    "keep_releases": "how many good releases stay",
    "keep_failed": "how many failed releases stay, to look at",
    "shared": "files and directories (with a slash at the end) that outlive releases",
    "env": "variables of every command and of a `process` service",
    "build": "commands in the staged release",
    "build_on": "target (default), or orchestrator: built once and shipped",
    "build_timeout": "how long staging with its builds may take on a target",
    "migrate": "the command that migrates data, and the one that undoes it",
    "service": "process, systemd, or start with stop and status",
}

PROVIDERS: dict[str, ProviderInfo] = {
    info.type: info
    for info in (
        ProviderInfo(
            type="local",
            summary="This machine: releases in a directory, each target a directory of its own.",
            home="fraisier.providers.local:LocalProvider",
            keys=_HOST_KEYS,
        ),
    )
}


def provider_info(name: str) -> ProviderInfo:
    """Return what is known of a provider. Raises ConfigurationError, with a suggestion, when there is none."""
    info = PROVIDERS.get(name)
    if info is None:
        near = difflib.get_close_matches(name, PROVIDERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(PROVIDERS)}"
        raise ConfigurationError(f"there is no provider {name!r}", context={"provider": name}, hint=hint)
    return info


def find_factory(name: str) -> ProviderFactory:
    """Import a provider and return what makes it. Raises ConfigurationError when there is none of that name."""
    module, _, attribute = provider_info(name).home.partition(":")
    factory: ProviderFactory = getattr(importlib.import_module(module), attribute)
    return factory
