"""Which process we are, and whether another one of this machine still lives. Linux; a port for the lease."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Protocol

from fraisier._version import __version__
from fraisier.events import Holder


class ProcessTable(Protocol):
    """Tells who we are and whether a holder is dead beyond doubt."""

    def holder(self, owner: str) -> Holder:
        """Return this process as a lease's holder."""
        ...

    def is_dead(self, holder: Holder) -> bool:
        """Whether the holder ran on this host and boot and is gone; False when that cannot be known."""
        ...


class SystemProcesses:
    """The process table of this machine, read from /proc."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def holder(self, owner: str) -> Holder:
        """Return this process as a lease's holder."""
        pid = os.getpid()
        return Holder(
            owner=owner,
            host=socket.gethostname(),
            boot_id=self._boot_id(),
            pid=pid,
            pid_start=self._start(pid),
            version=__version__,
        )

    def is_dead(self, holder: Holder) -> bool:
        """Whether the holder ran on this host and boot and is gone."""
        if holder.host != socket.gethostname() or not holder.pid:
            return False
        return holder.boot_id != self._boot_id() or self._start(holder.pid) != holder.pid_start

    def _boot_id(self) -> str:
        try:
            return (self._proc / "sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""

    def _start(self, pid: int) -> str:
        """Return field 22 of the stat file (start time in clock ticks since boot), empty when there is no such process."""
        try:
            stat = (self._proc / str(pid) / "stat").read_text()
        except OSError:
            return ""
        fields = stat.rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
