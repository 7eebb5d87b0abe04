"""Declares the commands that act on services outside a deployment."""

from __future__ import annotations

from fraisier.cli.command import Leaf
from fraisier.cli.params import fraise_and_environment, limit, yes


def _control(action: str, help: str) -> Leaf:
    return Leaf(
        action,
        run=f"fraisier.cli.run.service:{action}",
        help=f"{help}\n\nAsks first on a terminal. Exits with 1 when it failed on a target, with 5 while a deployment runs.",
        examples=[f"fraisier {action} api production", f"fraisier {action} api production --limit web-1 -y"],
        params=[*fraise_and_environment(), limit(), yes()],
    )


COMMANDS = {
    "start": _control("start", "Start the service on its targets."),
    "stop": _control("stop", "Stop the service on its targets."),
    "restart": _control("restart", "Restart the service on its targets, all at the same time."),
    "remove": _control(
        "remove",
        "Take the service off its targets: it is stopped, and its releases and recorded state are removed. What it shares "
        "between releases stays.",
    ),
}
