"""Commands that are declared in one place and carried out in another, which is loaded only when it is called for."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import asyncclick as click

from fraisier.cli.context import Call
from fraisier.cli.ending import load_module
from fraisier.cli.params import global_options, globals_of, is_global

_SETTINGS = {"help_option_names": ["-h", "--help"]}

Job = Callable[[], int]
"""What a parsed command line comes to: call it, and it returns the exit code."""


def load(place: str) -> Callable[..., int]:
    """Return the function that `module:function` names."""
    module, _, name = place.partition(":")
    found: Callable[..., int] = getattr(load_module(module), name)
    return found


class _Shared(click.Command):
    """What commands and groups have in common: the global options, in a section of their own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then the global ones."""
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                (shared if is_global(param) else own).append(record)
        for title, records in (("Options", own), ("Global options, before or after the command", shared)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records, col_max=26)


class Leaf(_Shared):
    """A command. `run` is `module:function`; the function gets a Call and the parameters and returns the exit code."""

    def __init__(
        self,
        name: str,
        *,
        run: str,
        help: str,
        examples: Sequence[str] = (),
        params: Sequence[click.Parameter] = (),
        hidden: bool = False,
    ) -> None:
        super().__init__(
            name,
            params=[*params, *global_options()],
            help=help,
            hidden=hidden,
            context_settings=dict(_SETTINGS),
        )
        self.run = run
        self.examples = tuple(examples)

    async def invoke(self, ctx: click.Context) -> Job:
        """Return the job. Nothing is done yet, so that parsing needs no event loop and its errors come first."""
        call = Call(globals_of(ctx), scrubs=ctx.find_object(list))
        return partial(_carry_out, self.run, call, dict(ctx.params))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they would be typed."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def _carry_out(place: str, call: Call, params: Mapping[str, object]) -> int:
    if any(name.startswith("FRAISIER_LOG_") for name in call.environ):
        # Also commands that log nothing refuse a wrong word, and before they do anything.
        load("fraisier.logging.choice:choose_logging")(environ=call.environ)
    return load(place)(call, **params)


class Tree(_Shared, click.Group):
    """A group of commands by name: the module that declares each (or the command itself), and a line about it."""

    def __init__(
        self,
        name: str,
        *,
        help: str,
        entries: Mapping[str, tuple[str | click.Command, str]],
        params: Sequence[click.Parameter] = (),
        sections: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(
            name,
            params=[*params, *global_options()],
            help=help,
            no_args_is_help=True,
            context_settings=dict(_SETTINGS),
        )
        self._entries = entries
        self._sections = sections or {"Commands": tuple(entries)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which they were declared."""
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, loading the module that declares it."""
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        place, _ = entry
        if isinstance(place, str):
            found: click.Command = load_module(place).COMMANDS[cmd_name]
            return found
        return place

    def summary(self, cmd_name: str) -> str:
        """Return the line about a command."""
        return self._entries[cmd_name][1]

    async def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first word names. Raises UsageError with the nearest name."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None:
            close = difflib.get_close_matches(
                name, [known for known in self._entries if not known.startswith("_")], n=1
            )
            tail = f"; did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"there is no command {name!r}{tail}", ctx)
        return name, command, args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the lines about the commands without loading any of them."""
        for title, names in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, self._entries[name][1]) for name in names], col_max=26)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands first: they are what people look for."""
        self.format_commands(ctx, formatter)
        _Shared.format_options(self, ctx, formatter)
