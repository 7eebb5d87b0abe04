"""Makes the paths of an environment independent of the directory that Fraisier is started in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from fraisier.config.schema import Environment
from fraisier.config.template import escape

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def anchored(value: Environment, base_dir: Path, environ: Mapping[str, str]) -> Environment:
    """Return an environment whose relative paths begin with the directory of the configuration file, `~/`
    with the home.
    """
    changed = {"app_path": _anchored(value.app_path, base_dir, environ)}
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


def _anchored(text: str, base_dir: Path, environ: Mapping[str, str]) -> str:
    if not text or text.startswith(("/", "{{", "${")):
        return text
    home = environ.get("HOME", "")
    if (text == "~" or text.startswith("~/")) and home:
        return f"{escape(home)}{text[1:]}"
    return f"{escape(str(base_dir))}/{text.removeprefix('./')}"
