"""The commands of `fraisier`: their names, the modules that declare them, and a line about each."""

from __future__ import annotations

import asyncclick as click

from fraisier._version import __version__
from fraisier.cli.command import Tree

_HERE = "fraisier.cli.declare"

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Begin here": {
        "init": (f"{_HERE}.setup", "write an annotated fraises.yaml"),
        "validate": (f"{_HERE}.setup", "find every problem of the configuration, each with its place"),
        "demo": (f"{_HERE}.setup", "watch a rollout and a rollback on this machine, then clean up"),
        "completion": (f"{_HERE}.setup", "print the completion script of a shell"),
    },
    "Deploy": {
        "plan": (f"{_HERE}.rollout", "what a deployment would change now"),
        "deploy": (f"{_HERE}.rollout", "bring a version to the targets, in waves, and back if it fails"),
        "rollback": (f"{_HERE}.rollout", "go back to the last good release, or to a named one"),
        "retry": (f"{_HERE}.rollout", "deploy again to the targets that a deployment did not reach"),
    },
    "Steer": {
        "resume": (f"{_HERE}.steer", "go on with a deployment that was interrupted, killed or paused"),
        "pause": (f"{_HERE}.steer", "let a running deployment change no further target"),
        "promote": (f"{_HERE}.steer", "end the wait of a deployment now"),
        "abort": (f"{_HERE}.steer", "end a deployment, wherever it runs, and put right what it began"),
    },
    "Look": {
        "list": (f"{_HERE}.look", "the fraises and environments that are configured"),
        "status": (f"{_HERE}.look", "which version every target has, and how it is"),
        "status-all": (f"{_HERE}.look", "the status of every fraise"),
        "health": (f"{_HERE}.look", "run the configured health checks now"),
        "logs": (f"{_HERE}.look", "the logs of the service on its targets, merged"),
        "history": (f"{_HERE}.past", "past deployments"),
        "show": (f"{_HERE}.past", "all about one deployment: targets, steps, errors"),
        "stats": (f"{_HERE}.past", "how deployments went: counts, success rate, durations"),
        "events": (f"{_HERE}.past", "what happened, event by event"),
    },
    "Operate": {
        "start": (f"{_HERE}.service", "start the service on its targets"),
        "stop": (f"{_HERE}.service", "stop the service on its targets"),
        "restart": (f"{_HERE}.service", "restart the service on its targets"),
        "remove": (f"{_HERE}.service", "take the service, its releases and its state off the targets"),
        "lock": (f"{_HERE}.lock", "who deploys now; forbid deployments for a time"),
        "metrics": (f"{_HERE}.metrics", "serve what is in the store to Prometheus"),
    },
    "Maintain": {
        "audit": (f"{_HERE}.audit", "list, verify and export the audit trail"),
        "db": (f"{_HERE}.db", "upgrade, check, back up, restore and prune the store"),
        "providers": (f"{_HERE}.setup", "the kinds of targets that Fraisier can deploy to"),
        "provider-info": (f"{_HERE}.setup", "the steps and keys of one provider"),
    },
}

HIDDEN: dict[str, tuple[str, str]] = {
    "_names": (f"{_HERE}.setup", "names of fraises or environments, for completion")
}


async def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"fraisier {__version__}")
        await ctx.aexit()


def make_tree() -> Tree:
    """Return the root of all commands."""
    visible = {name: entry for section in SECTIONS.values() for name, entry in section.items()}
    version = click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_version,
        help="print the version and exit",
    )
    return Tree(
        "fraisier",
        help="Deploy services to many targets at once, watch them, and put them back when a change goes wrong.\n\n"
        "New here? `fraisier demo` shows a whole rollout in a minute; `fraisier init` writes a first configuration.",
        entries={**visible, **HIDDEN},
        params=[version],
        sections={title: tuple(names) for title, names in SECTIONS.items()},
    )
