"""What is known of circuits that do not pass every call, from the facts about their changes."""

from __future__ import annotations

from collections import Counter

import msgspec

from fraisier.metrics.recorder import MetricsRecorder

CIRCUITS_MAX = 1024
TRIAL_US_MAX = 600_000_000
"""A half-open circuit of which nothing was heard for so long belongs to a process that is gone."""

_STATES = ("open", "half_open")


class _Circuit(msgspec.Struct, frozen=True):
    provider: str
    state: str
    until_us: int


class CircuitBoard:
    """The circuits by resource, at most CIRCUITS_MAX of them. Feeds the gauge of a recorder.

    An open circuit counts until the time is over that it was opened for: then the next call is a trial again, and who
    opened it may have ended long ago.
    """

    def __init__(self, recorder: MetricsRecorder) -> None:
        self._recorder = recorder
        self._circuits: dict[str, _Circuit] = {}
        self._providers: set[str] = set()

    def change(self, provider: str, resource: str, state: str, at_us: int, until_us: int = 0) -> None:
        """Note that a circuit came to a state: open (until `until_us`), half_open or closed."""
        self._circuits.pop(resource, None)
        if state != "closed":
            if len(self._circuits) >= CIRCUITS_MAX:
                self._circuits.pop(next(iter(self._circuits)))
            self._circuits[resource] = _Circuit(provider, state, until_us or at_us + TRIAL_US_MAX)
        self._providers.add(provider)
        self._recorder.record_circuit(provider, state)
        self._tell()

    def settle(self, now_us: int) -> None:
        """Forget the circuits whose time is over."""
        left = {name: circuit for name, circuit in self._circuits.items() if circuit.until_us > now_us}
        if len(left) < len(self._circuits):
            self._circuits = left
            self._tell()

    def _tell(self) -> None:
        counts = Counter((circuit.provider, circuit.state) for circuit in self._circuits.values())
        for provider in self._providers:
            for state in _STATES:
                self._recorder.set_circuits(provider, state, counts[provider, state])
