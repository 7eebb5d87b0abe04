"""Being asked to end before, or after, anything listens for it: SIGTERM and SIGHUP count as Ctrl-C, and none gets lost.

A handler that raises in the midst of an import, in the callback of a weak reference for one, raises into nothing: the
interpreter reports the exception, drops it and goes on. So whatever loads modules holds the signals back meanwhile.
"""

from __future__ import annotations

import importlib
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import TypeVar

T = TypeVar("T")

_HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heed_as_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP do what Ctrl-C does from now on, unless somebody has said already what they do."""
    if threading.current_thread() is not threading.main_thread():
        return  # an application that embeds the command line has its own signals
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _as_ctrl_c)


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    if callable(signal.getsignal(signal.SIGINT)):
        signal.raise_signal(signal.SIGINT)  # an event loop may have a gentler way than an exception
    else:
        raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Hold back what asks the process to end; at the end it is heeded, which may raise KeyboardInterrupt."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def load_module(name: str) -> ModuleType:
    """Import a module whole. Raises KeyboardInterrupt when the process was asked to end meanwhile."""
    with held():
        return importlib.import_module(name)


def run_async(function: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """Run a coroutine function in an event loop that has signals to heed from its first moment on.

    Raises what the function raises, and KeyboardInterrupt when the process was asked to end before anything in the loop
    listens for it.
    """
    anyio = load_module("anyio")

    async def begun() -> T:
        # The loop cancels what it runs from here on, where an exception might hit the loop's own making.
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return await function(*arguments)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        result: T = anyio.run(begun)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return result
