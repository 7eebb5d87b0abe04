"""Every error Fraisier raises on purpose: one class for one situation, each with a stable code."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar


class FraisierError(Exception):
    """Raised when Fraisier cannot do what it was asked; the base of all its errors.

    `code` is a stable word for programs, `context` holds facts (never secrets), `recoverable` says whether trying
    again can help, `hint` is the next thing for a person to try. A `cause` is chained as `__cause__` too.
    """

    default_code: ClassVar[str] = "FRAISIER_ERROR"
    default_recoverable: ClassVar[bool] = False
    default_hint: ClassVar[str] = "run the command again with -v for details"

    def __init__(
        self,
        message: str,
        code: str | None = None,
        context: Mapping[str, Any] | None = None,
        recoverable: bool | None = None,
        cause: BaseException | None = None,
        *,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.context: dict[str, Any] = dict(context or {})
        self.recoverable = self.default_recoverable if recoverable is None else recoverable
        self.cause = cause
        self.hint = hint or self.default_hint
        if cause is not None:
            self.__cause__ = cause

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description: error_type, code, message, context, recoverable, hint, cause."""
        return {
            "error_type": type(self).__name__,
            "code": self.code,
            "message": self.message,
            "context": _plain(self.context),
            "recoverable": self.recoverable,
            "hint": self.hint,
            "cause": None if self.cause is None else f"{type(self.cause).__name__}: {self.cause}",
        }


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: containers with plain contents, and the text of what JSON does not know."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes():
            return value.decode("utf-8", "replace")
        case Mapping():
            return {str(key): _plain(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(one) for one in value]
        case _:
            return str(value)


class UnexpectedError(FraisierError):
    """Raised when something failed in a way that nobody foresaw: a defect of Fraisier or of what it uses."""

    default_code = "UNEXPECTED"
    default_hint = (
        "this is not one of Fraisier's own errors; run the command again with -vv for the traceback"
    )


class ConfigurationError(FraisierError):
    """Raised when the configuration, or what it refers to, is wrong. Nothing was touched."""

    default_code = "CONFIG_ERROR"
    default_hint = "run `fraisier validate` to see every problem with its place"


class UsageError(FraisierError):
    """Raised when a request names something that does not exist or contradicts itself. Nothing was touched."""

    default_code = "USAGE_ERROR"
    default_hint = "run `fraisier list` to see what is configured, or add --help"


class DeploymentError(FraisierError):
    """Raised when a step of a deployment fails."""

    default_code = "DEPLOYMENT_ERROR"
    default_hint = "run `fraisier show DEPLOYMENT` to see the failing step and its output"


class DeploymentTimeoutError(DeploymentError):
    """Raised when a deployment or one of its steps passes its deadline; says what was waited for."""

    default_code = "DEPLOYMENT_TIMEOUT"
    default_recoverable = True
    default_hint = "look at what was waited for, then raise the deadline named in the message or fix the wait"


class HealthCheckError(DeploymentError):
    """Raised when a target does not become, or does not stay, healthy."""

    default_code = "HEALTH_CHECK_FAILED"
    default_recoverable = True
    default_hint = "run `fraisier logs FRAISE ENV --target T` to see why the service is not healthy"


class RollbackError(DeploymentError):
    """Raised when a target cannot be brought back to its last good release."""

    default_code = "ROLLBACK_FAILED"
    default_hint = (
        "run `fraisier status FRAISE ENV --live`, repair the target, then `fraisier deploy --force`"
    )


class DeploymentLockError(DeploymentError):
    """Raised when another holder has the lease of the fraise and environment, or when a person froze it."""

    default_code = "DEPLOYMENT_LOCKED"
    default_recoverable = True
    default_hint = "wait for the other deployment, or use --lock-wait"


class LeaseLostError(DeploymentError):
    """Raised when our lease was taken over while we worked; we stop without undoing anything."""

    default_code = "LEASE_LOST"
    default_hint = "another process took the deployment over; run `fraisier status FRAISE ENV`"


class FencedError(DeploymentError):
    """Raised when a target or the journal refuses us because a newer holder was seen there."""

    default_code = "FENCED"
    default_hint = "another process took the deployment over; run `fraisier status FRAISE ENV`"


class InDoubtError(DeploymentError):
    """Raised when a step may or may not have happened and must not be repeated by itself."""

    default_code = "IN_DOUBT"
    default_hint = "look at the target, then run `fraisier deploy --force` to go on"


class BuildError(DeploymentError):
    """Raised when a build command fails: the version cannot be made, wherever it would run."""

    default_code = "BUILD_FAILED"
    default_hint = "run `fraisier show DEPLOYMENT` for the command's output; the old version still serves"


class MigrationError(DeploymentError):
    """Raised when the migrate command fails."""

    default_code = "MIGRATION_FAILED"
    default_hint = "run `fraisier show DEPLOYMENT` for the command's output; the old version still serves"


class HookError(DeploymentError):
    """Raised when a hook fails and its `on_failure` does not say `warn`."""

    default_code = "HOOK_FAILED"
    default_hint = "run `fraisier show DEPLOYMENT` for the hook's output"


class InterruptedError(DeploymentError):
    """Raised when a person or a signal ends a deployment before its end."""

    default_code = "INTERRUPTED"
    default_hint = "run `fraisier resume`; it looks at every target first"


class ResponderError(FraisierError):
    """Raised when the responder of a request on the bus raised, passed its deadline or was cancelled."""

    default_code = "RESPONDER_FAILED"
    default_hint = "this is a defect or an overloaded machine; run again with -v"


class BusClosedError(FraisierError):
    """Raised when something is published after the bus was closed."""

    default_code = "BUS_CLOSED"


class ProviderError(FraisierError):
    """Raised when a provider cannot do a step on a target."""

    default_code = "PROVIDER_ERROR"
    default_hint = "run `fraisier show DEPLOYMENT` to see the failing command and its output"


class ProviderConnectionError(ProviderError):
    """Raised when a target cannot be reached, or the link to it is lost."""

    default_code = "PROVIDER_CONNECTION_ERROR"
    default_recoverable = True
    default_hint = "check the address, the network and that the host is up"


class ProviderUnavailableError(ProviderError):
    """Raised when what a provider needs is not there at the moment."""

    default_code = "PROVIDER_UNAVAILABLE"
    default_recoverable = True
    default_hint = "try again later, or install what the message names"


class ProviderConfigurationError(ProviderError):
    """Raised when a provider cannot work with the configuration that it was given."""

    default_code = "PROVIDER_CONFIG_ERROR"
    default_hint = "correct the environment's keys; `fraisier provider-info TYPE` lists them"


class DatabaseError(FraisierError):
    """Raised when the store cannot be read or written."""

    default_code = "DATABASE_ERROR"
    default_hint = "run `fraisier db check`"


class DatabaseConnectionError(DatabaseError):
    """Raised when the store cannot be opened."""

    default_code = "DATABASE_CONNECTION_ERROR"
    default_recoverable = True
    default_hint = "check the path or URL of the store (--store, $FRAISIER_STORE) and its permissions"


class DatabaseTransactionError(DatabaseError):
    """Raised when a transaction of the store fails; nothing of it was kept."""

    default_code = "DATABASE_TRANSACTION_ERROR"
    default_recoverable = True


class GuardRefusedError(DatabaseTransactionError):
    """Raised when the condition that an append was bound to no longer holds; nothing was written."""

    default_code = "GUARD_REFUSED"
    default_recoverable = False


class AuditError(FraisierError):
    """Raised when the audit trail does not verify."""

    default_code = "AUDIT_FAILED"
    default_hint = "keep a copy of the store, then compare it with a backup"


class NotFoundError(FraisierError):
    """Raised when a deployment, release, fraise, environment or target does not exist."""

    default_code = "NOT_FOUND"
    default_hint = "run `fraisier history` or `fraisier list` to see what exists"


class ValidationError(FraisierError):
    """Raised when a value from outside does not have the form that it must have."""

    default_code = "VALIDATION_ERROR"


class GitProviderError(FraisierError):
    """Raised when git, or the service that hosts the repository, refuses or fails."""

    default_code = "GIT_PROVIDER_ERROR"
    default_hint = "check `git_repo`, the branch or version, and that this machine may read the repository"


class WebhookError(FraisierError):
    """Raised when a webhook is malformed, unsigned or not meant for us."""

    default_code = "WEBHOOK_ERROR"


def error_class(name: str) -> type[FraisierError] | None:
    """Return the class of ours with that name, or None: what events tell of an error is the name of its class."""
    return next((cls for cls in _classes() if cls.__name__ == name), None)


def class_of_code(code: str) -> type[FraisierError] | None:
    """Return the class whose code this is by default, or None: what is kept of a failed target is the code."""
    return next((cls for cls in _classes() if cls.default_code == code), None)


def _classes() -> Iterator[type[FraisierError]]:
    for found in list(globals().values()):
        if isinstance(found, type) and issubclass(found, FraisierError):
            yield found
