"""Everything that happens before the first target is changed: preparation everywhere, the barrier, one migration."""

from __future__ import annotations

from collections.abc import Collection

from fraisier.errors import (
    FraisierError,
    HookError,
    InDoubtError,
    InterruptedError,
    ProviderConnectionError,
    ProviderError,
)
from fraisier.rollout.crew import ENDS_EVERYTHING, Crew
from fraisier.rollout.plan import PREPARE_STEPS, PlanTarget
from fraisier.rollout.verdict import Halt, Verdict, reason_of


class Preparation:
    """Prepares all targets of a plan. Whatever fails here, nothing is switched anywhere."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._plan = crew.plan

    async def run(self) -> None:
        """Take the prepare steps everywhere, then the one migration. Raises Halt."""
        hooks = self._crew.steps.hooks
        if hooks is not None:
            await hooks.gate("before_prepare", "prepare")
        await self._crew.side_by_side(self._plan.changes, self._one, "prepare")
        await self._barrier()
        if hooks is not None:
            await hooks.gate("after_prepare", "prepare")
        await self._migrate_once()

    async def _one(self, target: PlanTarget) -> None:
        crew = self._crew
        step = ""
        try:
            async with crew.steps.course() as course:
                for step in PREPARE_STEPS:
                    if step in target.steps and not self._pointless():
                        await crew.steps.take(course, target, step)
        except ENDS_EVERYTHING:
            raise
        except InDoubtError as error:
            await crew.say_in_doubt(target, step, error)
            raise
        except FraisierError as error:
            crew.errors[target.name] = error
            await crew.say_failed(target, step, error)

    def _pointless(self) -> bool:
        """Whether no target will be changed whatever else is prepared. One out of reach that may be left out does not
        count: the others go on without it, and must be staged then."""
        crew = self._crew
        return crew.stopped or (len(crew.errors) > len(self._may_be_left_out()) and not crew.is_rollback)

    def _may_be_left_out(self) -> set[str]:
        return {name for name in self._crew.unreached() if self._crew.may_leave_out(name)}

    async def _barrier(self) -> None:
        crew = self._crew
        if crew.steps.stop.reason and not crew.is_rollback:
            raise Halt(Verdict("interrupted", "interrupted", f"stopped: {crew.steps.stop.reason}"))
        if not crew.errors or crew.is_rollback:
            return
        if crew.steps.state.waves:
            return  # an earlier process passed the barrier; what failed since then is for the waves to settle
        if self._has_migrated():
            reason = reason_of(next(iter(crew.errors.values())))
            raise Halt(Verdict("changed", reason, crew.first_error()))
        left_out = self._may_be_left_out()
        if len(left_out) == len(crew.errors) < len(self._plan.changes):
            crew.skipped |= left_out
            crew.errors.clear()
            for name in left_out:
                crew.capacity.lost(name)
            return
        first = _cause(crew.errors.values())
        if len(crew.unreached()) == len(crew.errors):
            kind = "prepare" if self._has_tried_to_migrate() else "unreachable"
            raise Halt(Verdict(kind, "unreachable", crew.first_error(), first))
        otherwise = "migrate_failed" if self._has_tried_to_migrate() else "prepare_failed"
        raise Halt(Verdict("prepare", _reason(first, otherwise), crew.first_error(), first))

    async def _migrate_once(self) -> None:
        """Run a migration of the kind `on: first` on its target, before the first target of all is changed."""
        crew = self._crew
        migrate = self._plan.settings.migrate
        if migrate is None or migrate.on != "first" or crew.is_rollback:
            return
        # The one that was meant to migrate may have been left out since; another one does it then, and it stays the one.
        able = [target for target in self._plan.changes if target.name not in crew.skipped]
        if not able:
            return  # all that can be reached has this version already
        known = crew.steps.state.targets
        begun = [target for target in able if "migrate" in known[target.name].steps]
        meant = [target for target in able if "migrate" in target.steps]
        target = (begun or meant or able)[0]
        try:
            async with crew.steps.course() as course:
                await crew.steps.take(course, target, "migrate")
        except InterruptedError as error:
            raise Halt(Verdict("interrupted", "interrupted", error.message)) from error
        except InDoubtError as error:
            await crew.say_in_doubt(target, "migrate", error)
            raise Halt(Verdict("doubt", "in_doubt", error.message)) from error
        except ProviderConnectionError as error:
            await self._give_up(target, error)
            raise Halt(Verdict("prepare", "unreachable", crew.first_error())) from error
        except ENDS_EVERYTHING:
            raise
        except FraisierError as error:
            reason = _reason(error, "migrate_failed")
            if self._has_migrated():
                crew.errors[target.name] = error
                await crew.say_failed(target, "migrate", error)
                raise Halt(Verdict("changed", reason, crew.first_error())) from error
            await self._give_up(target, error)
            raise Halt(Verdict("prepare", reason, crew.first_error())) from error

    def _has_migrated(self) -> bool:
        """Whether the migration was done, so that a failure of a hook after it leaves something to take back."""
        targets = self._crew.steps.state.targets.values()
        return any(
            (step := t.steps.get("migrate")) is not None and step.status == "succeeded" for t in targets
        )

    def _has_tried_to_migrate(self) -> bool:
        """Whether an earlier process came as far as the migration: then that is what failed."""
        return any("migrate" in target.steps for target in self._crew.steps.state.targets.values())

    async def _give_up(self, target: PlanTarget, error: FraisierError) -> None:
        self._crew.errors[target.name] = error
        await self._crew.say_failed(target, "migrate", error)


def _reason(error: FraisierError, otherwise: str) -> str:
    """Return the word for a failed preparation; a hook's failure has its own."""
    return reason_of(error) if error.code == HookError.default_code else otherwise


def _cause(errors: Collection[FraisierError]) -> FraisierError:
    """Return the first failure, but before all one that is no provider's: another provider would not help against it."""
    return next((e for e in errors if not isinstance(e, ProviderError)), next(iter(errors)))
