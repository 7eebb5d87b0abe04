"""The service manager's port, and what every manager needs of its target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from fraisier.commands import fence as fences
from fraisier.commands.sh import pairs
from fraisier.providers.outcome import refused
from fraisier.providers.place import Place
from fraisier.transports.base import Completed, OnOutput, Transport

Evidence = dict[str, Any]


class Site(msgspec.Struct, frozen=True):
    """A place, the door to it, and the token under which it is changed (see StepCall; without a `log_id` none)."""

    place: Place
    transport: Transport
    on_output: OnOutput | None = None
    token: tuple[int, int] = (0, 0)
    log_id: str = ""

    @property
    def fence(self) -> fences.Fence | None:
        """What keeps commands with an older token from acting here; None when nothing is fenced."""
        context = self.place.context
        lease = (context.fraise, context.environment)
        return fences.fence_of(self.place.app, log_id=self.log_id, lease=lease, token=self.token)

    async def script(self, text: str, *, what: str, changes: bool = False) -> str:
        """Run one of our own scripts and return what it printed. One that `changes` something, or whose answer is only
        good while nobody older acts, is fenced. Raises the error that its exit code stands for."""
        done = await self.transport.shell(fences.guarded(self.fence, text) if changes else text)
        if done.exit_code != 0:
            raise refused(f"{what} of {self.place}", done)
        return done.stdout

    async def facts(self, text: str, *, what: str, changes: bool = False) -> dict[str, str]:
        """Run one of our own scripts and return the `key value` lines that it printed."""
        return pairs(await self.script(text, what=what, changes=changes))

    async def run(
        self, command: str | Sequence[str], *, cwd: str = "", env: Mapping[str, str] | None = None
    ) -> Completed:
        """Run a program, or a text by `sh -c`, fenced. Raises FencedError when its token is too old."""
        fence = self.fence
        wrapped = fences.command(fence, command) if isinstance(command, str) else fences.argv(fence, command)
        done = await self.transport.run(wrapped, cwd=cwd, env=env, on_output=self.on_output)
        if fence is not None and fences.refuses(fence, done.exit_code, done.stderr):
            raise refused(str(self.place), done)
        return done

    async def command(
        self, template: str, where: str, *, cwd: str, wrap: Callable[[str], str] | None = None
    ) -> Completed:
        """Run a user's command, fenced, with the environment's variables; secrets are only in there."""
        text, env = self.place.command(template, where)
        return await self.run(wrap(text) if wrap else text, cwd=cwd, env=env)


class State(msgspec.Struct, frozen=True):
    """What a manager knows of the service at this moment."""

    running: bool | None
    invocation: str = ""
    pid: int = 0
    running_release: str = ""
    detail: str = ""


class ServiceManager(Protocol):
    """Starts and stops a service, and says which start of which release is running."""

    async def check(self, site: Site) -> None:
        """Look whether this target can run the service at all, and change nothing. Raises ProviderConfigurationError."""
        ...

    async def restart(self, site: Site, *, retry: bool) -> Evidence:
        """End what runs and start the release that is current. With `retry`, an attempt that came through counts."""
        ...

    async def start(self, site: Site) -> Evidence:
        """Start the service unless it runs."""
        ...

    async def stop(self, site: Site) -> Evidence:
        """End the service and everything that it started. No error when nothing runs."""
        ...

    def look_script(self, site: Site) -> str:
        """Return the script of ours whose facts `state` can be told from, so that one trip serves for more than one look;
        empty when it takes the user's own commands to know."""
        ...

    async def state(self, site: Site, found: Mapping[str, str] | None = None) -> State:
        """Look, and change nothing. `found` are the facts of `look_script`, when it was run already."""
        ...

    async def tail(self, site: Site, lines: int) -> list[str]:
        """Return the last lines of the service's log."""
        ...

    async def since(self, site: Site, position: str) -> tuple[list[str], str]:
        """Return complete new lines since `position` (empty: from now on) and the position after them."""
        ...
