"""Verdicts on targets, and the probes behind them."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from fraisier.events.base import Event


class HealthRequested(Event, frozen=True, tag="health.requested"):
    """A verdict on a target is wanted. `purpose` is verify, bake, plan or check. Ephemeral.

    `baseline` is what was seen of the service before the restart (its invocation), so that the old process cannot vouch
    for the new release; `budget_s` is what is left of the deployment's own deadline.
    """

    ephemeral: ClassVar[bool] = True

    purpose: str = "verify"
    release: str = ""
    version: str = ""
    baseline: str = ""
    budget_s: float = 0.0


class HealthSampled(Event, frozen=True, tag="health.sampled"):
    """One probe was answered, or not: `status` is pass, fail or error. Ephemeral."""

    ephemeral: ClassVar[bool] = True

    check_type: str = ""
    status: str = ""
    duration_s: float = 0.0
    message: str = ""


class HealthPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one check of a composite said last: `status` is pass, fail or error, `duration_s` in seconds."""

    name: str = ""
    check_type: str = ""
    status: str = ""
    duration_s: float = 0.0
    message: str = ""


class HealthVerdict(Event, frozen=True, kw_only=True):
    """What both verdicts carry, so that metrics can be rebuilt from the journal: `counts` has probes by status, `buckets`
    each probe once, under the smallest of .1, .5, 1, 2, 5, 10 seconds that holds its duration (`+Inf` above), and
    `probes_s` the sum of their durations; `ticks_skipped` probes were left out because the one before took longer than the
    interval, and the latest began `tick_lag_s` late; `duration_s` is how long the verdict took. `parts` are what the checks
    of a composite said last, `warnings` what the last probe found that does not make the target unhealthy.
    """

    provider: str = ""
    purpose: str = "verify"
    check_type: str = ""
    release: str = ""
    version: str = ""
    counts: dict[str, int] = {}
    buckets: dict[str, int] = {}
    probes_s: float = 0.0
    ticks_skipped: int = 0
    tick_lag_s: float = 0.0
    duration_s: float = 0.0
    message: str = ""
    parts: tuple[HealthPart, ...] = ()
    warnings: tuple[str, ...] = ()
    evidence: dict[str, Any] = {}


class HealthPassed(HealthVerdict, frozen=True, tag="health.passed"):
    """The target is healthy and serves the release that was asked about."""


class HealthFailed(HealthVerdict, frozen=True, tag="health.failed"):
    """The target is not healthy. `reason` is deadline, exited, fall, wrong_release, unreachable or no_answer;
    `bad` says that a live target gave evidence against the release."""

    reason: str = ""
    bad: bool = False
