"""A unit of the target's systemd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from fraisier.commands import systemd as commands
from fraisier.config.schema import Service
from fraisier.errors import ProviderConfigurationError, ProviderError
from fraisier.providers.outcome import last_lines
from fraisier.providers.services.base import Evidence, Site, State
from fraisier.transports.base import Completed

_ACTIVE = frozenset({"active", "reloading"})
_CURSOR = "-- cursor: "
_WORDS = 10
_LOOK = "look with `systemctl status {unit}`"
_UNLOADED = {
    "not-found": (
        "knows no such unit",
        "install it and run `systemctl daemon-reload` there, or correct service.systemd",
    ),
    "masked": ("has it masked", "run `systemctl unmask {unit}` there, or correct service.systemd"),
    "bad-setting": ("cannot use what stands in it", "run `systemd-analyze verify {unit}` there"),
}


class SystemdService:
    """Runs `service.systemd`; the unit's InvocationID tells one start from another."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def check(self, site: Site) -> None:
        """Refuse a unit that this target's systemd cannot start. Raises ProviderConfigurationError."""
        unit = self._unit(site)
        loaded = (await self._show(site)).get("LoadState", "")
        if loaded in ("", "loaded"):
            return
        problem, remedy = _UNLOADED.get(loaded, (f"cannot load it ({loaded})", _LOOK))
        raise ProviderConfigurationError(
            f"the unit {unit} on {site.place}: systemd {problem}; {remedy.format(unit=unit)}"
        )

    async def restart(self, site: Site, *, retry: bool) -> Evidence:
        """Restart the unit; systemd waits for its readiness when the unit tells it.

        That the unit has ended again by now is evidence and no error: why is the verify's to find out.
        """
        before = await self.state(site)
        await self._control(site, "restart")
        after = await self.state(site)
        if after.invocation == before.invocation:
            raise ProviderError(f"restart of {site.place}: {self._unit(site)} was not started anew")
        return _evidence(after, before)

    async def start(self, site: Site) -> Evidence:
        """Start the unit unless it runs."""
        before = await self.state(site)
        if before.running:
            return {**_evidence(before, State(running=False)), "unchanged": True}
        await self._control(site, "start")
        return _evidence(await self.state(site), before)

    async def stop(self, site: Site) -> Evidence:
        """Stop the unit; systemd ends everything in its group."""
        before = await self.state(site)
        await self._control(site, "stop")
        return {"running": False, **({"stopped": before.invocation} if before.running else {})}

    def look_script(self, site: Site) -> str:
        """There is none: other programs are asked."""
        return ""

    async def state(self, site: Site, found: Mapping[str, str] | None = None) -> State:
        """Ask systemd, and the main process for the directory that it runs in."""
        shown = await self._show(site)
        active = shown.get("ActiveState", "")
        return State(
            running=active in _ACTIVE,
            invocation=shown.get("InvocationID", ""),
            pid=int(shown.get("MainPID") or 0),
            running_release=shown.get("running_release", ""),
            detail="" if active in _ACTIVE else _ended(shown),
        )

    async def tail(self, site: Site, lines: int) -> list[str]:
        """Return the last lines of the unit's journal."""
        text = await site.script(commands.journal(self._unit(site), lines=lines), what="reading the log")
        return _split(text)[0]

    async def since(self, site: Site, position: str) -> tuple[list[str], str]:
        """Return what the unit's journal has after the cursor `position`."""
        text = await site.script(commands.journal_since(self._unit(site), position), what="reading the log")
        lines, cursor = _split(text)
        return lines, cursor or position or commands.BEGINNING

    async def _show(self, site: Site) -> dict[str, str]:
        script = commands.show(site.place.app, self._unit(site))
        return commands.properties(await site.script(script, what="look"))

    async def _control(self, site: Site, action: Literal["start", "stop", "restart"]) -> None:
        unit = self._unit(site)
        if action != "stop":
            await site.script(commands.forgive(unit), what=action, changes=True)
        done = await site.run(commands.control(action, unit))
        if done.exit_code == 127:
            raise ProviderConfigurationError(
                f"{action} of {site.place}: systemctl is not there: this target has no systemd"
            )
        if done.exit_code != 0:
            raise await self._failed(site, action, done)

    async def _failed(self, site: Site, action: str, done: Completed) -> ProviderError:
        """Return the error with what systemctl said first (then it only says where to look) and the unit's last words."""
        said = last_lines(done.stderr) or [f"exit code {done.exit_code}"]
        invocation = (await self._show(site)).get("InvocationID", "")
        lines: list[str] = []
        if invocation and action != "stop":
            script = commands.journal_of_start(invocation, lines=_WORDS)
            lines = last_lines((await site.transport.shell(script)).stdout, _WORDS)
        told = "; its last log lines:\n" + "\n".join(lines) if lines else ""
        return ProviderError(
            f"{action} of {site.place}: `systemctl {action} {self._unit(site)}` failed: {said[0]}{told}",
            context={"exit_code": done.exit_code, "output_tail": [*said, *lines]},
            recoverable=False,
        )

    def _unit(self, site: Site) -> str:
        unit = site.place.text(self._service.systemd, "service.systemd")
        if not unit or unit.startswith("-") or "\n" in unit:
            raise ProviderConfigurationError(f"service.systemd: {unit!r} cannot be the name of a unit")
        return unit


def _ended(found: dict[str, str]) -> str:
    if found.get("LoadState") == "not-found":
        return "systemd knows no such unit"
    detail = (
        f"{found.get('ActiveState', '?')} ({found.get('SubState', '?')}, result {found.get('Result', '?')}"
    )
    status = found.get("ExecMainStatus", "0")
    return detail + (f", exit status {status})" if status not in ("", "0") else ")")


def _split(text: str) -> tuple[list[str], str]:
    lines = text.splitlines()
    if lines and lines[-1].startswith(_CURSOR):
        return lines[:-1], lines[-1].removeprefix(_CURSOR)
    return lines, ""


def _evidence(after: State, before: State) -> Evidence:
    evidence: Evidence = {"running": after.running, "invocation": after.invocation, "pid": after.pid}
    if after.detail:
        evidence["detail"] = after.detail
    if after.running_release:
        evidence["release"] = after.running_release
    if before.invocation and before.running:
        evidence["previous_invocation"] = before.invocation
    return evidence
