"""What is logged, and in which form: an option wins over the environment, the environment over the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from fraisier.errors import ConfigurationError

LEVEL_VARIABLE = "FRAISIER_LOG_LEVEL"
FORMAT_VARIABLE = "FRAISIER_LOG_FORMAT"
LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("console", "json")

LogFormat = Literal["console", "json"]


class LogChoice(NamedTuple):
    """`level` and `format` for `setup_structured_logging`; `wanted` says whether anybody asked for log lines at all."""

    wanted: bool
    level: str
    format: LogFormat


def choose_logging(
    *,
    verbose: int = 0,
    format_option: str = "",
    environ: Mapping[str, str],
    configured_level: str | None = None,
    configured_format: str | None = None,
    terminal: bool = False,
) -> LogChoice:
    """Return what to log: level and format are chosen one by one, each by the first of those that name it.

    1. the options: `verbose` (1: info, 2 or more: debug), `format_option`
    2. the environment: $FRAISIER_LOG_LEVEL, $FRAISIER_LOG_FORMAT; an empty variable counts as one that is not set
    3. the configuration: `logging.level`, `logging.format`
    4. else `info`, and `console` on a terminal, `json` for whatever else reads the lines

    Raises ConfigurationError for a variable with a word that is none of LEVELS or FORMATS.
    """
    named_level = _variable(environ, LEVEL_VARIABLE, LEVELS) or configured_level or ""
    level = "debug" if verbose > 1 else "info" if verbose else named_level
    form = format_option or _variable(environ, FORMAT_VARIABLE, FORMATS) or configured_format or ""
    as_json = form == "json" if form else not terminal
    return LogChoice(bool(level or form), level or "info", "json" if as_json else "console")


def _variable(environ: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    found = environ.get(name, "").strip().lower()
    if found and found not in allowed:
        raise ConfigurationError(
            f"{name} is {found!r}", context={"variable": name}, hint=f"use one of {', '.join(allowed)}"
        )
    return found
