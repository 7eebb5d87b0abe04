"""Where the command line begins and ends: parse, carry out, tell what went wrong, return the exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import asyncclick as click

from fraisier.cli import exits
from fraisier.cli.command import Job
from fraisier.cli.context import Call, Globals, OutputError, forget_lost
from fraisier.cli.ending import held
from fraisier.cli.errors import as_json, as_text, describe, document, weightiest
from fraisier.cli.params import plain_globals
from fraisier.cli.tree import make_tree
from fraisier.errors import UnexpectedError, UsageError

T = TypeVar("T")

_STDOUT, _STDERR = 1, 2


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line and return its exit code. Nothing but the exit of the interpreter is left to do."""
    _have_streams()
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        code = exits.BROKEN_PIPE
    except OSError as error:
        hint = "free space where the output goes; `fraisier history` shows what a deployment came to"
        message = f"the output cannot be written: {error.strerror}"
        Call(Globals()).say(as_text(document(UnexpectedError.default_code, message, hint, {})))
        code = exits.FAILED
    _forget_lost_output()
    return code


def _have_streams() -> None:
    """Make sure that there are standard streams, and that a locale which cannot write an arrow or a bar ends nothing."""
    while (spare := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass  # a number that was closed stays taken, so that no database gets it and then our messages
    os.close(spare)
    if sys.stdout is None:
        sys.stdout = os.fdopen(_STDOUT, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(_STDERR, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def _run(arguments: Sequence[str]) -> int:
    call = Call(plain_globals(arguments))
    try:
        with held():  # what parses loads more when it needs it
            job = parse(arguments, call.scrubs)
        return job if isinstance(job, int) else job()
    except click.UsageError as error:
        return _refuse(call, error)
    except (KeyboardInterrupt, click.Abort):
        call.say("interrupted")
        return exits.INTERRUPTED
    except (BrokenPipeError, OutputError):
        raise
    except Exception as error:  # noqa: BLE001 - the border to the person at the terminal: no traceback, one message
        return _fail(call, error)


def parse(arguments: Sequence[str], scrubs: list[Callable[[Any], Any]]) -> Job | int:
    """Return what the arguments ask for, or the exit code when the answer was already given (`--help`).

    What is carried out adds to `scrubs` how to take secrets out of texts. Raises UsageError.
    """
    try:
        found: Job | int | None = step_through(
            make_tree().main(list(arguments), prog_name="fraisier", standalone_mode=False, obj=scrubs)
        )
    except click.exceptions.NoArgsIsHelpError as asked:
        sys.stdout.write(f"{asked.ctx.get_help() if asked.ctx else ''}\n")
        return exits.OK
    return exits.OK if found is None else found


def step_through(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never has to wait, without an event loop.

    asyncclick parses in coroutines but waits for nothing while it does, and a loop costs more than all the parsing. A
    coroutine that does want to wait is a defect here, and is reported as one.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise RuntimeError("a command wanted to wait while the command line was parsed")


def _refuse(call: Call, error: click.UsageError) -> int:
    where = error.ctx.command_path if error.ctx is not None else "fraisier"
    found = document(UsageError.default_code, error.format_message(), f"{where} --help", {})
    _tell(call, found)
    return exits.USAGE


def _fail(call: Call, error: Exception) -> int:
    found, code = describe(error)
    cause = weightiest(error)
    if call.options.verbose >= 2:
        call.say(call.scrubbed("".join(traceback.format_exception(cause)).rstrip()))
    if isinstance(cause, (BrokenPipeError, OutputError)):
        raise cause
    if isinstance(cause, KeyboardInterrupt):
        return exits.INTERRUPTED
    _tell(call, call.scrubbed(found))
    return code


def _tell(call: Call, found: Any) -> None:
    if call.json:
        call.data(as_json(found))
    else:
        painter = call.painter(call.stderr)
        call.say(as_text(found, paint=lambda text: painter.paint(text, "red", "bold")))


def _forget_lost_output() -> None:
    """Let the interpreter flush into nothing at its exit what nobody takes, instead of changing the exit code."""
    for stream in (sys.stdout, sys.stderr):
        forget_lost(stream)
