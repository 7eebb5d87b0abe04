"""Several checks as one."""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from fraisier.health_check.base import HealthChecker, HealthCheckResult, HealthStatus, asked


class CompositeHealthChecker(HealthChecker):
    """Asks all its checks at the same time, each for at most the timeout. As a checker itself it passes when
    `require` of them do: all, any, or a number.

    Without any check it does not pass: where nothing was asked nothing is known.
    """

    check_type = "composite"
    _keeps_time = True

    def __init__(self, require: str | int = "all") -> None:
        if require not in ("all", "any") and int(require) < 1:
            raise ValueError(f"require must be all, any or a number of checks, not {require!r}")
        self.require = require
        self._checks: dict[str, HealthChecker] = {}

    def add_check(self, name: str, checker: HealthChecker) -> None:
        """Add a check under a name of its own. Raises ValueError when the name is taken."""
        if name in self._checks:
            raise ValueError(f"there is a check named {name!r} already")
        self._checks[name] = checker

    async def check_all(
        self, require_all: bool = True, timeout: float = 5.0
    ) -> tuple[bool, dict[str, HealthCheckResult]]:
        """Return whether all (or else any) passed, and the results by name, in the order of adding."""
        results = await self._run(timeout)
        needed = len(results) if require_all else 1
        return bool(results) and _passes(results) >= needed, results

    async def check(self, timeout: float = 5.0) -> HealthCheckResult:
        """Ask all checks once and sum them up by `require`."""
        started = anyio.current_time()
        results = await self._run(timeout)
        status = self._status(results)
        warnings = [f"{name}: {told}" for name, result in results.items() for told in result.warnings]
        bad = [f"{name}: {result.message}" for name, result in results.items() if not result.success]
        message = f"{_passes(results)} of {len(results)} passed"
        return HealthCheckResult(
            status == "pass",
            self.check_type,
            anyio.current_time() - started,
            "; ".join([message, *bad]),
            status=status,
            answered=any(
                one.answered for one in results.values() if status == "pass" or one.status == "fail"
            ),
            warnings=tuple(warnings),
            parts=results,
        )

    def _status(self, results: Mapping[str, HealthCheckResult]) -> HealthStatus:
        if self.require == "all":
            needed = max(len(self._checks), 1)
        else:
            needed = 1 if self.require == "any" else int(self.require)
        passes = _passes(results)
        if passes >= needed:
            return "pass"
        # Had every check that could not be made passed, would that have been enough? Then nothing is known
        # yet.
        unknown = sum(result.status == "error" for result in results.values())
        return "error" if passes + unknown >= needed else "fail"

    async def _run(self, timeout_s: float) -> dict[str, HealthCheckResult]:
        results: dict[str, HealthCheckResult | None] = dict.fromkeys(self._checks)

        async def run_one(name: str, checker: HealthChecker) -> None:
            results[name] = await asked(checker, timeout_s)

        async with anyio.create_task_group() as group:
            for name, checker in self._checks.items():
                group.start_soon(run_one, name, checker, name=f"probe:{name}")
        return {name: result for name, result in results.items() if result is not None}


def _passes(results: Mapping[str, HealthCheckResult]) -> int:
    return sum(result.success for result in results.values())
