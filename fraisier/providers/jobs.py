"""Long commands that survive their orchestrator: started once, followed, found again by the next process."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Literal, Protocol, cast

import anyio
import msgspec

from fraisier.commands import jobs as scripts
from fraisier.errors import (
    FencedError,
    FraisierError,
    InDoubtError,
    ProviderConnectionError,
    ProviderError,
    ProviderUnavailableError,
)
from fraisier.providers.outcome import refused
from fraisier.transports.base import Completed, OnOutput, Transport
from fraisier.transports.child import LINE_BYTES, TAIL_BYTES
from fraisier.transports.pipes import Lines

GRACE_S = 5.0
"""How long a command has to obey TERM before it is killed."""

_POLL_S = 0.005
_POLL_MAX_S = 0.2
_CHUNK_BYTES = 256 * 1024
_BEGIN_S = 15.0
"""How long a started wrapper may take to say that it is there."""
_ENDING_S = 0.5
_END_S = 5.0
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,200}\Z")

JobState = Literal["none", "new", "void", "running", "ending", "ended", "orphan", "lost"]
"""none: no directory. new: not begun yet. void: not begun, and never will. ending: the exit code is there, the last
processes are just going. orphan: begun, its wrapper is gone without an exit code, and what it started still runs. lost: the
same, and nothing runs."""


class JobName(msgspec.Struct, frozen=True):
    """Whose command it is: the `number`th one of a step's attempt."""

    deployment_id: str
    step: str
    attempt: int = 1
    number: int = 1

    def __str__(self) -> str:
        return f"{self.deployment_id}.{self.step}.{self.attempt}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> JobName | None:
        """Return what a directory's name says; None when it is none of ours."""
        parts = text.rsplit(".", 3)
        if len(parts) != 4 or not (parts[2].isdecimal() and parts[3].isdecimal()):
            return None
        return cls(parts[0], parts[1], int(parts[2]), int(parts[3]))


class Receipt(msgspec.Struct, frozen=True):
    """What a target knows of a job. `exit_code` is None unless the state is `ending` or `ended`."""

    name: JobName
    state: JobState
    exit_code: int | None = None

    @property
    def begun(self) -> bool:
        """Whether the command was started, however it went on."""
        return self.state in ("running", "ending", "ended", "orphan", "lost")

    @property
    def in_doubt(self) -> bool:
        """Whether it was begun and nobody will ever tell how it ended."""
        return self.state in ("orphan", "lost")


def is_sound(builds: Mapping[int, Receipt]) -> bool:
    """Whether builds in a row, by number, can be gone on from: the first was begun, and none was lost or has failed."""
    return 1 in builds and not any(one.in_doubt or one.exit_code for one in builds.values())


class Command(msgspec.Struct, frozen=True):
    """A user's command for `sh -c`; secrets are in `env` only. `durable`: its receipt has to survive a loss of power."""

    text: str
    cwd: str
    env: Mapping[str, str]
    durable: bool = False


class Door(Protocol):
    """How jobs reach the target: a Site, whose commands are fenced, or an OpenDoor."""

    async def script(self, text: str, *, what: str, changes: bool = False) -> str:
        """Run one of our own scripts and return what it printed. Raises the error that its exit code stands for."""
        ...

    async def run(
        self, command: str | Sequence[str], *, cwd: str = "", env: Mapping[str, str] | None = None
    ) -> Completed:
        """Run a program."""
        ...


class OpenDoor(msgspec.Struct, frozen=True):
    """A transport whose commands need no fence, because nobody else acts there. `where` names it in messages."""

    transport: Transport
    where: str

    async def script(self, text: str, *, what: str, changes: bool = False) -> str:
        """Run one of our own scripts and return what it printed. Raises the error that its exit code stands for."""
        done = await self.transport.shell(text)
        if done.exit_code != 0:
            raise refused(f"{what} of {self.where}", done)
        return done.stdout

    async def run(
        self, command: str | Sequence[str], *, cwd: str = "", env: Mapping[str, str] | None = None
    ) -> Completed:
        """Run a program."""
        return await self.transport.run(command, cwd=cwd, env=env)


class Jobs:
    """The jobs in one directory at one target (`APP/.fraisier/jobs`), through whatever door reaches it.

    Every method raises ProviderConnectionError when the target is out of reach, and FencedError when a newer holder was
    there; the job then goes on by itself.
    """

    def __init__(
        self,
        door: Door,
        directory: str,
        *,
        where: str,
        grace_s: float = GRACE_S,
        abandoned: Callable[[], bool] | None = None,
    ) -> None:
        self._door = door
        self._abandoned = abandoned
        self._directory = directory
        self._where = where
        self._grace_s = grace_s

    async def run(self, name: JobName, command: Command, *, on_output: OnOutput | None = None) -> Completed:
        """Start the command, or attach to the job of that name, and follow it to its end; see `follow`."""
        launch = scripts.launch(self._path(name), command.text, cwd=command.cwd, durable=command.durable)
        try:
            done = await self._door.run(launch, env=command.env)
        except (ProviderConnectionError, FencedError):
            raise
        except BaseException:
            await self._give_up(name)
            raise
        if done.exit_code != 0:
            raise refused(f"{name.step} of {self._where}", done)
        return await self.follow(name, on_output=on_output)

    async def run_once(
        self,
        name: JobName,
        command: Command,
        *,
        resumes: int = 0,
        may_repeat: bool = False,
        on_output: OnOutput | None = None,
    ) -> Completed:
        """Run the command, or take what an earlier attempt of it came to, waiting for it if it still runs.

        `resumes` is the attempt whose outcome nobody recorded (0: there is none); a failure that is on record may be tried
        again. Raises InDoubtError when one began and ended without telling how, unless it `may_repeat`.
        """
        earlier = await self.earlier(name, resumes=resumes) if name.attempt > 1 else None
        if earlier is None or (earlier.exit_code and not resumes):
            return await self.run(name, command, on_output=on_output)
        if earlier.in_doubt and may_repeat:
            await self.end(earlier.name)
            return await self.run(name, command, on_output=on_output)
        return await self.follow(earlier.name, on_output=on_output)

    async def earlier(self, name: JobName, *, resumes: int) -> Receipt | None:
        """Return the newest job that an earlier attempt has begun; what has not begun by now never will."""
        late: Receipt | None = None
        if resumes:
            # A launch of the dead process may still be on its way.
            late = await self.settle(msgspec.structs.replace(name, attempt=resumes))
        found = await self.begun(name.deployment_id, name.step, before=name.attempt)
        return found.get(name.number) or (late if late is not None and late.begun else None)

    async def follow(self, name: JobName, *, on_output: OnOutput | None = None) -> Completed:
        """Return how a job ended; its output is told from its first byte on.

        Cancellation ends the job with all that it started. Raises InDoubtError when it was lost, ProviderUnavailableError
        when it never began.
        """
        out = Lines("stdout", on_output, tail_bytes=TAIL_BYTES, line_bytes=LINE_BYTES)
        err = Lines("stderr", on_output, tail_bytes=TAIL_BYTES, line_bytes=LINE_BYTES)
        try:
            receipt = await self._follow(name, out, err)
        except (ProviderConnectionError, FencedError):
            raise
        except BaseException:
            await self._give_up(name)
            raise
        out.end()
        err.end()
        if receipt.exit_code is None:
            await self.end(name)
            raise self._without_end(receipt)
        return Completed(exit_code=receipt.exit_code, stdout=out.text(), stderr=err.text())

    async def settle(self, name: JobName) -> Receipt:
        """Return a job's receipt, never `none` or `new`: what has not begun is made sure never to."""
        said = await self._script(scripts.settle(self._path(name)), changes=True)
        return _receipt(name, said.partition(" ")[2])

    async def survey(self) -> list[Receipt]:
        """Return what is known of every job, by attempt and number.

        From then on nobody with an older token can start, end or forget a job here.
        """
        found = []
        for line in (await self._script(scripts.survey(self._directory), changes=True)).splitlines():
            text, _, state = line.partition(" ")
            name = JobName.parse(text)
            if name is not None:
                found.append(_receipt(name, state))
        return sorted(found, key=lambda receipt: (receipt.name.attempt, receipt.name.number))

    async def begun(self, deployment_id: str, step: str, *, before: int) -> dict[int, Receipt]:
        """Return, by number, the newest job of a step that an attempt lower than `before` has begun. No other will begin."""
        found: dict[int, Receipt] = {}
        for receipt in await self.survey():
            name = receipt.name
            if (name.deployment_id, name.step) != (deployment_id, step) or name.attempt >= before:
                continue
            settled = await self.settle(name) if receipt.state == "new" else receipt
            if settled.begun:
                found[name.number] = settled
        return found

    async def end(self, name: JobName) -> None:
        """End a job and all that it started, but what made a session of its own. Bounded, and shielded from cancellation."""
        script = scripts.end(self._path(name), grace_ms=round(self._grace_s * 1000))
        with anyio.CancelScope(shield=True), anyio.move_on_after(self._grace_s + _END_S):
            await self._script(script, changes=True)

    async def forget(self, receipts: list[Receipt]) -> None:
        """Remove what is known of jobs that do not run."""
        if receipts:
            names = [str(receipt.name) for receipt in receipts]
            await self._script(scripts.forget(self._directory, names), changes=True)

    def _path(self, name: JobName) -> str:
        if _NAME.match(str(name)) is None:
            raise ProviderError(f"{str(name)!r} cannot be the name of a job")
        return f"{self._directory}/{name}"

    async def _script(self, text: str, *, changes: bool = False) -> str:
        return await self._door.script(text, what="a look at the jobs", changes=changes)

    async def end_step(self, deployment_id: str, step: str) -> None:
        """End every job of a deployment's step, and forget it."""
        receipts = [
            r for r in await self.survey() if (r.name.deployment_id, r.name.step) == (deployment_id, step)
        ]
        for receipt in receipts:
            if receipt.state not in ("ended", "void"):
                await self.end(receipt.name)
        await self.forget(receipts)

    async def _give_up(self, name: JobName) -> None:
        if self._abandoned is not None and self._abandoned():
            return  # whoever has the lease now finds it, and decides
        # What ended the waiting counts; a job that a newer holder took over is not ours to end.
        with suppress(FraisierError):
            await self.end(name)

    async def _follow(self, name: JobName, out: Lines, err: Lines) -> Receipt:
        seen = {"out": 0, "err": 0}
        wait_s = _POLL_S
        patience_s, since_s = 0.0, anyio.current_time()
        while True:
            look = scripts.look(self._path(name), out=seen["out"], err=seen["err"], limit=_CHUNK_BYTES)
            receipt, pieces, sizes = _read_look(name, await self._script(look))
            for key, lines in (("out", out), ("err", err)):
                lines.feed(pieces[key])
                seen[key] += len(pieces[key])
            if any(pieces.values()) and any(seen[key] < sizes[key] for key in seen):
                continue
            waited_s = anyio.current_time() - since_s
            if receipt.state not in ("new", "running", "ending"):
                return receipt
            if receipt.state in ("new", "ending"):
                patience_s = patience_s or waited_s + (_BEGIN_S if receipt.state == "new" else _ENDING_S)
                if waited_s > patience_s:
                    await self.end(name)
                    patience_s = 0.0
            else:
                patience_s = 0.0
            await anyio.sleep(wait_s)
            wait_s = min(wait_s * 2, _POLL_MAX_S)

    def _without_end(self, receipt: Receipt) -> ProviderError | InDoubtError:
        what = f"{receipt.name.step} of {self._where}"
        if receipt.in_doubt:
            return InDoubtError(
                f"{what}: the command was begun, and has ended without an exit code",
                context={"job": str(receipt.name)},
            )
        return ProviderUnavailableError(f"{what}: the command could not be started")


def _receipt(name: JobName, said: str) -> Receipt:
    state, _, code = said.strip().partition(" ")
    return Receipt(name, cast("JobState", state), int(code) if code.isdecimal() else None)


def _read_look(name: JobName, said: str) -> tuple[Receipt, dict[str, bytes], dict[str, int]]:
    """Return what `scripts.look` printed: the state, the new bytes, and the sizes of the files."""
    receipt = Receipt(name, "none")
    lines: dict[str, list[str]] = {"out": [], "err": []}
    sizes = {"out": 0, "err": 0}
    key = ""
    for line in said.splitlines():
        word, space, rest = line.partition(" ")
        if not space:
            lines[key].append(line)
        elif word == "state":
            receipt = _receipt(name, rest)
        else:
            key, sizes[word] = word, int(rest)
    return receipt, {key: base64.b64decode("".join(text)) for key, text in lines.items()}, sizes
