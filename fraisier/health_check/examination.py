"""What the purposes share: asking once, looking once, and writing a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from fraisier.clock import Clock, rfc3339
from fraisier.config.schema import HealthCheck
from fraisier.errors import DeploymentError, ProviderConnectionError, ProviderError
from fraisier.events.types import (
    Event,
    HealthFailed,
    HealthPart,
    HealthPassed,
    HealthRequested,
    HealthSampled,
)
from fraisier.health_check.base import HealthChecker, HealthCheckResult, asked
from fraisier.health_check.subject import HealthSubject
from fraisier.health_check.tally import Tally

if TYPE_CHECKING:
    from fraisier.providers.base import TargetFacts

Verdict = HealthPassed | HealthFailed
Emit = Callable[[Event], object]

UNCHECKED = HealthCheck(type="exec", interval_s=0.25, deadline_s=10.0)
"""The pace for a service without a health check: it is only looked at, which is cheap."""

PART_CHARS = 300
"""So much of what a part of a composite said is kept; the verdict's own message has the whole of what failed."""

TAIL_LINES = 10
TAIL_S = 5.0


@dataclass(frozen=True)
class Look:
    """What a look at the target found; `facts` is None when it could not be taken."""

    facts: TargetFacts | None = None
    problem: str = ""
    unreachable: bool = False


@dataclass(frozen=True)
class Disagreement:
    """Why what serves is not what was asked about. `proved`: it was seen, not only not confirmed."""

    text: str
    proved: bool = True


class Examination:
    """One request for a verdict, from the question to the answer."""

    def __init__(
        self,
        event: HealthRequested,
        subject: HealthSubject,
        checker: HealthChecker | None,
        *,
        ports: frozenset[int] = frozenset(),
        clock: Clock,
        emit: Emit,
    ) -> None:
        self.event = event
        self.subject = subject
        self.checker = checker
        self.timing = subject.context.settings.health_check or UNCHECKED
        self.tally = Tally()
        self.look_taken = Look()
        self.disagreement: Disagreement | None = None
        self._invocation = ""
        self._ports = ports
        self._emit = emit
        self.started = anyio.current_time()
        self._since_us = clock.now_us()
        # An answer that is older than this when time is up shows a stall of our own, not the state of the
        # service.
        self._fresh_s = 2 * (self.timing.interval_s + self.timing.timeout_s)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the question was asked."""
        return anyio.current_time() - self.started

    def limited(self, seconds: float) -> float:
        """Return `seconds`, or what is left of the deployment's own deadline if that is less."""
        budget_s = self.event.budget_s
        return min(seconds, budget_s) if budget_s > 0 else seconds

    async def sample(self) -> HealthCheckResult:
        """Ask once, count it and tell of it."""
        assert self.checker is not None
        result = await asked(self.checker, self.timing.timeout_s)
        self.tally.add(result)
        self._emit(
            HealthSampled(
                **self._about(),
                check_type=result.check_type,
                status=result.status,
                duration_s=result.duration,
                message=self.scrub(result.message or ""),
            )
        )
        return result

    async def look(self) -> Look:
        """Ask the provider what is there."""
        try:
            self.look_taken = Look(await self.subject.provider.inspect(self.subject.context))
        except ProviderConnectionError as error:
            self.look_taken = Look(problem=error.message, unreachable=True)
        except (ProviderError, DeploymentError) as error:
            self.look_taken = Look(problem=error.message)
        return self.look_taken

    def exited(self, look: Look) -> str:
        """Return how the service ended since it was first seen running, or nothing while it runs."""
        facts = look.facts
        if facts is None or facts.running is None:
            return ""
        if not facts.running:
            return f"the service is not running{f' ({facts.detail})' if facts.detail else ''}"
        known, self._invocation = self._invocation, facts.invocation or self._invocation
        if known and known not in (self._invocation, self.event.baseline):
            return "the service ended and was started again by something else"
        return ""

    def unlike(self, look: Look) -> Disagreement | None:
        """Compare a look with what was asked about: the release, the running process, and that it was started
        anew."""
        facts, wanted = look.facts, self.event.release
        if facts is None:
            return Disagreement(f"the target could not be read back: {look.problem}", proved=False)
        if wanted and facts.release != wanted:
            return Disagreement(f"current is {facts.release or 'nothing'}, not {wanted}")
        if wanted and facts.running_release and facts.running_release != wanted:
            return Disagreement(f"the running process belongs to {facts.running_release}, not to {wanted}")
        if self.event.baseline and facts.invocation == self.event.baseline:
            return Disagreement("the old process still runs: it was not started anew")
        return None

    async def disagrees(self, look: Look) -> Disagreement | None:
        """Say why this look does not prove that the release in question serves, or nothing when it does."""
        # Noted only once it is known: the deadline may pass while we ask, and the last answer then still counts.
        found = self.unlike(look) or await self._served_by_old()
        self.disagreement = found
        return found

    def passed(self, message: str) -> HealthPassed:
        """Return the good verdict with its evidence."""
        return HealthPassed(**self._verdict(message))

    def failed(self, reason: str, message: str, *, bad: bool) -> HealthFailed:
        """Return the bad verdict."""
        return HealthFailed(**self._verdict(message), reason=reason, bad=bad)

    async def failed_by_exit(self, how: str) -> HealthFailed:
        """Return the verdict on a service that ended, with the last lines that it logged."""
        lines = await self._tail()
        told = f"; its last log lines:\n{lines}" if lines else ""
        return self.failed("exited", f"{self.event.target}: {how}{told}", bad=True)

    def unreachable(self, look: Look) -> HealthFailed:
        """Return the verdict on a target out of reach, which says nothing about the release."""
        return self.failed("unreachable", f"{self.event.target}: {look.problem}", bad=False)

    def overdue(self, limit_s: float) -> HealthFailed:
        """Return the verdict when time is up: what was waited for, where, since when, and what was heard
        last."""
        waited = f"{self.event.target}: {self.asked()} for {limit_s:g} s since {rfc3339(self._since_us)}"
        last = self.tally.last_verdict
        if self.look_taken.unreachable:
            return self.failed("unreachable", f"{waited}; {self.look_taken.problem}", bad=False)
        if self.disagreement is not None:
            found = self.disagreement
            reason = "wrong_release" if found.proved else "no_answer"
            return self.failed(reason, f"{waited}; {found.text}", bad=found.proved)
        heard = self.tally.last.message if self.tally.last else self.look_taken.problem
        message = f"{waited} ({self.tally.summary()}); last answer: {heard or 'none'}"
        if last is None or self.look_taken.facts is None:
            return self.failed("no_answer", message, bad=False)
        evidence = not last.success and last.answered and self.tally.age_s <= self._fresh_s
        return self.failed("deadline", message, bad=evidence)

    def asked(self) -> str:
        """Return what is waited for."""
        if self.checker is None:
            return "waited to see the service run"
        needed = self.timing.rise if self.event.purpose == "verify" else 1
        describe = getattr(self.checker, "describe", None)
        what = self.scrub(describe()) if describe else f"{self.checker.check_type} check"
        return f"waited for {needed} good answer{'s in a row' if needed > 1 else ''} ({what})"

    def scrub(self, text: str) -> str:
        """Return text without secret values."""
        return self.subject.resolver.redactor.scrub(text)

    async def _served_by_old(self) -> Disagreement | None:
        ask = getattr(self.subject.provider, "serves_old_release", None)
        if ask is None or not self.event.release:
            return None
        for port in sorted(self._ports):
            try:
                found = await ask(self.subject.context, port, self.event.release)
            except (ProviderError, DeploymentError) as error:
                return Disagreement(
                    f"who serves port {port} could not be read back: {error.message}", proved=False
                )
            if found:
                return Disagreement(str(found))
        return None

    async def _tail(self) -> str:
        tail = getattr(self.subject.provider, "tail", None)
        if tail is None:
            return ""
        with anyio.move_on_after(self.limited(TAIL_S)):
            try:
                found = await tail(self.subject.context, TAIL_LINES)
            except (ProviderError, DeploymentError):
                return ""
            return found if isinstance(found, str) else "\n".join(found)
        return ""

    def _about(self) -> dict[str, str]:
        event = self.event
        return {
            "deployment_id": event.deployment_id,
            "fraise": event.fraise,
            "environment": event.environment,
            "target": event.target,
        }

    def _verdict(self, message: str) -> dict[str, Any]:
        tally = self.tally
        return {
            **self._about(),
            "provider": self.subject.provider_type,
            "purpose": self.event.purpose,
            "check_type": self.checker.check_type if self.checker else "none",
            "release": self.event.release,
            "version": self.event.version,
            "counts": dict(tally.counts),
            "buckets": dict(tally.buckets),
            "probes_s": tally.probes_s,
            "ticks_skipped": tally.ticks_skipped,
            "tick_lag_s": tally.tick_lag_s,
            "duration_s": self.elapsed_s,
            "message": self.scrub(message),
            "parts": tuple(self._parts(tally.last)) if tally.last else (),
            "warnings": tuple(map(self.scrub, tally.last.warnings)) if tally.last else (),
            "evidence": self._evidence(),
        }

    def _parts(self, result: HealthCheckResult, above: str = "") -> Iterator[HealthPart]:
        """Yield what the checks of a composite said; the name of one inside another has that one's in front."""
        for name, part in result.parts.items():
            yield HealthPart(
                name=above + name,
                check_type=part.check_type,
                status=part.status,
                duration_s=part.duration,
                message=self.scrub(part.message or "")[:PART_CHARS],
            )
            yield from self._parts(part, f"{above}{name}/")

    def _evidence(self) -> dict[str, Any]:
        facts = self.look_taken.facts
        if facts is None:
            return {}
        if self.checker is None and facts.running is None:
            return {"release": facts.release, "checked": "nothing to check"}
        return {"release": facts.running_release or facts.release, "invocation": facts.invocation}
