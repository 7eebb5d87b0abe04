"""The health responder against real HTTP servers and commands on this machine."""

from __future__ import annotations

from typing import Any, ClassVar

import anyio
from aiohttp import web

from fraisier.clock import SystemClock
from fraisier.config.resolve import Resolver
from fraisier.config.schema import Environment, HealthCheck, Target
from fraisier.events.types import HealthFailed, HealthPassed, HealthRequested
from fraisier.health_check import HealthResponder, HealthSubject
from fraisier.providers.base import TargetContext, TargetFacts
from fraisier.redaction import Redactor
from tests.health.servers import http_server


class Here:
    """A provider on this machine: probes must not need its transport."""

    type: ClassVar[str] = "local"

    async def inspect(self, context: TargetContext) -> TargetFacts:
        return TargetFacts(release="r2", running=True, running_release="r2", invocation="new")


def responder_for(check: HealthCheck, app_path: str = "") -> HealthResponder:
    """Return a responder whose targets all have this check; target tN has the variable n."""

    def lookup(_: str, name: str) -> HealthSubject:
        target = Target(name=name, vars={"n": int(name[1:])})
        context = TargetContext(
            "api", "production", target, Environment(health_check=check, app_path=app_path)
        )
        provider: Any = Here()
        return HealthSubject(context, provider, Resolver({}, Redactor(), "/"), "local")

    return HealthResponder(lookup, clock=SystemClock(), emit=lambda event: None)


async def test_fifty_targets_share_a_session_but_no_connection() -> None:
    """Every probe is a connection of its own, so an old process cannot answer over one that it still
    holds."""
    seen: dict[str, list[object]] = {}

    async def handler(request: web.Request) -> web.Response:
        seen.setdefault(request.path, []).append(request.transport.get_extra_info("peername"))  # type: ignore[union-attr]
        return web.json_response({"target": request.path.removeprefix("/t/")})

    verdicts: list[Any] = []
    async with http_server(handler) as base:
        check = HealthCheck(
            type="http",
            url=base + "/t/{{ target.vars.n }}",
            expect_body=r'"[0-9]+"',
            interval_s=0.05,
            rise=2,
        )
        responder = responder_for(check)

        async def one(number: int) -> None:
            event = HealthRequested(target=f"t{number}", release="r2", baseline="old")
            verdicts.append(await responder(event))

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(one, number)
        await responder.aclose()
    assert all(isinstance(verdict, HealthPassed) for verdict in verdicts), verdicts[0]
    peers = [peer for calls in seen.values() for peer in calls]
    assert len(seen) == 50
    assert len(peers) == len(set(peers)) == 100


async def test_commands_run_in_current(tmp_path: Any) -> None:
    """A relative command is found in what is current at the target."""
    (tmp_path / "current").mkdir()
    script = tmp_path / "current" / "health.sh"
    script.write_text("#!/bin/sh\necho here\n")
    script.chmod(0o755)
    responder = responder_for(HealthCheck(type="exec", command="./health.sh"), str(tmp_path))
    verdict = await responder(HealthRequested(target="t1", purpose="check"))
    assert isinstance(verdict, HealthPassed)
    assert verdict.message.endswith("exit code 0: here")


async def test_a_sick_service_fails_with_what_it_said() -> None:
    """The last answer is in the verdict, and the release is bad."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=503, text="no database")

    async with http_server(handler) as base:
        responder = responder_for(HealthCheck(type="http", url=base, interval_s=0.05, deadline_s=0.3))
        verdict = await responder(HealthRequested(target="t1", release="r2", baseline="old"))
        await responder.aclose()
    assert isinstance(verdict, HealthFailed)
    assert (verdict.reason, verdict.bad) == ("deadline", True)
    assert "status 503, expected 200: no database" in verdict.message
    assert verdict.probes_s > 0
