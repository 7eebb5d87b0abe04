"""Being asked to end while no event loop listens for it: SIGTERM and SIGHUP count as Ctrl-C, and are not lost.

A handler that raises in the midst of an import, in the callback of a weak reference for one, raises into nothing: the
interpreter reports the exception, drops it and goes on. So what loads modules holds the answer back meanwhile.
"""

from __future__ import annotations

import atexit
import importlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType

from fraisier.cli.exits import INTERRUPTED

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a process to end: a person's Ctrl-C, a service manager, a terminal that is closed."""

INSISTS_S = 1.0
"""Two signals within it are one wish: service managers and shells send SIGHUP with SIGTERM. After it, one insists."""


class _Ending:
    """The handler of our signals: it raises KeyboardInterrupt, or notes the wish while it is held back."""

    def __init__(self) -> None:
        self.is_noted = False
        """Whether it was asked to end while the answer is held back."""
        self._holds = 0
        self._is_over = False
        self._asked_s = -math.inf

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.is_insisted_on:
            return
        was_asked, was_noted = self._asked_s > 0, self.is_noted
        self.note()
        if was_asked and self._is_over:
            os._exit(INTERRUPTED)  # all is done, but for a thread that waits for a reader, say
        if was_noted or not self._holds:
            self.is_noted = self._holds > 0
            raise KeyboardInterrupt

    @property
    def is_insisted_on(self) -> bool:
        """Whether a signal now would be another wish than the last one."""
        return time.monotonic() - self._asked_s >= INSISTS_S

    def note(self) -> None:
        """Take note of a wish that is answered elsewhere, or later."""
        self.is_noted, self._asked_s = True, time.monotonic()

    def take(self) -> bool:
        """Return whether it was asked to end while the answer was held back, and forget that."""
        noted, self.is_noted = self.is_noted, False
        return noted

    def hold(self) -> None:
        """Hold the answer back from now on; only who insists gets one."""
        self._holds += 1

    def close(self) -> None:
        """Hold the answer back for good: the program has ended, and how is told."""
        self.hold()
        self._is_over = True

    def let_go(self) -> bool:
        """Return whether the answer is due now: something asked meanwhile, and nobody else holds it back."""
        self._holds -= 1
        return not self._holds and self.take()


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
    except BaseException:
        ending.let_go()  # it ends anyway, and why is told
        raise
    if ending.let_go():
        raise KeyboardInterrupt


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
    atexit.register(_ignore)  # the first that is registered is the last that is called


def _ignore() -> None:
    for number in SIGNALS:
        if is_ours_to_heed(number):
            signal.signal(number, signal.SIG_IGN)  # the interpreter would put back the default, which kills
