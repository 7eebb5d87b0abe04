"""What a process needs to know to go on with a deployment that another one began, or to replace it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fraisier.config.hooks import hooks_at
from fraisier.config.schema import Config, Environment, Fraise, Target
from fraisier.journal.base import Journal
from fraisier.journal.fold import DeploymentState, TargetState
from fraisier.journal.state import OPEN_STATES, hook_key, is_hook
from fraisier.rollout.plan import Plan, Seen, decode_plan
from fraisier.rollout.request import find_environment

_MOST = 1000


_TAKES_AWAY = frozenset({"drain", "switch", "restart"})


def whereabouts(
    config: Config, fraise: str, environment: str, frozen: Plan | None
) -> tuple[Fraise, Environment]:
    """Return the fraise and the settings of a deployment: those of its frozen plan when it has one, else the configured
    ones. The rest of the fleet, over which capacity is counted, comes from the configuration while it knows it."""
    if frozen is None:
        return find_environment(config, fraise, environment)
    found = config.fraises.get(fraise)
    configured = found.environments.get(environment) if found is not None else None
    own = {planned.name: planned.target for planned in frozen.targets}
    others: dict[str, Target] = {}
    if configured is not None and configured.provider == frozen.provider:
        others = {t.name: t for t in configured.targets if t.name in frozen.fleet and t.name not in own}
    settings = msgspec.structs.replace(frozen.settings, targets=(*own.values(), *others.values()))
    return msgspec.convert({"name": fraise, "type": frozen.fraise_type}, Fraise), settings


async def open_deployments(
    journal: Journal, fraise: str = "", environment: str = ""
) -> list[DeploymentState]:
    """Return every deployment that has no end, oldest first, without plans and steps."""
    found = []
    for state in OPEN_STATES:
        found += await journal.deployments(fraise=fraise, environment=environment, state=state, limit=_MOST)
    return sorted(found, key=lambda state: (state.requested_us, state.id))


def in_doubt_for_good(state: DeploymentState) -> list[str]:
    """Return the targets on which nobody knows whether a migration happened that must not happen twice."""
    if not state.plan:
        return []
    migrate = decode_plan(state.plan).settings.migrate
    if migrate is None or migrate.resume != "manual":
        return []
    return [
        name
        for name, target in state.targets.items()
        if (step := target.steps.get("migrate")) is not None and step.status in ("started", "unknown")
    ]


def hooks_in_doubt(state: DeploymentState) -> list[str]:
    """Return the hooks whose end nobody knows, that decide about their deployment, and that must not run twice."""
    if not state.plan:
        return []
    configured = decode_plan(state.plan).settings.hooks
    found = []
    for point in configured.__struct_fields__:
        for hook in hooks_at(configured, point):
            key = hook_key(point, hook.name)
            known = [state.hooks.get(key), *(target.steps.get(key) for target in state.targets.values())]
            begun = any(step is not None and step.status == "started" for step in known)
            if begun and hook.resume == "manual" and hook.on_failure != "warn":
                found.append(f"{hook.name} ({point})")
    return found


def has_begun_hooks(state: DeploymentState) -> bool:
    """Whether any hook of a deployment was begun."""
    return bool(state.hooks) or any(
        is_hook(step) for target in state.targets.values() for step in target.steps
    )


def away_now(plan: Plan, state: DeploymentState, seen: Mapping[str, Seen]) -> tuple[str, ...]:
    """Return the targets that count as away: what served when the plan was made, or the new release since, and does not
    serve now, or is half-way."""
    missed = []
    current = {target.name: target.current_release for target in plan.targets}
    for name, look in seen.items():
        known = state.targets.get(name)
        once = bool(current.get(name, "-")) or (known is not None and known.outcome == "updated")
        if once and (not look.serves or is_half_way(known)):
            missed.append(name)
    return tuple(missed)


def is_half_way(target: TargetState | None) -> bool:
    """Whether a target's change began and has no outcome: it may serve now, and be away the next moment."""
    return target is not None and not target.outcome and bool(_TAKES_AWAY & target.steps.keys())
