"""Ask a command."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from subprocess import DEVNULL, STDOUT

import anyio
from anyio.abc import ByteReceiveStream, Process

from fraisier.health_check.base import Good, Probe
from fraisier.health_check.failures import ProbeError, ProbeFailed
from fraisier.redaction import end_of

TAIL_BYTES = 2048
DRAIN_S = 0.2
"""How long output is still read after the end: everything of the group is dead, so only a stranger holds the
pipe."""

Ended = tuple[int, str]
"""An exit code (negative: minus the signal's number) and the last part of the output."""

Run = Callable[[str | Sequence[str], Mapping[str, str]], Awaitable[Ended]]


class ExecHealthChecker(Probe):
    """Passes when a command exits with 0. A string goes to `sh -c`, a list is an argv.

    The command has a process group of its own, which is killed at its end, at the timeout and on
    cancellation: nothing of it is left running. `env` is added to the environment; `run` executes it
    elsewhere (default: here, in `cwd`).
    """

    check_type = "exec"

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        run: Run | None = None,
        label: str = "",
    ) -> None:
        self.command = command if isinstance(command, str) else list(command)
        self._env = dict(env or {})
        self._cwd = cwd
        self._run = run or self._run_here
        self._label = label or (command if isinstance(command, str) else shlex.join(command))

    def describe(self) -> str:
        """Return `exec COMMAND`."""
        return f"exec {self._label}"

    async def ask(self) -> Good:
        """Run the command to its end."""
        code, tail = await self._run(self.command, self._env)
        said = f": {tail}" if tail else ""
        if code in (126, 127):
            raise ProbeError(f"{self.describe()}: cannot be run (exit code {code}){said}")
        if code != 0:
            how = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
            raise ProbeFailed(f"{self.describe()}: {how}{said}")
        return Good(f"{self.describe()}: exit code 0{said}")

    async def _run_here(self, command: str | Sequence[str], env: Mapping[str, str]) -> Ended:
        return await run_bounded(command, env=env, cwd=self._cwd)


async def run_bounded(command: str | Sequence[str], *, env: Mapping[str, str], cwd: str | None) -> Ended:
    """Run a command in a group of its own, keep the tail of what it prints, and leave nothing of it
    behind."""
    argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
    try:
        # A start that is cut short leaves a process behind that nobody knows, so cancellation waits that moment.
        with anyio.CancelScope(shield=True):
            process = await anyio.open_process(
                argv,
                stdin=DEVNULL,
                stderr=STDOUT,
                cwd=cwd,
                env={**os.environ, **env},
                start_new_session=True,
            )
    except FileNotFoundError as error:
        raise ProbeError(f"exec {argv[0]}: not found: {error.filename}") from error
    tail = bytearray()
    async with process:
        try:
            async with anyio.create_task_group() as group:
                assert process.stdout is not None
                group.start_soon(_keep_tail, process.stdout, tail, name="probe-output")
                code = await process.wait()
                _kill_group(process)
                group.cancel_scope.deadline = anyio.current_time() + DRAIN_S
        finally:
            _kill_group(process)
    return code, end_of(bytes(tail), TAIL_BYTES).strip()


async def _keep_tail(stream: ByteReceiveStream, tail: bytearray) -> None:
    async for chunk in stream:
        tail += chunk
        del tail[: -TAIL_BYTES - 1]  # one more than is told, so that the cut is seen


def _kill_group(process: Process) -> None:
    # The leader of the group has the group's number; members may outlive it.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
