"""Virtual time; the loop lives with the simulation."""

from fraisier.simulation.loop import (
    DeadlockError,
    StandstillError,
    ThreadWakeUpError,
    VirtualLoop,
    VirtualTimeLimitError,
    run_virtual,
)

__all__ = [
    "DeadlockError",
    "StandstillError",
    "ThreadWakeUpError",
    "VirtualLoop",
    "VirtualTimeLimitError",
    "run_virtual",
]
