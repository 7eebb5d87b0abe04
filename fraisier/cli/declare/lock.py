"""Declares the commands over locks."""

from __future__ import annotations

from fraisier.cli.command import Leaf, Tree
from fraisier.cli.params import DurationType, argument, flag, fraise_and_environment, given, option

_RUN = "fraisier.cli.run.lock"

_STATUS = Leaf(
    "status",
    run=f"{_RUN}:status",
    help="Show every lock: who deploys, and what is frozen.\n\nA deployment holds the lock of its fraise and environment "
    "while it runs; the holder is alive, dead, or on another machine (unknown). A freeze is a lock that a person put on.",
    examples=["fraisier lock status", "fraisier lock status api production --json"],
    params=[argument("FRAISE", required=False), argument("ENV", required=False)],
)
_ACQUIRE = Leaf(
    "acquire",
    run=f"{_RUN}:acquire",
    help="Freeze: nobody may change a fraise in an environment.\n\nDeployments, rollbacks, retries and work on the services "
    "end at once with exit 5 and your message. A deployment that runs already is not disturbed, nor is its way back. The "
    "freeze ends with `fraisier lock release`, or after --for. Called again, it replaces your own message and duration; "
    "when somebody else froze it, it exits with 5.",
    examples=[
        "fraisier lock acquire api production -m 'database maintenance' --for 2h",
        "fraisier lock acquire api production -m 'until the incident is over'",
    ],
    params=[
        *fraise_and_environment(),
        given("-m", "--message", help="why nobody may deploy now (required)", metavar="MESSAGE"),
        option(
            "--for",
            "for_s",
            help="end by itself after this time (`2h`); else when it is released",
            type=DurationType(),
            default=0.0,
            metavar="DURATION",
        ),
    ],
)
_RELEASE = Leaf(
    "release",
    run=f"{_RUN}:release",
    help="End a freeze, or take the lock from a deployment whose process is gone.\n\nA lock whose holder lives, or may live "
    "on another machine, is left alone (exit 5) unless --force is given: then that deployment stops where it is, and the "
    "audit trail says who broke its lock. When there is nothing to release, it says so and exits with 0.",
    examples=["fraisier lock release api production", "fraisier lock release api production --force"],
    params=[*fraise_and_environment(), flag("--force", help="take the lock from a holder that lives, too")],
)

COMMANDS = {
    "lock": Tree(
        "lock",
        help="Locks: who deploys now, and what nobody may deploy for a time.",
        entries={
            "status": (_STATUS, "who holds which lock, and what is frozen"),
            "acquire": (_ACQUIRE, "freeze: forbid changes for a time"),
            "release": (_RELEASE, "end a freeze, or take the lock from a dead holder"),
        },
    )
}
