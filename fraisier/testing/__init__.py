"""Doubles of Fraisier's ports, for its own tests and for those of applications that embed it.

No production module imports this package.
"""

from fraisier.journal.memory import MemoryJournal
from fraisier.testing.recording import RecordingSubscriber
from fraisier.testing.time import START_US, SeededIds, VirtualClock
from fraisier.testing.virtual import (
    DeadlockError,
    ThreadWakeUpError,
    VirtualLoop,
    VirtualTimeLimitError,
    run_virtual,
)

__all__ = [
    "START_US",
    "DeadlockError",
    "MemoryJournal",
    "RecordingSubscriber",
    "SeededIds",
    "ThreadWakeUpError",
    "VirtualClock",
    "VirtualLoop",
    "VirtualTimeLimitError",
    "run_virtual",
]
