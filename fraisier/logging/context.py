"""What every line of a task carries: fields that are set once and hold until the block ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

FIELDS = "fraisier_fields"
"""The attribute of a LogRecord that holds the fields of its line."""

_NO_FIELDS: Mapping[str, Any] = MappingProxyType({})
_fields: ContextVar[Mapping[str, Any]] = ContextVar("fraisier_log_context", default=_NO_FIELDS)


def current_context() -> Mapping[str, Any]:
    """Return the fields of the running task."""
    return _fields.get()


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Add fields to every line of this task, and of tasks that it starts, until the block ends: also to the lines of
    libraries that know nothing of us."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


class ContextualLogger:
    """Logs messages with fields, through the stdlib logger of the name (`fraisier` when None).

    Fields of a call win over those of the block, and those of an inner block over those of an outer one.
    """

    def __init__(self, name: str | logging.Logger | None = None) -> None:
        self._logger = name if isinstance(name, logging.Logger) else logging.getLogger(name or "fraisier")

    @contextmanager
    def context(self, **fields: Any) -> Iterator[None]:
        """Add fields to every line of this task, and of tasks that it starts, until the block ends."""
        with log_context(**fields):
            yield

    def is_enabled_for(self, level: int) -> bool:
        """Whether a line of the level (a number of stdlib logging) would go anywhere."""
        return self._logger.isEnabledFor(level)

    def log(self, level: int, message: str, /, *, exc_info: Any = None, **fields: Any) -> None:
        """Log a message at a level of stdlib logging."""
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", message, exc_info=exc_info, extra={FIELDS: fields})

    def debug(self, message: str, /, **fields: Any) -> None:
        """Log what helps to understand the program."""
        self.log(logging.DEBUG, message, **fields)

    def info(self, message: str, /, **fields: Any) -> None:
        """Log what happened."""
        self.log(logging.INFO, message, **fields)

    def warning(self, message: str, /, **fields: Any) -> None:
        """Log what may need a look."""
        self.log(logging.WARNING, message, **fields)

    def error(self, message: str, /, **fields: Any) -> None:
        """Log what went wrong."""
        self.log(logging.ERROR, message, **fields)

    def critical(self, message: str, /, **fields: Any) -> None:
        """Log what ends the program."""
        self.log(logging.CRITICAL, message, **fields)

    def exception(self, message: str, /, **fields: Any) -> None:
        """Log what went wrong, with the exception that is being handled."""
        fields.setdefault("exc_info", True)
        self.log(logging.ERROR, message, **fields)
