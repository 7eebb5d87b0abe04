"""A simulated host: releases in directories, one link, one unit, the newest token that it saw, receipts of migrations."""

from __future__ import annotations

from typing import Any, Literal

from fraisier.errors import FencedError, ProviderError
from fraisier.providers.base import StepCall, TargetFacts
from fraisier.simulation.services import Behaviour

Token = tuple[int, int]
Receipt = Literal["running", "done", "failed", "lost", "never"]
ReceiptKey = tuple[str, str, int]


class Unit:
    """The service on a host: what runs, since when, and by which deployment it was started."""

    def __init__(self) -> None:
        self.release = ""
        self.by = ""
        self.behaviour = Behaviour()
        self.started_s = 0.0
        self.starts = 0

    def start(self, release: str, behaviour: Behaviour, now_s: float, by: str) -> None:
        """Start a release anew."""
        self.release, self.behaviour, self.started_s, self.by = release, behaviour, now_s, by
        self.starts += 1

    def runs(self, now_s: float) -> bool:
        """Whether its process runs."""
        return bool(self.release) and self.behaviour.runs(now_s - self.started_s)

    def is_healthy(self, now_s: float) -> bool:
        """Whether it answers well."""
        return bool(self.release) and self.behaviour.is_healthy(now_s - self.started_s)

    def invocation(self, now_s: float) -> str:
        """What is different for each start, whoever started it."""
        return f"{self.starts}.{self.behaviour.starts(now_s - self.started_s)}" if self.release else ""


class SimulatedHost:
    """The truth of one target. `supervised`: its unit comes up again by itself after a reboot, with what is current then."""

    def __init__(self, name: str, *, supervised: bool = True) -> None:
        self.name = name
        self.supervised = supervised
        self.up = True
        self.boots = 1
        self.disk_full = False
        self.releases: dict[str, str] = {}
        self.current = ""
        self.unit = Unit()
        self.tokens: dict[str, Token] = {}
        self.receipts: dict[ReceiptKey, Receipt] = {}
        self.started: set[str] = set()
        self.faulted_s = -1.0
        """When the world last did something to it that nobody asked for."""

    def version(self) -> str:
        """The version that runs (empty: none)."""
        return self.releases.get(self.unit.release, "")

    def serves(self, now_s: float) -> bool:
        """Whether it does its work now."""
        return self.up and self.unit.is_healthy(now_s)

    def facts(self, now_s: float) -> TargetFacts:
        """What a look finds."""
        runs = self.unit.runs(now_s)
        return TargetFacts(
            release=self.current,
            running=runs,
            running_release=self.unit.release if runs else "",
            invocation=self.unit.invocation(now_s) if runs else "",
            pid=self.unit.starts if runs else 0,
        )

    def fence(self, call: StepCall) -> None:
        """Take note of a token. Raises FencedError for one that is older than what was seen."""
        if not call.log_id:
            return
        seen = self.tokens.get(call.log_id, (0, 0))
        if call.token < seen:
            raise FencedError(f"fenced: {call.token} is refused, for {seen} was seen on {self.name}")
        self.tokens[call.log_id] = call.token

    def reboot(self, now_s: float, behaviour: Behaviour) -> None:
        """Lose everything that runs; what is supervised comes up again, from the link."""
        self.boots += 1
        self.faulted_s = now_s
        for key, receipt in self.receipts.items():
            if receipt == "running":
                self.receipts[key] = "lost"
        self.unit.release = ""
        if self.supervised and self.current in self.releases:
            self.unit.start(self.current, behaviour, now_s, "boot")

    # what steps do

    def begin(self, call: StepCall) -> None:
        """The first moment of a step. Raises ProviderError when the host refuses it."""
        if call.step == "stage" and self.disk_full:
            raise ProviderError(f"{self.name}: no space left on the device", recoverable=False)
        if call.step == "switch" and call.release and call.release not in self.releases:
            raise ProviderError(f"{self.name}: the release {call.release} is not there", recoverable=False)
        if call.step == "restart" and not self._is_done(call):
            self.unit.release = ""

    def end(self, call: StepCall, behaviour: Behaviour, now_s: float) -> dict[str, Any]:
        """The last moment of a step: its effect, and the evidence."""
        match call.step:
            case "stage":
                self.releases[call.release] = call.version
            case "switch":
                self.current = call.release
            case "restart" if call.release:
                if not self._is_done(call):
                    if behaviour.kind == "worn" and call.release in self.started:
                        behaviour = Behaviour("sick")
                    self.started.add(call.release)
                    self.unit.start(call.release, behaviour, now_s, call.deployment_id)
                return {"release": call.release, "invocation": self.unit.invocation(now_s)}
            case "cleanup":
                return self._clean(call.keep)
        return {"release": call.release}

    def _is_done(self, call: StepCall) -> bool:
        """Whether an earlier attempt of this very restart came through."""
        unit = self.unit
        return bool(
            call.attempt > 1
            and call.release
            and (unit.release, unit.by) == (call.release, call.deployment_id)
        )

    def _clean(self, keep: tuple[str, ...]) -> dict[str, Any]:
        kept = {*keep, self.current, self.unit.release}
        removed = [name for name in self.releases if name not in kept]
        for name in removed:
            del self.releases[name]
        return {"removed": removed, "kept": list(self.releases)}
