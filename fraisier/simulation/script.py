"""What a rehearsal is told to let fail: `TARGET:STEP` or `TARGET:hook:NAME`, as people write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from fraisier.config.hooks import hooks_at, is_of_deployment
from fraisier.errors import UsageError
from fraisier.rollout.plan import Plan, PlanTarget
from fraisier.rollout.request import suggestion

STEPS = ("preflight", "fetch", "stage", "migrate", "switch", "restart", "verify", "bake")
"""The steps that can be made to fail. `verify` means that the new version is sick there, `bake` that it ends soon after it
was found to be healthy."""

HOOK = "hook:"
"""Before the name of a hook."""


class StepFault(msgspec.Struct, frozen=True):
    """A step, or a hook as `hook:NAME`, that fails whenever the new version is brought to the targets that `glob` means; the
    way back works."""

    glob: str
    step: str

    def __str__(self) -> str:
        return f"{self.glob}:{self.step}"


def parse_faults(texts: Sequence[str], targets: Sequence[str]) -> tuple[StepFault, ...]:
    """Return the faults that texts mean. Raises UsageError for a target or step that there is not, with the nearest name."""
    return tuple(_parse(text, targets) for text in texts)


def faults_by_target(faults: Sequence[StepFault], plan: Plan) -> Mapping[str, frozenset[str]]:
    """Return the steps that fail, by target; under the empty name, the hooks that run once, on the orchestrator. Raises
    UsageError for a fault that nothing in the plan would ever meet: what is asked for and does not happen would look like a
    success."""
    found: dict[str, set[str]] = {}
    for fault in faults:
        if fault.step.startswith(HOOK):
            for name in _hooked(fault, plan):
                found.setdefault(name, set()).add(fault.step)
            continue
        met = [target for target in plan.changes if fnmatchcase(target.name, fault.glob)]
        able = [target for target in met if fault.step in _fallible(target, plan)]
        if plan.changes and not able:
            raise UsageError(_never(fault, met, plan), context={"fail": str(fault)})
        for target in able:
            found.setdefault(target.name, set()).add(fault.step)
    return {name: frozenset(steps) for name, steps in found.items()}


def _parse(text: str, targets: Sequence[str]) -> StepFault:
    glob, colon, step = text.rpartition(":")
    is_hook = glob.endswith(":hook")
    if is_hook:
        glob, step = glob.removesuffix(":hook"), f"{HOOK}{step}"
    if not (colon and glob and step.removeprefix(HOOK)):
        raise UsageError(f"--fail {text}: it is not TARGET:STEP, as in `{targets[0]}:restart`")
    if not any(fnmatchcase(name, glob) for name in targets):
        raise UsageError(f"--fail {text}: no target matches {glob!r}{suggestion(glob, targets)}")
    if not is_hook and step not in STEPS:
        raise UsageError(f"--fail {text}: there is no step {step!r}{suggestion(step, STEPS)}")
    return StepFault(glob, step)


def _hooked(fault: StepFault, plan: Plan) -> list[str]:
    """Return where a hook that is to fail would run in this plan. Raises UsageError where it would not."""
    wanted = fault.step.removeprefix(HOOK)
    configured = plan.settings.hooks
    at = {point: hooks_at(configured, point) for point in configured.__struct_fields__}
    if not any(hook.name == wanted for hooks in at.values() for hook in hooks):
        names = list(dict.fromkeys(hook.name for hooks in at.values() for hook in hooks))
        raise UsageError(f"--fail {fault}: no hook has the name {wanted!r}{suggestion(wanted, names)}")
    found: dict[str, None] = {}
    for point, hooks in at.items():
        for hook in (one for one in hooks if one.name == wanted):
            once = is_of_deployment(point) and hook.on == "orchestrator"
            names = [""] if once else [target.name for target in plan.changes]
            found |= dict.fromkeys(name for name in names if fnmatchcase(name, fault.glob))
    if plan.changes and not found:
        raise UsageError(
            f"--fail {fault}: that hook does not run at a target that {fault.glob!r} means",
            context={"fail": str(fault)},
            hint=f"a hook of the whole deployment is meant by `*:{fault.step}`",
        )
    return list(found)


def _fallible(target: PlanTarget, plan: Plan) -> tuple[str, ...]:
    settings = plan.settings
    unchecked = settings.health_check is None and settings.service is None
    return tuple(
        step for step in target.steps if step in STEPS and not (step in ("verify", "bake") and unchecked)
    )


def _never(fault: StepFault, met: Sequence[PlanTarget], plan: Plan) -> str:
    if not met:
        return f"--fail {fault}: this plan changes no target that {fault.glob!r} means"
    if fault.step == "verify" or (fault.step == "bake" and any("bake" in target.steps for target in met)):
        return f"--fail {fault}: without a service and a health check nothing can fail there"
    steps = dict.fromkeys(step for target in met for step in _fallible(target, plan))
    return f"--fail {fault}: this plan takes no such step there, only {', '.join(steps)}"
