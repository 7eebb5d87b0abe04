"""One child process of this machine, from its start to its certain end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from subprocess import DEVNULL

import anyio
from anyio.abc import Process

from fraisier.transports.base import Completed, OnOutput
from fraisier.transports.groups import end_group
from fraisier.transports.pipes import Lines, ReadEnd

TAIL_BYTES = 64 * 1024
LINE_BYTES = 8 * 1024
DRAIN_S = 1.0
"""How long output is still read after the end, when a child of the child holds the pipe."""


async def run_child(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str = "",
    on_output: OnOutput | None = None,
    grace_s: float = 5.0,
    tail_bytes: int = TAIL_BYTES,
) -> Completed:
    """Run `argv` in a session of its own with exactly `env`, and return how it ended.

    What cannot be started ends with 126 or 127, as in a shell. Cancellation ends the whole process group first.
    """
    out = Lines("stdout", on_output, tail_bytes=tail_bytes, line_bytes=LINE_BYTES)
    err = Lines("stderr", on_output, tail_bytes=tail_bytes, line_bytes=LINE_BYTES)
    with ReadEnd() as stdout, ReadEnd() as stderr:
        try:
            # A start that is cut short leaves a process behind that nobody knows, so cancellation waits that moment.
            with anyio.CancelScope(shield=True):
                process = await anyio.open_process(
                    list(argv),
                    stdin=DEVNULL,
                    stdout=stdout.theirs,
                    stderr=stderr.theirs,
                    cwd=cwd or None,
                    env=dict(env),
                    start_new_session=True,
                )
        except OSError as error:
            return _not_started(argv, cwd, error)
        stdout.release()
        stderr.release()
        try:
            code = await _see_through(process, (stdout, out), (stderr, err))
        except BaseException:
            await end_group(process.pid, grace_s)
            await collect(process)
            raise
    out.end()
    err.end()
    return Completed(exit_code=code, stdout=out.text(), stderr=err.text())


async def _see_through(process: Process, *pumps: tuple[ReadEnd, Lines]) -> int:
    async with anyio.create_task_group() as group:
        for end, lines in pumps:
            group.start_soon(_pump, end, lines, name=f"output:{process.pid}")
        code = await process.wait()
        group.cancel_scope.deadline = anyio.current_time() + DRAIN_S
    return code if code >= 0 else 128 - code


async def _pump(end: ReadEnd, lines: Lines) -> None:
    while chunk := await end.read():
        lines.feed(chunk)


async def collect(process: Process) -> None:
    """Wait, bounded and shielded, until the exit of a process that was ended is known."""
    with anyio.CancelScope(shield=True), anyio.move_on_after(2.0):
        await process.wait()


def _not_started(argv: Sequence[str], cwd: str, error: OSError) -> Completed:
    if cwd and not os.access(cwd, os.X_OK):
        return Completed(
            exit_code=126, stdout="", stderr=f"cannot enter the directory {cwd}: {error.strerror}"
        )
    code = 127 if isinstance(error, FileNotFoundError) else 126
    return Completed(exit_code=code, stdout="", stderr=f"{argv[0]}: {error.strerror}")
