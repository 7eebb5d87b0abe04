"""Declares the commands that steer a deployment that was begun before, from any terminal."""

from __future__ import annotations

import asyncclick as click

from fraisier.cli.command import Leaf
from fraisier.cli.params import argument, flag, lock_wait

_RUN = "fraisier.cli.run.steer"

_WHICH = (
    "Without DEPLOYMENT it is the only one that has not ended. The beginning of an id is enough when no other one "
    "begins so."
)


def _deployment() -> click.Argument:
    return argument("DEPLOYMENT", required=False)


COMMANDS = {
    "resume": Leaf(
        "resume",
        run=f"{_RUN}:resume",
        help="Go on with a deployment that was interrupted, killed, paused or held.\n\nThe journal says what was begun, the "
        "targets say what is there; what is still to do is done, and a rollback goes on as a rollback. A paused deployment "
        f"whose process lives goes on there.\n\n{_WHICH} When there is none, there is nothing to do (exit 0).",
        examples=[
            "fraisier resume",
            "fraisier resume 0192e4a7",
            "fraisier resume --all --json | jq -c 'select(.type==\"result\")'",
        ],
        params=[
            _deployment(),
            flag("--all", help="every deployment that is unfinished, oldest first"),
            lock_wait(),
        ],
    ),
    "abort": Leaf(
        "abort",
        run=f"{_RUN}:abort",
        help="End a deployment, wherever it runs.\n\nNo further step begins; what was begun is put right as `on_failure` "
        "says: with `rollback`, the default, every changed target goes back. When the process that ran the deployment is "
        "gone, that is done here, before the command returns.\n\n"
        f"{_WHICH} One that is aborted already is fine (exit 0); one that has ended, or is going back, is refused (exit 1).",
        examples=["fraisier abort", "fraisier abort 0192e4a7 --json"],
        params=[_deployment()],
    ),
    "pause": Leaf(
        "pause",
        run=f"{_RUN}:pause",
        help="Let a deployment change no further target until it is told to go on.\n\nRunning steps are finished. Health is "
        "still watched, and acted on; deadlines stand still. It goes on with `fraisier promote` or `fraisier resume`.\n\n"
        f"{_WHICH}",
        examples=["fraisier pause", "fraisier pause 0192e4a7"],
        params=[_deployment()],
    ),
    "promote": Leaf(
        "promote",
        run=f"{_RUN}:promote",
        help="End the wait of a deployment now: a pause, or the time between two waves.\n\n"
        f"{_WHICH} One that waits for nothing is refused (exit 1).",
        examples=["fraisier promote", "fraisier promote 0192e4a7"],
        params=[_deployment()],
    ),
}
