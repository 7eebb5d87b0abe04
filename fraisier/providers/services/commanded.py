"""A service that is run by the user's own `start`, `stop` and `status` commands."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import anyio

from fraisier.commands import commanded as commands
from fraisier.config.schema import Service
from fraisier.errors import ProviderError
from fraisier.providers.outcome import failed
from fraisier.providers.services import logfile
from fraisier.providers.services.base import Evidence, Site, State

_POLL_S = 0.05
_POLL_MAX_S = 0.5


class CommandedService:
    """Proves a restart by `status`: it fails after `stop`, and succeeds after `start`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def check(self, site: Site) -> None:
        """Nothing of it has to be there before it is started."""

    async def restart(self, site: Site, *, retry: bool) -> Evidence:
        """Run `stop`, see `status` fail, run `start`. A retry does all of it again: nothing else is certain."""
        evidence = await self.stop(site)
        return {**evidence, **await self._start(site)}

    async def start(self, site: Site) -> Evidence:
        """Start the service unless `status` succeeds."""
        if self._service.status and await self._is_up(site):
            return {"running": True, "unchanged": True}
        return await self._start(site)

    async def stop(self, site: Site) -> Evidence:
        """Run `stop` and wait until `status` fails, at most `stop_timeout`."""
        service, place = self._service, site.place
        if service.status and not await self._is_up(site):
            return {"running": False, "was_running": False}
        if not service.stop:
            raise ProviderError(f"stop of {place}: service.stop is not configured")
        done = await site.command(service.stop, "service.stop", cwd=self._cwd(site))
        if done.exit_code != 0 and not service.status:
            raise failed(f"stop of {place}", service.stop, done)
        with anyio.move_on_after(service.stop_timeout_s):
            poll_s = _POLL_S
            while service.status and await self._is_up(site):
                await anyio.sleep(poll_s)
                poll_s = min(poll_s * 2, _POLL_MAX_S)
            await site.script(commands.forget_start(place.app), what="stop", changes=True)
            return {"running": False, "was_running": True}
        if done.exit_code != 0:
            raise failed(f"stop of {place}", service.stop, done)
        raise ProviderError(
            f"stop of {place}: {service.stop_timeout_s:g} s after `{service.stop}`,"
            f" `{service.status}` still says that the service runs"
        )

    def look_script(self, site: Site) -> str:
        """There is none: other programs are asked."""
        return ""

    async def state(self, site: Site, found: Mapping[str, str] | None = None) -> State:
        """Ask `status`; which start it is was noted when we started it."""
        if not self._service.status:
            return State(running=None)
        done = await site.command(self._service.status, "service.status", cwd=self._cwd(site))
        start = await site.facts(commands.read_start(site.place.app), what="look")
        if done.exit_code == 0:
            return State(
                running=True,
                invocation=start.get("invocation", ""),
                running_release=start.get("running_release", ""),
            )
        return State(running=False, detail=f"`{self._service.status}` ended with exit code {done.exit_code}")

    async def tail(self, site: Site, lines: int) -> list[str]:
        """Return the last lines that `start` and what it left running have printed."""
        return await logfile.tail(site, lines)

    async def since(self, site: Site, position: str) -> tuple[list[str], str]:
        """Return complete new lines since `position`."""
        return await logfile.since(site, position)

    async def _start(self, site: Site) -> Evidence:
        place, template = site.place, self._service.start
        wrap = functools.partial(commands.logged, place.app)
        done = await site.command(template, "service.start", cwd=self._cwd(site), wrap=wrap)
        if done.exit_code != 0:
            lines = await logfile.tail(site, 20)
            for line in lines if site.on_output else ():
                site.on_output("stdout", line)  # type: ignore[misc]
            raise failed(
                f"start of {place}", template, type(done)(done.exit_code, "\n".join(lines), done.stderr)
            )
        invocation = (
            f"{place.release or '-'}.{place.deployment_id or '-'}.{round(anyio.current_time() * 1e6)}"
        )
        note = commands.note_start(place.app, invocation, place.release or "-")
        await site.script(note, what="start", changes=True)
        return {"running": True, "invocation": invocation}

    async def _is_up(self, site: Site) -> bool:
        done = await site.command(self._service.status, "service.status", cwd=self._cwd(site))
        return done.exit_code == 0

    def _cwd(self, site: Site) -> str:
        return f"{site.place.app}/current"
