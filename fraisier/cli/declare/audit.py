"""Declares the commands over the audit trail."""

from __future__ import annotations

import asyncclick as click

from fraisier.cli.command import Leaf, Tree
from fraisier.cli.params import DAYS_MAX, CountType, HashType, MomentType, option

_RUN = "fraisier.cli.run.audit"


def _filters() -> list[click.Parameter]:
    return [
        option("--fraise", help="only of this fraise", default="", metavar="FRAISE"),
        option("--environment", help="only in this environment", default="", metavar="ENV"),
        option("--type", help="only events of this type (`deployment.*`)", default="", metavar="TYPE"),
        option("--actor", help="only what this user (or user@host) asked for", default="", metavar="USER"),
        option(
            "--since",
            help="not before this time: `2026-01-31`, `2026-01-31T08:00:00Z`, or how long ago (`7d`)",
            type=MomentType(),
            default=None,
            metavar="TIME",
        ),
        option("--until", help="before this time", type=MomentType(), default=None, metavar="TIME"),
        option(
            "--days", help="only the last N days", type=CountType(1, most=DAYS_MAX), default=None, metavar="N"
        ),
    ]


_LIST = Leaf(
    "list",
    run=f"{_RUN}:list_events",
    help="List what is on record, oldest first.",
    examples=["fraisier audit list", "fraisier audit list --actor alice --type 'deployment.*' --days 7"],
    params=[
        *_filters(),
        option(
            "--limit",
            help="at most the last N (default 100)",
            type=CountType(1),
            default=100,
            metavar="N",
        ),
    ],
)
_VERIFY = Leaf(
    "verify",
    run=f"{_RUN}:verify",
    help="Check that the trail is what was written.\n\nWalks the whole chain of hashes and checks every signature. With "
    "--head it also looks for a hash that you kept (every deployment prints one), which tells whether the end of the trail "
    "was cut off. Exits with 7 when something is wrong.",
    examples=["fraisier audit verify", 'fraisier audit verify --head "$(cat kept.head)"'],
    params=[option("--head", help="a hash that you kept, whole", type=HashType(), metavar="HASH")],
)
_EXPORT = Leaf(
    "export",
    run=f"{_RUN}:export",
    help="Write the trail to stdout, for another program to keep.",
    examples=[
        "fraisier audit export > trail.jsonl",
        "fraisier audit export --format csv --since 2026-01-01 --until 2026-02-01 > january.csv",
    ],
    params=[
        *_filters(),
        option("--format", help="jsonl or csv", type=click.Choice(["jsonl", "csv"]), default="jsonl"),
    ],
)

COMMANDS = {
    "audit": Tree(
        "audit",
        help="The audit trail: an append-only, hash-chained, signed log of all that was done.",
        entries={
            "list": (_LIST, "list what is on record"),
            "verify": (_VERIFY, "check that nothing was changed or cut off"),
            "export": (_EXPORT, "write the trail to stdout"),
        },
    )
}
