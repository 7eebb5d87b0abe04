"""Recovery strategies act: they wait, switch, roll back, and count. All waiting here is virtual."""

from __future__ import annotations

import math
import random
from typing import Any

import anyio
import pytest

from fraisier.errors import (
    ConfigurationError,
    DeploymentError,
    DeploymentLockError,
    DeploymentTimeoutError,
    HealthCheckError,
    InDoubtError,
    ProviderConfigurationError,
    ProviderConnectionError,
    ProviderError,
    ProviderUnavailableError,
    RollbackError,
)
from fraisier.recovery import (
    CircuitBreakerStrategy,
    FallbackStrategy,
    RecoveryStrategy,
    RetryableOperation,
    RetryStrategy,
    RollbackRecoveryStrategy,
    retry_after_of,
)
from fraisier.testing import VirtualClock, run_virtual

LOST = ProviderConnectionError("the link is down")


def steady(**options: Any) -> RetryStrategy:
    """A retry strategy without jitter."""
    return RetryStrategy(jitter=False, **options)


async def timed(strategy: RecoveryStrategy, **context: Any) -> tuple[bool, float]:
    """Run a strategy; return its answer and how many seconds it took."""
    started = anyio.current_time()
    answer = await strategy.execute_recovery({"error": LOST, "attempt": 1, **context})
    return answer, anyio.current_time() - started


# retry ---------------------------------------------------------------------------------------------------


def test_retry_waits_itself_and_then_says_so() -> None:
    """Below max_attempts the strategy has waited by the time it returns True."""
    assert run_virtual(timed, steady(base_delay=4.0)) == (True, 4.0)


def test_retry_ends_at_max_attempts_without_waiting() -> None:
    """The attempt that reaches max_attempts is the last one."""

    async def last() -> tuple[bool, float]:
        return await timed(steady(max_attempts=3), attempt=3)

    assert run_virtual(last) == (False, 0.0)


def test_each_wait_is_longer_by_the_factor_up_to_the_maximum() -> None:
    """The ceilings grow exponentially and stay at max_delay."""
    strategy = steady(base_delay=1.0, backoff_factor=2.0, max_delay=10.0)
    assert [strategy.delay_for(attempt) for attempt in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_full_jitter_draws_from_zero_to_the_ceiling() -> None:
    """With jitter the waits cover the whole range, and none exceeds the ceiling."""
    strategy = RetryStrategy(base_delay=8.0, rng=random.Random(7))
    delays = [strategy.delay_for(1) for _ in range(500)]
    assert min(delays) < 0.5
    assert max(delays) > 7.5
    assert all(0 <= delay <= 8.0 for delay in delays)


def test_delays_depend_only_on_the_given_randomness() -> None:
    """The same seed gives the same waits."""
    one, other = (RetryStrategy(rng=random.Random(3)) for _ in range(2))
    assert [one.delay_for(n) for n in range(1, 9)] == [other.delay_for(n) for n in range(1, 9)]


def test_a_huge_attempt_number_does_not_overflow() -> None:
    """Where a float would overflow the wait is max_delay."""
    assert steady(max_delay=60.0).delay_for(100_000) == 60.0


def test_retry_waits_at_least_as_long_as_the_other_side_asked_for() -> None:
    """retry_after in the context wins over a shorter wait."""

    async def asked() -> tuple[bool, float]:
        return await timed(steady(base_delay=1.0), retry_after=30)

    assert run_virtual(asked) == (True, 30.0)


def test_retry_after_may_stand_on_the_error() -> None:
    """An error's own context carries retry_after too."""
    busy = ProviderUnavailableError("busy", context={"retry_after": 12})

    async def asked() -> tuple[bool, float]:
        return await timed(steady(base_delay=1.0), error=busy)

    assert run_virtual(asked) == (True, 12.0)


def test_retry_does_not_begin_a_wait_that_ends_after_the_deadline() -> None:
    """Within a cancel scope that ends first it gives up at once."""

    async def hurried() -> tuple[bool, float]:
        with anyio.fail_after(5):
            return await timed(steady(base_delay=10.0))

    assert run_virtual(hurried) == (False, 0.0)


def test_a_cancelled_wait_ends_at_once() -> None:
    """Cancelling the scope ends the wait in the middle."""

    async def cancelled() -> float:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(timed, steady(base_delay=50.0))
                await anyio.sleep(3)
                scope.cancel()
        return anyio.current_time()

    assert run_virtual(cancelled) == 3.0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (LOST, True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (ConfigurationError("wrong"), False),
        (ValueError("a defect"), False),
        (ProviderError("told so", recoverable=True), True),
    ],
)
def test_retry_knows_what_may_pass_by_itself(error: Exception, expected: bool) -> None:
    """Errors tell whether they are recoverable; of foreign ones timeouts and lost connections are."""
    assert RetryStrategy().can_recover(error) is expected


@pytest.mark.parametrize("wrong", [{"max_attempts": 0}, {"backoff_factor": 0.5}, {"base_delay": -1.0}])
def test_senseless_settings_are_refused(wrong: dict[str, Any]) -> None:
    """Settings that could loop or go back in time raise ValueError."""
    with pytest.raises(ValueError, match="at least"):
        RetryStrategy(**wrong)


# fallback and rollback -----------------------------------------------------------------------------------


def test_fallback_switches_to_its_provider() -> None:
    """The coroutine function of the context is called with the fallback provider."""
    switched: list[str] = []

    async def switch(provider: str) -> None:
        switched.append(provider)

    async def run() -> bool:
        return await FallbackStrategy("local").execute_recovery({"error": LOST, "switch_provider": switch})

    assert run_virtual(run)
    assert switched == ["local"]


def test_fallback_without_a_way_to_switch_did_not_help() -> None:
    """No switch_provider in the context: False, and nothing is pretended."""

    async def run() -> bool:
        return await FallbackStrategy("local").execute_recovery({"error": LOST, "attempt": 1})

    assert run_virtual(run) is False


def test_a_fallback_that_fails_is_noted_on_the_error() -> None:
    """The second failure is not lost."""
    first = ProviderError("the first")

    async def switch(_: str) -> None:
        raise ProviderUnavailableError("the standby is down too")

    async def run() -> bool:
        return await FallbackStrategy("b").execute_recovery({"error": first, "switch_provider": switch})

    assert run_virtual(run) is False
    assert "the standby is down too" in first.__notes__[0]


def test_fallback_is_for_provider_errors_but_not_for_wrong_settings() -> None:
    """Another provider cures neither a wrong configuration nor a failed deployment step."""
    strategy = FallbackStrategy("local")
    assert strategy.can_recover(LOST)
    assert not strategy.can_recover(ProviderConfigurationError("wrong"))
    assert not strategy.can_recover(DeploymentError("step failed"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DeploymentTimeoutError("late"), True),
        (HealthCheckError("sick"), True),
        (DeploymentError("other"), False),
        (RollbackError("already going back"), False),
        (DeploymentLockError("held"), False),
        (LOST, False),
    ],
)
def test_rollback_by_default_is_for_timeouts_and_health(error: Exception, expected: bool) -> None:
    """The defaults roll back after timeouts and failed health checks only."""
    assert RollbackRecoveryStrategy().can_recover(error) is expected


def test_rollback_can_be_switched_for_each_kind() -> None:
    """Each flag stands for one kind of failure."""
    strategy = RollbackRecoveryStrategy(
        rollback_on_timeout=False, rollback_on_health_check_failure=False, rollback_on_deployment_error=True
    )
    found = [
        strategy.can_recover(kind("x"))
        for kind in (DeploymentTimeoutError, HealthCheckError, DeploymentError)
    ]
    assert found == [False, False, True]


def test_what_is_in_doubt_is_never_rolled_back() -> None:
    """Even with deployment errors included, a step in doubt is left to a person."""
    assert not RollbackRecoveryStrategy(rollback_on_deployment_error=True).can_recover(InDoubtError("?"))


def test_rollback_calls_the_rollback() -> None:
    """The strategy awaits the context's rollback itself."""
    done: list[str] = []

    async def rollback() -> None:
        done.append("back")

    async def run() -> bool:
        return await RollbackRecoveryStrategy().execute_recovery({"error": LOST, "rollback": rollback})

    assert run_virtual(run)
    assert done == ["back"]


@pytest.mark.parametrize("outcome", [False, RollbackError("stuck")])
def test_a_rollback_that_fails_did_not_help(outcome: bool | RollbackError) -> None:
    """A rollback that says False, or raises, makes the strategy answer False."""

    async def rollback() -> bool:
        if isinstance(outcome, RollbackError):
            raise outcome
        return outcome

    async def run() -> bool:
        return await RollbackRecoveryStrategy().execute_recovery(
            {"error": DeploymentError("x"), "rollback": rollback}
        )

    assert run_virtual(run) is False


def test_rollback_without_a_rollback_function_did_not_help() -> None:
    """No rollback in the context: False."""

    async def run() -> bool:
        return await RollbackRecoveryStrategy().execute_recovery({"error": LOST, "attempt": 1})

    assert run_virtual(run) is False


# circuit breaker -----------------------------------------------------------------------------------------


class Hands:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def opened(**options: Any) -> tuple[CircuitBreakerStrategy, Hands]:
    """A breaker whose circuit `db` has just opened, and its clock."""
    clock = Hands()
    breaker = CircuitBreakerStrategy(failure_threshold=3, recovery_timeout=30.0, now=clock, **options)
    for _ in range(3):
        breaker.record_failure("db")
    return breaker, clock


def test_an_unknown_resource_is_allowed() -> None:
    """A circuit begins closed, without a loop as well."""
    assert CircuitBreakerStrategy().should_allow_operation("db")


def test_consecutive_failures_open_the_circuit() -> None:
    """At the threshold, and not before, calls are refused."""
    breaker = CircuitBreakerStrategy(failure_threshold=2)
    breaker.record_failure("db")
    assert breaker.should_allow_operation("db")
    breaker.record_failure("db")
    assert breaker.state("db") == "open"
    assert not breaker.should_allow_operation("db")


def test_a_success_in_between_starts_the_count_again() -> None:
    """Only consecutive failures count."""
    breaker = CircuitBreakerStrategy(failure_threshold=2)
    breaker.record_failure("db")
    breaker.record_success("db")
    breaker.record_failure("db")
    assert breaker.state("db") == "closed"


def test_resources_do_not_disturb_each_other() -> None:
    """Each resource has its own circuit."""
    breaker, _ = opened()
    assert breaker.should_allow_operation("cache")


def test_an_open_circuit_becomes_half_open_after_its_time() -> None:
    """The first trial is allowed when recovery_timeout has passed."""
    breaker, clock = opened()
    clock.now_s += 29.9
    assert not breaker.should_allow_operation("db")
    clock.now_s += 0.1
    assert breaker.should_allow_operation("db")
    assert breaker.state("db") == "half_open"


@pytest.mark.parametrize("trials", [1, 3, 7])
def test_exactly_the_allowed_trials_pass_of_a_hundred_callers(trials: int) -> None:
    """100 callers at the same time at half-open: N go through, all others are refused."""

    async def run() -> int:
        breaker = CircuitBreakerStrategy(1, 30.0, half_open_max_calls=trials)
        breaker.record_failure("db")
        await anyio.sleep(30)
        tried = 0

        async def caller() -> None:
            nonlocal tried
            try:
                with breaker.guard("db"):
                    tried += 1
                    await anyio.sleep(1)
            except ProviderUnavailableError:
                return

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(caller)
        assert breaker.state("db") == "closed"
        return tried

    assert run_virtual(run) == trials


def test_a_successful_trial_closes_the_circuit() -> None:
    """After it all calls pass."""
    breaker, clock = opened()
    clock.now_s += 30
    breaker.should_allow_operation("db")
    breaker.record_success("db")
    assert [breaker.should_allow_operation("db") for _ in range(3)] == [True, True, True]


def test_a_failed_trial_opens_it_for_another_whole_time() -> None:
    """The time runs again from the failed trial."""
    breaker, clock = opened()
    clock.now_s += 30
    breaker.should_allow_operation("db")
    breaker.record_failure("db")
    clock.now_s += 29
    assert not breaker.should_allow_operation("db")
    clock.now_s += 1
    assert breaker.should_allow_operation("db")


def test_a_lost_trial_does_not_block_for_ever() -> None:
    """A trial that nobody reports gives its place back after trial_timeout."""
    breaker, clock = opened(trial_timeout=10.0)
    clock.now_s += 30
    assert breaker.should_allow_operation("db")
    assert not breaker.should_allow_operation("db")
    clock.now_s += 10
    assert breaker.should_allow_operation("db")


def test_a_cancelled_trial_counts_as_nothing() -> None:
    """Cancellation gives the place back and leaves the circuit half-open."""

    async def run() -> tuple[str, bool]:
        breaker = CircuitBreakerStrategy(1, 5.0)
        breaker.record_failure("db")
        await anyio.sleep(5)
        with anyio.move_on_after(1), breaker.guard("db"):
            await anyio.sleep(60)
        return breaker.state("db"), breaker.should_allow_operation("db")

    assert run_virtual(run) == ("half_open", True)


def test_a_late_result_of_an_older_call_is_ignored() -> None:
    """A call from before the opening cannot close the circuit, nor open it again."""

    async def run() -> str:
        breaker = CircuitBreakerStrategy(1, 5.0)
        with breaker.guard("db"):
            breaker.record_failure("db")
            await anyio.sleep(5)
            assert breaker.should_allow_operation("db")
        return breaker.state("db")

    assert run_virtual(run) == "half_open"


def test_an_unexpected_report_in_half_open_is_ignored() -> None:
    """Without an outstanding trial a result belongs to an older call."""
    breaker, clock = opened()
    clock.now_s += 30
    breaker.should_allow_operation("db")
    breaker.record_cancelled("db")
    breaker.record_success("db")
    assert breaker.state("db") == "half_open"


def test_guard_refuses_with_the_resource_and_counts_failures() -> None:
    """Errors inside a guarded call count; the refusal names the resource."""
    breaker = CircuitBreakerStrategy(1, 30.0, now=Hands())
    with pytest.raises(ZeroDivisionError), breaker.guard("db"):
        _ = 1 / 0
    with pytest.raises(ProviderUnavailableError, match="db") as refused, breaker.guard("db"):
        pass
    assert refused.value.context == {"resource": "db", "circuit": "open", "retry_after": 30.0}
    assert refused.value.hint == "it is tried again in 30 s"


def test_a_rate_window_opens_at_a_share_of_failures() -> None:
    """With failure_rate neither few calls nor a run of failures alone opens the circuit."""
    breaker = CircuitBreakerStrategy(2, failure_rate=0.5, window=60.0, minimum_calls=10, now=Hands())
    for _ in range(4):
        breaker.record_failure("db")
    for _ in range(4):
        breaker.record_success("db")
    assert breaker.state("db") == "closed"
    breaker.record_success("db")
    breaker.record_failure("db")
    assert breaker.state("db") == "open"


def test_calls_outside_the_window_do_not_count() -> None:
    """Old failures are forgotten."""
    clock = Hands()
    breaker = CircuitBreakerStrategy(failure_rate=0.5, window=60.0, minimum_calls=2, now=clock)
    breaker.record_failure("db")
    clock.now_s += 61
    breaker.record_success("db")
    breaker.record_success("db")
    breaker.record_failure("db")
    assert breaker.state("db") == "closed"


def test_state_changes_are_told_in_order() -> None:
    """The callback hears each change once, with the old and the new state."""
    heard: list[tuple[str, str, str]] = []
    breaker, clock = opened(on_state_change=lambda *change: heard.append(change))
    clock.now_s += 30
    breaker.should_allow_operation("db")
    breaker.record_success("db")
    assert heard == [
        ("db", "closed", "open"),
        ("db", "open", "half_open"),
        ("db", "half_open", "closed"),
    ]


def test_healthy_resources_cost_nothing_and_the_rest_is_bounded() -> None:
    """Closed circuits without failures are evicted; beyond max_resources the oldest closed one goes."""
    breaker = CircuitBreakerStrategy(failure_threshold=2, max_resources=10)
    for number in range(1000):
        breaker.should_allow_operation(f"r{number}")
        breaker.record_success(f"r{number}")
    assert breaker.statistics()["resources"] == 0
    for _ in range(2):
        breaker.record_failure("broken")
    for number in range(1000):
        breaker.record_failure(f"r{number}")
    assert breaker.statistics()["resources"] == 10
    assert breaker.state("broken") == "open"


def test_as_a_recovery_it_counts_the_failure_and_says_whether_it_is_closed() -> None:
    """execute_recovery returns True until the failure that opens the circuit."""

    async def run() -> list[bool]:
        breaker = CircuitBreakerStrategy(failure_threshold=3)
        context = {"error": LOST, "attempt": 1, "provider": "bare_metal"}
        return [await breaker.execute_recovery(context) for _ in range(3)]

    assert run_virtual(run) == [True, True, False]


@pytest.mark.parametrize("rate", [None, 0.5])
def test_a_circuit_that_closed_again_is_none_any_more(rate: float | None) -> None:
    """A resource that is reached again costs nothing, and its failures begin anew."""
    heard: list[str] = []
    clock = Hands()
    breaker = CircuitBreakerStrategy(
        2,
        30.0,
        failure_rate=rate,
        minimum_calls=2,
        now=clock,
        on_state_change=lambda *of: heard.append(of[2]),
    )
    for _ in range(2):
        breaker.record_failure("db")
    clock.now_s += 30
    assert breaker.should_allow_operation("db")
    breaker.record_success("db")
    assert (breaker.statistics()["resources"], heard) == (0, ["open", "half_open", "closed"])


def test_a_success_ends_a_circuit_that_had_failures() -> None:
    """It is not kept with a count of nothing."""
    breaker = CircuitBreakerStrategy(now=Hands())
    breaker.record_failure("db")
    breaker.record_success("db")
    assert breaker.statistics()["resources"] == 0


def test_a_closed_circuit_is_forgotten_without_a_word() -> None:
    """Nothing changed for its resource."""
    heard: list[Any] = []
    breaker = CircuitBreakerStrategy(
        max_resources=1, now=Hands(), on_state_change=lambda *change: heard.append(change)
    )
    for name in ("a", "b", "c"):
        breaker.record_failure(name)
    assert (breaker.statistics()["resources"], heard) == (1, [])


def test_trials_of_an_earlier_half_open_take_no_place_in_the_next() -> None:
    """When one of three fails, the others are of the past."""
    breaker, clock = opened(half_open_max_calls=3)
    clock.now_s += 30
    assert [breaker.should_allow_operation("db") for _ in range(3)] == [True] * 3
    breaker.record_failure("db")
    clock.now_s += 30
    assert [breaker.should_allow_operation("db") for _ in range(4)] == [True, True, True, False]


def test_the_result_of_a_lost_trial_comes_too_late() -> None:
    """After trial_timeout it says nothing about now."""
    breaker, clock = opened(trial_timeout=10.0)
    clock.now_s += 30
    assert breaker.should_allow_operation("db")
    clock.now_s += 10
    breaker.record_success("db")
    assert breaker.state("db") == "half_open"
    breaker.record_failure("db")
    assert breaker.state("db") == "half_open"


@pytest.mark.parametrize(
    "wrong", [{"failure_threshold": 0}, {"half_open_max_calls": 0}, {"max_resources": 0}]
)
def test_a_breaker_refuses_senseless_limits(wrong: dict[str, int]) -> None:
    """Each limit is at least 1, and 1 is one."""
    with pytest.raises(ValueError, match="failure_threshold, half_open_max_calls and max_resources must be"):
        CircuitBreakerStrategy(**wrong)
    assert CircuitBreakerStrategy(**dict.fromkeys(wrong, 1)).statistics()["resources"] == 0


def test_the_documented_defaults_of_a_breaker() -> None:
    """5 failures in a row, 300 s, one trial of 60 s at a time, 1024 circuits, forgotten after an hour."""
    clock = Hands()
    breaker = CircuitBreakerStrategy(now=clock)
    for _ in range(4):
        breaker.record_failure("db")
    assert breaker.state("db") == "closed"
    breaker.record_failure("db")
    assert (breaker.state("db"), breaker.remaining("db")) == ("open", 300.0)
    clock.now_s += 299.9
    assert not breaker.should_allow_operation("db")
    clock.now_s += 0.1
    assert [breaker.should_allow_operation("db") for _ in range(2)] == [True, False]
    clock.now_s += 59.9
    assert not breaker.should_allow_operation("db")
    clock.now_s += 0.1
    assert breaker.should_allow_operation("db")
    for number in range(1100):
        breaker.record_failure(f"r{number}")
    assert breaker.statistics()["resources"] == 1024
    clock.now_s += 3600.0
    breaker.record_failure("another")
    assert breaker.statistics() == {"resources": 1, "closed": 1, "open": 0, "half_open": 0}


def test_how_long_a_resource_is_left_alone_is_told() -> None:
    """It counts down while the circuit is open, and is nothing in any other state."""
    breaker, clock = opened()
    clock.now_s += 10
    assert (breaker.remaining("db"), breaker.remaining("other")) == (20.0, 0.0)
    with pytest.raises(ProviderUnavailableError) as refused, breaker.guard("db"):
        pass
    assert refused.value.hint == "it is tried again in 20 s"
    assert refused.value.message == "db failed too often and is not asked for now"
    clock.now_s += 25
    assert breaker.remaining("db") == 0.0
    assert breaker.should_allow_operation("db")
    assert breaker.remaining("db") == 0.0


def test_statistics_count_the_circuits_by_state() -> None:
    """An open one whose time is over counts as half-open."""
    breaker, clock = opened()
    breaker.record_failure("cache")
    assert breaker.statistics() == {"resources": 2, "closed": 1, "open": 1, "half_open": 0}
    clock.now_s += 30
    assert breaker.statistics() == {"resources": 2, "closed": 1, "open": 0, "half_open": 1}


def test_looking_at_the_state_changes_nothing() -> None:
    """state() neither takes a trial nor tells of a change."""
    heard: list[str] = []
    breaker, clock = opened(on_state_change=lambda *change: heard.append(change[2]))
    clock.now_s += 30
    assert [breaker.state("db") for _ in range(3)] == ["half_open"] * 3
    assert heard == ["open"]
    assert breaker.should_allow_operation("db")


def test_a_circuit_that_nobody_uses_is_forgotten_and_told_as_closed() -> None:
    """After idle_timeout; one that is used, if only to be refused, is not."""
    heard: list[tuple[str, str, str]] = []
    clock = Hands()
    breaker = CircuitBreakerStrategy(
        1, 10.0, idle_timeout=100.0, now=clock, on_state_change=lambda *change: heard.append(change)
    )
    breaker.record_failure("unused")
    breaker.record_failure("used")
    clock.now_s += 99.9
    breaker.record_failure("x")
    assert breaker.state("unused") == "half_open"
    breaker.should_allow_operation("used")
    clock.now_s += 0.1
    breaker.record_failure("y")
    assert ("unused", "open", "closed") in heard
    assert breaker.state("unused") == "closed"
    assert breaker.state("used") == "half_open"
    assert ("used", "half_open", "closed") not in heard


def test_a_circuit_is_not_forgotten_before_its_own_time_is_over() -> None:
    """An idle_timeout that is shorter than recovery_timeout would open what is to be left alone."""
    clock = Hands()
    breaker = CircuitBreakerStrategy(1, 1000.0, idle_timeout=10.0, now=clock)
    breaker.record_failure("db")
    clock.now_s += 999.0
    breaker.record_failure("other")
    assert not breaker.should_allow_operation("db")


def test_of_open_circuits_that_are_one_too_many_the_longest_unused_goes() -> None:
    """And it is told as closed, for it is."""
    heard: list[tuple[str, str, str]] = []
    clock = Hands()
    breaker = CircuitBreakerStrategy(
        1, max_resources=2, now=clock, on_state_change=lambda *change: heard.append(change)
    )
    for name in ("a", "b"):
        breaker.record_failure(name)
        clock.now_s += 1
    breaker.should_allow_operation("a")
    breaker.record_failure("c")
    assert [breaker.state(name) for name in "abc"] == ["open", "closed", "open"]
    assert heard[-2:] == [("b", "open", "closed"), ("c", "closed", "open")]


def test_several_trials_may_run_and_each_result_gives_a_place_back() -> None:
    """Two of three fail at the same moment: the first one opens the circuit, the other one is late."""
    breaker, clock = opened(half_open_max_calls=3)
    clock.now_s += 30
    assert [breaker.should_allow_operation("db") for _ in range(4)] == [True, True, True, False]
    breaker.record_cancelled("db")
    assert [breaker.should_allow_operation("db") for _ in range(2)] == [True, False]
    breaker.record_failure("db")
    clock.now_s += 29
    breaker.record_failure("db")
    assert breaker.remaining("db") == 1.0


def test_a_report_about_an_open_circuit_changes_nothing() -> None:
    """It belongs to a call from before."""
    breaker, _ = opened()
    breaker.record_success("db")
    breaker.record_cancelled("db")
    assert (breaker.state("db"), breaker.remaining("db")) == ("open", 30.0)


def test_reports_about_unknown_resources_cost_nothing() -> None:
    """A success or a cancellation needs no circuit."""
    breaker = CircuitBreakerStrategy(now=Hands())
    breaker.record_success("db")
    breaker.record_cancelled("db")
    assert (breaker.statistics()["resources"], breaker.generation("db")) == (0, 0)


def test_each_change_of_state_is_another_generation() -> None:
    """So that a late result can be told from one of now."""
    breaker, clock = opened()
    found = [breaker.generation("db")]
    clock.now_s += 30
    breaker.should_allow_operation("db")
    found.append(breaker.generation("db"))
    breaker.record_failure("db")
    found.append(breaker.generation("db"))
    assert found == [1, 2, 3]


def test_with_a_rate_a_success_is_remembered_and_the_count_in_a_row_is_not() -> None:
    """The circuit of a resource that works is kept, for its successes count."""
    clock = Hands()
    breaker = CircuitBreakerStrategy(1, failure_rate=0.5, window=60.0, minimum_calls=4, now=clock)
    for _ in range(3):
        breaker.record_success("db")
    assert breaker.statistics()["resources"] == 1
    breaker.record_failure("db")
    assert breaker.state("db") == "closed"
    for _ in range(2):
        breaker.record_failure("db")
    assert breaker.state("db") == "open"


def test_the_documented_defaults_of_a_rate() -> None:
    """The calls of the last 60 s, and at least 10 of them."""
    clock = Hands()
    breaker = CircuitBreakerStrategy(failure_rate=1.0, now=clock)
    for _ in range(9):
        breaker.record_failure("db")
    assert breaker.state("db") == "closed"
    clock.now_s += 59.9
    breaker.record_failure("db")
    assert breaker.state("db") == "open"
    breaker.record_failure("other")
    clock.now_s += 60
    for _ in range(9):
        breaker.record_failure("other")
    assert breaker.state("other") == "closed"


def test_after_a_trial_with_a_rate_the_count_begins_anew() -> None:
    """What was before does not open it again at the first failure."""
    clock = Hands()
    breaker = CircuitBreakerStrategy(recovery_timeout=5.0, failure_rate=0.5, minimum_calls=2, now=clock)
    for _ in range(2):
        breaker.record_failure("db")
    clock.now_s += 5
    assert breaker.should_allow_operation("db")
    breaker.record_success("db")
    breaker.record_failure("db")
    assert breaker.state("db") == "closed"


def test_at_most_a_thousand_calls_are_remembered_by_a_rate() -> None:
    """The oldest go, so a thousand successes hide what was before them."""
    breaker = CircuitBreakerStrategy(failure_rate=0.001, window=1e9, minimum_calls=1000, now=Hands())
    breaker.record_failure("db")
    for _ in range(999):
        breaker.record_success("db")
    assert breaker.state("db") == "closed"
    breaker.record_success("db")
    breaker.record_failure("db")
    assert breaker.state("db") == "open"


def test_a_guarded_call_that_works_closes_and_one_that_fails_opens() -> None:
    """The result is that of the call."""
    breaker, clock = opened()
    clock.now_s += 30
    with breaker.guard("db"):
        assert breaker.state("db") == "half_open"
    assert breaker.state("db") == "closed"
    for _ in range(3):
        with pytest.raises(OSError, match="no"), breaker.guard("db"):
            raise OSError("no")
    assert breaker.state("db") == "open"


def test_a_breaker_recovers_only_from_what_may_pass() -> None:
    """As a strategy it is asked like the others."""
    breaker = CircuitBreakerStrategy()
    assert breaker.name == "circuit_breaker"
    assert (breaker.can_recover(LOST), breaker.can_recover(ConfigurationError("x"))) == (True, False)


@pytest.mark.parametrize(
    ("context", "resource"),
    [
        ({"resource": "db", "provider": "local"}, "db"),
        ({"provider": "local"}, "local"),
        ({"resource": ""}, "unknown"),
    ],
)
def test_the_resource_of_a_recovery_is_named_in_its_context(context: dict[str, str], resource: str) -> None:
    """By resource, else by provider."""

    async def run() -> str:
        breaker = CircuitBreakerStrategy(1)
        await breaker.execute_recovery({"error": LOST, "attempt": 1, **context})
        return breaker.state(resource)

    assert run_virtual(run) == "open"


# retryable operation -------------------------------------------------------------------------------------


class Flaky:
    """Fails the given number of times, then returns what it was called with."""

    def __init__(self, failures: int, error: Exception = LOST) -> None:
        self.left = failures
        self.calls = 0
        self.error = error

    async def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        self.calls += 1
        if self.calls <= self.left:
            raise self.error
        return args, kwargs


def test_an_operation_is_repeated_until_it_works() -> None:
    """Arguments arrive unchanged; the strategy's waits lie between the tries."""
    flaky = Flaky(2)

    async def run() -> tuple[Any, float]:
        operation = RetryableOperation(flaky, (1, 2), {"three": 3}, steady(base_delay=1.0))
        return await operation.execute(), anyio.current_time()

    assert run_virtual(run) == (((1, 2), {"three": 3}), 3.0)
    assert flaky.calls == 3


def test_the_last_error_comes_out_as_it_was() -> None:
    """After max_attempts the operation's own error is raised, not a wrapper."""
    flaky = Flaky(99)
    with pytest.raises(ProviderConnectionError) as raised:
        run_virtual(RetryableOperation(flaky, max_attempts=4).execute)
    assert raised.value is flaky.error
    assert flaky.calls == 4


def test_an_error_that_cannot_pass_is_not_repeated() -> None:
    """A configuration error is raised at once."""
    flaky = Flaky(99, ConfigurationError("wrong"))
    with pytest.raises(ConfigurationError):
        run_virtual(RetryableOperation(flaky).execute)
    assert flaky.calls == 1


def test_on_retry_hears_each_further_try() -> None:
    """It is called with the attempt that failed, and not after the last failure."""
    heard: list[int] = []

    async def on_retry(attempt: int, _: BaseException) -> None:
        heard.append(attempt)

    with pytest.raises(ProviderConnectionError):
        run_virtual(RetryableOperation(Flaky(99), on_retry=on_retry).execute)
    assert heard == [1, 2]


def test_a_plain_function_can_be_repeated_too() -> None:
    """Functions that are not async work the same."""
    assert run_virtual(RetryableOperation(lambda value: value * 2, (21,)).execute) == 42


def test_a_strategy_that_always_helps_is_still_bounded() -> None:
    """max_attempts bounds strategies that have no limit of their own."""

    class Eager(RecoveryStrategy):
        def can_recover(self, error: BaseException) -> bool:
            return True

        async def execute_recovery(self, context: Any) -> bool:
            return True

    flaky = Flaky(99, ValueError("always"))
    with pytest.raises(ValueError, match="always"):
        run_virtual(RetryableOperation(flaky, retry_strategy=Eager(), max_attempts=5).execute)
    assert flaky.calls == 5


def test_an_operation_is_given_its_arguments_and_tells_how_often_it_tried() -> None:
    """Positional and named ones, on every try; the count is that of the last run."""
    calls: list[tuple[Any, Any]] = []

    async def work(first: int, *, second: str) -> str:
        calls.append((first, second))
        if len(calls) == 1:
            raise LOST
        return "done"

    async def run() -> tuple[str, int, str, int]:
        operation: RetryableOperation[str] = RetryableOperation(work, (1,), {"second": "b"}, steady())
        return await operation.execute(), operation.attempts, await operation.execute(), operation.attempts

    assert run_virtual(run) == ("done", 2, "done", 1)
    assert calls == [(1, "b")] * 3


def test_by_default_an_operation_is_tried_three_times() -> None:
    """With the strategy's own waits in between."""

    async def run() -> int:
        operation: RetryableOperation[None] = RetryableOperation(Flaky(9))
        with pytest.raises(ProviderConnectionError):
            await operation.execute()
        return operation.attempts

    assert run_virtual(run) == 3


def test_on_retry_may_be_a_plain_function() -> None:
    """It is called with the attempt that failed and its error."""
    heard: list[tuple[int, str]] = []

    async def run() -> None:
        operation: RetryableOperation[Any] = RetryableOperation(
            Flaky(1),
            retry_strategy=steady(),
            on_retry=lambda attempt, error: heard.append((attempt, str(error))),
        )
        await operation.execute()

    run_virtual(run)
    assert heard == [(1, "the link is down")]


def test_cancelling_an_operation_is_not_an_error_to_recover_from() -> None:
    """The cancellation goes on at once, and nothing is tried again."""
    tries: list[float] = []

    async def hangs() -> None:
        tries.append(anyio.current_time())
        await anyio.sleep_forever()

    async def run() -> bool:
        with anyio.move_on_after(2) as scope:
            await RetryableOperation(hangs, retry_strategy=steady()).execute()
        return scope.cancelled_caught

    assert run_virtual(run) is True
    assert len(tries) == 1


def test_the_names_of_the_strategies_are_words_for_decisions() -> None:
    """They stand in `recovery.decided`."""
    assert RecoveryStrategy.name == "recovery"
    assert (RetryStrategy.name, FallbackStrategy.name, RollbackRecoveryStrategy.name) == (
        "retry",
        "fallback",
        "rollback",
    )


def test_the_documented_defaults_of_retry() -> None:
    """3 tries, 1 s, doubled, at most 60 s, with full jitter."""
    strategy = RetryStrategy()
    assert [strategy.ceiling_for(attempt) for attempt in (1, 2, 3, 7, 8)] == [1.0, 2.0, 4.0, 60.0, 60.0]
    assert (strategy.max_attempts, strategy.jitter) == (3, True)
    assert strategy.ceiling_for(0) == strategy.ceiling_for(-5) == 1.0


@pytest.mark.parametrize("asked", ["soon", None, [3]])
def test_a_retry_after_that_is_no_number_is_no_wish(asked: object) -> None:
    """The strategy waits as it would without."""

    async def run() -> tuple[bool, float]:
        busy = ProviderUnavailableError("busy", context={"retry_after": asked})
        return await timed(steady(base_delay=1.0), error=busy)

    assert run_virtual(run) == (True, 1.0)


NOON_US = 1_700_049_600_000_000
"""Wed, 15 Nov 2023 12:00:00 GMT."""


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("30", 30.0),
        (" 30 ", 30.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("-5", 0.0),
        (-5, 0.0),
        ("Wed, 15 Nov 2023 12:00:40 GMT", 40.0),
        ("Wednesday, 15-Nov-23 12:00:40 GMT", 40.0),
        ("Wed Nov 15 12:00:40 2023", 40.0),
        ("Wed, 15 Nov 2023 14:00:40 +0200", 40.0),
        ("Wed, 15 Nov 2023 11:00:00 GMT", 0.0),
        ("Fri, 15 Nov 2030 12:00:00 GMT", 86_400.0),
        ("Fri, 99 Nov 9999 99:00:00 GMT", 0.0),
        ("999999999999", 86_400.0),
        ("9" * 400, 0.0),
        (86_401, 86_400.0),
        (10**400, 86_400.0),
        (math.inf, 86_400.0),
        (-math.inf, 0.0),
        (math.nan, 0.0),
        ("nan", 0.0),
        ("inf", 0.0),
        ("", 0.0),
        (b"30", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(asked: object, seconds: float) -> None:
    """As in the header of that name: dates are compared with the given clock, and nobody is waited for longer than a day."""
    busy = ProviderUnavailableError("busy", context={"retry_after": asked})
    assert retry_after_of(busy, clock=VirtualClock(NOON_US)) == seconds


def test_a_date_is_waited_for_on_the_strategy_s_clock() -> None:
    """In the context as on the error."""
    clock, date = VirtualClock(NOON_US), "Wed, 15 Nov 2023 12:01:00 GMT"
    busy = ProviderUnavailableError("busy", context={"retry_after": date})

    async def run() -> list[tuple[bool, float]]:
        return [
            await timed(steady(base_delay=1.0, clock=clock), error=busy),
            await timed(steady(base_delay=1.0, clock=VirtualClock(NOON_US)), retry_after="30"),
        ]

    assert run_virtual(run) == [(True, 60.0), (True, 30.0)]


def test_without_a_clock_a_date_is_compared_with_the_machine_s() -> None:
    past, future = "Wed, 15 Nov 2023 12:00:00 GMT", "Fri, 15 Nov 2199 12:00:00 GMT"
    asked = [
        retry_after_of(ProviderUnavailableError("", context={"retry_after": at})) for at in (past, future)
    ]
    assert asked == [0.0, 86_400.0]


@pytest.mark.parametrize(("answer", "expected"), [(None, True), (True, True), (False, False)])
def test_who_waits_for_a_retry_may_be_given_and_may_refuse(answer: bool | None, expected: bool) -> None:
    """Then the strategy does not wait itself, and leaves deadlines to whoever does."""
    waited: list[float] = []

    async def wait(seconds: float) -> bool | None:
        waited.append(seconds)
        return answer

    async def run() -> tuple[bool, float]:
        with anyio.move_on_after(5):
            return await timed(steady(base_delay=10.0), wait=wait)
        raise AssertionError("it waited itself")

    assert run_virtual(run) == (expected, 0.0)
    assert waited == [10.0]


def test_retry_after_may_be_an_attribute_of_any_error() -> None:
    """As other libraries have it; the context's own wish goes first."""

    class Busy(ConnectionError):
        retry_after = 7

    assert retry_after_of(Busy()) == 7.0
    assert retry_after_of(OSError()) == retry_after_of(None) == 0.0

    async def run() -> tuple[bool, float]:
        return await timed(steady(base_delay=1.0), error=Busy(), retry_after=9)

    assert run_virtual(run) == (True, 9.0)


def test_retry_ends_exactly_at_the_deadline() -> None:
    """A wait that would end at the very deadline is not begun; one that ends before it is."""

    async def within(delay_s: float) -> tuple[bool, float]:
        with anyio.move_on_after(5):
            return await timed(steady(base_delay=delay_s))
        raise AssertionError("it waited too long")

    assert run_virtual(within, 5.0) == (False, 0.0)
    assert run_virtual(within, 4.9) == (True, 4.9)


@pytest.mark.parametrize("answer", [None, True, False])
def test_a_switch_or_rollback_failed_only_when_it_says_so(answer: bool | None) -> None:
    """None, as functions without a result return it, is no False."""

    async def act(*_: Any) -> bool | None:
        return answer

    async def run() -> list[bool]:
        context = {"error": ProviderError("x"), "attempt": 1, "switch_provider": act, "rollback": act}
        return [
            await FallbackStrategy("other").execute_recovery(context),
            await RollbackRecoveryStrategy().execute_recovery(context),
        ]

    assert run_virtual(run) == [answer is not False] * 2


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (RollbackError("no way"), "no way"),
        (ConnectionRefusedError("no ssh"), "ConnectionRefusedError('no ssh')"),
    ],
    ids=["ours", "another"],
)
def test_what_fails_during_a_recovery_is_noted_in_words(failure: Exception, said: str) -> None:
    """Both strategies say what they tried; what is not one of our errors is told with its class."""
    error = ProviderError("gone")

    async def fails(*_: Any) -> None:
        raise failure

    async def run() -> list[bool]:
        context = {"error": error, "attempt": 1, "switch_provider": fails, "rollback": fails}
        return [
            await FallbackStrategy("other").execute_recovery(context),
            await RollbackRecoveryStrategy().execute_recovery(context),
        ]

    assert run_virtual(run) == [False, False]
    assert error.__notes__ == [f"the fallback failed too: {said}", f"the rollback failed too: {said}"]


def test_a_recovery_without_an_error_in_its_context_notes_nothing() -> None:
    """There is nothing to note it on."""

    async def fails(*_: Any) -> None:
        raise RollbackError("no way")

    async def run() -> bool:
        return await FallbackStrategy("other").execute_recovery({"attempt": 1, "switch_provider": fails})

    assert run_virtual(run) is False


def test_an_operation_has_not_tried_before_it_runs() -> None:
    """The count begins at nothing."""
    assert RetryableOperation(Flaky(1)).attempts == 0


def test_a_strategy_s_own_limit_is_the_operation_s() -> None:
    """Whatever the operation was given."""

    async def run() -> tuple[int, int]:
        operation: RetryableOperation[Any] = RetryableOperation(
            Flaky(9), retry_strategy=steady(max_attempts=5, base_delay=0.1), max_attempts=2
        )
        with pytest.raises(ProviderConnectionError):
            await operation.execute()
        return operation.max_attempts, operation.attempts

    assert run_virtual(run) == (5, 5)


def test_an_operation_waits_as_long_as_its_error_asks() -> None:
    """The strategy gets the error itself."""

    async def run() -> float:
        started = anyio.current_time()
        busy = ProviderUnavailableError("busy", context={"retry_after": 30})
        await RetryableOperation(Flaky(1, busy), retry_strategy=steady(base_delay=1.0)).execute()
        return anyio.current_time() - started

    assert run_virtual(run) == 30.0


def test_the_smallest_settings_of_retry_are_settings() -> None:
    """One try, no wait, no growth."""
    strategy = steady(max_attempts=1, base_delay=0, backoff_factor=1, max_delay=0)
    assert [strategy.delay_for(attempt) for attempt in (1, 2, 9)] == [0, 0, 0]
    assert steady(base_delay=0.5, max_delay=0.5, backoff_factor=1.5).delay_for(9) == 0.5


def test_a_recovery_without_a_number_is_that_of_the_first_try() -> None:
    """attempt is 1 unless it is given."""

    async def run() -> bool:
        return await steady(max_attempts=2, base_delay=0.1).execute_recovery({"error": LOST})

    assert run_virtual(run) is True
