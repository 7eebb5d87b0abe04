"""Removes releases that are no longer kept. A failure here is told, and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fraisier.errors import DatabaseError, FraisierError, LeaseLostError
from fraisier.journal.fold import Release
from fraisier.rollout.crew import Crew
from fraisier.rollout.plan import PlanTarget
from fraisier.rollout.retention import kept


class Cleaner:
    """Takes the cleanup step of targets. `releases` are the known ones by target, newest first."""

    def __init__(self, crew: Crew, releases: Mapping[str, Sequence[Release]]) -> None:
        self._crew = crew
        self._releases = releases

    async def after_success(self) -> None:
        """Clean up wherever the plan's release serves now and something known there is no longer kept."""
        crew = self._crew
        updated = [t for t in crew.plan.changes if t.name in crew.updated and "cleanup" in t.steps]
        await crew.side_by_side(updated, self._good, "cleanup")

    async def after_failed_preparation(self) -> None:
        """Remove what was staged and will not be used; nothing there was ever switched to."""
        crew = self._crew
        unreached = crew.unreached()
        staged = []
        for target in crew.plan.changes:
            state = crew.steps.state.targets.get(target.name)
            if state is not None and "stage" in state.steps and target.name not in unreached:
                staged.append(target)
        await crew.side_by_side(staged, self._bad, "cleanup")

    async def _good(self, target: PlanTarget) -> None:
        keep = self._keep(target, target.release)
        known = self._releases.get(target.name, ())
        if any(release.status != "pruned" and release.release not in keep for release in known):
            await self._clean(target, keep)

    async def _bad(self, target: PlanTarget) -> None:
        await self._clean(target, self._keep(target, ""))

    def _keep(self, target: PlanTarget, serves: str) -> tuple[str, ...]:
        settings = self._crew.steps.context(target).settings
        # Going back, what was current is the release that failed: it stays only as `keep_failed` says.
        way_back = () if self._crew.is_rollback else (target.previous_release, target.current_release)
        return kept(
            self._releases.get(target.name, ()),
            keep_releases=settings.keep_releases,
            keep_failed=settings.keep_failed,
            always=(serves, *way_back),
            new_good=serves,
        )

    async def _clean(self, target: PlanTarget, keep: tuple[str, ...]) -> None:
        try:
            async with self._crew.steps.course() as course:
                await self._crew.steps.take(course, target, "cleanup", keep=keep)
        except (LeaseLostError, DatabaseError):
            raise
        except FraisierError:
            # A failure is in the journal as step.failed, and one that was stopped did not begin. What serves, serves.
            return
