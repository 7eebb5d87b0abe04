"""`plan`, and how a plan looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.ending import load_module
from fraisier.cli.listening import run_async
from fraisier.cli.render import Painter, short, table
from fraisier.cli.run.opening import opened
from fraisier.config.hooks import hooks_at
from fraisier.errors import UsageError
from fraisier.rollout.plan import Plan, PlanTarget


def plan(
    call: Call,
    *,
    fraise: str,
    env: str,
    version: str,
    limit: Sequence[str],
    exclude: Sequence[str],
    strategy: str,
    force: bool,
    detailed_exitcode: bool,
    simulate: bool,
    fail: Sequence[str],
    kill_after: int | None,
    seed: int | None,
) -> int:
    """Print what a deployment would change now, and with `simulate` how it would go."""
    options: dict[str, Any] = {"version": version, "limit": limit, "exclude": exclude}
    options |= {"strategy": strategy, "force": force}
    if simulate:
        rehearsing = load_module("fraisier.cli.run.rehearsing")  # the simulator, for nobody else
        found = rehearsing.rehearsed(
            call,
            fraise=fraise,
            env=env,
            options=options,
            fail=fail,
            kill_after=kill_after or 0,
            seed=seed or 0,
        )
    else:
        _refuse_without_simulate({"--fail": fail, "--kill-after": kill_after, "--seed": seed})
        found = _planned(call, fraise, env, options)
    return exits.CHANGES if detailed_exitcode and found.changes else exits.OK


def _planned(call: Call, fraise: str, env: str, options: Mapping[str, Any]) -> Plan:
    config = call.load()

    async def look() -> Plan:
        async with opened(call, config) as orchestrator:
            return await orchestrator.plan(fraise, env, **options)

    found = run_async(look)
    if call.json:
        call.document(plan_document(found))
    else:
        call.data(plan_text(found, call.painter()))
    return found


def _refuse_without_simulate(options: Mapping[str, object]) -> None:
    given = [name for name, value in options.items() if value not in (None, ())]
    if given:
        raise UsageError(
            f"{', '.join(given)}: only a rehearsal knows that", hint="add --simulate, which touches no target"
        )


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return the JSON document of a plan."""
    return {
        "changes": bool(plan.changes),
        "fraise": plan.fraise,
        "environment": plan.environment,
        "kind": plan.kind,
        "version": plan.version or None,
        "strategy": plan.strategy or None,
        "waves": [list(wave) for wave in plan.waves],
        "hooks": _hooks(plan),
        "targets": [
            {
                "name": target.name,
                "action": target.action,
                "current": target.previous_version or target.current_release or None,
                "wanted": _wanted(target) or None,
                "wave": target.wave or None,
                "steps": list(target.steps),
            }
            for target in plan.targets
        ],
    }


def _hooks(plan: Plan) -> dict[str, list[str]]:
    """Return the names of the hooks by the key that they stand under."""
    configured = plan.settings.hooks
    found = {point: hooks_at(configured, point) for point in configured.__struct_fields__}
    return {point: [hook.name for hook in hooks] for point, hooks in found.items() if hooks}


def _wanted(target: PlanTarget) -> str:
    return "" if target.action == "remove" else target.version or target.release


def plan_text(plan: Plan, painter: Painter, *, most: int = 0) -> str:
    """Return the plan as people read it; of `most` targets when that is not 0."""
    head = f"{plan.fraise} in {plan.environment}: {plan.kind} {short(plan.version) if plan.version else ''}".rstrip()
    if not plan.changes:
        return f"{head}\nnothing to do: every target has it already"
    waves = f"{len(plan.waves)} wave{'s' if len(plan.waves) > 1 else ''}"
    changes = f"{len(plan.changes)} of {len(plan.targets)} targets change"
    shape = ", ".join(part for part in (changes, waves, plan.strategy.replace("_", " ")) if part)
    shown = sorted(plan.targets, key=lambda target: target.wave or len(plan.waves) + 1)
    left_out = len(shown) - most if most and len(shown) > most else 0
    if left_out:
        shown = shown[:most]
    cells = [
        (
            target.name,
            short(target.previous_version or target.current_release),
            "->" if target.action in ("update", "remove") else "",
            _wish(target),
            str(target.wave or "-"),
            " ".join(target.steps) or "-",
        )
        for target in shown
    ]
    lines = [
        painter.paint(head, "bold"),
        shape,
        "",
        table(("TARGET", "CURRENT", "", "WANTED", "WAVE", "STEPS"), cells, painter, states=(3,)),
    ]
    if hooks := _hooks(plan):
        lines += ["", "hooks: " + ", ".join(f"{point} ({' '.join(names)})" for point, names in hooks.items())]
    if left_out:
        lines.append(f"… and {left_out} more targets")
    return "\n".join(lines)


def _wish(target: PlanTarget) -> str:
    words = {"remove": "nothing (stopped)", "skip": "unreachable, left out", "unchanged": "unchanged"}
    return words.get(target.action) or short(_wanted(target))
