"""Makes the paths of an environment independent of the directory that Fraisier is started in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fraisier.config.schema import Environment, HealthCheck
from fraisier.config.template import escape

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def anchored(value: Environment, base_dir: Path, environ: Mapping[str, str]) -> Environment:
    """Return an environment whose relative paths begin with the directory of the configuration file, `~/`
    with the home.
    """
    changed: dict[str, Any] = {"app_path": _anchored(value.app_path, base_dir, environ)}
    if value.health_check is not None:
        changed["health_check"] = _anchored_check(value.health_check, base_dir, environ)
    source = value.source
    if source is None:
        return msgspec.structs.replace(value, **changed)
    git, archive = source.git, source.archive
    source = msgspec.structs.replace(
        source,
        path=_anchored(source.path, base_dir, environ),
        git=_anchored(git, base_dir, environ)
        if git.startswith(("./", "../", "~/")) or git in {".", ".."}
        else git,
        archive=archive if _SCHEME.match(archive) else _anchored(archive, base_dir, environ),
    )
    return msgspec.structs.replace(value, source=source, **changed)


def _anchored_check(check: HealthCheck, base_dir: Path, environ: Mapping[str, str]) -> HealthCheck:
    return msgspec.structs.replace(
        check,
        ca_file=_anchored(check.ca_file, base_dir, environ),
        checks=tuple(_anchored_check(inner, base_dir, environ) for inner in check.checks),
    )


def _anchored(text: str, base_dir: Path, environ: Mapping[str, str]) -> str:
    if not text or text.startswith(("/", "{{", "${")):
        return text
    home = environ.get("HOME", "")
    if (text == "~" or text.startswith("~/")) and home:
        return f"{escape(home)}{text[1:]}"
    return f"{escape(str(base_dir))}/{text.removeprefix('./')}"
