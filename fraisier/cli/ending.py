"""Being asked to end while no event loop listens for it: SIGTERM and SIGHUP count as Ctrl-C, and none of them gets lost.

A handler that raises in the midst of an import, in the callback of a weak reference for one, raises into nothing: the
interpreter reports the exception, drops it and goes on. So what loads modules holds the answer back meanwhile.
"""

from __future__ import annotations

import importlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a process to end: a person's Ctrl-C, a service manager, a terminal that is closed."""

_INSISTS_S = 1.0
"""Two signals within it are one wish: service managers and shells send SIGHUP with SIGTERM. After it, one insists."""


class _Ending:
    """The handler of our signals: it raises KeyboardInterrupt, or notes the wish while it is held back."""

    def __init__(self) -> None:
        self._holds = 0
        self._is_noted = False
        self._asked_s = -math.inf

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if now_s - self._asked_s < _INSISTS_S:
            return
        self._asked_s = now_s
        self._is_noted = self._holds > 0 and not self._is_noted
        if not self._is_noted:
            raise KeyboardInterrupt

    def take(self) -> bool:
        """Return whether it was asked to end while the answer was held back, and forget that."""
        noted, self._is_noted = self._is_noted, False
        return noted

    def hold(self) -> None:
        """Hold the answer back from now on."""
        self._holds += 1

    def let_go(self) -> None:
        """Answer again, unless somebody else still holds. Raises KeyboardInterrupt when it was asked to end meanwhile."""
        self._holds -= 1
        if not self._holds and self.take():
            raise KeyboardInterrupt


ending = _Ending()
"""The process's one, as signals are."""


@contextmanager
def held() -> Iterator[None]:
    """Hold back what asks the process to end. Raises KeyboardInterrupt at its end when something did."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no handler runs here
        return
    ending.hold()
    try:
        yield
    finally:
        ending.let_go()


def load_module(name: str) -> ModuleType:
    """Import a module whole. Raises KeyboardInterrupt when the process was asked to end meanwhile."""
    with held():
        return importlib.import_module(name)


def is_ours_to_heed(number: signal.Signals) -> bool:
    """Return whether nobody else has said what a signal does: no application around us, and no `nohup`."""
    return signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, ending)


def heed() -> None:
    """Let the signals raise KeyboardInterrupt, but for those of which somebody else has said what they do."""
    for number in SIGNALS:
        if is_ours_to_heed(number):
            signal.signal(number, ending)
