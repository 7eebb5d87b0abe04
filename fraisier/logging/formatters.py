"""How a line looks. Whatever goes out is redacted first and shortened after, so that no half of a secret is
left."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from fraisier.clock import rfc3339
from fraisier.logging.context import FIELDS, current_context
from fraisier.redaction import Redactor

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", FIELDS}
_MESSAGE_CHARS_MAX = 16_384
_EXCEPTION_CHARS_MAX = 65_536


class _Line(msgspec.Struct):
    """A log record, redacted."""

    timestamp: str
    level: str
    logger: str
    message: str
    context: dict[str, Any]
    exception: str | None


class JSONFormatter(logging.Formatter):
    """One JSON object a line: timestamp, level, logger, message, context, exception (null without one).

    `context` holds the fields of the task, then those of the call, then `extra`. Secrets are masked by type,
    by key and by known value (those registered with `redactor`).
    """

    def __init__(
        self, redactor: Redactor | None = None, *, message_chars_max: int = _MESSAGE_CHARS_MAX
    ) -> None:
        super().__init__()
        self._redactor = redactor or Redactor()
        self._message_chars_max = message_chars_max

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line = _redacted(self, record, self._redactor, self._message_chars_max)
        return msgspec.json.encode(line, enc_hook=str).decode()


class ConsoleFormatter(logging.Formatter):
    """A line for people: time, level, logger, message, fields; a traceback follows on lines of its own."""

    def __init__(
        self, redactor: Redactor | None = None, *, message_chars_max: int = _MESSAGE_CHARS_MAX
    ) -> None:
        super().__init__()
        self._redactor = redactor or Redactor()
        self._message_chars_max = message_chars_max

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line = _redacted(self, record, self._redactor, self._message_chars_max)
        fields = "".join(f" {key}={_word(value)}" for key, value in line.context.items())
        text = f"{line.timestamp[:19]}Z {line.level:<8} {line.logger}: {line.message}{fields}"
        return f"{text}\n{line.exception}" if line.exception else text


def _redacted(
    formatter: logging.Formatter, record: logging.LogRecord, redactor: Redactor, message_chars_max: int
) -> _Line:
    fields = {**current_context(), **getattr(record, FIELDS, {}), **_extra(record)}
    exception = _exception(formatter, record)
    return _Line(
        timestamp=rfc3339(int(record.created * 1_000_000)),
        level=record.levelname,
        logger=record.name,
        message=_shorten(redactor.scrub(_message(record, redactor)), message_chars_max),
        context=redactor.scrub_object({str(key): _plain(value) for key, value in fields.items()}),
        exception=_shorten(redactor.scrub(exception), _EXCEPTION_CHARS_MAX) if exception else None,
    )


def _message(record: logging.LogRecord, redactor: Redactor) -> str:
    """Put the arguments into the message after the secrets among them were masked by type and key."""
    if not record.args:
        return str(record.msg)
    args = record.args if isinstance(record.args, Mapping) else tuple(record.args)
    cleaned = redactor.scrub_object(args)
    arguments = cleaned if isinstance(args, Mapping) else tuple(cleaned)
    try:
        return str(record.msg) % arguments
    except (TypeError, ValueError, KeyError):
        # A mistake in somebody's logging call must not lose the line, nor print to stderr round the
        # redaction.
        return f"{record.msg} {arguments!r}"


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}


def _plain(value: Any) -> Any:
    """Return what JSON knows, before the redaction, which must see what an object has inside.

    A log line is never refused: what has no such form becomes its text.
    """
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=str)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        if isinstance(value, Mapping):
            return {str(key): str(item) for key, item in value.items()}
        return str(value)


def _shorten(text: str, chars_max: int) -> str:
    return (
        text if len(text) <= chars_max else f"{text[:chars_max]}… ({len(text) - chars_max} more characters)"
    )


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
    return (
        text
        if text and not any(char.isspace() or char in '"=' for char in text)
        else msgspec.json.encode(text).decode()
    )
