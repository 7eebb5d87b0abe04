"""Stop asking what keeps failing, and find out with a few trial calls when it is back."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import anyio

from fraisier.errors import ProviderUnavailableError
from fraisier.recovery.base import RecoveryStrategy, is_passing
from fraisier.recovery.circuit_state import Circuit, CircuitState, RateWindow

OnStateChange = Callable[[str, CircuitState, CircuitState], None]


def loop_time() -> float:
    """Return the running loop's time in seconds; outside a loop the clock that loops are based on."""
    try:
        return anyio.current_time()
    except RuntimeError:
        return time.monotonic()


class CircuitBreakerStrategy(RecoveryStrategy):
    """A circuit for each resource: closed (all calls pass), open (none does), half-open (a bounded number of
    trials do).

    `failure_threshold` consecutive failures open it; or, with `failure_rate` (0 to 1), that share of failures
    among at least `minimum_calls` calls of the last `window` seconds. After `recovery_timeout` seconds
    `half_open_max_calls` trials may run at the same time: a success closes the circuit, a failure opens it
    again. A trial that is not reported within `trial_timeout` seconds is lost, and its place is free again.
    Results of calls that began before the circuit last changed its state are ignored in `guard`, and without
    an outstanding trial in half-open.

    At most `max_resources` circuits are kept; a closed one without failures costs nothing, and one that nobody used for
    `idle_timeout` seconds (and its `recovery_timeout`) is forgotten, and so closed.
    `on_state_change(resource, old, new)` is called at once and must not block.
    """

    name = "circuit_breaker"

    def __init__(
        self,
        failure_threshold: int = 5,
        recovery_timeout: float = 300.0,
        *,
        half_open_max_calls: int = 1,
        trial_timeout: float = 60.0,
        failure_rate: float | None = None,
        window: float = 60.0,
        minimum_calls: int = 10,
        max_resources: int = 1024,
        idle_timeout: float = 3600.0,
        on_state_change: OnStateChange | None = None,
        now: Callable[[], float] = loop_time,
    ) -> None:
        if failure_threshold < 1 or half_open_max_calls < 1 or max_resources < 1:
            raise ValueError("failure_threshold, half_open_max_calls and max_resources must be at least 1")
        self.failure_threshold = failure_threshold
        self.recovery_timeout = recovery_timeout
        self.half_open_max_calls = half_open_max_calls
        self.trial_timeout = trial_timeout
        self._rate = None if failure_rate is None else RateWindow(failure_rate, window, minimum_calls)
        self._max_resources = max_resources
        self._idle_timeout = max(idle_timeout, recovery_timeout)
        self._on_state_change = on_state_change
        self._now = now
        self._circuits: OrderedDict[str, Circuit] = OrderedDict()

    def state(self, resource: str) -> CircuitState:
        """Return closed, open or half_open; changes nothing."""
        circuit = self._circuits.get(resource)
        if circuit is None:
            return "closed"
        if circuit.state == "open" and self._now() >= circuit.opened_at + self.recovery_timeout:
            return "half_open"
        return circuit.state

    def remaining(self, resource: str) -> float:
        """Return for how many more seconds an open circuit refuses every call; 0.0 in any other state."""
        circuit = self._circuits.get(resource)
        if circuit is None or circuit.state != "open":
            return 0.0
        return max(0.0, circuit.opened_at + self.recovery_timeout - self._now())

    def statistics(self) -> dict[str, int]:
        """Return how many circuits are kept, by state, and in all under `resources`."""
        counts = {"resources": len(self._circuits), "closed": 0, "open": 0, "half_open": 0}
        for resource in self._circuits:
            counts[self.state(resource)] += 1
        return counts

    def should_allow_operation(self, resource: str) -> bool:
        """Say whether a call may be made now. In half-open each True takes a trial, which must be reported
        back."""
        circuit = self._circuits.get(resource)
        if circuit is None:
            return True
        now = self._now()
        self._use(resource, circuit, now)
        if circuit.state == "open" and now >= circuit.opened_at + self.recovery_timeout:
            self._change(resource, circuit, "half_open")
        if circuit.state != "half_open":
            return circuit.state == "closed"
        circuit.forget_lost_trials(now)
        if len(circuit.trials) >= self.half_open_max_calls:
            return False
        circuit.trials.append(now + self.trial_timeout)
        return True

    def record_failure(self, resource: str) -> None:
        """Count a failed call; opens the circuit at the threshold, and at once after a failed trial."""
        circuit = self._circuit(resource)
        now = self._now()
        if circuit.state == "half_open" and circuit.end_trial(now):
            self._open(resource, circuit, now)
        elif circuit.state == "closed":
            circuit.failures += 1
            if self._rate is not None:
                tripped = self._rate.add(circuit.calls, now, failed=True)
            else:
                tripped = circuit.failures >= self.failure_threshold
            if tripped:
                self._open(resource, circuit, now)

    def record_success(self, resource: str) -> None:
        """Count a call that worked; closes the circuit after a trial."""
        if self._rate is not None:
            circuit: Circuit | None = self._circuit(resource)
        else:
            circuit = self._circuits.get(resource)
        if circuit is None:
            return
        now = self._now()
        if circuit.state == "half_open" and circuit.end_trial(now):
            self._change(resource, circuit, "closed")
            del self._circuits[resource]
        elif circuit.state == "closed":
            # A circuit without failures is none, unless its successes count as well.
            if self._rate is None:
                del self._circuits[resource]
            else:
                self._rate.add(circuit.calls, now, failed=False)

    def record_cancelled(self, resource: str) -> None:
        """Give back a trial whose call was cancelled: that says neither that the resource works nor that it
        does not."""
        circuit = self._circuits.get(resource)
        if circuit is not None and circuit.state == "half_open":
            circuit.end_trial(self._now())

    def guard(self, resource: str) -> GuardedCall:
        """Return a context manager for one call: it raises ProviderUnavailableError while the circuit is
        open, and reports how the call ended, whatever happens."""
        return GuardedCall(self, resource)

    def generation(self, resource: str) -> int:
        """Return a number that changes with every change of state, to tell late results by."""
        circuit = self._circuits.get(resource)
        return 0 if circuit is None else circuit.generation

    def can_recover(self, error: BaseException) -> bool:
        """Return True for errors that may pass by themselves."""
        return is_passing(error)

    async def execute_recovery(self, context: Mapping[str, Any]) -> bool:
        """Count the failure of `context["resource"]` (or its `provider`); True while its circuit stays
        closed."""
        resource = str(context.get("resource") or context.get("provider") or "unknown")
        self.record_failure(resource)
        return self.state(resource) == "closed"

    def _circuit(self, resource: str) -> Circuit:
        now = self._now()
        circuit = self._circuits.get(resource)
        if circuit is None:
            self._make_room(now)
            circuit = self._circuits[resource] = Circuit()
        self._use(resource, circuit, now)
        return circuit

    def _use(self, resource: str, circuit: Circuit, now: float) -> None:
        circuit.used_at = now
        self._circuits.move_to_end(resource)

    def _make_room(self, now: float) -> None:
        """Forget who was not used for long, and who else is one too many: closed circuits first, the longest unused."""
        while self._circuits:
            oldest, circuit = next(iter(self._circuits.items()))
            if circuit.used_at + self._idle_timeout > now:
                break
            self._forget(oldest, circuit)
        while len(self._circuits) >= self._max_resources:
            unused = (name for name, circuit in self._circuits.items() if circuit.state == "closed")
            name = next(unused, next(iter(self._circuits)))
            self._forget(name, self._circuits[name])

    def _forget(self, resource: str, circuit: Circuit) -> None:
        if circuit.state != "closed":
            self._change(resource, circuit, "closed")
        del self._circuits[resource]

    def _open(self, resource: str, circuit: Circuit, now: float) -> None:
        circuit.opened_at = now
        self._change(resource, circuit, "open")

    def _change(self, resource: str, circuit: Circuit, new: CircuitState) -> None:
        old, circuit.state = circuit.state, new
        circuit.generation += 1
        circuit.trials.clear()
        if self._on_state_change is not None:
            self._on_state_change(resource, old, new)


class GuardedCall:
    """One call through a circuit breaker. A result counts only if the circuit is in the state that the call
    began in."""

    _born: int

    def __init__(self, breaker: CircuitBreakerStrategy, resource: str) -> None:
        self._breaker = breaker
        self._resource = resource

    def __enter__(self) -> None:
        """Take the right to make the call."""
        if not self._breaker.should_allow_operation(self._resource):
            raise ProviderUnavailableError(
                f"{self._resource} failed too often and is not asked for now",
                context={
                    "resource": self._resource,
                    "circuit": self._breaker.state(self._resource),
                    "retry_after": self._breaker.remaining(self._resource),
                },
                hint=f"it is tried again in {self._breaker.remaining(self._resource):.3g} s",
            )
        self._born = self._breaker.generation(self._resource)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Report the end of the call; a cancellation is neither a success nor a failure."""
        if self._born != self._breaker.generation(self._resource):
            return
        if error is None:
            self._breaker.record_success(self._resource)
        elif isinstance(error, Exception):
            self._breaker.record_failure(self._resource)
        else:
            self._breaker.record_cancelled(self._resource)
