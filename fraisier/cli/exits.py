"""Exit codes, and which of them an outcome or an error means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

OK = 0
FAILED = 1
USAGE = 2
ROLLED_BACK = 3
ATTENTION = 4
LOCKED = 5
UNREACHABLE = 6
AUDIT = 7
CHANGES = 10
INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell shows for a program that ended because nobody reads its output any more."""

MEANINGS: Mapping[int, str] = {
    OK: "success, or nothing to do",
    FAILED: "failed and not rolled back, something is unhealthy, or an unexpected error",
    USAGE: "usage or configuration error; nothing was touched",
    ROLLED_BACK: "failed; every changed target was rolled back to its last good release",
    ATTENTION: "needs attention: a step in doubt, or a rollback that failed",
    LOCKED: "locked by another deployment",
    UNREACHABLE: "targets unreachable; nothing was changed",
    AUDIT: "audit verification failed",
    CHANGES: "`plan --detailed-exitcode`: there are changes",
    INTERRUPTED: "interrupted by a person or a signal",
    BROKEN_PIPE: "whoever read the output went away",
}

_OF_OUTCOME: Mapping[str, int] = {
    "succeeded": OK,
    "unchanged": OK,
    "failed": FAILED,
    "skipped": FAILED,
    "paused": FAILED,
    "superseded": FAILED,
    "rolled_back": ROLLED_BACK,
    "needs_attention": ATTENTION,
    "locked": LOCKED,
    "unreachable": UNREACHABLE,
    "interrupted": INTERRUPTED,
    "aborted": INTERRUPTED,
}

OUTCOMES = tuple(_OF_OUTCOME)
"""How a deployment may end or stop."""

_OF_CODE: Mapping[str, int] = {
    "CONFIG_ERROR": USAGE,
    "PROVIDER_CONFIG_ERROR": USAGE,
    "USAGE_ERROR": USAGE,
    "VALIDATION_ERROR": USAGE,
    "NOT_FOUND": USAGE,
    "DEPLOYMENT_LOCKED": LOCKED,
    "LEASE_LOST": LOCKED,
    "FENCED": LOCKED,
    "PROVIDER_CONNECTION_ERROR": UNREACHABLE,
    "AUDIT_FAILED": AUDIT,
    "IN_DOUBT": ATTENTION,
    "ROLLBACK_FAILED": ATTENTION,
    "INTERRUPTED": INTERRUPTED,
}

_WORST_FIRST = (INTERRUPTED, ATTENTION, FAILED, ROLLED_BACK, UNREACHABLE, LOCKED, USAGE)


def of_outcome(outcome: str) -> int:
    """Return the exit code of a deployment's outcome; one that is not known counts as failed."""
    return _OF_OUTCOME.get(outcome, FAILED)


def of_code(code: str) -> int:
    """Return the exit code of an error's code."""
    return _OF_CODE.get(code, FAILED)


def worst(codes: Iterable[int]) -> int:
    """Return the exit code of several deployments together: that of the one that needs a person most."""
    found = set(codes)
    return next((code for code in _WORST_FIRST if code in found), OK)
