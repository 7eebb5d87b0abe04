"""One simulated process: it dies where it is told to, and nothing of it has any effect afterwards."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from fraisier.errors import FraisierError
from fraisier.events import types as ev
from fraisier.simulation.crash import CrashPoint, every_crash_point
from fraisier.simulation.journal import MortalJournal
from fraisier.simulation.life import live
from fraisier.simulation.loop import StandstillError
from fraisier.testing import SeededIds, VirtualClock, run_virtual

NOTES = [ev.DeploymentQueued(deployment_id=f"d{number}") for number in range(3)]


def written(crash: CrashPoint) -> int:
    """How many of three records are in the journal when their writer dies there; it writes one more in its `finally`."""
    journal = MortalJournal(clock=VirtualClock(), ids=SeededIds())
    journal.begin(crash)

    async def work() -> None:
        await journal.open(lambda _records: None)
        try:
            for note in NOTES:
                await journal.append(note)
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await journal.append(NOTES[0])

    assert live(work, crash=crash, on_death=journal.kill).died
    return journal.head


def test_a_process_dies_before_or_after_an_append_commits_and_its_finally_writes_nothing() -> None:
    """Before the second append one record is durable, after it two."""
    assert written(CrashPoint("before append", 2)) == 1
    assert written(CrashPoint("after append", 2)) == 2


def test_a_process_dies_instead_of_running_a_handle() -> None:
    """The first handle is the beginning of the work; what was never begun wrote nothing."""
    assert written(CrashPoint("handle", 1)) == 0


def test_a_life_without_a_crash_returns_what_its_work_returned() -> None:
    """And it raises what its work raised."""

    async def work() -> str:
        await anyio.sleep(5)
        return "done"

    async def fails() -> None:
        await anyio.lowlevel.checkpoint()
        raise FraisierError("no")

    lived = live(work, crash=CrashPoint(), on_death=lambda: None)
    assert (lived.value, lived.died, lived.took_s) == ("done", False, 5)
    with pytest.raises(FraisierError, match="no"):
        live(fails, crash=CrashPoint(), on_death=lambda: None)


def test_tasks_that_keep_each_other_busy_for_ever_are_found() -> None:
    """A clock that never moves on would hang the whole run."""

    async def spin() -> None:
        while True:
            await anyio.lowlevel.checkpoint()

    with pytest.raises(StandstillError, match="stands still"):
        run_virtual(spin)


def test_every_crash_point_is_named_once() -> None:
    """Two for each append, one for each handle, or for one handle out of so many."""
    assert len(set(every_crash_point(handles=10, appends=3))) == 16
    assert [str(one) for one in every_crash_point(handles=10, appends=0, stride=4)] == [
        "handle 1",
        "handle 5",
        "handle 9",
    ]
