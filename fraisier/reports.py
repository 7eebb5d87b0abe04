"""What the journal tells about the past and the recorded present, as JSON-ready documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fraisier.clock import rfc3339
from fraisier.config.schema import Config
from fraisier.journal.base import Journal
from fraisier.journal.fold import DeploymentState, Placement
from fraisier.rollout.result import result_of


def _time(at_us: int) -> str | None:
    return rfc3339(at_us) if at_us else None


def deployment_row(state: DeploymentState) -> dict[str, Any]:
    """Return one row of `history`."""
    actor = state.actor
    return {
        "deployment_id": state.id,
        "fraise": state.fraise,
        "environment": state.environment,
        "kind": state.kind,
        "version": state.version or None,
        "previous_version": state.previous_version or None,
        "provider": state.provider or None,
        "fallback": state.fallback or None,
        "outcome": state.outcome or state.state,
        "reason": state.reason or None,
        "trigger": actor.trigger or None,
        "actor": f"{actor.user}@{actor.host}" if actor.user else None,
        "started_at": _time(state.started_us or state.requested_us),
        "finished_at": _time(state.finished_us),
        "duration_s": state.duration_s,
        "rollback_of": state.rollback_of or None,
    }


async def history(
    journal: Journal,
    *,
    fraise: str = "",
    environment: str = "",
    status: str = "",
    since_us: int = 0,
    limit: int = 20,
) -> dict[str, Any]:
    """Return past deployments, newest first. `status` is an outcome or a state."""
    wide = limit if not status else max(limit * 10, 500)
    rows = await journal.deployments(fraise=fraise, environment=environment, since_us=since_us, limit=wide)
    chosen = [deployment_row(row) for row in rows if not status or status in (row.state, row.outcome)]
    return {"deployments": chosen[:limit]}


def show(state: DeploymentState) -> dict[str, Any]:
    """Return all that is known of one deployment: its row, waves, targets with their steps, and what was decided."""
    result = result_of(state, "")
    targets = []
    for told in result.targets:
        target = state.targets[told.name]
        targets.append(
            {
                "name": told.name,
                "wave": target.wave,
                "outcome": told.outcome,
                "reason": target.reason or None,
                "error": told.error,
                "release": target.release or None,
                "version": target.version or None,
                "previous_release": target.previous_release or None,
                "previous_version": target.previous_version or None,
                "duration_s": told.duration_s,
                "steps": [
                    {
                        "step": name,
                        "status": step.status,
                        "attempt": step.attempt,
                        "duration_s": step.duration_s,
                        "error": step.error or None,
                        "evidence": step.evidence,
                    }
                    for name, step in target.steps.items()
                ],
            }
        )
    return {
        **deployment_row(state),
        "state": state.state,
        "detail": state.detail or None,
        "strategy": state.strategy or None,
        "decision": state.decision or None,
        "child_id": state.child_id or None,
        "waves": {str(number): status for number, status in state.waves.items()},
        "hooks": [
            {
                "phase": key.partition(":")[0],
                "name": key.partition(":")[2],
                "status": hook.status,
                "attempt": hook.attempt,
                "duration_s": hook.duration_s,
                "error": hook.error or None,
            }
            for key, hook in state.hooks.items()
        ],
        "targets": targets,
    }


async def status(
    journal: Journal,
    config: Config,
    *,
    fraise: str = "",
    environment: str = "",
    live: Mapping[tuple[str, str, str], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the recorded state of every configured target, and of those that only the journal still knows (orphaned)."""
    placements: dict[tuple[str, str], dict[str, Placement]] = {}
    for place in await journal.placements(fraise, environment):
        if place.health != "removed":
            placements.setdefault((place.fraise, place.environment), {})[place.target] = place
    configured = {
        (name, env): [target.name for target in settings.targets]
        for name, found in config.fraises.items()
        for env, settings in found.environments.items()
        if fraise in ("", name) and environment in ("", env)
    }
    beside = {
        (name, env): {
            target.name for place in settings.recovery.fallback for target in place.settings.targets
        }
        for name, found in config.fraises.items()
        for env, settings in found.environments.items()
    }
    rows = []
    for key in sorted({*configured, *placements}):
        known = placements.get(key, {})
        names = [*configured.get(key, []), *(name for name in known if name not in configured.get(key, []))]
        latest = await _latest(journal, *key)
        rows.append(
            {
                "fraise": key[0],
                "environment": key[1],
                "deployment": {"id": latest.id, "state": latest.state} if latest else None,
                "targets": [
                    _target_row(
                        name,
                        known.get(name),
                        name not in configured.get(key, []) and name not in beside.get(key, ()),
                        (live or {}).get((*key, name)),
                    )
                    for name in names
                ],
            }
        )
    return {"fraises": rows}


async def _latest(journal: Journal, fraise: str, environment: str) -> DeploymentState | None:
    """Return the latest deployment that somebody asked for; the rollback linked to one is part of that one. One that was
    refused says nothing of the targets, and hides none that needs a person."""
    rows = await journal.deployments(fraise=fraise, environment=environment, limit=50)
    asked = [row for row in rows if not row.rollback_of]
    refused = [row for row in asked if row.outcome == "locked" or row.reason == "unfinished"]
    return next((row for row in asked if row not in refused), asked[0] if asked else None)


def _target_row(
    name: str, place: Placement | None, orphaned: bool, live: dict[str, Any] | None
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": name,
        "version": (place.version or None) if place else None,
        "release": (place.release or None) if place else None,
        "good_version": (place.good_version or None) if place else None,
        "health": place.health if place else "unknown",
        "health_at": _time(place.health_us) if place else None,
        "since": _time(place.since_us) if place else None,
        "orphaned": orphaned,
    }
    if live is not None:
        row["live"] = live
    return row
