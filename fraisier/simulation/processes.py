"""The process tables of simulated machines: who is dead is known where it lived, and nowhere else."""

from __future__ import annotations

from fraisier.events import Holder
from fraisier.simulation.process import Process


class SimulatedTable:
    """What one process sees of the others. `machine` is where it runs, `known` are all processes by pid."""

    def __init__(self, process: Process, machine: str, known: dict[int, Process]) -> None:
        self._process = process
        self._machine = machine
        self._known = known

    def holder(self, owner: str) -> Holder:
        """Return this process as a lease's holder."""
        pid = self._process.pid
        return Holder(
            owner=owner,
            host=self._machine,
            boot_id=f"boot-{self._machine}",
            pid=pid,
            pid_start=str(pid),
            version="simulated",
        )

    def is_dead(self, holder: Holder) -> bool:
        """Whether the holder ran on this machine and is gone."""
        found = self._known.get(holder.pid)
        return holder.host == self._machine and found is not None and found.gone

    def is_alive(self, holder: Holder) -> bool:
        """Whether the holder runs on this machine, stopped or not."""
        found = self._known.get(holder.pid)
        return holder.host == self._machine and found is not None and not found.gone
