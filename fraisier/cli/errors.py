"""Errors as people and programs read them: what happened, where, what to try next."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fraisier.cli import exits
from fraisier.errors import FraisierError, UnexpectedError

Document = Mapping[str, Any]


def flatten(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors inside nested exception groups, in order; an error that is no group yields itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from flatten(inner)
    else:
        yield error


def weightiest(error: BaseException) -> BaseException:
    """Return the one error that is told: of a group the first that Fraisier raised on purpose, else the first."""
    found = list(flatten(error))
    return next((one for one in found if isinstance(one, FraisierError)), found[0])


def describe(error: BaseException) -> tuple[Document, int]:
    """Return the JSON document of an error and the exit code."""
    found = weightiest(error)
    if isinstance(found, FraisierError):
        return document(found.code, found.message, found.hint, found.to_dict()["context"]), exits.of_code(
            found.code
        )
    message = f"{type(found).__name__}: {found}" if str(found) else type(found).__name__
    unforeseen = UnexpectedError(message, cause=found)
    return document(unforeseen.code, unforeseen.message, unforeseen.hint, {}), exits.of_code(unforeseen.code)


def document(code: str, message: str, hint: str, context: Mapping[str, Any]) -> Document:
    """Return `{"error": {"code", "message", "hint", "context"}}`."""
    return {"error": {"code": code, "message": message, "hint": hint, "context": dict(context)}}


def as_text(found: Document, *, paint: Callable[[str], str] = str) -> str:
    """Return the error as the lines that people read; `paint` puts colour on its first word."""
    error = found["error"]
    lines = [f"{paint('error:')} {error['message']}"]
    if error["hint"]:
        lines.append(f"  try: {error['hint']}")
    return "\n".join(lines)


def as_json(found: Document) -> str:
    """Return the error on one line."""
    return json.dumps(found, default=str, ensure_ascii=False)
