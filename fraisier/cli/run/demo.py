"""`demo`: a whole rollout on this machine."""

from __future__ import annotations

import anyio

from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.listening import run_async, signals_go_to
from fraisier.demo import run_demo


def demo(call: Call, *, keep: bool) -> int:
    """Run the demonstration and return its exit code."""
    color = call.color and call.stdout.isatty()

    async def play() -> int:
        code = exits.INTERRUPTED
        # However often it is asked to end: first it clears away, for which it has a limit of its own.
        with anyio.CancelScope() as scope, signals_go_to(lambda number: scope.cancel()):
            code = await run_demo(keep=keep, json_output=call.json, color=color)
        if scope.cancelled_caught:
            call.say("interrupted; every process and file of the demonstration is gone")
        return code

    return run_async(play)
