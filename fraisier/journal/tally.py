"""Numbers over many deployments: from the rows of the deployments, and from the few types of events that carry counts."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fraisier.errors import DeploymentLockError, HookError, class_of_code

COUNTED_TYPES = (
    "health.failed",
    "health.passed",
    "hook.failed",
    "lease.refused",
    "provider.unavailable",
    "rollback.failed",
    "rollback.succeeded",
    "step.failed",
)
"""The types that are looked at; the index of the store has these, and whatever else sorts before the last of them."""


class Slots(msgspec.Struct, frozen=True):
    """Equal stretches of time: `count` of them, each `width_us` microseconds long, from `since_us` on."""

    since_us: int
    width_us: int
    count: int

    def at(self, moment_us: int) -> int:
        """Return the number of the slot that a moment falls into; what comes after the last one counts for it."""
        return min(max(moment_us - self.since_us, 0) // self.width_us, self.count - 1)


class Outcome(msgspec.Struct, frozen=True):
    """What is counted of a deployment; the fields mean what they mean in `DeploymentState`."""

    fraise: str = ""
    environment: str = ""
    kind: str = "deploy"
    state: str = "planned"
    outcome: str = ""
    reason: str = ""
    rollback_of: str = ""
    requested_us: int = 0
    duration_s: float = 0.0


class Probes(msgspec.Struct):
    """The probes of one type of check: by status and slot, and by the smallest bound (seconds, as text) that holds their
    duration."""

    statuses: dict[str, list[int]] = {}
    buckets: dict[str, int] = {}


class Tally(msgspec.Struct):
    """What happened in the slots: deployments in the order of their requests, then counts by slot of failed attempts of
    steps and hooks and of refused locks by class of the error, of probes by type of check, and of rollbacks that a failure
    made necessary by reason."""

    slots: Slots
    outcomes: list[Outcome] = []
    errors: dict[str, list[int]] = {}
    probes: dict[str, Probes] = {}
    rollbacks: dict[str, list[int]] = {}

    def count(self, rows: Iterable[tuple[str, int, bytes]]) -> None:
        """Count rows of the log: type (one of COUNTED_TYPES), time in microseconds, and body."""
        for kind, at_us, body in rows:
            numbers = _decode(body)
            if kind.startswith("health."):
                self._count_probes(numbers, self.slots.at(at_us))
            elif kind.startswith("rollback."):
                self._count(self.rollbacks, numbers.reason or "unknown", at_us)
            else:
                self._count(self.errors, _error_type(kind, numbers), at_us)

    def _count(self, counts: dict[str, list[int]], key: str, at_us: int) -> None:
        found = counts.get(key)
        if found is None:
            found = counts[key] = [0] * self.slots.count
        found[self.slots.at(at_us)] += 1

    def _count_probes(self, numbers: _Numbers, slot: int) -> None:
        if not numbers.counts:
            return
        probes = self.probes.setdefault(numbers.check_type or "unknown", Probes())
        for status, number in numbers.counts.items():
            found = probes.statuses.get(status)
            if found is None:
                found = probes.statuses[status] = [0] * self.slots.count
            found[slot] += number
        for bound, number in numbers.buckets.items():
            probes.buckets[bound] = probes.buckets.get(bound, 0) + number


class _Numbers(msgspec.Struct, frozen=True):
    """The fields that are counted, of whichever of the types."""

    reason: str = ""
    error_type: str = ""
    code: str = ""
    check_type: str = ""
    counts: dict[str, int] = {}
    buckets: dict[str, int] = {}


def _error_type(kind: str, numbers: _Numbers) -> str:
    """Return the class of the error that a row tells of; some rows tell it by their type, or by the error's code."""
    if kind == "lease.refused":
        return DeploymentLockError.__name__
    if kind == "hook.failed":
        return (class_of_code(numbers.code) or HookError).__name__
    return numbers.error_type or "unknown"


_decode = msgspec.json.Decoder(_Numbers).decode

decode_outcome = msgspec.json.Decoder(Outcome).decode
"""Reads what is counted from the body of a deployment's row."""
