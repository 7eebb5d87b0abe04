"""What a rehearsal is told to let fail: `TARGET:STEP`, as people write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from fraisier.errors import UsageError
from fraisier.rollout.plan import Plan, PlanTarget
from fraisier.rollout.request import suggestion

STEPS = ("preflight", "fetch", "stage", "migrate", "switch", "restart", "verify")
"""The steps that can be made to fail. `verify` means that the new version is sick there."""


class StepFault(msgspec.Struct, frozen=True):
    """A step that fails whenever the new version is brought to the targets that `glob` means; the way back works."""

    glob: str
    step: str

    def __str__(self) -> str:
        return f"{self.glob}:{self.step}"


def parse_faults(texts: Sequence[str], targets: Sequence[str]) -> tuple[StepFault, ...]:
    """Return the faults that texts mean. Raises UsageError for a target or step that there is not, with the nearest name."""
    return tuple(_parse(text, targets) for text in texts)


def faults_by_target(faults: Sequence[StepFault], plan: Plan) -> Mapping[str, frozenset[str]]:
    """Return the steps that fail, by target. Raises UsageError for a fault that nothing in the plan would ever meet: what
    is asked for and does not happen would look like a success."""
    found: dict[str, set[str]] = {}
    for fault in faults:
        met = [target for target in plan.changes if fnmatchcase(target.name, fault.glob)]
        able = [target for target in met if fault.step in _fallible(target, plan)]
        if plan.changes and not able:
            raise UsageError(_never(fault, met, plan), context={"fail": str(fault)})
        for target in able:
            found.setdefault(target.name, set()).add(fault.step)
    return {name: frozenset(steps) for name, steps in found.items()}


def _parse(text: str, targets: Sequence[str]) -> StepFault:
    glob, colon, step = text.rpartition(":")
    if not (colon and glob and step):
        raise UsageError(f"--fail {text}: it is not TARGET:STEP, as in `{targets[0]}:restart`")
    if not any(fnmatchcase(name, glob) for name in targets):
        raise UsageError(f"--fail {text}: no target matches {glob!r}{suggestion(glob, targets)}")
    if step not in STEPS:
        raise UsageError(f"--fail {text}: there is no step {step!r}{suggestion(step, STEPS)}")
    return StepFault(glob, step)


def _fallible(target: PlanTarget, plan: Plan) -> tuple[str, ...]:
    settings = plan.settings
    unchecked = settings.health_check is None and settings.service is None
    return tuple(step for step in target.steps if step in STEPS and not (step == "verify" and unchecked))


def _never(fault: StepFault, met: Sequence[PlanTarget], plan: Plan) -> str:
    if not met:
        return f"--fail {fault}: this plan changes no target that {fault.glob!r} means"
    if fault.step == "verify":
        return f"--fail {fault}: without a service and a health check nothing can fail there"
    steps = dict.fromkeys(step for target in met for step in _fallible(target, plan))
    return f"--fail {fault}: this plan takes no such step there, only {', '.join(steps)}"
