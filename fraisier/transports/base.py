"""The transport's port: run, put, and open connections at one target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from anyio.abc import ByteStream

OnOutput = Callable[[str, str], None]
"""Called with the stream's name (stdout or stderr) and one line without its end; must not block."""


class Completed(msgspec.Struct, frozen=True):
    """How a command ended. `exit_code` is 128 + N for signal N; output is bounded to its last part."""

    exit_code: int
    stdout: str
    stderr: str


class Transport(Protocol):
    """One target's door. Every method raises ProviderConnectionError when the target is out of reach.

    When the caller's scope is cancelled or its deadline passes, the command's whole process group is ended (TERM, then KILL
    after a grace) before the cancellation goes on: nothing is left running that nobody knows of.
    """

    async def shell(self, script: str) -> Completed:
        """Run one of our own short POSIX sh scripts in the target's standing shell; cheap, and sequential per target."""
        ...

    async def run(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        on_output: OnOutput | None = None,
    ) -> Completed:
        """Run a user's command (a string by `sh -c`, a sequence as argv) in a process group of its own. `env` is added."""
        ...

    async def put(self, source: Path, destination: str) -> None:
        """Bring a local file to the target, complete or not at all."""
        ...

    async def open_connection(self, host: str, port: int) -> ByteStream:
        """Open a TCP connection as seen from the target."""
        ...

    async def aclose(self) -> None:
        """End the standing shell."""
        ...
