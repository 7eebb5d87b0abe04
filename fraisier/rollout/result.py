"""What a deployment came to, as people and programs are told."""

from __future__ import annotations

from typing import Any

import msgspec

from fraisier.journal.fold import CHANGING_STEPS, DeploymentState, TargetState


class TargetResult(msgspec.Struct, frozen=True):
    """What a deployment did to one target. `version` is what it serves now as recorded; durations in seconds."""

    name: str
    outcome: str
    version: str | None
    previous_version: str | None
    duration_s: float
    error: str | None


class DeploymentResult(msgspec.Struct, frozen=True):
    """The end of a deployment; the fields of the last JSON line that the command line prints. `provider` is the one that
    served, `fallback` the name of the place beside its environment that it went through."""

    outcome: str
    reason: str | None
    detail: str | None
    deployment_id: str
    fraise: str
    environment: str
    version: str | None
    previous_version: str | None
    duration_s: float
    audit_head: str
    targets: tuple[TargetResult, ...]
    provider: str | None = None
    fallback: str | None = None
    hint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready result line, with its type."""
        return {"type": "result", **msgspec.to_builtins(self)}


class _PlannedTarget(msgspec.Struct):
    name: str
    current_version: str = ""


class _PlanOutline(msgspec.Struct):
    targets: tuple[_PlannedTarget, ...] = ()


_decode_outline = msgspec.json.Decoder(_PlanOutline).decode

NOT_ENDED = frozenset({"planned", "queued", "running", "rolling_back"})


def result_of(state: DeploymentState, audit_head: str, hint: str = "") -> DeploymentResult:
    """Return the result that the folded state tells. `audit_head` is the hex hash of the chain's head."""
    found = _found_before(state.plan)
    targets = tuple(_target_result(state, name, found.get(name, "")) for name in state.targets)
    duration_s = state.duration_s or max(0, state.finished_us - state.requested_us) / 1_000_000
    return DeploymentResult(
        outcome=state.outcome or state.state,
        reason=state.reason or None,
        detail=state.detail or None,
        deployment_id=state.id,
        fraise=state.fraise,
        environment=state.environment,
        version=state.version or None,
        previous_version=state.previous_version or None,
        duration_s=round(duration_s, 6),
        audit_head=audit_head,
        targets=targets,
        provider=state.provider or None,
        fallback=state.fallback or None,
        hint=hint or None,
    )


def _found_before(plan: bytes) -> dict[str, str]:
    """Return the version that each target had when the plan was made; a damaged plan tells nothing."""
    try:
        planned = _decode_outline(plan).targets if plan else ()
    except msgspec.MsgspecError:
        return {}
    return {target.name: target.current_version for target in planned}


def is_as_it_was(target: TargetState) -> bool:
    """Whether a target that never got its turn is as it was, but for a migration on it that went well and is for all."""
    if not target.begun:
        return True
    touched = {step for step in target.steps if step in CHANGING_STEPS}
    return not target.outcome and touched == {"migrate"} and target.steps["migrate"].status == "succeeded"


def _target_result(state: DeploymentState, name: str, found: str) -> TargetResult:
    """Return what became of one target. `found` is the version that was there before, when that is known."""
    target = state.targets[name]
    outcome = target.outcome or ("untouched" if is_as_it_was(target) else "in_doubt")
    switch = target.steps.get("switch")
    switched = switch is not None and switch.status != "failed"
    unsure = outcome in ("failed", "in_doubt", "unreachable")
    on_it = outcome in ("updated", "unchanged") or (unsure and switched)
    before = target.previous_version if outcome == "rolled_back" else found or target.previous_version
    version = target.version if on_it else before
    took_us = target.finished_us - target.started_us if target.started_us and target.finished_us else 0
    return TargetResult(
        name=name,
        outcome=outcome,
        version=version or None,
        previous_version=target.previous_version or None,
        duration_s=round(max(0, took_us) / 1_000_000, 6),
        error=target.error or None if outcome not in ("updated", "unchanged") else None,
    )
