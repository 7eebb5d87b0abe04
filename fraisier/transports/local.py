"""This machine as a target: the same port as a remote one, without a wire."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import ByteStream

from fraisier.errors import ProviderError
from fraisier.transports.base import Completed, OnOutput
from fraisier.transports.child import run_child
from fraisier.transports.lanes import Lanes

GRACE_S = 5.0


class LocalTransport:
    """Acts on this machine through POSIX sh, exactly as on any other. `env` is the whole environment of what is run.

    `lanes` are standing shells to share with other transports; without them it has its own, and ends them."""

    def __init__(
        self, env: Mapping[str, str], *, grace_s: float = GRACE_S, lanes: Lanes | None = None
    ) -> None:
        self._env = dict(env)
        self._grace_s = grace_s
        self._lanes = lanes or Lanes(self._env, grace_s=grace_s)
        self._shares = lanes is not None
        self._turn = anyio.Lock(fast_acquire=True)

    async def shell(self, script: str) -> Completed:
        """Run one of our own short scripts in a standing shell, one after the other."""
        if "\0" in script:
            raise ProviderError("a script with a NUL byte cannot be run")
        async with self._turn, self._lanes.lent() as lane:
            return await lane.run(script)

    async def run(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        on_output: OnOutput | None = None,
    ) -> Completed:
        """Run a user's command in a session of its own; see the port."""
        argv = ["sh", "-c", command] if isinstance(command, str) else list(command)
        if any("\0" in word for word in (*argv, cwd, *(env or {}).values())):
            raise ProviderError("a command with a NUL byte cannot be run")
        return await run_child(
            argv, env={**self._env, **(env or {})}, cwd=cwd, on_output=on_output, grace_s=self._grace_s
        )

    async def put(self, source: Path, destination: str) -> None:
        """Copy a file under a temporary name, then rename it: it is there as a whole or not at all."""
        try:
            await anyio.to_thread.run_sync(_copy, source, Path(destination), abandon_on_cancel=False)
        except OSError as error:
            raise ProviderError(f"cannot copy to {destination}: {error.strerror}", cause=error) from error

    async def open_connection(self, host: str, port: int) -> ByteStream:
        """Open a TCP connection from this machine. Raises OSError when nobody answers there."""
        return await anyio.connect_tcp(host, port)

    async def aclose(self) -> None:
        """End the standing shells, unless they are shared."""
        if not self._shares:
            await self._lanes.aclose()


def _copy(source: Path, destination: Path) -> None:
    handle, name = tempfile.mkstemp(prefix=".fraisier-", dir=destination.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        shutil.copyfile(source, temporary)
        shutil.copymode(source, temporary)
        temporary.replace(destination)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
