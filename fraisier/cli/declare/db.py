"""Declares the commands over the store."""

from __future__ import annotations

import asyncclick as click

from fraisier.cli.command import Leaf, Tree
from fraisier.cli.params import DurationType, flag, globs, option, yes

_RUN = "fraisier.cli.run.db"

_UPGRADE = Leaf(
    "upgrade",
    run=f"{_RUN}:upgrade",
    help="Bring the store to the schema that this version needs; a store that does not exist is made.",
    examples=["fraisier db backup before.db && fraisier db upgrade"],
)
_CHECK = Leaf(
    "check",
    run=f"{_RUN}:check",
    help="Look for faults in the store: the file, the chain of the journal, and tables that differ from it. Exits with 1 "
    "when there are any.",
    examples=["fraisier db check"],
)
_BACKUP = Leaf(
    "backup",
    run=f"{_RUN}:backup",
    help="Copy the store into one file that did not exist before, and verify the copy. The store may be in use.",
    examples=["fraisier db backup /backup/fraisier-$(date +%F).db"],
    params=[click.Argument(["file"], metavar="FILE")],
)
_RESTORE = Leaf(
    "restore",
    run=f"{_RUN}:restore",
    help="Put a verified copy of a backup in the place of the store. The replaced store is kept beside it. Refused while "
    "the store is in use, unless forced.",
    examples=["fraisier db restore /backup/fraisier-2026-01-31.db"],
    params=[
        click.Argument(["file"], metavar="FILE"),
        flag("--force", help="even while the store is in use"),
        yes(),
    ],
)
_PRUNE = Leaf(
    "prune",
    run="fraisier.cli.run.upkeep:prune",
    help="Remove the bodies of old events for good. Their hashes stay, so that `audit verify` works as before, and so do "
    "history, status and the state of every target. Who removed what is recorded and signed before anything goes. "
    "Deployments without an end, signatures, and what a forward has not received yet are left alone.",
    examples=[
        "fraisier db prune --older-than 90d --dry-run",
        "fraisier db prune --older-than 90d --keep 'deployment.*,security.*' -m 'retention policy'",
        "fraisier db prune --forget forward:file:/var/log/old.jsonl",
    ],
    params=[
        option(
            "--older-than",
            help="what is older than this (`90d`); needed, but with --forget",
            type=DurationType(),
            metavar="DURATION",
        ),
        globs("--keep", "but not events of these types (`deployment.*`), comma separated"),
        option("-m", "--message", help="why, for the record", default="", metavar="TEXT"),
        flag("--force", help="also what a forward has not received yet"),
        option(
            "--forget",
            help="forget this forward, which is configured no more: nothing waits for it, and what it has not received "
            "it never gets; repeatable",
            multiple=True,
            metavar="NAME",
        ),
        flag("--dry-run", help="only say what would go"),
        yes(),
    ],
)

COMMANDS = {
    "db": Tree(
        "db",
        help="The store: the file that holds the journal and what is known of every target.",
        entries={
            "upgrade": (_UPGRADE, "bring the store to the present schema"),
            "check": (_CHECK, "look for faults"),
            "backup": (_BACKUP, "copy the store into a file"),
            "restore": (_RESTORE, "put a backup in its place"),
            "prune": (_PRUNE, "remove the bodies of old events"),
        },
    )
}
