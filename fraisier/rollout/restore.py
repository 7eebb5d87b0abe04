"""Plans that bring targets back: the linked rollback of a failed deployment, and the one that a person asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from fraisier.config.schema import Environment, Target
from fraisier.journal.fold import DeploymentState, TargetState
from fraisier.rollout.plan import PREPARE_STEPS, Plan, PlanTarget, Seen


class WayBack(msgspec.Struct, frozen=True, kw_only=True):
    """Where one target goes back to, and the settings and variables that release was planned with."""

    target: Target
    release: str
    version: str
    digest: str = ""
    settings: Environment | None = None
    staged: bool = True


def _steps(way: WayBack, settings: Environment, state: TargetState | None) -> tuple[str, ...]:
    """Return the steps back. A target that was only migrated keeps its process; everything else is put back and restarted
    without asking, because a step in doubt may have happened."""
    has_service = settings.service is not None
    if not way.release:
        return (*(("restart",) if has_service else ()), "switch", "cleanup")
    changed = state is None or any(step in state.steps for step in ("drain", "switch", "restart"))
    steps: list[str] = list(PREPARE_STEPS) if not way.staged else []
    if changed:
        steps.append("switch")
        if has_service:
            steps.append("restart")
    return (*steps, "verify", "cleanup")


def _undoes_migration(state: TargetState | None, settings: Environment) -> bool:
    migrate = settings.migrate
    if state is None or migrate is None or not migrate.rollback_command:
        return False
    step = state.steps.get("migrate")
    return step is not None and step.status == "succeeded"


def restore_plan(
    parent: Plan,
    state: DeploymentState,
    names: Sequence[str],
    *,
    deployment_id: str,
    ways: Mapping[str, WayBack],
    seen: Mapping[str, Seen],
    undoes: tuple[str, ...] = (),
) -> Plan:
    """Return the plan that puts `names` back: those that do not serve now first and at once, then the others within
    `max_unavailable`. `state` is the folded state of the deployment that is undone."""
    sick = tuple(name for name in names if not seen.get(name, Seen()).serves)
    well = tuple(name for name in names if name not in sick)
    waves = tuple(wave for wave in (sick, well) if wave)
    targets: list[PlanTarget] = []
    for name in names:
        way = ways[name]
        known = state.targets.get(name)
        settings = way.settings or parent.settings
        steps = _steps(way, settings, known)
        undo = ""
        if _undoes_migration(known, parent.settings):
            steps, undo = ("migrate", *steps), known.release if known is not None else ""
        targets.append(
            PlanTarget(
                name=name,
                target=way.target,
                action="update" if way.release else "remove",
                wave=next(number for number, wave in enumerate(waves, 1) if name in wave),
                release=way.release,
                version=way.version,
                digest=way.digest,
                previous_release=known.release if known is not None else "",
                previous_version=known.version if known is not None else "",
                current_release=seen.get(name, Seen()).facts.release,
                # Where nothing is started anew, the process that runs is the one that is meant.
                baseline=seen.get(name, Seen()).facts.invocation if "restart" in steps else "",
                steps=steps,
                settings=way.settings,
                undo_migrate=undo,
            )
        )
    versions = {way.version for name, way in ways.items() if name in names}
    return msgspec.structs.replace(
        parent,
        deployment_id=deployment_id,
        kind="rollback",
        version=versions.pop() if len(versions) == 1 else "",
        strategy="rolling",
        waves=waves,
        targets=tuple(targets),
        down=sick,
        max_failures=0,
        rollback_of=state.id,
        undoes=undoes,
    )


def to_restore(state: DeploymentState) -> list[str]:
    """Return the targets that a rollback must put back: every one with an intent of a changing step, less those already
    back. A migration alone changes no target's process, so it counts only when it was undone or done."""
    return [
        name for name, target in state.targets.items() if target.begun and target.outcome != "rolled_back"
    ]
