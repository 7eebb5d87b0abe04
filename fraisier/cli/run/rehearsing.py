"""`plan --simulate`: the plan is made as always, and then played in the simulator. Nothing else loads the simulator."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.lines import sentence
from fraisier.cli.listening import run_async
from fraisier.cli.run.opening import EVENTS_LOGGER, opened
from fraisier.cli.run.plan import plan_document, plan_text
from fraisier.cli.run.timeline import rehearsal_text
from fraisier.clock import SystemClock
from fraisier.events import TYPE_OF
from fraisier.events.types import RollbackStarted
from fraisier.orchestrator import local_actor
from fraisier.rollout.plan import Plan
from fraisier.rollout.request import find_environment
from fraisier.simulation.past import Past, recall
from fraisier.simulation.rehearsal import Moment, Rehearsal, Wish, rehearse
from fraisier.simulation.script import faults_by_target, parse_faults


def rehearsed(
    call: Call,
    *,
    fraise: str,
    env: str,
    options: Mapping[str, Any],
    fail: Sequence[str],
    kill_after: int,
    seed: int,
) -> Plan:
    """Print the plan, how it goes in the simulator, and how it ends; return the plan. Raises UsageError."""
    config = call.load()
    _, settings = find_environment(config, fraise, env)
    faults = parse_faults(fail, [target.name for target in settings.targets])

    async def look() -> Past:
        async with opened(call, config) as orchestrator:
            plan, seen = await orchestrator.foresee(fraise, env, **options)
            return await recall(orchestrator.journal, plan, seen)

    past = run_async(look)
    wish = Wish(
        config=config,
        environ=call.environ,
        actor=local_actor("rehearsal"),
        now_us=SystemClock().now_us(),
        options=options,
        fails=faults_by_target(faults, past.plan),
        kill_after=kill_after,
        seed=seed,
    )
    # With -v the log would tell of deployments that nobody made.
    logging.getLogger(EVENTS_LOGGER).disabled = True
    found = rehearse(past, wish)
    document = rehearsal_document(past.plan, found, wish)
    if call.json:
        call.document(document)
    else:
        painter = call.painter()
        call.data(f"{plan_text(past.plan, painter)}\n\n{rehearsal_text(document, found.result, painter)}")
    return past.plan


def rehearsal_document(plan: Plan, found: Rehearsal, wish: Wish) -> dict[str, Any]:
    """Return the JSON document of a rehearsal."""
    result = found.result
    events = [moment.event for moment in found.moments]
    linked = {event.child_id for event in events if isinstance(event, RollbackStarted)}
    told = [entry for moment in found.moments if (entry := _entry(moment, found, linked)) is not None]
    return {
        "simulated": True,
        "plan": plan_document(plan),
        "fail": {name: sorted(steps) for name, steps in sorted(wish.fails.items())},
        "kill_after": wish.kill_after or None,
        "seed": wish.seed,
        "facts": found.facts,
        "killed": found.killed,
        "timeline": told,
        "outcome": result.outcome,
        "reason": found.error.message if found.error is not None else result.reason,
        "detail": result.detail,
        "exit_code": _exit_code(found),
        "targets": msgspec.to_builtins(result.targets),
        "duration_s": round(found.took_s, 6),
    }


def _exit_code(found: Rehearsal) -> int:
    """Return the exit code that a real run (of the last of two processes) would have had."""
    if found.error is not None:
        return exits.of_code(found.error.code)
    return exits.of_outcome(found.result.outcome)


def _entry(moment: Moment, found: Rehearsal, linked: Collection[str]) -> dict[str, Any] | None:
    """Return a moment as it is told, None for what a person does not need to see. `linked` are the rollbacks."""
    event = moment.event
    detail = _marks(found)[moment.kind] if event is None else sentence(event)
    if detail is None:
        return None
    return {
        "at_s": round(moment.at_s, 3),
        "seq": moment.seq or None,
        "type": f"rehearsal.{moment.kind}" if event is None else TYPE_OF[event.__class__],
        "target": getattr(event, "target", "") or None,
        "step": getattr(event, "step", "") or None,
        "wave": getattr(event, "wave", 0) or None,
        "rollback": event is not None and event.deployment_id in linked,
        "detail": detail,
    }


def _marks(found: Rehearsal) -> dict[str, str]:
    return {"killed": f"KILLED (kill -9) after fact {found.facts}", "resumed": "`fraisier resume` is run"}
