"""Errors are a promise: classes, codes, what is recoverable, and what they tell."""

from __future__ import annotations

import pickle

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
