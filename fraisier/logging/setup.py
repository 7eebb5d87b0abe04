"""Puts one handler on the root logger, so that structlog, stdlib and third-party lines look alike and are
redacted alike."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Literal, TextIO

from fraisier.errors import ConfigurationError
from fraisier.logging.context import FIELDS
from fraisier.logging.formatters import ConsoleFormatter, JSONFormatter
from fraisier.redaction import Redactor

_FORMATTERS = {"console": ConsoleFormatter, "json": JSONFormatter}
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class _Handler(logging.StreamHandler[TextIO]):
    """Our handler, told from those of others by its class."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is stdlib's
        """Say that a line was lost, and why; stdlib would print its arguments, which nobody has redacted."""
        failure = sys.exc_info()[0]
        with suppress(OSError, ValueError):
            self.stream.write(
                f"a log line of {record.name} was lost: {failure.__name__ if failure else 'error'}\n"
            )


def setup_structured_logging(
    level: str = "INFO",
    format: Literal["console", "json"] = "console",
    *,
    stream: TextIO | None = None,
    redactor: Redactor | None = None,
) -> None:
    """Log from `level` on to `stream` (stderr when None), and let structlog write through stdlib logging.

    Called again it replaces what it set up before; handlers of others stay. Raises ConfigurationError for a
    level or format that does not exist.
    """
    if level.upper() not in _LEVELS:
        raise ConfigurationError(
            f"{level!r} is not a log level", hint=f"use one of {', '.join(_LEVELS).lower()}"
        )
    if format not in _FORMATTERS:
        raise ConfigurationError(f"{format!r} is not a log format", hint="use console or json")
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_FORMATTERS[format](redactor))
    root = logging.getLogger()
    for earlier in [found for found in root.handlers if isinstance(found, _Handler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(level.upper())
    _configure_structlog()


def _configure_structlog() -> None:
    structlog = importlib.import_module("structlog")
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            _to_stdlib,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _to_stdlib(
    logger: Any, method: str, fields: MutableMapping[str, Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Return the arguments of the stdlib call: the formatters do the rest, redaction included."""
    message, positional = fields.pop("event", ""), fields.pop("positional_args", ())
    named = {key: fields.pop(key) for key in ("exc_info", "stack_info") if key in fields}
    arguments = (message, *positional) if positional else ("%s", message)
    return arguments, {**named, "extra": {FIELDS: dict(fields)}}
