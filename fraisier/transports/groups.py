"""Process groups of this machine: whether one lives, and how to end it for certain."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import anyio

_POLL_S = 0.01
_POLL_MAX_S = 0.1
_KILLED_S = 2.0


def is_alive(pgid: int) -> bool:
    """Whether a process of the group runs. A zombie, which nobody may ever collect, does not count."""
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return any(_runs_in(entry, pgid) for entry in Path("/proc").glob("[0-9]*"))


def _runs_in(entry: Path, pgid: int) -> bool:
    try:
        fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return len(fields) > 2 and fields[0] not in "ZX" and fields[2] == str(pgid)


async def end_group(pgid: int, grace_s: float) -> None:
    """End the group: TERM, up to `grace_s` to obey, then KILL. Bounded, and shielded from the caller's cancellation."""
    with anyio.CancelScope(shield=True):
        send(pgid, signal.SIGTERM)
        if not await _ends_within(pgid, grace_s):
            send(pgid, signal.SIGKILL)
            await _ends_within(pgid, _KILLED_S)


def send(pgid: int, number: signal.Signals) -> None:
    """Send a signal to every process of the group, if there is one."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


async def _ends_within(pgid: int, limit_s: float) -> bool:
    poll_s = _POLL_S / 4
    with anyio.move_on_after(limit_s):
        while is_alive(pgid):
            await anyio.sleep(poll_s)
            poll_s = min(poll_s * 2, _POLL_MAX_S)
        return True
    return not is_alive(pgid)
