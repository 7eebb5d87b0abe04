"""The provider's port over the simulated world, and the transport that health checks go through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from anyio import EndOfStream
from anyio.abc import ByteStream

from fraisier.config.schema import Environment
from fraisier.errors import ProviderConnectionError, ProviderError
from fraisier.providers.base import (
    HOST_STEPS,
    Action,
    Artifact,
    ProviderServices,
    StepCall,
    TargetContext,
    TargetFacts,
)
from fraisier.simulation.process import Process
from fraisier.simulation.world import World, commit
from fraisier.transports.base import Completed, OnOutput

_DIGITS = 40


class SimulatedProvider:
    """Acts on the hosts of a `World` for one process; a dead process reaches nothing."""

    type: ClassVar[str] = "simulated"
    summary: ClassVar[str] = "hosts in memory, for rehearsals"
    steps: ClassVar[tuple[str, ...]] = HOST_STEPS
    is_here: ClassVar[bool] = False

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    @classmethod
    def of(cls, world: World, process: Process) -> Callable[[ProviderServices], SimulatedProvider]:
        """Return the factory that an orchestrator of that process is given."""
        return lambda _services: cls(world, process)

    async def resolve(self, settings: Environment, ref: str) -> Artifact:
        """Return a made-up commit for the ref."""
        self._alive()
        ref = ref or settings.branch
        version = ref if len(ref) == _DIGITS else commit(ref)
        return Artifact(version=version, ref=ref, digest=version)

    async def inspect(self, context: TargetContext) -> TargetFacts:
        """Look at a host."""
        self._alive()
        name = context.target.name
        await self._world.reach(name)
        return self._world.hosts[name].facts(self._world.now_s())

    async def perform(self, call: StepCall) -> dict[str, Any]:
        """Take a step."""
        self._alive()
        return await self._world.carry(call)

    async def control(
        self,
        action: Action,
        context: TargetContext,
        on_output: OnOutput | None = None,
        *,
        token: tuple[int, int] = (0, 0),
        log_id: str = "",
    ) -> dict[str, Any]:
        """Refuse: nobody steers single services in a simulation."""
        raise ProviderError(f"{action} of {context.target.name} is not simulated")

    async def logs(self, context: TargetContext, *, lines: int, follow: bool) -> AsyncIterator[str]:
        """Yield nothing: simulated services write no logs."""
        written: tuple[str, ...] = ()
        for line in written:  # without a yield it would be no generator
            yield line

    async def transport(self, context: TargetContext) -> SimulatedTransport:
        """Return the way to a host."""
        self._alive()
        return SimulatedTransport(self._world, context.target.name)

    async def aclose(self) -> None:
        """There is nothing to close."""

    def _alive(self) -> None:
        if self._process.dead:
            raise ProviderConnectionError("the process that this provider belonged to is dead")


class SimulatedTransport:
    """Answers probes, as a command's exit code or in HTTP, with the health of the host's service."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name

    async def shell(self, script: str) -> Completed:
        """Answer a script as a command."""
        return await self.run(script)

    async def run(
        self,
        command: str | Sequence[str],
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        on_output: OnOutput | None = None,
    ) -> Completed:
        """Exit with 0 when the service is healthy, else with 1."""
        await self._world.reach(self._name)
        healthy = self._world.hosts[self._name].serves(self._world.now_s())
        return Completed(0 if healthy else 1, "", "" if healthy else "simulated: not healthy")

    async def put(self, source: Path, destination: str) -> None:
        """Refuse: steps bring their artifacts themselves here."""
        raise ProviderError("nothing can be put on a simulated host")

    async def open_connection(self, host: str, port: int) -> ByteStream:
        """Connect to the service. Raises OSError when nothing listens."""
        await self._world.reach(self._name)
        found = self._world.hosts[self._name]
        if not found.unit.runs(self._world.now_s()):
            raise ConnectionRefusedError(111, "Connection refused")
        return _Answer(healthy=found.serves(self._world.now_s()))

    async def aclose(self) -> None:
        """There is nothing to close."""


class _Answer(ByteStream):
    """One HTTP answer, whatever was asked."""

    def __init__(self, *, healthy: bool) -> None:
        status = "200 OK" if healthy else "503 Service Unavailable"
        self._left = f"HTTP/1.0 {status}\r\nContent-Length: 0\r\n\r\n".encode()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if not self._left:
            raise EndOfStream
        sent, self._left = self._left[:max_bytes], self._left[max_bytes:]
        return sent

    async def send(self, item: bytes) -> None:
        pass

    async def send_eof(self) -> None:
        pass

    async def aclose(self) -> None:
        pass
