"""Declares the commands that look at what is there now."""

from __future__ import annotations

import asyncclick as click

from fraisier.cli.command import Leaf
from fraisier.cli.params import CountType, argument, flag, fraise_and_environment, globs, option

_STATUS = "fraisier.cli.run.status"


def _maybe() -> list[click.Parameter]:
    return [argument("FRAISE", required=False), argument("ENV", required=False)]


_LIVE = "ask every target too: what runs there now, and does it answer"

COMMANDS = {
    "list": Leaf(
        "list",
        run="fraisier.cli.run.listing:list_fraises",
        help="List the fraises that are configured, with their environments.",
        examples=["fraisier list", "fraisier list --json | jq -r '.fraises[].name'"],
    ),
    "status": Leaf(
        "status",
        run=f"{_STATUS}:status",
        help="Show which version every target has, how it is, and since when.\n\nThis is what was recorded; --live asks the "
        "targets as well. A target that was taken out of the configuration is shown as orphaned until it is removed.",
        examples=["fraisier status", "fraisier status api production --live"],
        params=[*_maybe(), flag("--live", help=_LIVE)],
    ),
    "status-all": Leaf(
        "status-all",
        run=f"{_STATUS}:status_all",
        help="Show the status of every fraise in every environment.",
        examples=["fraisier status-all", "fraisier status-all --live --json"],
        params=[flag("--live", help=_LIVE)],
    ),
    "health": Leaf(
        "health",
        run="fraisier.cli.run.asking:health",
        help="Run the configured health checks now, one probe a target.\n\n"
        "Exits with 1 when a target is unhealthy; else with 6 when one could not be asked, so that nothing is known of "
        "it; with 0 when all are healthy.",
        examples=["fraisier health", "fraisier health api production && echo fine"],
        params=_maybe(),
    ),
    "logs": Leaf(
        "logs",
        run="fraisier.cli.run.logs:logs",
        help="Print the logs of the service on its targets, merged, each line with its target in front.",
        examples=["fraisier logs api production", "fraisier logs api production --target web-1 -f -n 200"],
        params=[
            *fraise_and_environment(),
            globs("--target", "only these targets: names or globs, comma separated"),
            flag("-f", "--follow", help="go on printing what comes, until Ctrl-C"),
            option(
                "-n",
                "--lines",
                help="how many of the last lines of each target",
                type=CountType(0),
                default=50,
                metavar="N",
            ),
        ],
    ),
}
