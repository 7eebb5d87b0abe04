"""A unit of the target's systemd."""

from __future__ import annotations

from typing import Literal

from fraisier.commands import systemd as commands
from fraisier.config.schema import Service
from fraisier.errors import ProviderConfigurationError, ProviderError
from fraisier.providers.outcome import failed
from fraisier.providers.services.base import Evidence, Site, State

_ACTIVE = frozenset({"active", "reloading"})
_CURSOR = "-- cursor: "


class SystemdService:
    """Runs `service.systemd`; the unit's InvocationID tells one start from another."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def restart(self, site: Site, *, retry: bool) -> Evidence:
        """Restart the unit; systemd waits for its readiness when the unit tells it."""
        before = await self.state(site)
        await self._control(site, "restart")
        after = await self.state(site)
        if not after.running or after.invocation == before.invocation:
            raise ProviderError(
                f"restart of {site.place}: {self._unit(site)} is {after.detail or 'not started anew'}"
            )
        return _evidence(after, before)

    async def start(self, site: Site) -> Evidence:
        """Start the unit."""
        before = await self.state(site)
        await self._control(site, "start")
        return _evidence(await self.state(site), before)

    async def stop(self, site: Site) -> Evidence:
        """Stop the unit; systemd ends everything in its group."""
        before = await self.state(site)
        await self._control(site, "stop")
        return {"running": False, **({"stopped": before.invocation} if before.running else {})}

    async def state(self, site: Site) -> State:
        """Ask systemd, and the main process for the directory that it runs in."""
        script = commands.show(site.place.app, self._unit(site))
        found = commands.properties(await site.script(script, what="look"))
        active = found.get("ActiveState", "")
        return State(
            running=active in _ACTIVE,
            invocation=found.get("InvocationID", ""),
            pid=int(found.get("MainPID") or 0),
            running_release=found.get("running_release", ""),
            detail=""
            if active in _ACTIVE
            else f"{active} ({found.get('SubState', '?')}, result {found.get('Result', '?')})",
        )

    async def tail(self, site: Site, lines: int) -> list[str]:
        """Return the last lines of the unit's journal."""
        text = await site.script(commands.journal(self._unit(site), lines=lines), what="reading the log")
        return _split(text)[0]

    async def since(self, site: Site, position: str) -> tuple[list[str], str]:
        """Return what the unit's journal has after the cursor `position`."""
        text = await site.script(commands.journal_since(self._unit(site), position), what="reading the log")
        lines, cursor = _split(text)
        return lines, cursor or position

    async def _control(self, site: Site, action: Literal["start", "stop", "restart"]) -> None:
        unit = self._unit(site)
        done = await site.transport.run(commands.control(action, unit), on_output=site.on_output)
        if done.exit_code == 127:
            raise ProviderConfigurationError(
                f"{action} of {site.place}: systemctl is not there: this target has no systemd"
            )
        if done.exit_code != 0:
            raise failed(f"{action} of {site.place}", f"systemctl {action} {unit}", done)

    def _unit(self, site: Site) -> str:
        unit = site.place.text(self._service.systemd, "service.systemd")
        if not unit or unit.startswith("-") or "\n" in unit:
            raise ProviderConfigurationError(f"service.systemd: {unit!r} cannot be the name of a unit")
        return unit


def _split(text: str) -> tuple[list[str], str]:
    lines = text.splitlines()
    if lines and lines[-1].startswith(_CURSOR):
        return lines[:-1], lines[-1].removeprefix(_CURSOR)
    return lines, ""


def _evidence(after: State, before: State) -> Evidence:
    evidence: Evidence = {"running": after.running, "invocation": after.invocation, "pid": after.pid}
    if after.running_release:
        evidence["release"] = after.running_release
    if before.invocation and before.running:
        evidence["previous_invocation"] = before.invocation
    return evidence
