"""The demonstration itself: what is done, in which order, and what must have come of it."""

from __future__ import annotations

import json
import logging
import os
import sys

import anyio
from anyio.abc import TaskStatus

from fraisier.audit import load_or_make_key, verify
from fraisier.config.loader import load_config
from fraisier.demo.ending import Outcome, close, document
from fraisier.demo.stage import ENVIRONMENT, FRAISE, TARGETS, Stage, clear_stage, make_directory, set_stage
from fraisier.demo.teller import BOLD, DIM, GREEN, RED, Teller
from fraisier.demo.visitor import ask_all, visiting
from fraisier.orchestrator import Orchestrator

EXPECTED = {"v1": "succeeded", "v2": "succeeded", "v3": "rolled_back"}
CLEAR_S = 15.0


async def run_demo(*, keep: bool, json_output: bool, color: bool) -> int:
    """Play the demonstration in a temporary directory and return the exit code: 0 when all went as told, 1 when not.

    The story goes to standard output, or with `json_output` one JSON document. Every process and file is gone at the
    end, also after a cancellation or an error; with `keep`, those of a finished demonstration stay. Raises
    FraisierError when it cannot begin, for want of git for example.
    """
    # The story tells what goes wrong; without a handler, logging would print it a second time.
    logging.getLogger("fraisier").addHandler(logging.NullHandler())
    teller = Teller(_silent if json_output else _write, color=color)
    directory = make_directory()
    stays = False
    try:
        begun = anyio.current_time()
        stage = await set_stage(directory, os.environ)
        outcome = Outcome()
        await _tell(teller, stage, outcome)
        outcome.duration_s = round(anyio.current_time() - begun, 3)
        stays = keep
    finally:
        if not stays:
            with anyio.CancelScope(shield=True), anyio.move_on_after(CLEAR_S):
                await clear_stage(directory)
    close(teller, stage, outcome, kept=stays)
    if json_output:
        _write(json.dumps(document(stage, outcome, kept=stays)))
    return 1 if outcome.faults else 0


async def _tell(teller: Teller, stage: Stage, outcome: Outcome) -> None:
    _introduce(teller, stage)
    orchestrator = Orchestrator(load_config(stage.config), stage.store_url)
    async with orchestrator, anyio.create_task_group() as tasks:
        await tasks.start(_relay, orchestrator, teller, name="demo:lines")
        await _first_version(teller, stage, outcome, orchestrator)
        await _second_version(teller, stage, outcome, orchestrator)
        await _broken_version(teller, stage, outcome, orchestrator)
        await _audit(teller, stage, outcome, orchestrator)
        tasks.cancel_scope.cancel()


async def _relay(orchestrator: Orchestrator, teller: Teller, *, task_status: TaskStatus[None]) -> None:
    async with orchestrator.subscribe("*") as records:
        task_status.started()
        async for record in records:
            teller.event(record)


# chapters


def _introduce(teller: Teller, stage: Stage) -> None:
    teller.chapter(
        "A service, and three places to run it",
        "A small HTTP service lies in a git repository in three versions. Three targets stand for three machines: each has"
        " its own directory, its own process and its own port. This is the configuration:",
    )
    for line in stage.config.read_text(encoding="utf-8").splitlines()[1:]:
        teller.show(line, DIM)


async def _first_version(teller: Teller, stage: Stage, outcome: Outcome, orchestrator: Orchestrator) -> None:
    teller.chapter(
        "Version 1, for the first time",
        "All targets fetch and stage the release before the first one is switched. Then one target goes ahead, and the"
        " others follow once it is healthy. Everything is in the journal before it happens.",
    )
    await _deploy(teller, outcome, orchestrator, "v1")
    await _prove(teller, stage, outcome, "v1")


async def _second_version(teller: Teller, stage: Stage, outcome: Outcome, orchestrator: Orchestrator) -> None:
    teller.chapter(
        "Version 2, while people use the service",
        "A visitor asks all three targets again and again, forty times a second. At most one target may be away at a time"
        " (`max_unavailable`: a quarter, at least one), so somebody always answers.",
    )
    async with visiting(stage.ports) as outcome.visits:
        await _deploy(teller, outcome, orchestrator, "v2")
        await anyio.sleep(0.1)
    visits = outcome.visits
    teller.say(
        f"The visitor got {visits.answered} answers; {visits.refused} requests met a target that was just being restarted,"
        f" never more than {visits.most_away} at a time. In {visits.dark} of {visits.rounds} rounds nobody answered."
    )
    outcome.expect(holds=visits.dark == 0, fault="nobody answered at some moment of the upgrade")
    outcome.expect(
        holds=visits.most_away <= 1,
        fault=f"{visits.most_away} targets were away at a time during the upgrade",
    )
    await _prove(teller, stage, outcome, "v2")


async def _broken_version(teller: Teller, stage: Stage, outcome: Outcome, orchestrator: Orchestrator) -> None:
    teller.chapter(
        "Version 3, which is broken",
        "It starts, and even says hello; but its health check answers 503. The first target will not become healthy within"
        " its deadline. The second and third are never touched, and the first gets version 2 back, by itself.",
    )
    await _deploy(teller, outcome, orchestrator, "v3")
    await _prove(teller, stage, outcome, "v2")
    touched = [target.name for target in outcome.deployments["v3"].targets if target.outcome != "untouched"]
    outcome.expect(
        holds=touched == [TARGETS[0]], fault=f"version 3 touched {', '.join(touched) or 'no target'}"
    )


async def _audit(teller: Teller, stage: Stage, outcome: Outcome, orchestrator: Orchestrator) -> None:
    teller.chapter(
        "Can the record be trusted?",
        "Every event is chained to the one before it by its hash, and the end of each deployment is signed. A row that was"
        " changed, deleted or put in would be found.",
    )
    key = load_or_make_key("", stage.directory)
    report = outcome.audit = await verify(orchestrator.journal, key)
    outcome.expect(holds=report.ok, fault=f"the audit trail does not hold: {report.problem}")
    teller.say(
        f"{report.rows} events, {report.checkpoints} signatures: {'intact' if report.ok else report.problem}"
    )
    teller.show(f"head {report.head}", DIM)


# pieces


async def _deploy(teller: Teller, outcome: Outcome, orchestrator: Orchestrator, tag: str) -> None:
    teller.show(f"$ fraisier deploy {FRAISE} {ENVIRONMENT} --version {tag}", BOLD)
    result = await orchestrator.deploy(FRAISE, ENVIRONMENT, version=tag)
    outcome.deployments[tag] = result
    wanted = EXPECTED[tag]
    outcome.expect(
        holds=result.outcome == wanted,
        fault=f"{tag} ended as {result.outcome} ({result.detail or result.reason}), not as {wanted}",
    )


async def _prove(teller: Teller, stage: Stage, outcome: Outcome, tag: str) -> None:
    outcome.answers = await ask_all(stage.ports)
    for name, (status, body) in outcome.answers.items():
        good = status == 200 and body.endswith(f"from {tag}")
        teller.show(f"{name}  GET {stage.url(name)}  ->  {body or 'no answer'}", GREEN if good else RED)
        outcome.expect(holds=good, fault=f"{name} answers {body or 'nothing'}, not {tag}")


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _silent(_line: str) -> None:
    """Write nothing."""
