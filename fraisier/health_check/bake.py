"""Does it stay up? Now a failing run is a verdict."""

from __future__ import annotations

import anyio

from fraisier.health_check.examination import Examination, Verdict
from fraisier.health_check.ticker import Ticker


class Run:
    """What failed in a row, and whether anything of it is evidence."""

    def __init__(self) -> None:
        self.fails = 0
        self.answered = False
        self.unreachable = 0
        self.healthy = False

    def count(self, *, success: bool, answered: bool) -> None:
        """Count a probe that was a pass or a fail."""
        self.healthy = success
        self.fails = 0 if success else self.fails + 1
        self.answered = not success and (self.answered or answered)


async def bake(exam: Examination) -> Verdict:
    """Return when the service stayed healthy through min_healthy_time, or as soon as it did not.

    The end needs a good last answer: while the last probes fail, or cannot be made, it waits on, at most for
    the check's `deadline`.
    """
    hold_s = exam.subject.context.settings.rollout.min_healthy_time_s
    limit_s = exam.limited(hold_s + exam.timing.deadline_s)
    with anyio.move_on_after(limit_s):
        return await _hold(exam, exam.started + hold_s)
    return exam.overdue(limit_s)


async def _hold(exam: Examination, end: float) -> Verdict:
    ticker = Ticker(exam.timing.interval_s, exam.tally)
    run = Run()
    while True:
        now = anyio.current_time()
        verdict = await _round(exam, run)
        if verdict is not None:
            return verdict
        good = run.healthy if exam.checker else True
        if now >= end and good and exam.look_taken.facts is not None:
            return exam.passed("stayed healthy")
        await ticker.tick(end if now < end else float("inf"))


async def _round(exam: Examination, run: Run) -> Verdict | None:
    if exam.checker is not None:
        result = await exam.sample()
        if result.status != "error":
            run.count(success=result.success, answered=result.answered)
    look = await exam.look()
    ended = exam.exited(look)
    if ended:
        return await exam.failed_by_exit(ended)
    if run.fails >= exam.timing.fall:
        last = exam.tally.last.message if exam.tally.last else ""
        told = f"{exam.event.target}: {run.fails} probes failed in a row; last answer: {last}"
        return exam.failed("fall", told, bad=run.answered)
    run.unreachable = run.unreachable + 1 if look.unreachable else 0
    if run.unreachable >= exam.timing.fall:
        return exam.unreachable(look)
    if look.facts is None:
        return None
    found = exam.unlike(look)
    if found is not None and found.proved:
        return exam.failed("wrong_release", f"{exam.event.target}: {found.text}", bad=True)
    return None
