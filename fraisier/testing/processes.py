"""A process table in which processes start and die on command."""

from __future__ import annotations

from fraisier.events import Holder


class ScriptedProcesses:
    """A `ProcessTable` of one made-up host. Whoever asks is the current process, until `kill` ends it; the next one to
    ask is a new process."""

    def __init__(self, host: str = "here") -> None:
        self._host = host
        self._pid = 1000
        self._dead: set[int] = set()

    def holder(self, owner: str) -> Holder:
        """Return the current process as a lease's holder."""
        return Holder(
            owner=owner,
            host=self._host,
            boot_id="boot-1",
            pid=self._pid,
            pid_start=str(self._pid),
            version="0",
        )

    def is_dead(self, holder: Holder) -> bool:
        """Whether the holder is one that was killed."""
        return holder.host == self._host and holder.pid in self._dead

    def is_alive(self, holder: Holder) -> bool:
        """Whether the holder is of this host and was not killed."""
        return holder.host == self._host and 0 < holder.pid <= self._pid and holder.pid not in self._dead

    def kill(self) -> None:
        """Let the current process be dead beyond doubt; the next one gets a new pid."""
        self._dead.add(self._pid)
        self._pid += 1
