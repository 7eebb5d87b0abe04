"""The end of the demonstration: the table, the JSON document, and commands to go on with."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fraisier.audit import AuditReport
from fraisier.cli import exits
from fraisier.cli.lines import seconds, short
from fraisier.demo.stage import ENVIRONMENT, FRAISE, TARGETS, Stage
from fraisier.demo.teller import BOLD, RED, Teller
from fraisier.demo.visitor import Visits
from fraisier.journal.store import STORE_VARIABLE
from fraisier.rollout.result import DeploymentResult


@dataclass
class Outcome:
    """What the demonstration came to; `faults` is what did not go as told, empty when all went well."""

    deployments: dict[str, DeploymentResult] = field(default_factory=dict)
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    visits: Visits = field(default_factory=Visits)
    audit: AuditReport | None = None
    faults: list[str] = field(default_factory=list)
    duration_s: float = 0.0

    def expect(self, *, holds: bool, fault: str) -> None:
        """Note a fault where something does not hold."""
        if not holds:
            self.faults.append(fault)


def close(teller: Teller, stage: Stage, outcome: Outcome, *, kept: bool) -> None:
    """Tell what happened, and what to try next."""
    teller.chapter("What happened")
    teller.table(
        ("version", "commit", "outcome", "exit code", "took"),
        [
            (
                tag,
                short(stage.commits[tag]),
                done.outcome,
                str(exits.of_outcome(done.outcome)),
                seconds(done.duration_s),
            )
            for tag, done in outcome.deployments.items()
        ],
    )
    for fault in outcome.faults:
        teller.say(f"NOT AS TOLD: {fault}", RED)
    command = fraisier_command()
    teller.chapter("What to try next")
    if kept:
        _how_to_look(teller, stage, command)
    else:
        teller.say(f"All of it took {seconds(outcome.duration_s)}; no process and no file of it is left.")
        teller.show(f"{command} demo --keep   # the same, and the services stay for you to look at")
    teller.show(f"{command} init          # write a fraises.yaml of your own, with explanations")
    teller.show(f"{command} --help")


def _how_to_look(teller: Teller, stage: Stage, command: str) -> None:
    with_config = f"{command} --config {shlex.quote(str(stage.config))}"
    if os.environ.get(STORE_VARIABLE):  # it would win over the configuration's store
        with_config += f" --store {shlex.quote(stage.store_url)}"
    teller.say(f"The services still run, and everything is in {stage.directory}. Look at it:")
    teller.show(f"{with_config} status --live")
    teller.show(f"{with_config} history")
    teller.show(f"{with_config} audit verify")
    teller.say("Break it once more (ends with exit code 3), and ask the service:")
    teller.show(f"{with_config} deploy {FRAISE} {ENVIRONMENT} --version v3 --yes")
    teller.show(f"curl {stage.url(TARGETS[0])}")
    teller.say("When you have seen enough, stop the services and remove the directory:")
    teller.show(
        f"{with_config} stop {FRAISE} {ENVIRONMENT} --yes && rm -rf {shlex.quote(str(stage.directory))}", BOLD
    )
    teller.say("And then:")


def document(stage: Stage, outcome: Outcome, *, kept: bool) -> dict[str, Any]:
    """Return the whole as a JSON-ready document. `directory` is null when nothing was kept; durations in seconds."""
    visits = outcome.visits
    return {
        "ok": not outcome.faults,
        "faults": outcome.faults,
        "duration_s": outcome.duration_s,
        "directory": str(stage.directory) if kept else None,
        "config": str(stage.config) if kept else None,
        "versions": stage.commits,
        "deployments": [
            {
                "tag": tag,
                "deployment_id": done.deployment_id,
                "version": done.version,
                "outcome": done.outcome,
                "reason": done.reason,
                "exit_code": exits.of_outcome(done.outcome),
                "duration_s": done.duration_s,
                "targets": {target.name: target.outcome for target in done.targets},
            }
            for tag, done in outcome.deployments.items()
        ],
        "traffic": {
            "rounds": visits.rounds,
            "answered": visits.answered,
            "refused": visits.refused,
            "most_away": visits.most_away,
            "dark": visits.dark,
            "greetings": dict(visits.greetings),
        },
        "targets": [
            {"name": name, "url": stage.url(name), "status": status, "answer": body}
            for name, (status, body) in outcome.answers.items()
        ],
        "audit": outcome.audit.to_dict() if outcome.audit else None,
    }


def fraisier_command() -> str:
    """Return how a person starts this very fraisier: by its name when the shell finds it, else by its place."""
    own = Path(sys.executable).parent / "fraisier"
    found = shutil.which("fraisier")
    if found and Path(found) == own:
        return "fraisier"
    if own.is_file():
        return shlex.quote(str(own))
    return f"{shlex.quote(sys.executable)} -m fraisier"
