"""The kinds of options and arguments that several commands share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncclick as click

from fraisier.cli.context import Globals
from fraisier.config.durations import parse_duration

_META = "fraisier.globals"


class DurationType(click.ParamType):  # type: ignore[type-arg]
    """`30`, `0.2`, `200ms`, `30s`, `5m`, `1h30m`: seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Moment:
    """A point in time: `us` microseconds since the epoch, or as many before the moment at which it is asked for."""

    us: int
    is_ago: bool = False

    def at_us(self, now_us: int) -> int:
        """Return microseconds since the epoch."""
        return now_us - self.us if self.is_ago else self.us


class MomentType(click.ParamType):  # type: ignore[type-arg]
    """`2026-01-31`, `2026-01-31T08:00:00Z`, or how long ago: `7d`, `1h30m`. What names no zone is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Moment:
        """Return the moment."""
        if isinstance(value, Moment):
            return value
        text = str(value).strip()
        try:
            if "-" in text:
                found = datetime.fromisoformat(text)
                zoned = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
                return Moment(int(zoned.timestamp() * 1_000_000))
            return Moment(int(parse_duration(text) * 1_000_000), is_ago=True)
        except (ValueError, OverflowError):
            self.fail(
                f"expected a time such as 2026-01-31, 2026-01-31T08:00:00Z, or how long ago (7d, 1h30m), found {text!r}",
                param,
                ctx,
            )


class ListType(click.ParamType):  # type: ignore[type-arg]
    """Values separated by commas, as a tuple."""

    name = "list"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the values, each once."""
        if isinstance(value, tuple):
            return value
        found = tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))
        if not found:
            self.fail("at least one name is needed", param, ctx)
        return found


class CountType(click.IntRange):
    """A whole number of at least `least`. What is larger than anything on record means all of it."""

    def __init__(self, least: int, *, most: int = 1_000_000_000) -> None:
        super().__init__(min=least)
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        found: int = super().convert(value, param, ctx)
        return min(found, self._most)


class GivenType(click.ParamType):  # type: ignore[type-arg]
    """A text that was left out, or says something: `--version "$UNSET"` must not come to mean the default."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        text = str(value)
        if not text.strip():
            self.fail("it is empty; leave the option out, or give it a value", param, ctx)
        return text


class HashType(click.ParamType):  # type: ignore[type-arg]
    """A whole hash: a part of one, or none because a variable was not set, must not pass for a check that was made."""

    name = "hash"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the hash."""
        text = str(value).strip().lower()
        if not _HASH.fullmatch(text):
            self.fail(
                "expected the 64 hex digits that a deployment (`audit head`) or `audit verify` (`head`) printed, "
                f"found {str(value)!r}",
                param,
                ctx,
            )
        return text


DAYS_MAX = 100_000
"""More days than any journal knows; its microseconds still fit into a column."""


def given(*names: str, help: str, metavar: str) -> click.Option:
    """Return an option whose value may not be empty; the empty string says that it was not given."""
    return click.Option(list(names), help=help, metavar=metavar, type=GivenType(), callback=_or_empty)


def _or_empty(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    return value or ""


def option(*names: str, help: str, **settings: Any) -> click.Option:
    """Return an option. Its default is not shown unless the help says it."""
    return click.Option(list(names), help=help, **settings)


def flag(*names: str, help: str) -> click.Option:
    """Return an option without a value."""
    return click.Option(list(names), help=help, is_flag=True, default=False)


def argument(name: str, *, required: bool = True, default: Any = "", **settings: Any) -> click.Argument:
    """Return a positional argument; one that may be left out is the empty string then."""
    chosen = settings if required else {**settings, "default": default}
    return click.Argument(
        [name.lower()], required=required, metavar=name if required else f"[{name}]", **chosen
    )


def globs(name: str, help: str) -> click.Option:
    """Return an option that takes names and globs, separated by commas."""
    return option(name, help=help, type=ListType(), default=(), metavar="GLOBS")


def limit() -> click.Option:
    """Return the option that narrows a command to some targets."""
    return globs("--limit", "only these targets: names or globs, comma separated (`web-1,db-*`)")


def yes() -> click.Option:
    """Return the option that answers the question beforehand."""
    return flag("-y", "--yes", help="do not ask (without a terminal, or with --json, nothing asks)")


def lock_wait() -> click.Option:
    """Return the option that says how patient a deployment is."""
    return option(
        "--lock-wait",
        help="how long to wait while another deployment holds the lock (`10m`); else it ends at once with exit 5",
        type=DurationType(),
        default=0.0,
        metavar="DURATION",
    )


def fraise_and_environment() -> list[click.Parameter]:
    """Return the two arguments that name what to act on."""
    return [argument("FRAISE"), argument("ENV")]


# global options -------------------------------------------------------------------------------------------------------


def _merge(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep what was given before the command's name unless it is given again behind it."""
    seen: dict[str, Any] = ctx.meta.setdefault(_META, {})
    name = str(param.name)
    if name == "verbose":
        seen[name] = seen.get(name, 0) + value
    elif value:
        seen[name] = value


def global_options() -> list[click.Option]:
    """Return new objects of the options that stand before or after any command."""
    shared: dict[str, Any] = {"expose_value": False, "callback": _merge}
    return [
        option(
            "-c",
            "--config",
            help="the configuration file (else $FRAISIER_CONFIG, ./fraises.yaml, …)",
            metavar="PATH",
            **shared,
        ),
        option(
            "--store",
            help="the store (else $FRAISIER_STORE, the configuration's, the state directory)",
            metavar="URL",
            **shared,
        ),
        option("--json", help="JSON on stdout, for programs; nothing asks", is_flag=True, **shared),
        option(
            "-v", "--verbose", help="log what happens to stderr; twice for debugging", count=True, **shared
        ),
        option("-q", "--quiet", help="no progress, only results and errors", is_flag=True, **shared),
        option("--no-color", help="no colour (also: set NO_COLOR)", is_flag=True, **shared),
        option(
            "--log-format",
            help="log to stderr in this form: console or json",
            type=click.Choice(["console", "json"]),
            **shared,
        ),
    ]


GLOBAL_NAMES = ("config", "store", "json", "verbose", "quiet", "no_color", "log_format")


def globals_of(ctx: click.Context) -> Globals:
    """Return the global options of an invocation."""
    return Globals(**ctx.meta.get(_META, {}))


def is_global(param: click.Parameter) -> bool:
    """Whether the parameter is one of the global options."""
    return param.name in GLOBAL_NAMES and not param.expose_value


def plain_globals(arguments: Sequence[str]) -> Globals:
    """Return what can be told of the global options from arguments that could not be parsed."""
    before_rest = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    return Globals(
        json="--json" in before_rest,
        no_color="--no-color" in before_rest,
        verbose=2 if "-vv" in before_rest else before_rest.count("-v"),
    )
