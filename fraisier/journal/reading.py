"""Mistakes that every journal names the same."""

from __future__ import annotations

import msgspec

from fraisier.errors import NotFoundError, ValidationError


def fold_error(error: BaseException) -> BaseException:
    """Return what the publisher of an event that cannot be folded is told."""
    if isinstance(error, msgspec.MsgspecError):
        return ValidationError(f"the event cannot be folded into the tables: {error}", cause=error)
    return error


def no_such_row(seq: int) -> NotFoundError:
    """Return the error for a seq that the log does not have."""
    return NotFoundError(f"the journal has no row {seq}", context={"seq": seq})


def ambiguous(beginning: str) -> NotFoundError:
    """Return the error for the beginning of an id that several deployments share."""
    return NotFoundError(
        f"several deployments begin with {beginning!r}",
        context={"deployment_id": beginning},
        hint="give more digits; `fraisier history` lists the ids",
    )
