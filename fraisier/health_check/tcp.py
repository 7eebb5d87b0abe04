"""Does it take connections?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import ByteStream

from fraisier.config.schema import PORT_MAX
from fraisier.health_check.base import Good, Probe
from fraisier.health_check.failures import ProbeError

Connect = Callable[[str, int], Awaitable[ByteStream]]

CLOSE_S = 1.0


async def put_down(stream: ByteStream) -> None:
    """Close a connection that is of no use any more, whoever cancels meanwhile, and wait a moment at most for it."""
    with anyio.move_on_after(CLOSE_S, shield=True):
        await stream.aclose()


class TCPHealthChecker(Probe):
    """Passes when a TCP connection to host and port can be opened. `connect` opens it (default: from
    here)."""

    check_type = "tcp"

    def __init__(self, host: str, port: int, *, connect: Connect = anyio.connect_tcp) -> None:
        self.host = host
        self.port = port
        self._connect = connect

    def describe(self) -> str:
        """Return `tcp HOST:PORT`."""
        return f"tcp {self.host}:{self.port}"

    async def ask(self) -> Good:
        """Open a connection and close it."""
        if not 1 <= self.port <= PORT_MAX:
            raise ProbeError(f"{self.describe()}: a port is a number from 1 to {PORT_MAX}")
        stream = await self._connect(self.host, self.port)
        await put_down(stream)
        return Good(f"{self.describe()}: connected")
