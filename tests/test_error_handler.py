"""The error handler tries strategies in order; the recovery responder answers the runner."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from fraisier.error_handler import ContextualErrorHandler, ErrorHandler, RecoveryResponder
from fraisier.error_handler.responder import REGISTERED_S
from fraisier.errors import (
    ConfigurationError,
    DeploymentError,
    HealthCheckError,
    ProviderConnectionError,
    ProviderError,
)
from fraisier.events.types import RecoveryDecided, RecoveryRequested
from fraisier.recovery import FallbackStrategy, RecoveryStrategy, RetryStrategy, RollbackRecoveryStrategy
from fraisier.testing import VirtualClock, run_virtual


class Noted(RecoveryStrategy):
    """Writes its name and what it was given into a list, and answers as told."""

    def __init__(self, name: str, log: list[tuple[str, Mapping[str, Any]]], answer: bool | Exception) -> None:
        self.name = name
        self.log = log
        self.answer = answer

    def can_recover(self, error: BaseException) -> bool:
        return True

    async def execute_recovery(self, context: Mapping[str, Any]) -> bool:
        self.log.append((self.name, context))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def handled(handler: ErrorHandler, error: BaseException, **options: Any) -> bool:
    """Hand an error to a handler under virtual time."""

    async def run() -> bool:
        return await handler.handle_error(error, **options)

    return run_virtual(run)


def test_strategies_are_tried_in_the_order_of_registration() -> None:
    """The first that recovers ends the search."""
    log: list[Any] = []
    handler = ErrorHandler()
    for name, answer in (("first", False), ("second", True), ("third", True)):
        handler.register_strategy(ProviderError, Noted(name, log, answer))
    assert handled(handler, ProviderError("x"))
    assert [name for name, _ in log] == ["first", "second"]


@pytest.mark.parametrize(
    "key", [ProviderConnectionError, ProviderError, "ProviderConnectionError", "FraisierError"]
)
def test_a_class_or_its_name_matches_subclasses_too(key: Any) -> None:
    """Registering a base class, by itself or by name, covers what derives from it."""
    handler = ErrorHandler()
    handler.register_strategy(key, Noted("it", [], answer=True))
    assert handled(handler, ProviderConnectionError("x"))


def test_a_code_matches_whatever_the_class() -> None:
    """Errors can be told apart by code alone."""
    handler = ErrorHandler()
    handler.register_strategy("DISK_FULL", Noted("it", [], answer=True))
    assert handled(handler, DeploymentError("x", code="DISK_FULL"))
    assert not handled(handler, DeploymentError("x"), reraise=False)


def test_without_recovery_the_error_itself_is_raised_outside_of_an_except_block() -> None:
    """There need be no active exception: the very object that was handed in comes out."""
    error = ConfigurationError("wrong")
    with pytest.raises(ConfigurationError) as raised:
        handled(ErrorHandler(), error)
    assert raised.value is error


def test_reraise_off_returns_false() -> None:
    """The caller can ask for an answer instead of an exception."""
    assert handled(ErrorHandler(), ValueError("x"), reraise=False) is False


def test_strategies_get_the_error_the_attempt_and_the_context() -> None:
    """attempt is 1 unless the context says otherwise."""
    log: list[tuple[str, Mapping[str, Any]]] = []
    handler = ErrorHandler()
    handler.register_strategy(ProviderError, Noted("it", log, answer=True))
    error = ProviderError("x")
    handled(handler, error, context={"target": "web-1"})
    handled(handler, error, context={"attempt": 2})
    assert log[0][1] == {"target": "web-1", "error": error, "attempt": 1}
    assert log[1][1]["attempt"] == 2


def test_a_failing_strategy_does_not_hide_the_error_or_stop_the_next() -> None:
    """Its own failure is a note on the error, and the next strategy is tried."""
    log: list[Any] = []
    error = ProviderError("the first")
    handler = ErrorHandler()
    handler.register_strategy(ProviderError, Noted("bad", log, DeploymentError("the second")))
    handler.register_strategy(ProviderError, Noted("good", log, answer=True))
    assert handled(handler, error)
    assert error.__notes__ == ["bad failed too: the second"]


def test_what_any_strategy_raises_neither_replaces_the_error_nor_ends_the_search() -> None:
    """Its failure may be of any class, and asking it may fail as well. Without a way out the very error comes out."""
    log: list[Any] = []
    error = DeploymentError("original")

    class Unable(Noted):
        def can_recover(self, error: BaseException) -> bool:
            raise KeyError("target")

    async def no_ssh() -> None:
        raise ConnectionRefusedError("no ssh")

    handler = ErrorHandler()
    handler.register_strategy(DeploymentError, Noted("bad", log, OSError("no disk")))
    handler.register_strategy(DeploymentError, Unable("worse", log, answer=True))
    handler.register_strategy(DeploymentError, RollbackRecoveryStrategy(rollback_on_deployment_error=True))
    handler.register_strategy(DeploymentError, Noted("last", log, answer=False))
    with pytest.raises(DeploymentError) as raised:
        handled(handler, error, context={"rollback": no_ssh})
    assert raised.value is error
    assert error.__context__ is None
    assert error.__notes__ == [
        "bad failed too: OSError('no disk')",
        "worse failed too: KeyError('target')",
        "the rollback failed too: ConnectionRefusedError('no ssh')",
    ]
    assert [name for name, _ in log] == ["bad", "last"]


def test_a_strategy_that_is_cancelled_is_not_one_that_failed() -> None:
    """Cancellation goes through, and no further strategy begins."""
    log: list[Any] = []
    error = DeploymentError("original")

    async def run() -> bool:
        handler = ErrorHandler()
        handler.register_strategy(
            DeploymentError, RollbackRecoveryStrategy(rollback_on_deployment_error=True)
        )
        handler.register_strategy(DeploymentError, Noted("last", log, answer=True))
        with anyio.move_on_after(1) as scope:
            await handler.handle_error(error, {"rollback": anyio.sleep_forever})
        return scope.cancelled_caught

    assert run_virtual(run)
    assert (log, getattr(error, "__notes__", [])) == ([], [])


def test_retry_through_the_handler_really_waits() -> None:
    """The strategy acts inside handle_error."""
    handler = ErrorHandler()
    handler.register_strategy(ProviderError, RetryStrategy(base_delay=8.0, jitter=False))

    async def run() -> float:
        assert await handler.handle_error(ProviderConnectionError("x"), {"attempt": 2})
        return anyio.current_time()

    assert run_virtual(run) == 16.0


def test_statistics_count_by_class_and_keep_the_last_ones() -> None:
    """Totals are exact, the list of recent errors is bounded, oldest first."""
    handler = ErrorHandler(clock=VirtualClock(), recent_max=3)
    for number in range(5):
        handled(handler, ProviderError(f"no {number}"), reraise=False, context={"n": number, "f": handled})
    handled(handler, HealthCheckError("sick"), reraise=False)
    stats = handler.get_error_stats()
    assert stats["total_errors"] == 6
    assert stats["errors_by_type"] == {"ProviderError": 5, "HealthCheckError": 1}
    assert [one["message"] for one in stats["recent_errors"]] == ["no 3", "no 4", "sick"]
    assert stats["recent_errors"][0]["context"] == {"n": 3}
    assert stats["recent_errors"][2]["code"] == "HEALTH_CHECK_FAILED"


def test_reset_forgets_the_errors_and_keeps_the_strategies() -> None:
    """After a reset the counts are zero and recovery still works."""
    handler = ErrorHandler()
    handler.register_strategy(ProviderError, Noted("it", [], answer=True))
    handled(handler, ProviderError("x"))
    handler.reset_stats()
    assert handler.get_error_stats() == {"total_errors": 0, "errors_by_type": {}, "recent_errors": []}
    assert handled(handler, ProviderError("x"))


def test_class_names_are_bounded_too() -> None:
    """Beyond 256 classes further ones count together."""
    handler = ErrorHandler()
    for number in range(300):
        handled(handler, type(f"E{number}", (Exception,), {})(), reraise=False)
    by_type = handler.get_error_stats()["errors_by_type"]
    assert by_type["other"] == 44
    assert len(by_type) == 257


# context -------------------------------------------------------------------------------------------------


def test_contexts_nest_and_end() -> None:
    """Inner fields win and are gone after their block."""
    handler = ContextualErrorHandler()
    with handler.context(fraise="api", target="web-1"):
        with handler.context(target="web-2", step="switch"):
            assert handler.get_context() == {"fraise": "api", "target": "web-2", "step": "switch"}
        assert handler.get_context() == {"fraise": "api", "target": "web-1"}
    assert handler.get_context() == {}


def test_contexts_are_local_to_the_task() -> None:
    """Tasks side by side do not see each other's fields."""
    handler = ContextualErrorHandler()
    seen: dict[str, dict[str, Any]] = {}

    async def work(target: str) -> None:
        with handler.context(target=target):
            await anyio.sleep(1)
            seen[target] = handler.get_context()

    async def run() -> None:
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(work, f"web-{number}")

    run_virtual(run)
    assert seen == {f"web-{number}": {"target": f"web-{number}"} for number in range(3)}


def test_two_contextual_handlers_do_not_share_fields() -> None:
    """Fields belong to the handler that they were given to."""
    one, other = ContextualErrorHandler(), ContextualErrorHandler()
    with one.context(a=1), other.context(b=2):
        assert (one.get_context(), other.get_context()) == ({"a": 1}, {"b": 2})


def test_the_base_handler_gets_all_fields() -> None:
    """Fields of the block and of the call reach the strategies."""
    log: list[tuple[str, Mapping[str, Any]]] = []
    base = ErrorHandler()
    base.register_strategy(ProviderError, Noted("it", log, answer=True))
    handler = ContextualErrorHandler(base)

    async def run() -> bool:
        with handler.context(target="web-1", attempt=2):
            return await handler.handle_error(ProviderError("x"), {"step": "stage"})

    assert run_virtual(run)
    given = log[0][1]
    assert (given["target"], given["attempt"], given["step"]) == ("web-1", 2, "stage")


# the responder -------------------------------------------------------------------------------------------


def decided(**fields: Any) -> RecoveryDecided:
    """Ask a responder with a fixed seed about a recoverable connection error."""
    defaults: dict[str, Any] = {
        "deployment_id": "d1",
        "target": "web-1",
        "step": "stage",
        "attempt": 1,
        "code": "PROVIDER_CONNECTION_ERROR",
        "error_type": "ProviderConnectionError",
        "message": "the link is down",
        "recoverable": True,
    }
    event = RecoveryRequested(**{**defaults, **fields})

    async def run() -> RecoveryDecided:
        answer = await RecoveryResponder(rng=random.Random(5))(event)
        assert anyio.current_time() == 0, "the runner does the waiting"
        return answer

    return run_virtual(run)


@pytest.mark.parametrize("step", ["fetch", "stage", "drain", "switch", "restart", "admit"])
def test_steps_that_may_repeat_are_retried_after_a_jittered_wait(step: str) -> None:
    """The decision carries the delay that RetryStrategy draws, and the responder does not wait."""
    answer = decided(step=step, attempt=2, max_attempts=5, base_delay_s=3.0, backoff_factor=4.0)
    expected = RetryStrategy(5, 3.0, 4.0, rng=random.Random(5)).delay_for(2)
    assert (answer.action, answer.strategy, answer.delay_s) == ("retry", "retry", expected)
    assert (answer.deployment_id, answer.target, answer.step, answer.attempt) == ("d1", "web-1", step, 2)
    assert answer.reason == "provider_connection_error"


def test_a_long_wait_is_decided_although_the_request_itself_has_a_short_deadline() -> None:
    """The deadline of the question is not the deadline of the deployment."""
    event = RecoveryRequested(step="fetch", attempt=1, recoverable=True, base_delay_s=50.0, max_delay_s=50.0)

    async def run() -> RecoveryDecided:
        with anyio.fail_after(0.5):
            return await RecoveryResponder(rng=random.Random(5))(event)

    answer = run_virtual(run)
    assert answer.action == "retry"
    assert answer.delay_s > 0.5


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"attempt": 3}, "attempts_exhausted"),
        ({"recoverable": False}, "not_recoverable"),
        ({"step": "verify"}, "never_retried"),
        ({"step": "bake"}, "never_retried"),
        ({"step": "migrate", "known": False}, "maybe_begun"),
        ({"step": "migrate", "error_type": "MigrationError", "code": "MIGRATION_FAILED"}, "maybe_begun"),
        ({"step": "migrate", "attempt": 3}, "attempts_exhausted"),
    ],
)
def test_what_may_not_repeat_fails_and_says_why(fields: dict[str, Any], why: str) -> None:
    """strategy and reason name the rule, detail is a sentence."""
    answer = decided(**fields)
    assert (answer.action, answer.strategy, answer.reason) == ("fail", why, why)
    assert answer.detail
    assert answer.delay_s == 0


def test_a_migration_that_could_not_be_sent_is_retried() -> None:
    """Known not begun (no connection) is the one case in which a migration repeats."""
    assert decided(step="migrate").action == "retry"


@pytest.mark.parametrize(
    "error_type",
    ["HealthCheckError", "DeploymentTimeoutError", "ProviderError", "MigrationError", "Unheard", ""],
)
def test_a_failed_deployment_goes_back_by_default(error_type: str) -> None:
    """Without step and target the question is about the deployment; every failure of a step counts."""
    answer = decided(step="", target="", error_type=error_type, code="X_FAILED")
    assert (answer.action, answer.strategy, answer.reason) == ("rollback", "rollback", "x_failed")


@pytest.mark.parametrize("choice", ["hold", "stop"])
def test_on_failure_is_followed(choice: str) -> None:
    """hold and stop are carried out as configured, and the decision says so."""
    answer = decided(step="", target="", error_type="HealthCheckError", on_failure=choice)
    assert (answer.action, answer.strategy, answer.reason) == (choice, choice, choice)


@pytest.mark.parametrize("error_type", ["LeaseLostError", "FencedError", "InDoubtError"])
def test_after_these_errors_nothing_is_undone(error_type: str) -> None:
    """Somebody else holds the deployment, or nobody knows what happened: stop."""
    answer = decided(step="", target="", error_type=error_type, code="")
    assert (answer.action, answer.strategy) == ("stop", "never_rolled_back")


def answered(handler: ErrorHandler, **fields: Any) -> tuple[RecoveryDecided, float]:
    """Ask a responder with this handler about a lost connection; return its answer, and when it came."""
    event = RecoveryRequested(
        **{
            "step": "stage",
            "attempt": 1,
            "error_type": "ProviderConnectionError",
            "recoverable": True,
            **fields,
        }
    )

    async def run() -> tuple[RecoveryDecided, float]:
        return await RecoveryResponder(handler)(event), anyio.current_time()

    return run_virtual(run)


def test_a_registered_strategy_comes_before_the_environment_s() -> None:
    """What it would wait is in the decision, and under its own name."""
    handler = ErrorHandler()
    patient = RetryStrategy(9, base_delay=70.0, max_delay=90.0, jitter=False)
    patient.name = "patient"
    handler.register_strategy(ProviderConnectionError, patient)
    answer, at_s = answered(handler)
    assert (answer.action, answer.strategy, answer.delay_s, at_s) == ("retry", "patient", 70.0, 0.0)


def test_a_registered_strategy_that_acted_is_followed_by_a_try_at_once() -> None:
    """It gets the facts of the failure; the next question finds nothing of this one."""
    log: list[tuple[str, Mapping[str, Any]]] = []
    handler = ErrorHandler()
    handler.register_strategy("FraisierError", Noted("dial_in", log, answer=True))
    answer, _ = answered(handler, target="web-1", deployment_id="d1", provider="local", attempt=2)
    assert (answer.action, answer.strategy, answer.delay_s) == ("retry", "dial_in", 0.0)
    facts = {key: log[0][1][key] for key in ("target", "step", "deployment_id", "provider", "attempt")}
    assert facts == {
        "target": "web-1",
        "step": "stage",
        "deployment_id": "d1",
        "provider": "local",
        "attempt": 2,
    }
    answered(handler)
    assert (log[1][1]["target"], log[1][1]["attempt"]) == ("", 1)


@pytest.mark.parametrize("answer", [False, OSError("no modem")])
def test_where_a_registered_strategy_does_not_help_the_environment_s_is_asked(answer: Any) -> None:
    handler = ErrorHandler()
    handler.register_strategy(ProviderError, Noted("dial_in", [], answer))
    assert answered(handler)[0].strategy == "retry"


def test_a_registered_strategy_that_hangs_is_cut_off() -> None:
    """Before the question itself is given up."""

    class Hanging(Noted):
        async def execute_recovery(self, context: Mapping[str, Any]) -> bool:
            await anyio.sleep_forever()
            return True

    handler = ErrorHandler()
    handler.register_strategy(ProviderError, Hanging("hanging", [], answer=True))
    answer, at_s = answered(handler)
    assert (answer.action, answer.strategy, at_s) == ("retry", "retry", REGISTERED_S)


@pytest.mark.parametrize(
    ("fields", "strategy", "expected"),
    [
        ({"step": ""}, RetryStrategy(9), "rollback"),
        ({"step": "prepare", "fallbacks": ("standby",)}, RetryStrategy(9), "fallback"),
        ({"step": "prepare", "fallbacks": ("standby",)}, FallbackStrategy("elsewhere"), "fallback"),
        ({}, FallbackStrategy("standby"), "retry"),
        ({}, RollbackRecoveryStrategy(rollback_on_deployment_error=True), "retry"),
    ],
)
def test_a_wish_that_is_no_answer_leaves_the_question_to_the_environment(
    fields: dict[str, Any], strategy: RecoveryStrategy, expected: str
) -> None:
    """Nothing is waited for, and only places that are left are gone to."""
    handler = ErrorHandler()
    handler.register_strategy("FraisierError", strategy)
    answer, at_s = answered(handler, **fields)
    assert (answer.action, answer.strategy, at_s) == (expected, expected, 0.0)
    assert answer.fallback in ("", "standby")


def test_a_registered_strategy_chooses_among_the_places_that_are_left() -> None:
    handler = ErrorHandler()
    handler.register_strategy(ProviderError, FallbackStrategy("second"))
    answer, _ = answered(handler, step="prepare", fallbacks=("first", "second"))
    assert (answer.action, answer.fallback) == ("fallback", "second")


@pytest.mark.parametrize("fields", [{"step": "verify"}, {"attempt": 3}, {"step": "", "on_failure": "hold"}])
def test_no_strategy_overrules_what_may_not_be(fields: dict[str, Any]) -> None:
    """It is not even asked; the error counts all the same."""
    log: list[Any] = []
    handler = ErrorHandler()
    handler.register_strategy("FraisierError", Noted("dial_in", log, answer=True))
    assert answered(handler, **fields)[0].action in ("fail", "hold")
    assert log == []
    assert handler.get_error_stats()["total_errors"] == 1


def test_a_code_matches_exactly_and_a_class_name_what_derives_from_it() -> None:
    """PROVIDER_ERROR is the code of one class; ProviderError is the name of a family."""
    handler = ErrorHandler()
    handler.register_strategy("PROVIDER_ERROR", Noted("code", [], answer=True))
    handler.register_strategy("ProviderError", Noted("name", [], answer=True))
    assert [one.name for one in handler.strategies_for(ProviderConnectionError("x"))] == ["name"]
    assert [one.name for one in handler.strategies_for(ProviderError("x"))] == ["code", "name"]


def test_statistics_tell_who_was_asked_and_who_helped() -> None:
    """By name, beside the errors; a reset forgets them."""
    handler = ErrorHandler()
    handler.register_strategy(ProviderError, Noted("first", [], answer=False))
    handler.register_strategy(ProviderError, Noted("second", [], answer=True))
    for _ in range(2):
        handled(handler, ProviderError("x"))
    handled(handler, ValueError("x"), reraise=False)
    stats = handler.statistics()
    assert stats["strategies"] == {"first": {"asked": 2, "helped": 0}, "second": {"asked": 2, "helped": 2}}
    assert stats["errors_by_type"] == {"ProviderError": 2, "ValueError": 1}
    handler.reset_stats()
    assert handler.statistics()["strategies"] == {}


def test_the_counts_of_strategies_are_bounded() -> None:
    """Beyond 256 names further ones count together."""
    handler = ErrorHandler()
    for number in range(300):
        handler.register_strategy(ProviderError, Noted(f"s{number}", [], answer=False))
    handled(handler, ProviderError("x"), reraise=False)
    assert handler.statistics()["strategies"]["other"] == {"asked": 44, "helped": 0}
