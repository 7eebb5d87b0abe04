"""The steps that take long, as jobs at the target: a new process finds what an earlier one began, and goes on from there."""

from __future__ import annotations

import msgspec

from fraisier.commands.jobs import JOBS, forget_step
from fraisier.errors import BuildError, InDoubtError, MigrationError, ProviderUnavailableError
from fraisier.providers.base import StepCall
from fraisier.providers.jobs import Command, JobName, Jobs, Receipt, is_sound
from fraisier.providers.outcome import failed
from fraisier.providers.services.base import Site

_MAY_BE_KILLED = frozenset({"stage"})
"""Steps whose commands only make what is thrown away anyway."""


class LongSteps:
    """The jobs of one step's call."""

    def __init__(self, call: StepCall, site: Site) -> None:
        self._call = call
        self._site = site
        self._step = f"{call.step}-undo" if call.undo else call.step
        # What the launch of a job prints is no output of the step.
        door = msgspec.structs.replace(site, on_output=None)
        self._jobs = Jobs(door, f"{site.place.app}/{JOBS}", where=str(site.place), abandoned=call.abandoned)
        self._build = call.context.settings.build if call.context.settings.build_on == "target" else ()
        self._builds_begun: dict[int, Receipt] = {}

    # stage

    async def goes_on(self) -> bool:
        """Whether an earlier attempt, whose outcome nobody recorded, has begun to build in a tree that is still good."""
        if not (self._call.resumes and self._build):
            return False
        found = await self._jobs.begun(self._call.deployment_id, self._step, before=self._call.attempt)
        if not is_sound(found):
            return False
        self._builds_begun = found
        return True

    async def clear_way(self) -> None:
        """End what must not run beside a new stage, and forget jobs that nobody asks for any more.

        Raises ProviderUnavailableError when another deployment's migration, or hook, still runs here.
        """
        receipts = await self._jobs.survey()
        await self._leave_others(receipts)
        for receipt in receipts:
            may_end = self._is_own(receipt) or receipt.name.step in _MAY_BE_KILLED
            if may_end and receipt.state not in ("ended", "void"):
                await self._jobs.end(receipt.name)
        gone = [
            receipt
            for receipt in receipts
            if self._is_own(receipt) or receipt.name.deployment_id != self._call.deployment_id
        ]
        await self._jobs.forget(gone)
        if self._call.resumes:
            # A launch of the dead process may still be on its way.
            for number in range(1, len(self._build) + 1):
                await self._jobs.settle(self._name(number, attempt=self._call.resumes))

    async def build(self) -> None:
        """Run the build commands in order, or go on with those that `goes_on` found. Raises ProviderError."""
        for number, template in enumerate(self._build, 1):
            begun = self._builds_begun.get(number) or await self._late(number)
            try:
                if begun is not None:
                    done = await self._jobs.follow(begun.name, on_output=self._site.on_output)
                else:
                    command = self._command(template, f"build.{number}")
                    done = await self._jobs.run(self._name(number), command, on_output=self._site.on_output)
            except InDoubtError as error:
                # A tree that is half built is thrown away, so there is nothing to be in doubt about.
                raise ProviderUnavailableError(error.message, context=error.context, cause=error) from error
            if done.exit_code != 0:
                raise failed(f"build of {self._site.place}", template, done, BuildError)

    def forgetting(self) -> str:
        """Return the script that forgets this step's jobs: to run before their tree is removed, or one that is not there
        would be gone on with."""
        return forget_step(f"{self._site.place.app}/{JOBS}", self._call.deployment_id, self._step)

    async def end(self) -> None:
        """End what an earlier attempt builds, and make sure that nothing of it begins any more."""
        for number in range(1, len(self._build) + 1):
            await self._jobs.settle(self._name(number, attempt=self._call.resumes))
        await self._jobs.end_step(self._call.deployment_id, self._step)

    # migrate

    async def settle(self, *, may_repeat: bool) -> None:
        """Wait for what an earlier attempt of the migration came to; none is begun.

        Raises MigrationError when it failed or had never begun; InDoubtError when nobody can tell how it ended, and it must
        not be repeated."""
        place = self._site.place
        found = await self._jobs.earlier(self._name(1), resumes=self._call.resumes)
        if found is None:
            raise MigrationError(f"the migration of {place} had not begun", code="NOT_BEGUN")
        try:
            done = await self._jobs.follow(found.name, on_output=self._site.on_output)
        except InDoubtError as error:
            if may_repeat:
                raise MigrationError(error.message, context=error.context, cause=error) from error
            raise
        if done.exit_code != 0:
            raise MigrationError(f"the migration of {place} had failed, exit code {done.exit_code}")

    async def migrate(self, template: str, where: str, *, may_repeat: bool) -> None:
        """Run the migration, or take what an earlier attempt of it came to.

        Raises MigrationError; InDoubtError when one began, ended without telling how, and must not be repeated by itself.
        """
        await self._leave_others(await self._jobs.survey())
        try:
            done = await self._jobs.run_once(
                self._name(1),
                self._command(template, where, durable=True),
                resumes=self._call.resumes,
                may_repeat=may_repeat,
                on_output=self._site.on_output,
            )
        except InDoubtError as error:
            if may_repeat:
                raise MigrationError(error.message, context=error.context, cause=error) from error
            raise
        if done.exit_code != 0:
            raise failed(f"migrate of {self._site.place}", template, done, MigrationError)

    # both

    def _command(self, template: str, where: str, *, durable: bool = False) -> Command:
        text, env = self._site.place.command(template, where)
        return Command(text, self._site.place.release_path, env, durable)

    async def _late(self, number: int) -> Receipt | None:
        """Return the job that the attempt before us began, if it did; what it has not begun by now it never will."""
        if not self._call.resumes:
            return None
        receipt = await self._jobs.settle(self._name(number, attempt=self._call.resumes))
        return receipt if receipt.begun else None

    async def _leave_others(self, receipts: list[Receipt]) -> None:
        for receipt in receipts:
            other = receipt.name
            if other.deployment_id == self._call.deployment_id or other.step in _MAY_BE_KILLED:
                continue
            found = await self._jobs.settle(other) if receipt.state == "new" else receipt
            if found.state in ("running", "orphan"):
                raise ProviderUnavailableError(
                    f"{self._call.step} of {self._site.place}: the {other.step} of the deployment "
                    f"{other.deployment_id} still runs here, and is not disturbed",
                    context={"job": str(other)},
                    hint="wait until it has ended, then run the command again",
                )

    def _is_own(self, receipt: Receipt) -> bool:
        name = receipt.name
        return name.deployment_id == self._call.deployment_id and name.step == self._step

    def _name(self, number: int, *, attempt: int = 0) -> JobName:
        return JobName(self._call.deployment_id, self._step, attempt or self._call.attempt, number)
