"""Declares the commands that bring versions to targets."""

from __future__ import annotations

import asyncclick as click

from fraisier.cli.command import Leaf
from fraisier.cli.params import (
    CountType,
    ListType,
    argument,
    flag,
    fraise_and_environment,
    given,
    globs,
    limit,
    lock_wait,
    option,
    yes,
)

_RUN = "fraisier.cli.run.rollout"


def _version(help: str) -> click.Option:
    return given("--version", help=help, metavar="REF")


def _strategy() -> click.Option:
    return option(
        "--strategy",
        help="rolling or all_at_once, instead of the configured one",
        default="",
        metavar="NAME",
    )


def _force(help: str) -> click.Option:
    return flag("--force", help=help)


def _selection() -> list[click.Parameter]:
    return [limit(), globs("--exclude", "all targets but these")]


_REF_HELP = "branch, tag or commit (default: the head of the configured branch)"

COMMANDS = {
    "plan": Leaf(
        "plan",
        run="fraisier.cli.run.plan:plan",
        help="Show what a deployment would change now.\n\nLooks at every target and prints, for each, the version that it "
        "has, the one that it would get, its wave and its steps. Nothing is changed.\n\n"
        "With --simulate the plan is then carried out by the same code over simulated targets that begin as the real ones "
        "are, in virtual time, with the failures that you name: a rehearsal before the real thing.",
        examples=[
            "fraisier plan api production",
            "fraisier plan api production --version v1.4.2",
            "fraisier plan api production --detailed-exitcode   # 10: there are changes",
            "fraisier plan api production --simulate --fail web-3:verify   # how would it go back?",
            "fraisier plan api production --simulate --kill-after 40   # and after a crash?",
        ],
        params=[
            *fraise_and_environment(),
            _version(_REF_HELP),
            *_selection(),
            _strategy(),
            _force("plan targets too that have the version already"),
            flag("--detailed-exitcode", help="exit with 10 when there are changes"),
            flag(
                "--simulate", help="play the plan in a simulator and print what happens; no target is touched"
            ),
            option(
                "--fail",
                help="with --simulate: let a step of the new version fail there, as in `web-3:restart`; names and globs; "
                "preflight, fetch, stage, migrate, switch, restart, verify (the version is sick), "
                "bake (it ends soon after), or a hook, as in `web-3:hook:NAME`; repeatable",
                multiple=True,
                metavar="TARGET:STEP",
            ),
            option(
                "--kill-after",
                help="with --simulate: kill the orchestrator (kill -9) after so many facts in its journal, then resume",
                type=CountType(1),
                metavar="N",
            ),
            option(
                "--seed",
                help="with --simulate: draw the order of what happens side by side from this number (default 0)",
                type=CountType(0),
                metavar="N",
            ),
        ],
    ),
    "deploy": Leaf(
        "deploy",
        run=f"{_RUN}:deploy",
        help="Bring a version to the targets.\n\nEvery target is prepared before the first one is changed. Then the targets "
        "are changed wave by wave, and a wave begins only when the one before it is healthy. When something fails, every "
        "changed target goes back to its last good release (`on_failure` in fraises.yaml says otherwise).\n\n"
        "Several fraises, separated by commas, are deployed side by side, each after those that it depends on.\n\n"
        "Ctrl-C once: the running step of each target is finished and recorded, then it stops. Twice: it stops now. "
        "Either way, and after a crash too, `fraisier resume` goes on; `fraisier abort` puts everything back.",
        examples=[
            "fraisier deploy api production",
            "fraisier deploy api production --version v1.4.2 -y",
            "fraisier deploy api,worker staging --lock-wait 10m",
            "fraisier deploy api production --limit 'web-[12]' --dry-run",
            "fraisier deploy api production --json | jq -c 'select(.type==\"result\")'",
        ],
        params=[
            click.Argument(["fraises"], metavar="FRAISE[,FRAISE…]", type=ListType()),
            argument("ENV"),
            _version(_REF_HELP),
            *_selection(),
            _strategy(),
            flag("--dry-run", help="show the plan and change nothing"),
            _force("deploy to targets that have the version already; go on after one that needed attention"),
            flag(
                "--skip-hooks",
                help="run none of the configured hooks; the journal tells that you wanted that",
            ),
            yes(),
            lock_wait(),
        ],
    ),
    "rollback": Leaf(
        "rollback",
        run=f"{_RUN}:rollback",
        help="Go back.\n\nWithout --to, the latest deployment is undone on the targets that it changed: each goes to its own "
        "previous good release. Called again, it goes further back. With --to, all targets (or those of --limit) get the "
        "named release or version.",
        examples=[
            "fraisier rollback api production",
            "fraisier rollback api production --to v1.4.1",
            "fraisier rollback api production --limit web-3 -y",
        ],
        params=[
            *fraise_and_environment(),
            given("--to", help="a release id, or a branch, tag or commit", metavar="RELEASE"),
            limit(),
            _force("go on after a deployment that needed attention"),
            flag("--dry-run", help="show the plan and change nothing"),
            yes(),
            lock_wait(),
        ],
    ),
    "retry": Leaf(
        "retry",
        run=f"{_RUN}:retry",
        help="Deploy the same version again to every target that a deployment did not leave on it.\n\nRefused while that "
        "deployment is not ended. The beginning of its id is enough when no other one begins so.",
        examples=["fraisier history --status failed", "fraisier retry 0192e4a7"],
        params=[
            argument("DEPLOYMENT"),
            _force("go on after a deployment that needed attention"),
            yes(),
            lock_wait(),
        ],
    ),
}
