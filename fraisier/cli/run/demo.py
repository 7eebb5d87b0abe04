"""`demo`: a whole rollout on this machine."""

from __future__ import annotations

from functools import partial

from fraisier.cli.context import Call
from fraisier.cli.listening import run_async
from fraisier.demo import run_demo


def demo(call: Call, *, keep: bool) -> int:
    """Run the demonstration and return its exit code."""
    color = call.color and call.stdout.isatty()
    return run_async(partial(run_demo, keep=keep, json_output=call.json, color=color))
