"""Declares the commands that tell what happened."""

from __future__ import annotations

import asyncclick as click

from fraisier.cli.command import Leaf
from fraisier.cli.params import DAYS_MAX, CountType, argument, flag, option


def _count(default: int) -> click.Option:
    return option(
        "--limit",
        help=f"at most so many (default {default})",
        type=CountType(1),
        default=default,
        metavar="N",
    )


_FRAISE = {"help": "only of this fraise", "default": "", "metavar": "FRAISE"}

COMMANDS = {
    "history": Leaf(
        "history",
        run="fraisier.cli.run.history:history",
        help="List past deployments and rollbacks, newest first.",
        examples=[
            "fraisier history",
            "fraisier history --fraise api --environment production --status rolled_back",
        ],
        params=[
            option("--fraise", **_FRAISE),
            option("--environment", help="only in this environment", default="", metavar="ENV"),
            option(
                "--status",
                help="only with this outcome or state (`failed`, `rolled_back`, …)",
                default="",
                metavar="OUTCOME",
            ),
            _count(20),
        ],
    ),
    "show": Leaf(
        "show",
        run="fraisier.cli.run.history:show",
        help="Show all that is known of one deployment: its targets with their steps, errors and times, and what was decided."
        "\n\nThe beginning of its id is enough when no other one begins so.",
        examples=["fraisier history --limit 1", "fraisier show 0192e4a7"],
        params=[argument("DEPLOYMENT")],
    ),
    "stats": Leaf(
        "stats",
        run="fraisier.cli.run.stats:stats",
        help="Show how deployments went: how many, how they ended, how long they took, what failed, and how all that moved "
        "over time.\n\nThese are the figures of the dashboard, taken from the store. On a terminal with colours they are "
        "drawn as panels; elsewhere, and with --no-color, they are lines of text.",
        examples=["fraisier stats", "fraisier stats --fraise api --days 7"],
        params=[
            option("--fraise", **_FRAISE),
            option(
                "--days",
                help="the last N days (default 30)",
                type=CountType(1, most=DAYS_MAX),
                default=30,
                metavar="N",
            ),
        ],
    ),
    "events": Leaf(
        "events",
        run="fraisier.cli.run.events:events",
        help="Print what happened, event by event, oldest first.\n\nWith --follow it goes on with what happens now, in this "
        "process or any other that uses the same store; of one deployment, until that ends.",
        examples=[
            "fraisier events 0192e4a7",
            "fraisier events --follow",
            "fraisier events --json | jq .type",
        ],
        params=[
            argument("DEPLOYMENT", required=False),
            flag("-f", "--follow", help="go on printing what happens, until Ctrl-C"),
            option(
                "-n",
                "--lines",
                help="only the last N events",
                type=CountType(0),
                default=None,
                metavar="N",
            ),
        ],
    ),
}
