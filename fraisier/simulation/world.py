"""The simulated world: hosts, the links to them, and commands on their way, which go on when their sender is gone."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from typing import Any

import anyio
import anyio.lowlevel

from fraisier.errors import (
    FencedError,
    FraisierError,
    HookError,
    InDoubtError,
    MigrationError,
    ProviderConnectionError,
    ProviderError,
)
from fraisier.providers.base import StepCall
from fraisier.simulation.hosts import ReceiptKey, SimulatedHost
from fraisier.simulation.links import CALM, Weather
from fraisier.simulation.services import Behaviour

CONNECT_TIMEOUT_S = 10.0
_DIGITS = 40


def commit(ref: str) -> str:
    """Return the made-up full commit id that a ref resolves to: the same for the same ref."""
    return (ref.encode().hex() + "0" * _DIGITS)[:_DIGITS]


class Command:
    """A step on its way to a host, being done there, or on its way back. `caller` waits for the answer, if it lives."""

    def __init__(
        self, call: StepCall, host: SimulatedHost, caller: asyncio.Future[dict[str, Any]], answered: bool
    ) -> None:
        self.call = call
        self.host = host
        self.caller = caller
        self.answered = answered
        self.boot = 0
        self.acting = False
        self.killed = False

    @property
    def detached(self) -> bool:
        """Whether it goes on without its caller, and is found again by its receipt."""
        return self.call.step == "migrate" or self.call.hook is not None

    @property
    def receipt(self) -> ReceiptKey:
        """The key of its receipt at the host."""
        return receipt_key(self.call, self.call.attempt)


class World:
    """Hosts by name, how versions behave on them, and the weather on the links.

    `observers` are called with (command, moment) when a command begins to act and when it takes effect; `counters` counts
    every fault that happened. `durations_s` is how long steps take at most.
    """

    def __init__(self, rng: random.Random, hosts: dict[str, SimulatedHost]) -> None:
        self.rng = rng
        self.hosts = hosts
        self.weather: dict[str, Weather] = {}
        self.behaviours: dict[tuple[str, str], Behaviour] = {}
        self.durations_s: dict[str, float] = {}
        self.observers: list[Callable[[Command, str], None]] = []
        self.counters: Counter[str] = Counter()
        self.migrations: list[tuple[str, str, str]] = []
        self.failing_migrations: set[str] = set()
        self.hooks: list[tuple[str, ReceiptKey]] = []
        self.failing_hooks: set[tuple[str, str]] = set()
        self.here = SimulatedHost("the orchestrator")
        self._context = Context()
        self._commands: list[Command] = []

    # time

    def now_s(self) -> float:
        """The virtual time; 0 when nothing runs."""
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return 0.0

    def later(self, delay_s: float, act: Callable[..., None], *arguments: Any) -> None:
        """Let the world do something, whoever is dead by then."""
        loop = asyncio.get_running_loop()
        if delay_s > 0:
            loop.call_later(delay_s, act, *arguments, context=self._context)
        else:
            loop.call_soon(act, *arguments, context=self._context)

    # what can be seen

    def behaviour(self, version: str, host: str) -> Behaviour:
        """How a version behaves on a host: as said for that host, for every host, or well."""
        found = self.behaviours.get((version, host)) or self.behaviours.get((version, ""))
        return found or Behaviour()

    def serving(self) -> dict[str, str]:
        """The version that answers on each host (empty: none)."""
        now_s = self.now_s()
        return {
            name: host.version() if host.serves(now_s) else "" for name, host in sorted(self.hosts.items())
        }

    # what happens by itself

    def reboot(self, name: str, *, down_s: float) -> None:
        """Cut a host's power for a while."""
        host = self.hosts[name]
        if not host.up:
            return
        self.counters["host reboots"] += 1
        host.up = False
        host.faulted_s = self.now_s()
        for command in [one for one in self._commands if one.host is host]:
            command.killed = True
        self.later(down_s, self._boot, host)

    def _boot(self, host: SimulatedHost) -> None:
        host.up = True
        version = host.releases.get(host.current, "")
        host.reboot(self.now_s(), self.behaviour(version, host.name))

    def calm(self) -> None:
        """End every fault of hosts and links."""
        self.weather.clear()
        for host in self.hosts.values():
            host.disk_full = False

    # commands

    async def reach(self, name: str) -> Weather:
        """Open a connection. Raises ProviderConnectionError: then nothing was sent."""
        weather, host = self.weather.get(name, CALM), self.hosts[name]
        delay_s = weather.delay(self.rng)
        if delay_s:
            await anyio.sleep(delay_s)
        else:
            await anyio.lowlevel.checkpoint()
        if weather.hole:
            self.counters["connections that hang"] += 1
            await anyio.sleep(CONNECT_TIMEOUT_S)
        if weather.hole or weather.cut or not host.up:
            self.counters["connections refused"] += not weather.hole
            raise ProviderConnectionError(f"{name} does not answer", context={"target": name})
        return weather

    async def carry(self, call: StepCall, *, here: bool = False) -> dict[str, Any]:
        """Send a step to its host (or have it done `here`, where there is no link) and return the evidence that comes back.

        Raises ProviderConnectionError (with `in_doubt` where it may have happened), FencedError, and what the host says."""
        name = call.context.target.name
        host = self.here if here else self.hosts[name]
        weather = CALM if here else await self.reach(name)
        loop = asyncio.get_running_loop()
        caller: asyncio.Future[dict[str, Any]] = loop.create_future()
        fate = weather.fate(self.rng)
        if fate != "arrives":
            self.counters[f"commands {fate}"] += 1
        command = Command(call, host, caller, fate == "arrives")
        if fate in ("arrives", "unanswered", "silent after"):
            self._commands.append(command)
            self.later(weather.delay(self.rng), self._arrive, command)
        if fate in ("lost", "unanswered"):
            self.later(self.rng.uniform(0, 2 * self.durations_s.get(call.step, 0.1)), self._break, command)
        try:
            return await caller
        except asyncio.CancelledError:
            self._cancelled(command, weather)
            raise

    def _arrive(self, command: Command) -> None:
        host, call = command.host, command.call
        if command.killed or not host.up:
            self._over(command, _broken(host))
            return
        try:
            if host is not self.here:  # nobody else acts there
                host.fence(call)
        except FencedError as error:
            self.counters["commands fenced"] += 1
            self._over(command, error)
            return
        self._end_older(command)
        command.boot = host.boots
        if call.settles and not command.detached:
            self._over(command, ProviderError(f"{call.step} on {host.name} was given up", code="NOT_ENDED"))
            return
        if command.detached:
            self._job(command)
            return
        self._act(command)

    def _act(self, command: Command) -> None:
        host, call = command.host, command.call
        try:
            host.begin(call)
        except FraisierError as error:
            self.counters["steps refused by the host"] += 1
            self._over(command, error)
            return
        command.acting = True
        self._observe(command, "begins")
        most_s = self.durations_s.get("hook" if call.hook is not None else call.step, 0.0)
        self.later(self.rng.uniform(most_s / 2, most_s), self._finish, command)

    def _finish(self, command: Command) -> None:
        host, call = command.host, command.call
        if command.killed or not host.up or command.boot != host.boots:
            self._over(command, _broken(host))
            return
        failure: FraisierError | None = None
        if command.detached:
            failed = self._note_job(command)
            host.receipts[command.receipt] = "failed" if failed else "done"
            failure = _job_error(call, f"{call.step} on {host.name} failed") if failed else None
        evidence = host.end(call, self.behaviour(call.version, host.name), self.now_s())
        self._observe(command, "takes effect")
        self._over(command, failure, evidence)

    def _end_older(self, command: Command) -> None:
        """A newer holder ends what an older one left acting here, but what is detached."""
        for other in self._commands:
            if (
                other.acting
                and other.host is command.host
                and not other.detached
                and other.call.log_id == command.call.log_id
                and other.call.token[0] < command.call.token[0]
            ):
                self.counters["older commands ended"] += 1
                other.killed = True

    # migrations and hooks: jobs with receipts

    def _note_job(self, command: Command) -> bool:
        """Keep what was done, and return whether it failed."""
        call = command.call
        if call.hook is not None:
            if (call.hook.name, call.version) in self.failing_hooks:
                return True
            self.hooks.append((call.hook.name, command.receipt))
            return False
        failed = call.version in self.failing_migrations and not call.undo
        kind = "undo" if call.undo else "fail" if failed else "do"
        self.migrations.append((kind, call.release, call.context.target.name))
        return failed

    def _job(self, command: Command) -> None:
        host, call = command.host, command.call
        if call.hook is not None and call.settles:
            self.end_jobs(host, lambda key: key[:2] == command.receipt[:2])
            self._over(command, HookError(f"{call.step} on {host.name} was given up", code="NOT_ENDED"))
            return
        for attempt in range(call.attempt, 0, -1):
            key, own = receipt_key(call, attempt), attempt == call.attempt
            found = host.receipts.get(key) if own else host.receipts.setdefault(key, "never")
            if found == "running":
                self.counters["jobs attached to"] += 1
                self.later(0.05, self._job, command)
                return
            if found == "done" and (own or call.resumes):
                self._over(command, None, {"release": call.release, "found": True})
                return
            if found == "failed" and (own or call.resumes):
                self._over(command, _job_error(call, f"{call.step} on {host.name} had failed"))
                return
            if found == "lost" and not _may_repeat(call):
                self._over(command, InDoubtError(f"{call.step} on {host.name} began, and has no end"))
                return
        if host.receipts.get(command.receipt) == "never" or command.killed or not host.up:
            self._over(command, _broken(host))
            return
        if call.settles:
            self._over(
                command, MigrationError(f"the migration on {host.name} had not begun", code="NOT_BEGUN")
            )
            return
        host.receipts[command.receipt] = "running"
        self._act(command)

    def end_jobs(self, host: SimulatedHost, chosen: Callable[[ReceiptKey], bool]) -> None:
        """End what runs of the chosen jobs; what it had done by then nobody knows."""
        for key, receipt in host.receipts.items():
            if receipt == "running" and chosen(key):
                host.receipts[key] = "lost"
        for other in self._commands:
            if other.host is host and other.acting and other.detached and chosen(other.receipt):
                other.killed = True

    # the way back

    def _over(
        self, command: Command, error: FraisierError | None, evidence: dict[str, Any] | None = None
    ) -> None:
        if command in self._commands:
            self._commands.remove(command)
        caller = command.caller
        if not command.answered or caller.done():
            return
        if error is None:
            caller.set_result(evidence or {})
        else:
            caller.set_exception(error)

    def _break(self, command: Command) -> None:
        if not command.caller.done():
            command.caller.set_exception(_broken(command.host))

    def _cancelled(self, command: Command, weather: Weather) -> None:
        """The caller gave up: it ends what it sent, unless the connection is gone."""
        if weather.silent or weather.cut or command.killed or command not in self._commands:
            return
        if self.rng.random() < 0.8:
            abandoned = command.call.abandoned
            if command.detached and abandoned is not None and abandoned():
                return  # it goes on, for whoever has the lease now
            command.killed = True
            if command.detached and command.host.receipts.get(command.receipt) == "running":
                command.host.receipts[command.receipt] = "lost"

    def _observe(self, command: Command, moment: str) -> None:
        for observe in self.observers:
            observe(command, moment)


def receipt_key(call: StepCall, attempt: int) -> ReceiptKey:
    """Return the key of the receipt that an attempt of a step leaves."""
    if call.hook is not None:
        own = f"{call.hook.phase}:{call.hook.number}:{call.context.target.name}"
        return (call.deployment_id, own, attempt)
    return (call.deployment_id, "undo" if call.undo else "do", attempt)


def _may_repeat(call: StepCall) -> bool:
    if call.hook is not None:
        return call.hook.may_repeat
    migrate = call.context.settings.migrate
    return migrate is not None and migrate.resume == "rerun"


def _job_error(call: StepCall, message: str) -> FraisierError:
    return MigrationError(message) if call.hook is None else HookError(message)


def _broken(host: SimulatedHost) -> ProviderConnectionError:
    return ProviderConnectionError(
        f"{host.name}: the shell ended before the command did; whether the command was done is not known",
        context={"reason": "shell_lost", "in_doubt": True},
    )
