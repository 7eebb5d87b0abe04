"""Does it take connections?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import ByteStream

from fraisier.config.schema import PORT_MAX
from fraisier.health_check.base import Good, Probe
from fraisier.health_check.failures import ProbeError

Connect = Callable[[str, int], Awaitable[ByteStream]]


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
        await anyio.aclose_forcefully(stream)
        return Good(f"{self.describe()}: connected")
