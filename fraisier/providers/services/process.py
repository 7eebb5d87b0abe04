"""A process of ours in a session of its own. It is not supervised: what ends stays ended."""

from __future__ import annotations

from collections.abc import Mapping

from fraisier.commands import services as commands
from fraisier.commands.sh import pairs
from fraisier.config.schema import Service
from fraisier.providers.services import logfile
from fraisier.providers.services.base import Evidence, Site, State

_DETAIL_LINES = 3


class ProcessService:
    """Runs `service.process` in `current`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def check(self, site: Site) -> None:
        """Nothing of it has to be there before it is started."""

    async def restart(self, site: Site, *, retry: bool) -> Evidence:
        """End every process of the old start, then start the release that is current."""
        place = site.place
        command, env = place.command(self._service.process, "service.process")
        script = commands.start(
            place.app,
            place.mark,
            command=command,
            env=env,
            release=place.release or "-",
            deployment=place.deployment_id,
            timeout_ms=self._timeout_ms,
            retry=retry,
        )
        return _evidence(pairs(await site.script(script, what="restart", changes=True)))

    async def start(self, site: Site) -> Evidence:
        """Start the service unless it runs."""
        state = await self.state(site)
        if state.running:
            return {"running": True, "invocation": state.invocation, "pid": state.pid, "unchanged": True}
        return await self.restart(site, retry=False)

    async def stop(self, site: Site) -> Evidence:
        """TERM to the group and to what left it, `stop_timeout`, KILL."""
        place = site.place
        script = commands.stop(place.app, place.mark, timeout_ms=self._timeout_ms)
        found = await site.facts(script, what="stop", changes=True)
        return {"running": False, **{key: found[key] for key in ("stopped", "forced") if key in found}}

    def look_script(self, site: Site) -> str:
        """Read the pid file."""
        return commands.look(site.place.app, site.place.mark)

    async def state(self, site: Site, found: Mapping[str, str] | None = None) -> State:
        """Read the pid file, and believe it only when pid, start time and boot agree."""
        if found is None:
            found = await site.facts(self.look_script(site), what="look")
        if found.get("running") == "yes":
            return State(
                running=True,
                invocation=found.get("invocation", ""),
                pid=int(found.get("pid", 0)),
                running_release=found.get("running_release", ""),
            )
        detail = ""
        if "ended" in found:
            last = await logfile.tail_of_start(site, _DETAIL_LINES)
            detail = "it has ended" + (
                f"; its last output: {' | '.join(last)}" if last else " without any output"
            )
        return State(running=False, detail=detail)

    async def tail(self, site: Site, lines: int) -> list[str]:
        """Return the last lines of the service's log."""
        return await logfile.tail(site, lines)

    async def since(self, site: Site, position: str) -> tuple[list[str], str]:
        """Return complete new lines since `position`."""
        return await logfile.since(site, position)

    @property
    def _timeout_ms(self) -> int:
        return round(self._service.stop_timeout_s * 1000)


def _evidence(found: dict[str, str]) -> Evidence:
    evidence: Evidence = {
        "running": True,
        "invocation": found.get("invocation", ""),
        "pid": int(found.get("pid", 0)),
    }
    if "running_release" in found:
        evidence["release"] = found["running_release"]
    if "stopped" in found:
        evidence["previous_invocation"] = found["stopped"]
    if "forced" in found:
        evidence["forced"] = True
    return evidence
