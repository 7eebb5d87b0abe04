"""Errors are a promise: classes, codes, what is recoverable, and what they tell."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import msgspec
import pytest

from fraisier import errors
from fraisier.errors import FraisierError

PROMISED = [
    ("ConfigurationError", "FraisierError", "CONFIG_ERROR", False),
    ("DeploymentError", "FraisierError", "DEPLOYMENT_ERROR", False),
    ("DeploymentTimeoutError", "DeploymentError", "DEPLOYMENT_TIMEOUT", True),
    ("HealthCheckError", "DeploymentError", "HEALTH_CHECK_FAILED", True),
    ("RollbackError", "DeploymentError", "ROLLBACK_FAILED", False),
    ("DeploymentLockError", "DeploymentError", "DEPLOYMENT_LOCKED", True),
    ("ProviderError", "FraisierError", "PROVIDER_ERROR", False),
    ("ProviderConnectionError", "ProviderError", "PROVIDER_CONNECTION_ERROR", True),
    ("ProviderUnavailableError", "ProviderError", "PROVIDER_UNAVAILABLE", True),
    ("ProviderConfigurationError", "ProviderError", "PROVIDER_CONFIG_ERROR", False),
    ("DatabaseError", "FraisierError", "DATABASE_ERROR", False),
    ("DatabaseConnectionError", "DatabaseError", "DATABASE_CONNECTION_ERROR", True),
    ("DatabaseTransactionError", "DatabaseError", "DATABASE_TRANSACTION_ERROR", True),
    ("NotFoundError", "FraisierError", "NOT_FOUND", False),
    ("ValidationError", "FraisierError", "VALIDATION_ERROR", False),
    ("GitProviderError", "FraisierError", "GIT_PROVIDER_ERROR", False),
    ("WebhookError", "FraisierError", "WEBHOOK_ERROR", False),
]

ALL = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, FraisierError)]


@pytest.mark.parametrize(("name", "base", "code", "recoverable"), PROMISED, ids=[row[0] for row in PROMISED])
def test_promised_classes_have_their_base_code_and_recoverability(
    name: str, base: str, code: str, recoverable: bool
) -> None:
    """Each documented class is where callers expect it, with its defaults."""
    cls = getattr(errors, name)
    error = cls("it broke")
    assert issubclass(cls, getattr(errors, base))
    assert (error.code, error.recoverable) == (code, recoverable)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_class_says_when_it_is_raised_and_what_to_try(cls: type[FraisierError]) -> None:
    """The docstring tells the situation, the hint the next thing to try."""
    assert (cls.__doc__ or "").startswith("Raised when")
    assert cls("x").hint


def test_codes_are_unique() -> None:
    """A code names one class."""
    codes = [cls.default_code for cls in ALL]
    assert len(codes) == len(set(codes))


def test_the_message_is_the_text() -> None:
    """str() gives the message and nothing else."""
    error = FraisierError("the disk is full")
    assert str(error) == error.message == "the disk is full"


def test_defaults_can_be_overridden() -> None:
    """code, context, recoverable and hint are the caller's if given."""
    error = errors.ProviderError("x", code="DISK_FULL", context={"free": 0}, recoverable=True, hint="tidy up")
    assert (error.code, error.context, error.recoverable, error.hint) == (
        "DISK_FULL",
        {"free": 0},
        True,
        "tidy up",
    )


def test_arguments_are_positional_in_the_documented_order() -> None:
    """message, code, context, recoverable, cause."""
    cause = OSError("no")
    error = FraisierError("m", "C", {"a": 1}, True, cause)  # noqa: FBT003 - the order is the subject
    assert (error.message, error.code, error.context, error.recoverable, error.cause) == (
        "m",
        "C",
        {"a": 1},
        True,
        cause,
    )


def test_recoverable_false_overrides_a_recoverable_class() -> None:
    """False is not mistaken for not given."""
    assert errors.ProviderConnectionError("x", recoverable=False).recoverable is False


def test_a_cause_is_chained() -> None:
    """Tracebacks show the cause without `raise … from`."""
    cause = TimeoutError("late")
    error = errors.DeploymentTimeoutError("x", cause=cause)
    assert error.__cause__ is cause


def test_the_context_is_a_copy() -> None:
    """Changing the mapping afterwards does not change the error."""
    facts = {"target": "web-1"}
    error = FraisierError("x", context=facts)
    facts["target"] = "web-2"
    assert error.context == {"target": "web-1"}


def test_instances_do_not_share_a_context() -> None:
    """Each error without a context has an empty one of its own."""
    one, other = FraisierError("a"), FraisierError("b")
    one.context["x"] = 1
    assert other.context == {}


def test_to_dict_has_the_documented_fields() -> None:
    """error_type, code, message, context, recoverable, hint, cause."""
    error = errors.HealthCheckError("sick", context={"target": "web-1"}, cause=ValueError("bad"), hint="look")
    assert error.to_dict() == {
        "error_type": "HealthCheckError",
        "code": "HEALTH_CHECK_FAILED",
        "message": "sick",
        "context": {"target": "web-1"},
        "recoverable": True,
        "hint": "look",
        "cause": "ValueError: bad",
    }


def test_to_dict_is_json_ready() -> None:
    """A plain error goes through a JSON encoder and back."""
    described = FraisierError("x", cause=OSError("y")).to_dict()
    assert msgspec.json.decode(msgspec.json.encode(described)) == described


def test_a_context_of_anything_is_json_ready() -> None:
    """Facts as they are at hand: what JSON does not know is its text, at any depth; the error keeps the fact itself."""
    facts = {
        "path": Path("/srv/api"),
        "targets": ("web-1", Path("web-2")),
        "left": {3},
        "by": {1: {"at": Path("/x")}},
        "raw": b"ab\xff",
        "share": float("inf"),
        "plain": [None, True, 1, 1.5, "x"],
    }
    error = FraisierError("x", context=facts)
    assert json.loads(json.dumps(error.to_dict(), allow_nan=False))["context"] == {
        "path": "/srv/api",
        "targets": ["web-1", "web-2"],
        "left": [3],
        "by": {"1": {"at": "/x"}},
        "raw": "ab\N{REPLACEMENT CHARACTER}",
        "share": "inf",
        "plain": [None, True, 1, 1.5, "x"],
    }
    assert error.context["path"] == Path("/srv/api")


def test_without_a_cause_the_field_is_null() -> None:
    """cause is None, not the text None."""
    assert FraisierError("x").to_dict()["cause"] is None


def test_all_are_caught_as_one() -> None:
    """An application can catch FraisierError alone."""
    for cls in ALL:
        with pytest.raises(FraisierError):
            raise cls("x")


def test_errors_survive_pickling() -> None:
    """An error that crosses a process border keeps its class and message."""
    copy = pickle.loads(pickle.dumps(errors.ProviderError("told", code="C", context={"a": 1})))
    assert (type(copy), copy.message, copy.code, copy.context) == (
        errors.ProviderError,
        "told",
        "C",
        {"a": 1},
    )


ADDED = [
    ("UnexpectedError", "FraisierError", "UNEXPECTED", False),
    ("UsageError", "FraisierError", "USAGE_ERROR", False),
    ("LeaseLostError", "DeploymentError", "LEASE_LOST", False),
    ("FencedError", "DeploymentError", "FENCED", False),
    ("InDoubtError", "DeploymentError", "IN_DOUBT", False),
    ("BuildError", "DeploymentError", "BUILD_FAILED", False),
    ("MigrationError", "DeploymentError", "MIGRATION_FAILED", False),
    ("HookError", "DeploymentError", "HOOK_FAILED", False),
    ("InterruptedError", "DeploymentError", "INTERRUPTED", False),
    ("AuditError", "FraisierError", "AUDIT_FAILED", False),
    ("GuardRefusedError", "DatabaseTransactionError", "GUARD_REFUSED", False),
]


@pytest.mark.parametrize(("name", "base", "code", "recoverable"), ADDED, ids=[row[0] for row in ADDED])
def test_added_classes_have_their_base_code_and_recoverability(
    name: str, base: str, code: str, recoverable: bool
) -> None:
    """What came to the promised ones is of the same kind."""
    error = getattr(errors, name)("it broke")
    assert isinstance(error, getattr(errors, base))
    assert (error.code, error.recoverable) == (code, recoverable)


def test_the_base_of_all_has_a_code_too() -> None:
    """So that a handler may rely on it."""
    error = FraisierError("x")
    assert (error.code, error.recoverable, error.context, error.cause) == ("FRAISIER_ERROR", False, {}, None)


def test_a_provider_error_is_no_deployment_error() -> None:
    """Recovery tells them apart: another provider helps against the one, going back against the other."""
    assert not issubclass(errors.ProviderError, errors.DeploymentError)
    assert not issubclass(errors.BuildError, errors.ProviderError)


def test_an_empty_code_or_hint_is_not_taken_for_one() -> None:
    """The class's own is used instead."""
    error = errors.NotFoundError("x", code="", hint="")
    assert (error.code, error.hint) == ("NOT_FOUND", errors.NotFoundError.default_hint)


def test_recoverable_may_be_given_to_a_class_that_is_not() -> None:
    """True is taken as it is."""
    assert errors.ConfigurationError("x", recoverable=True).recoverable is True


def test_raise_from_and_cause_agree() -> None:
    """Whoever writes `raise … from` and gives the cause as well has one chain."""
    lost = OSError("lost")
    with pytest.raises(errors.ProviderConnectionError) as caught:
        raise errors.ProviderConnectionError("gone", cause=lost) from lost
    assert caught.value.__cause__ is caught.value.cause is lost


def test_without_a_cause_the_chain_is_left_as_it_is() -> None:
    """An error that is raised while another one is handled keeps that as its context."""
    with pytest.raises(FraisierError) as caught:
        try:
            raise ValueError("first")
        except ValueError:
            raise FraisierError("second")  # noqa: B904 - that is the case in question
    assert caught.value.__cause__ is None
    assert isinstance(caught.value.__context__, ValueError)


def test_a_cause_of_our_own_is_told_by_its_class_and_message() -> None:
    """As any other."""
    error = errors.RollbackError("not back", cause=errors.HealthCheckError("sick"))
    assert error.to_dict()["cause"] == "HealthCheckError: sick"


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_class_describes_itself_in_the_same_fields(cls: type[FraisierError]) -> None:
    """In the documented order, with its own name."""
    described = cls("x").to_dict()
    assert list(described) == ["error_type", "code", "message", "context", "recoverable", "hint", "cause"]
    assert (described["error_type"], described["code"]) == (cls.__name__, cls.default_code)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_a_class_is_found_by_its_name_and_by_its_code(cls: type[FraisierError]) -> None:
    """Events tell the one, what is kept of a target the other."""
    assert errors.error_class(cls.__name__) is cls
    assert errors.class_of_code(cls.default_code) is cls


@pytest.mark.parametrize("name", ["", "OSError", "Any", "annotations", "Mapping"])
def test_what_is_no_class_of_ours_is_not_found(name: str) -> None:
    """Whatever else this module may hold."""
    assert errors.error_class(name) is None
    assert errors.class_of_code(name) is None


def test_codes_are_words_for_programs() -> None:
    """Capitals and underscores, so that the reason of an outcome is the same in small letters."""
    assert all(cls.default_code.replace("_", "").isalpha() for cls in ALL)
    assert all(cls.default_code.isupper() for cls in ALL)


def test_hints_are_phrases_that_follow_a_colon() -> None:
    """`try: run …`: no capital at the beginning, no full stop at the end."""
    hints = {cls.default_hint for cls in ALL}
    assert [hint for hint in hints if hint[0].isupper() or hint.endswith(".")] == []
