"""A value that does not show itself."""

from __future__ import annotations

import hmac
from typing import Generic, TypeVar

MASK = "***"

V = TypeVar("V", str, bytes)


class Secret(Generic[V]):
    """Holds a text or bytes that no print, log line, traceback or encoder may show; `reveal` gives it out."""

    __slots__ = ("_value",)

    def __init__(self, value: V) -> None:
        self._value: V = value

    def reveal(self) -> V:
        """Return the value, for the one place that needs it."""
        return self._value

    def __repr__(self) -> str:
        """Show that there is something."""
        return f"Secret('{MASK}')"

    def __str__(self) -> str:
        """Return the mask."""
        return MASK

    def __format__(self, format_spec: str) -> str:
        """Return the mask, laid out as asked."""
        return format(MASK, format_spec)

    def __bool__(self) -> bool:
        """Whether there is a value at all."""
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        """Compare values, in a time that does not depend on where they differ."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_raw(self._value), _raw(other._value))

    def __hash__(self) -> int:
        """Return the value's hash."""
        return hash(self._value)

    def __reduce__(self) -> tuple[object, ...]:
        """Refuse to be pickled: the bytes would hold the value."""
        raise TypeError("a secret cannot be pickled")


def _raw(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
