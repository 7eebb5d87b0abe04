"""Being asked to end before, or after, anything listens for it: SIGTERM and SIGHUP count as Ctrl-C."""

from __future__ import annotations

import signal
import threading
from types import FrameType


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
