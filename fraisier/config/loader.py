"""Reads a configuration file: everything that is wrong with it at once, or a frozen, typed `Config`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from fraisier.config.document import read_document
from fraisier.config.problems import Problem, Report
from fraisier.config.reader import INVALID
from fraisier.config.resolve import Resolver, references
from fraisier.config.schema import Config
from fraisier.config.sections import Sections
from fraisier.errors import ConfigurationError
from fraisier.redaction import Redactor

SEARCH = ("fraises.yaml", "config/fraises.yaml", "/etc/fraisier/fraises.yaml", "/opt/fraisier/fraises.yaml")
_SHOWN_MAX = 20


def load_config(path: str | Path, *, environ: Mapping[str, str] | None = None) -> Config:
    """Return the configuration in the file at `path`. `environ` is the process's own environment by default.

    Secrets stay references: a file can be loaded where they are not at hand. Raises ConfigurationError with
    every problem in `context["problems"]` (as `Problem.to_dict()`).
    """
    config, problems = _read(Path(path), os.environ if environ is None else environ, secrets=False)
    if config is None or problems:
        missing = any(problem.code == "file_missing" for problem in problems)
        hint = "write one with `fraisier init`, or name another with -c PATH" if missing else None
        context = {"problems": [problem.to_dict() for problem in problems]}
        raise ConfigurationError(_summary(problems), context=context, hint=hint)
    return config


def validate_file(path: str | Path, *, environ: Mapping[str, str] | None = None) -> list[Problem]:
    """Return all that is wrong with the file at `path`, in the order of the file, missing secrets included."""
    return _read(Path(path), os.environ if environ is None else environ, secrets=True)[1]


def find_config(explicit: str | Path | None, environ: Mapping[str, str], cwd: str | Path) -> Path:
    """Return the configuration file to use: the option, $FRAISIER_CONFIG, or the first of SEARCH that exists.

    What is named explicitly is returned even when it is not there. Raises ConfigurationError when nothing is
    found.
    """
    named = str(explicit or environ.get("FRAISIER_CONFIG") or "")
    if named:
        return Path(cwd) / named
    places = [Path(cwd) / place for place in SEARCH]
    for place in places:
        if place.is_file():
            return place
    raise ConfigurationError(
        f"there is no configuration file; looked for {', '.join(map(str, places))}",
        hint="write one with `fraisier init`, or name it with -c PATH",
    )


def _read(path: Path, environ: Mapping[str, str], *, secrets: bool) -> tuple[Config | None, list[Problem]]:
    report = Report(str(path))
    root = read_document(path, report)
    if root is None:
        return None, report.problems()
    base_dir = path.absolute().parent
    sections = Sections(report, environ, base_dir)
    config = sections.config(root, str(path.absolute()))
    if secrets:
        _check_secrets(report, sections, Resolver(environ, Redactor(), base_dir))
    return None if config is INVALID else cast(Config, config), report.problems()


def _check_secrets(report: Report, sections: Sections, resolver: Resolver) -> None:
    """Note the references that could not be resolved if a deployment began now, and the addresses that those take apart."""
    for use in sections.texts:
        if use.is_address and (problem := resolver.why_unreadable(use.text)):
            report.add(use.node, use.path, "bad_url", problem)
        for reference in references(use.text, command=use.kind == "command"):
            if reason := resolver.problem(reference):
                code = "missing_secret" if reference.path else "unset_variable"
                default = f"set it, or write ${{{reference.variable}:-default}}"
                report.add(use.node, use.path, code, reason, "" if reference.path else default)


def _summary(problems: list[Problem]) -> str:
    lines = [str(problem) for problem in problems[:_SHOWN_MAX]]
    if len(problems) > _SHOWN_MAX:
        lines.append(f"and {len(problems) - _SHOWN_MAX} more")
    return "\n".join(lines)
