"""Two ways in which a probe ends badly: the service is at fault, or we are."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

OUR_ERRNOS = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOBUFS,
        errno.EADDRNOTAVAIL,
        errno.EAGAIN,
        errno.EACCES,
        errno.EPERM,
    }
)
"""The prober itself has run out of something or may not do it."""

ANSWER_ERRNOS = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE})
"""A live host said no."""


class ProbeFailed(Exception):
    """Raised when a service does not answer as it should. `answered`: it, or its live host, did reply."""

    def __init__(self, message: str, *, answered: bool = True) -> None:
        super().__init__(message)
        self.answered = answered


class ProbeError(Exception):
    """Raised when the prober cannot do its own work; nothing is learned about the service."""

    answered = False


def failure_of(error: OSError, asked: str) -> ProbeFailed | ProbeError:
    """Sort an operating system's error into the two."""
    found = list(_leaves(error))
    numbers = {leaf.errno for leaf in found}
    text = "; ".join(dict.fromkeys(_text(leaf) for leaf in found))
    if numbers & OUR_ERRNOS or any(isinstance(leaf, socket.gaierror) for leaf in found):
        return ProbeError(f"{asked}: cannot probe: {text}")
    return ProbeFailed(f"{asked}: {text}", answered=bool(numbers & ANSWER_ERRNOS))


def _leaves(error: BaseException) -> Iterator[OSError]:
    """Yield the system's own errors inside the ones that libraries wrap them in."""
    inner = error.__cause__ or getattr(error, "os_error", None)
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    elif inner is not None and inner is not error:
        yield from _leaves(inner)
    elif isinstance(error, OSError):
        yield error


def _text(error: OSError) -> str:
    if isinstance(error.errno, int) and error.errno > 0:
        return os.strerror(error.errno).lower()
    return error.strerror or str(error) or type(error).__name__
