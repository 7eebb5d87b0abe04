"""Targets in memory: their truth, what is on its way to them, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from fraisier.errors import FencedError, InDoubtError, MigrationError, ProviderConnectionError, ProviderError
from fraisier.providers.base import StepCall

DIGITS = 40


def commit(ref: str) -> str:
    """Return the made-up full commit id that a ref resolves to: the same for the same ref."""
    return (ref.encode().hex() + "0" * DIGITS)[:DIGITS]


@dataclass
class ScriptedTarget:
    """One target's truth: what is staged, current, and running."""

    current: str = ""
    running: str = ""
    started: int = 0
    staged: dict[str, str] = field(default_factory=dict)
    version: str = ""


@dataclass
class _Fault:
    step: str
    target: str
    make: Callable[[], BaseException]
    left: int
    after_effect: bool


@dataclass
class Flight:
    """A command that was sent and not answered yet; `begun` once the target began to act on it."""

    call: StepCall
    begun: bool = False


Landing = Literal["lost", "at once", "late", "too late"]
"""What becomes of commands under way when their sender dies: they never happen (what has begun never ends); they happen at
once; just before the next command of another process acts on the target; or they arrive just after it, and are refused."""


class ScriptedTargets:
    """The targets of a `ScriptedProvider`, what was done to them, and what goes wrong.

    `effects` lists (step, target, release) in the order in which they took effect, `migrations` (do or undo, release).
    A version in `exits` ends as soon as it is started; one in `unhealthy` runs, but its exec health check fails;
    `delays_s` slows steps down; `unreachable` names targets that do not answer; `hanging` steps (step, target) never
    return. `on_change` is called whenever something changed at a target.

    Targets refuse a command whose token is lower than one that they have seen in the same journal, and they keep receipts
    of migrations: begun, then done or failed.
    """

    def __init__(self) -> None:
        self.targets: dict[str, ScriptedTarget] = {}
        self.effects: list[tuple[str, str, str]] = []
        self.migrations: list[tuple[str, str]] = []
        self.calls: list[tuple[str, str, int]] = []
        self.exits: set[str] = set()
        self.unhealthy: set[str] = set()
        self.unhealthy_on: set[tuple[str, str]] = set()
        self.delays_s: dict[str, float] = {}
        self.unreachable: set[str] = set()
        self.hanging: set[tuple[str, str]] = set()
        self.on_change: Callable[[], None] = lambda: None
        self.receipts: dict[tuple[str, str, str, int], str] = {}
        self.life = 0
        self._faults: list[_Fault] = []
        self._tokens: dict[tuple[str, str], tuple[int, int]] = {}
        self._flights: list[Flight] = []
        self._late: list[Flight] = []
        self._too_late: list[Flight] = []

    def fail(
        self,
        step: str,
        *,
        target: str = "",
        times: int = 1,
        error: Callable[[], BaseException] | None = None,
        after_effect: bool = False,
    ) -> None:
        """Make `step` (on `target`, or anywhere) raise `times` times; `after_effect`: it happened all the
        same."""
        make = error or (lambda: ProviderConnectionError(f"scripted failure of {step}"))
        self._faults.append(_Fault(step, target, make, times, after_effect))

    def mend(self) -> None:
        """Let every target be reached, and nothing fail, from now on."""
        self.unreachable.clear()
        self._faults.clear()

    def fault(self, step: str, target: str, *, after_effect: bool) -> BaseException | None:
        """Return the error that is due now, if any."""
        for fault in self._faults:
            if (
                fault.left
                and fault.step == step
                and fault.target in ("", target)
                and fault.after_effect == after_effect
            ):
                fault.left -= 1
                return fault.make()
        return None

    def target(self, name: str) -> ScriptedTarget:
        """Return a target, made on first use."""
        return self.targets.setdefault(name, ScriptedTarget())

    def serving(self) -> dict[str, str]:
        """Return the version that each target runs now (empty: none)."""
        return {name: target.staged.get(target.running, "") for name, target in self.targets.items()}

    def is_healthy(self, name: str) -> bool:
        """Whether the target's health check passes now."""
        version = self.serving().get(name, "")
        return bool(version) and version not in self.unhealthy and (name, version) not in self.unhealthy_on

    # commands on their way

    def send(self, call: StepCall) -> Flight:
        """Let a command set out."""
        flight = Flight(call)
        self._flights.append(flight)
        return flight

    def answer(self, flight: Flight) -> None:
        """Let a command be over, whatever became of it."""
        if flight in self._flights:
            self._flights.remove(flight)

    def crash(self, landing: Landing) -> list[str]:
        """Let the process die that uses this world: its providers reach nothing any more. Return the steps under way."""
        self.life += 1
        orphans, self._flights = self._flights, []
        if landing == "at once":
            self._land(orphans)
        elif landing == "late":
            self._late += orphans
        elif landing == "too late":
            self._too_late += [flight for flight in orphans if not flight.begun]
        return [flight.call.step for flight in orphans]

    def settle(self) -> None:
        """Let happen now what was left under way."""
        for late in (self._late, self._too_late):
            self._land(late)
            late.clear()

    def _land_at(self, name: str, late: list[Flight]) -> None:
        chosen = [flight for flight in late if flight.call.context.target.name == name]
        late[:] = [flight for flight in late if flight not in chosen]
        self._land(chosen)

    def _land(self, flights: list[Flight]) -> None:
        for flight in flights:
            with suppress(FencedError, InDoubtError, MigrationError):
                if flight.begun or self._begin(flight) is None:
                    self.end(flight)

    # what targets do

    def begin(self, flight: Flight) -> dict[str, Any] | None:
        """Let a command arrive. Return the evidence of an earlier attempt that it resumes and that was done, if any.

        Raises FencedError, and for a migration that may not be repeated InDoubtError, or MigrationError when it failed."""
        name = flight.call.context.target.name
        self._land_at(name, self._late)
        evidence = self._begin(flight)
        self._land_at(name, self._too_late)
        return evidence

    def _begin(self, flight: Flight) -> dict[str, Any] | None:
        call = flight.call
        self._fence(call)
        if call.settles:
            return self._settled(call)
        if call.step == "migrate":
            if earlier := self._earlier(call):
                return earlier
            self.receipts[_receipt(call, call.attempt)] = "begun"
        flight.begun = True
        if call.step == "restart" and self.delays_s.get("restart"):
            # A slow restart is down for as long as it takes.
            self.target(call.context.target.name).running = ""
            self.on_change()
        return None

    def _fence(self, call: StepCall) -> None:
        if not call.log_id:
            return
        name = call.context.target.name
        seen = self._tokens.get((call.log_id, name), (0, 0))
        if call.token < seen:
            raise FencedError(f"{name} has seen the token {seen}, which is newer than {call.token}")
        self._tokens[call.log_id, name] = call.token

    def _settled(self, call: StepCall) -> dict[str, Any]:
        """What an earlier attempt of a step came to; none is begun."""
        name = call.context.target.name
        if call.step == "migrate" and (found := self._earlier(call)):
            return found
        raise ProviderError(f"{call.step} on {name} had not ended, and was given up", code="NOT_ENDED")

    def _earlier(self, call: StepCall) -> dict[str, Any] | None:
        """Return the evidence of an earlier attempt of a migration that was done; None when it is to be run (again)."""
        attempts = (self.receipts.get(_receipt(call, number)) for number in range(call.attempt - 1, 0, -1))
        found = next(filter(None, attempts), "")
        name, migrate = call.context.target.name, call.context.settings.migrate
        if found == "begun" and (migrate is None or migrate.resume == "manual"):
            raise InDoubtError(f"nobody knows whether the migration on {name} happened")
        if found == "failed" and call.resumes:
            raise MigrationError(f"the migration on {name} had failed")
        return {"release": call.release} if found == "done" else None

    def end(self, flight: Flight) -> dict[str, Any]:
        """Let a command take its effect, and return the evidence; what is left is the answer's way back."""
        self.answer(flight)
        call = flight.call
        name = call.context.target.name
        self.effects.append((call.step, name, call.release))
        if call.step == "migrate":
            self.migrations.append(("undo" if call.undo else "do", call.release))
            self.receipts[_receipt(call, call.attempt)] = "done"
        evidence = self._effect(call, self.target(name))
        self.on_change()
        return evidence

    def failed(self, flight: Flight, error: BaseException) -> None:
        """Let a command have come to nothing: refused by a live target, or never arrived."""
        if flight.call.step != "migrate" or not flight.begun:
            return
        receipt = _receipt(flight.call, flight.call.attempt)
        if isinstance(error, ProviderConnectionError):
            del self.receipts[receipt]
        else:
            self.receipts[receipt] = "failed"

    def _effect(self, call: StepCall, target: ScriptedTarget) -> dict[str, Any]:
        match call.step:
            case "stage":
                target.staged[call.release] = call.version
            case "switch":
                target.current = call.release
            case "restart":
                target.started += 1
                starts = bool(call.release) and target.staged.get(call.release) not in self.exits
                target.running = call.release if starts else ""
            case "cleanup":
                removed = [
                    name for name in target.staged if name not in (*call.keep, target.current, target.running)
                ]
                for name in removed:
                    del target.staged[name]
                return {"removed": removed, "kept": list(target.staged)}
        return {"release": call.release}


def _receipt(call: StepCall, attempt: int) -> tuple[str, str, str, int]:
    return (call.deployment_id, call.context.target.name, call.step, attempt)
