"""`resume`, `abort`, `pause` and `promote`: what a person wants of a deployment that was begun before."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.errors import Document, as_json, as_text, describe
from fraisier.cli.run.choosing import in_a_list, open_ones, refuse_several, resumable, the_only_one
from fraisier.cli.run.summary import print_results, summary
from fraisier.cli.run.tellers import LineTeller, SilentTeller
from fraisier.cli.run.watching import NotedIds, watched
from fraisier.errors import FraisierError, UsageError
from fraisier.journal.fold import DeploymentState
from fraisier.orchestrator import Orchestrator
from fraisier.rollout.result import NOT_ENDED, DeploymentResult
from fraisier.rollout.steer import Steered

_NOTHING = "nothing to resume"


def resume(call: Call, *, deployment: str, all: bool, lock_wait: float) -> int:
    """Go on with one deployment, or with all that are unfinished, oldest first."""
    if all and deployment:
        raise UsageError("name a deployment, or say --all, not both", hint="fraisier resume --help")
    config = call.load()
    ids = NotedIds()
    refused: list[FraisierError] = []
    running: list[DeploymentState] = []

    async def work(orchestrator: Orchestrator) -> list[DeploymentResult]:
        chosen = await _chosen(orchestrator, deployment, all=all)
        results: list[DeploymentResult] = []
        running.extend([] if chosen else await open_ones(orchestrator))
        for deployment_id in chosen:
            await _note(ids, orchestrator, deployment_id)
            try:
                result = await orchestrator.resume(deployment_id, lock_wait_s=lock_wait)
            except FraisierError as error:
                if not all:
                    raise
                refused.append(error)  # the others are no worse off for it
                continue
            if result is not None:
                results.append(result)
                if result.outcome == "interrupted":
                    break
        return results

    results = watched(call, config, work, ids=ids)
    print_results(call, results)
    codes = [_code(result) for result in results]
    for error in refused:
        found, code = describe(error)
        _tell_refused(call, call.scrubbed(found))
        codes.append(code)
    if not codes:
        _tell_nothing(call, running)
    return exits.worst(codes)


def _tell_refused(call: Call, found: Document) -> None:
    if call.json:
        call.data(as_json(found))
    else:
        call.say(as_text(found))


def _tell_nothing(call: Call, running: Sequence[DeploymentState]) -> None:
    why = "; ".join(f"{state.id} ({state.fraise} in {state.environment}) runs" for state in running)
    message = f"{_NOTHING}: {why or 'no deployment is unfinished'}"
    if call.json:
        found = [in_a_list(state) for state in running]
        call.document({"type": "nothing", "resumed": [], "running": found, "message": message})
    else:
        call.say(message)


async def _chosen(orchestrator: Orchestrator, deployment: str, *, all: bool) -> Sequence[str]:
    if deployment:
        return [(await orchestrator.show_state(deployment)).id]
    found = await resumable(orchestrator)
    if not all:
        refuse_several(found, "name one, or resume them in turn: fraisier resume --all")
    return [state.id for state in found]


def _code(result: DeploymentResult) -> int:
    # A paused deployment that was told to go on runs elsewhere: what was asked for is done.
    return exits.OK if result.outcome in NOT_ENDED else exits.of_outcome(result.outcome)


async def _note(ids: NotedIds, orchestrator: Orchestrator, deployment_id: str) -> None:
    """Let the events of a deployment be told, and of what undoes it; both may have been made by another process."""
    state = await orchestrator.show_state(deployment_id)
    if state.rollback_of:
        state = await orchestrator.show_state(state.rollback_of)
    ids.note(state.id, state.child_id, *state.children.values())


def abort(call: Call, *, deployment: str) -> int:
    """End a deployment."""
    return _steer(call, "abort", deployment)


def pause(call: Call, *, deployment: str) -> int:
    """Let a deployment wait."""
    return _steer(call, "pause", deployment)


def promote(call: Call, *, deployment: str) -> int:
    """Let a deployment go on."""
    return _steer(call, "promote", deployment)


def _steer(call: Call, action: str, deployment: str) -> int:
    config = call.load()
    ids = NotedIds()
    answers: list[Steered] = []

    async def work(orchestrator: Orchestrator) -> list[DeploymentResult]:
        chosen = deployment or await the_only_one(orchestrator, action)
        await _note(ids, orchestrator, chosen)
        ask = {"abort": orchestrator.abort, "pause": orchestrator.pause, "promote": orchestrator.promote}[
            action
        ]
        steered = await ask(chosen)
        answers.append(steered)
        return [] if steered.result is None else [steered.result]

    quiet = call.json or call.options.quiet
    teller = SilentTeller(call) if quiet else LineTeller(call)
    results = watched(call, config, work, ids=ids, teller=teller)
    if not answers:  # cancelled while it was carried out here
        print_results(call, results)
        return exits.worst(exits.of_outcome(result.outcome) for result in results) or exits.INTERRUPTED
    _tell(call, answers[0])
    return _exit_code(answers[0])


def _tell(call: Call, steered: Steered) -> None:
    if call.json:
        told = msgspec.to_builtins(steered)
        if steered.result is None:
            del told["result"]
        call.document(told)
        return
    if steered.result is not None:
        call.say(summary(steered.result, call.painter(call.stderr)))
    painter = call.painter()
    effect = painter.paint(steered.effect, "red" if steered.effect == "refused" else "green")
    detail = f": {steered.detail}" if steered.detail and steered.result is None else ""
    state = steered.state.replace("_", " ")
    call.data(f"{steered.action} {effect}, deployment {steered.deployment_id} is {state}{detail}")


def _exit_code(steered: Steered) -> int:
    if steered.effect != "refused":
        return exits.OK
    if steered.action == "abort" and steered.state in ("needs_attention", "interrupted"):
        return exits.of_outcome(steered.state)
    return exits.FAILED
