"""What a rehearsal begins with: the plan, what was seen of the targets, and what the store knows of them. Only read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from fraisier.config.schema import Environment, HealthCheck
from fraisier.journal.base import Journal
from fraisier.journal.state import DeploymentState, LeaseState, Placement, Release
from fraisier.rollout.plan import Plan, Seen, decode_plan, encode_plan
from fraisier.rollout.processes import SystemProcesses
from fraisier.rollout.reopen import open_deployments

_ASSUMED_S = {
    "preflight": 0.2,
    "fetch": 1.0,
    "stage": 5.0,
    "migrate": 5.0,
    "switch": 0.1,
    "restart": 1.0,
    "cleanup": 0.2,
}
"""How long the steps of a fraise take that was never deployed."""

replace = msgspec.structs.replace


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rehearsal starts. `deployments` are those that have no end, and those that made the releases to go back to;
    their seqs are negative, so that whatever is rehearsed is newer. `durations_s` is how long steps took last."""

    plan: Plan
    seen: Mapping[str, Seen]
    placements: Sequence[Placement]
    releases: Sequence[Release]
    deployments: Sequence[DeploymentState]
    lease: LeaseState | None
    durations_s: Mapping[str, float]


async def recall(journal: Journal, plan: Plan, seen: Mapping[str, Seen]) -> Past:
    """Return what the store knows about the fraise and the environment of a plan."""
    fraise, environment = plan.fraise, plan.environment
    placements = await journal.placements(fraise, environment)
    releases = await journal.releases(fraise, environment)
    wanted = {state.id: None for state in await open_deployments(journal, fraise, environment)}
    previous = {(target.name, target.previous_release) for target in plan.changes}
    wanted |= {one.deployment_id: None for one in releases if (one.target, one.release) in previous}
    latest = {place.deployment_id: None for place in placements}
    known: dict[str, DeploymentState] = {}
    for name in [*wanted, *latest]:
        found = await journal.deployment(name) if name and name not in known else None
        if found is not None:
            known[name] = found
    head = journal.head
    return Past(
        plan=plan,
        seen=seen,
        placements=placements,
        releases=[replace(one, seq=one.seq - head - 1) for one in releases],
        deployments=[_older(known[name], head) for name in wanted if name in known],
        lease=_as_far_as_held(await journal.lease(fraise, environment)),
        durations_s=_ASSUMED_S | _durations(known[name] for name in latest if name in known),
    )


def within_reach(settings: Environment) -> Environment:
    """Return settings whose health check asks the simulated service, at the pace of the configured one, and nobody else."""
    check = settings.health_check
    if check is None:
        return settings
    simulated = HealthCheck(
        type="exec",
        command=f"simulated-{check.type}-check",
        interval_s=check.interval_s,
        timeout_s=check.timeout_s,
        rise=check.rise,
        fall=check.fall,
        initial_delay_s=check.initial_delay_s,
        deadline_s=check.deadline_s,
    )
    return replace(settings, health_check=simulated)


def _older(state: DeploymentState, head: int) -> DeploymentState:
    """Return a deployment as it stands before the rehearsal, with a plan that reaches nothing real."""
    plan = state.plan
    if plan:
        frozen = decode_plan(plan)
        targets = tuple(
            target if target.settings is None else replace(target, settings=within_reach(target.settings))
            for target in frozen.targets
        )
        plan = encode_plan(replace(frozen, settings=within_reach(frozen.settings), targets=targets))
    first, last = state.first_seq - head - 1, state.last_seq - head - 1
    return replace(state, plan=plan, first_seq=first, last_seq=last)


def _as_far_as_held(lease: LeaseState | None) -> LeaseState | None:
    """Return the lease; that of a holder that is dead is free, which only this machine's process table can tell."""
    if lease is None or not lease.held:
        return lease
    return replace(lease, held=not SystemProcesses().is_dead(lease.holder))


def _durations(states: Iterable[DeploymentState]) -> dict[str, float]:
    """Return how long each step took at most that came to a good end."""
    found: dict[str, float] = {}
    for state in states:
        for target in state.targets.values():
            for name, step in target.steps.items():
                if name in _ASSUMED_S and step.status == "succeeded":
                    found[name] = max(found.get(name, 0.0), step.duration_s)
    return found
