"""From the configured check to checkers that can be asked, with every reference resolved."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from anyio.abc import ByteStream

from fraisier.clock import Clock, SystemClock
from fraisier.config.resolve import names_for
from fraisier.config.schema import PORT_MAX, HealthCheck
from fraisier.errors import FraisierError, ProviderConnectionError
from fraisier.health_check.base import Good, HealthChecker, Probe
from fraisier.health_check.command import Ended, ExecHealthChecker
from fraisier.health_check.composite import CompositeHealthChecker
from fraisier.health_check.expectation import Answer, Fetch, Request
from fraisier.health_check.failures import ProbeError
from fraisier.health_check.http import HTTPHealthChecker
from fraisier.health_check.stream_http import fetch_over
from fraisier.health_check.subject import HealthSubject
from fraisier.health_check.tcp import TCPHealthChecker
from fraisier.health_check.tls import TLSContexts

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class BrokenChecker(Probe):
    """Stands for a check that cannot be made out; each question ends as an error that says why."""

    def __init__(self, check_type: str, reason: str) -> None:
        self.check_type = check_type
        self._reason = reason

    def describe(self) -> str:
        """Return what kind of check it was to be."""
        return f"{self.check_type} check"

    async def ask(self) -> Good:
        """Raise ProbeError."""
        raise ProbeError(f"{self.describe()}: {self._reason}")


@dataclass(frozen=True)
class CheckerBuilder:
    """Builds the checkers for one subject. `fetch` is the shared HTTP client for what is probed from here.

    Checks that run where the target is go through its transport, unless the target is this machine.
    """

    subject: HealthSubject
    fetch: Fetch
    version: str = ""
    release: str = ""
    ports: set[int] = field(default_factory=set)
    """Loopback ports that were probed, for the question who serves there."""
    contexts: TLSContexts = field(default_factory=TLSContexts)
    clock: Clock = field(default_factory=SystemClock)

    def build(self, check: HealthCheck) -> HealthChecker:
        """Return the checker; a reference that cannot be resolved makes one that only says so."""
        try:
            return self._build(check, direct=check.origin == "orchestrator" or self.subject.is_here)
        except FraisierError as error:
            return BrokenChecker(check.type, error.message)
        except ValueError as error:
            return BrokenChecker(check.type, str(error))

    def _build(self, check: HealthCheck, *, direct: bool) -> HealthChecker:
        if check.type == "http":
            return self._http(check, direct=direct)
        if check.type == "tcp":
            return self._tcp(check, direct=direct)
        if check.type == "exec":
            return self._exec(check, direct=direct)
        composite = CompositeHealthChecker(check.require)
        for number, inner in enumerate(check.checks, 1):
            # The place of the outermost check counts for all, like its times.
            composite.add_check(inner.name or f"{inner.type}-{number}", self._build(inner, direct=direct))
        return composite

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        return template_names(self.subject, version=self.version, release=self.release)

    def _text(self, template: str) -> str:
        return self.subject.resolver.text(template, self._names)

    def _http(self, check: HealthCheck, *, direct: bool) -> HTTPHealthChecker:
        checker = HTTPHealthChecker(
            self.subject.resolver.address(check.url, self._names),
            method=check.method,
            headers={name: self._text(value) for name, value in check.headers.items()},
            expect_status=check.expect_status,
            expect_body=check.expect_body,
            expect_json=check.expect_json,
            follow_redirects=check.follow_redirects,
            verify_tls=check.verify_tls,
            ca_file=self._text(check.ca_file),
            tls_warn_before=check.tls_warn_before_s,
            connect_timeout=check.connect_timeout_s or None,
            fetch=self.fetch if direct else self._fetch_there,
            clock=self.clock,
        )
        self._note_port(*checker.address())
        return checker

    def _tcp(self, check: HealthCheck, *, direct: bool) -> TCPHealthChecker:
        host, port = self._text(check.host), _port(self._text(check.port))
        self._note_port(host, port)
        if direct:
            return TCPHealthChecker(host, port)
        return TCPHealthChecker(host, port, connect=self._connect_there)

    def _exec(self, check: HealthCheck, *, direct: bool) -> ExecHealthChecker:
        settings = self.subject.context.settings
        env = {name: self._text(value) for name, value in settings.env.items()}
        command: str | list[str]
        if isinstance(check.command, str):
            command, extra = self.subject.resolver.command(check.command, self._names)
            env.update(extra)
        else:
            command = [self._text(word) for word in check.command]
        there = check.origin == "target" and settings.app_path
        cwd = f"{self._text(settings.app_path)}/current" if there else ""
        label = check.command if isinstance(check.command, str) else " ".join(check.command)
        if direct:
            return ExecHealthChecker(command, env=env, cwd=cwd or None, label=label)
        return ExecHealthChecker(command, env=env, label=label, run=functools.partial(self._run_there, cwd))

    def _note_port(self, host: str, port: int) -> None:
        if host in LOOPBACK and port:
            self.ports.add(port)

    async def _fetch_there(self, request: Request) -> Answer:
        return await fetch_over(self._connect_there, request, self.contexts)

    async def _connect_there(self, host: str, port: int) -> ByteStream:
        try:
            transport = await self.subject.provider.transport(self.subject.context)
            return await transport.open_connection(host, port)
        except ProviderConnectionError as error:
            raise ProbeError(f"the target is out of reach: {error.message}") from error

    async def _run_there(self, cwd: str, command: str | Sequence[str], env: Mapping[str, str]) -> Ended:
        try:
            transport = await self.subject.provider.transport(self.subject.context)
            ended = await transport.run(command, cwd=cwd, env=env)
        except ProviderConnectionError as error:
            raise ProbeError(f"the target is out of reach: {error.message}") from error
        return ended.exit_code, (ended.stdout + ended.stderr)[-2048:].strip()


def _port(text: str) -> int:
    if text.isdecimal() and 1 <= int(text[:9]) <= PORT_MAX:
        return int(text)
    raise ValueError(f"expected a port from 1 to {PORT_MAX}, found {text[:20]!r}")


def template_names(subject: HealthSubject, *, version: str, release: str) -> dict[str, str]:
    """Return what may stand in templates of the environment, for the release that is asked about (or the
    current one).

    Raises ConfigurationError when the target's address or the app_path cannot be resolved.
    """
    context = subject.context
    names = names_for(
        fraise=context.fraise, environment=context.environment, target=context.target, version=version
    )
    base = subject.resolver.text(context.settings.app_path, names)
    names["release_path"] = f"{base}/releases/{release}" if release else f"{base}/current"
    return names
