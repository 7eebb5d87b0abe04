"""What a health check is, and what comes out of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import anyio

from fraisier.clock import SystemClock
from fraisier.health_check.failures import ProbeError, ProbeFailed, failure_of

HealthStatus = Literal["pass", "fail", "error"]


def _wall_s() -> float:
    return SystemClock().now_us() / 1e6


@dataclass(frozen=True)
class HealthCheckResult:
    """The outcome of one check. `duration` is in seconds, `timestamp` in seconds since the epoch.

    `status` is pass, fail, or error: the prober itself could not do its work, which says nothing about the
    service. `answered` is True when the service (or its host) replied at all: only then a failure is evidence
    against it. `warnings` are for people and change nothing; `parts` are the results of a composite's checks, by
    name.
    """

    success: bool
    check_type: str
    duration: float
    message: str | None = None
    timestamp: float = field(default_factory=_wall_s)
    status: HealthStatus = "fail"
    answered: bool = True
    warnings: tuple[str, ...] = ()
    parts: Mapping[str, HealthCheckResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.success:
            object.__setattr__(self, "status", "pass")
        elif self.status == "pass":
            raise ValueError("a check that did not succeed cannot have the status pass")

    def to_dict(self) -> dict[str, Any]:
        """Return the result JSON-ready: success, status, check_type, duration, message, timestamp, warnings, and the
        parts in the same form."""
        return {
            "success": self.success,
            "status": self.status,
            "check_type": self.check_type,
            "duration": self.duration,
            "message": self.message,
            "timestamp": self.timestamp,
            "warnings": list(self.warnings),
            "parts": {name: part.to_dict() for name, part in self.parts.items()},
        }


class Good(NamedTuple):
    """What a healthy service answered, and what people should know of all the same."""

    message: str
    warnings: tuple[str, ...] = ()


class HealthChecker(ABC):
    """One question about a service's health. Subclass it for questions of your own."""

    check_type: str = "custom"
    _keeps_time: ClassVar[bool] = False
    """Whether `check` surely ends at its timeout, with a message of its own."""

    @abstractmethod
    async def check(self, timeout: float = 5.0) -> HealthCheckResult:
        """Ask once, for at most `timeout` seconds; an unhealthy service is a result, not an exception."""


class Probe(HealthChecker):
    """A checker whose question is `ask`; this class keeps the time and turns failures into results."""

    _keeps_time = True

    async def check(self, timeout: float = 5.0) -> HealthCheckResult:
        """Ask once. A timeout is a failure whose message says what was waited for and how long."""
        return await timed(self.check_type, self.ask, timeout, self.describe)

    @abstractmethod
    async def ask(self) -> Good:
        """Return what a healthy service answered; raise ProbeFailed or ProbeError."""

    @abstractmethod
    def describe(self) -> str:
        """Return what is asked of whom, for messages; without secrets."""


async def timed(
    check_type: str, ask: Callable[[], Awaitable[Good]], timeout_s: float, describe: Callable[[], str]
) -> HealthCheckResult:
    """Run `ask` under a deadline and return its result. Cancellation from outside goes through."""
    started = anyio.current_time()

    def result(
        status: HealthStatus, message: str, *, answered: bool = True, warnings: tuple[str, ...] = ()
    ) -> HealthCheckResult:
        duration = anyio.current_time() - started
        good = status == "pass"
        return HealthCheckResult(
            good, check_type, duration, message, status=status, answered=answered, warnings=warnings
        )

    try:
        with anyio.move_on_after(timeout_s):
            good = await ask()
            return result("pass", good.message, warnings=good.warnings)
        message = f"{describe()}: no answer within {timeout_s:g} s"
        return result("fail", message, answered=False)
    except ProbeFailed as failure:
        return result("fail", str(failure), answered=failure.answered)
    except ProbeError as failure:
        return result("error", str(failure), answered=False)
    except OSError as error:
        known = failure_of(error, describe())
        status: HealthStatus = "error" if isinstance(known, ProbeError) else "fail"
        return result(status, str(known), answered=known.answered)
    except Exception as error:  # noqa: BLE001 - whatever a prober trips over says nothing about the service
        return result("error", f"{describe()}: cannot probe: {_named(error)}", answered=False)


async def asked(checker: HealthChecker, timeout_s: float) -> HealthCheckResult:
    """Ask anybody's checker: also one that raises, or that takes no notice of its timeout, gives a result."""
    started = anyio.current_time()
    try:
        if getattr(checker, "_keeps_time", False):
            return await checker.check(timeout=timeout_s)
        with anyio.move_on_after(timeout_s):
            return await checker.check(timeout=timeout_s)
        status: HealthStatus = "fail"
        message = f"{checker.check_type} check: no answer within {timeout_s:g} s"
    except Exception as error:  # noqa: BLE001 - as in `timed`
        status, message = "error", f"{checker.check_type} check: cannot probe: {_named(error)}"
    duration = anyio.current_time() - started
    return HealthCheckResult(
        success=False,
        check_type=checker.check_type,
        duration=duration,
        message=message,
        status=status,
        answered=False,
    )


def _named(error: BaseException) -> str:
    """Return the classes of an error, of a group those inside; what it says may show what is secret."""
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(dict.fromkeys(map(_named, error.exceptions)))
    return type(error).__name__
