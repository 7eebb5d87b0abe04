"""An error handler that knows where in the work an error happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from fraisier.error_handler.handler import ErrorHandler

_Fields = tuple[tuple["ContextualErrorHandler", Mapping[str, Any]], ...]

_FIELDS: ContextVar[_Fields] = ContextVar("fraisier_error_fields", default=())
"""The open contexts of all handlers in this task, outermost first."""


class ContextualErrorHandler:
    """Adds the fields of the surrounding `context(...)` blocks to what it hands on. Fields are local to the
    task; tasks that are started inside a block inherit them."""

    def __init__(self, base_handler: ErrorHandler | None = None) -> None:
        self.base_handler = base_handler or ErrorHandler()

    @contextmanager
    def context(self, **fields: Any) -> Iterator[None]:
        """Add fields for the length of a `with` block; inner ones win over outer ones of the same name."""
        token = _FIELDS.set((*_FIELDS.get(), (self, fields)))
        try:
            yield
        finally:
            _FIELDS.reset(token)

    def get_context(self) -> dict[str, Any]:
        """Return the fields that hold here."""
        merged: dict[str, Any] = {}
        for owner, fields in _FIELDS.get():
            if owner is self:
                merged.update(fields)
        return merged

    async def handle_error(
        self,
        error: BaseException,
        additional_context: Mapping[str, Any] | None = None,
        *,
        reraise: bool = True,
    ) -> bool:
        """Hand the error with all fields to the base handler; see `ErrorHandler.handle_error`."""
        merged = {**self.get_context(), **(additional_context or {})}
        return await self.base_handler.handle_error(error, merged, reraise)
