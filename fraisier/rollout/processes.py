"""Which process we are, and whether another one of this machine still lives. Linux; a port for the lease."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Protocol

from fraisier._version import __version__
from fraisier.events import Holder


class ProcessTable(Protocol):
    """Tells who we are, and what can be known of a holder. Neither alive nor dead means: that cannot be known here."""

    def holder(self, owner: str) -> Holder:
        """Return this process as a lease's holder."""
        ...

    def is_dead(self, holder: Holder) -> bool:
        """Whether the holder is gone beyond doubt; False when that cannot be known."""
        ...

    def is_alive(self, holder: Holder) -> bool:
        """Whether the holder lives beyond doubt (it may be stopped); False when that cannot be known."""
        ...


class SystemProcesses:
    """The process table of this machine, read from /proc.

    A pid says something only where it was given: in the same boot of the same host, and in the same pid namespace. Two
    containers may share a host name and a kernel and still number their processes apart, and two machines may share a
    host name; of such holders, and of those that did not record their namespace, nothing is known here.
    """

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
            pid_ns=self._namespace(),
        )

    def is_dead(self, holder: Holder) -> bool:
        """Whether the holder was numbered here and is gone."""
        if not self._is_ours(holder):
            return False
        if fields := self._stat(holder.pid):
            return _start_of(fields) != holder.pid_start
        # Where the files of other users' processes are hidden, we know at least whether the number is taken.
        return not _is_taken(holder.pid)

    def is_alive(self, holder: Holder) -> bool:
        """Whether the holder was numbered here and runs."""
        return self._is_ours(holder) and self._start(holder.pid) == holder.pid_start

    def _is_ours(self, holder: Holder) -> bool:
        here = (socket.gethostname(), self._boot_id(), self._namespace())
        known = bool(holder.pid and holder.pid_start and holder.boot_id and holder.pid_ns)
        return known and (holder.host, holder.boot_id, holder.pid_ns) == here

    def _boot_id(self) -> str:
        try:
            return (self._proc / "sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""

    def _namespace(self) -> str:
        try:
            return str((self._proc / "self/ns/pid").readlink())
        except OSError:
            return ""

    def _start(self, pid: int) -> str:
        fields = self._stat(pid)
        return _start_of(fields) if fields else ""

    def _stat(self, pid: int) -> list[str]:
        """Return the fields of the stat file from the state on, nothing when there is no such file."""
        try:
            stat = (self._proc / str(pid) / "stat").read_text()
        except OSError:
            return []
        return stat.rpartition(")")[2].split()


def _start_of(fields: list[str]) -> str:
    """Return field 22 of the stat file (start time in clock ticks since boot), empty for a process that has ended."""
    return "" if fields[0] == "Z" else fields[19]


def _is_taken(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is there, and not ours
    return True
