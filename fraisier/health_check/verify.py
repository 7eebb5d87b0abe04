"""Does the new release come up? Failing probes are a start-up until it first rises; then it is read back."""

from __future__ import annotations

import anyio

from fraisier.health_check.examination import Examination, Look, Verdict
from fraisier.health_check.ticker import Ticker

APPEAR_S = 1.0
"""How long a service that was restarted may take to be seen running for the first time."""

APPEAR_STEP_S = 0.1


async def verify(exam: Examination) -> Verdict:
    """Return when the release is proved to serve, its service has ended, or the deadline has passed."""
    limit_s = exam.limited(exam.timing.deadline_s)
    with anyio.move_on_after(limit_s):
        return await _rise(exam)
    return exam.overdue(limit_s)


async def _rise(exam: Examination) -> Verdict:
    ticker = Ticker(exam.timing.interval_s, exam.tally)
    passes = 0
    appeared = False
    while True:
        if exam.elapsed_s >= exam.timing.initial_delay_s:
            passes = await _counted(exam, passes)
        look = await exam.look()
        if not appeared and _may_appear(exam, look):
            await anyio.sleep(APPEAR_STEP_S)
            continue
        appeared = True
        ended = exam.exited(look)
        if ended:
            return await exam.failed_by_exit(ended)
        if exam.checker is None and look.facts is not None:
            passes = exam.timing.rise if look.facts.running is None else passes + 1
        if passes < exam.timing.rise:
            exam.disagreement = None
        elif not await exam.disagrees(look):
            return exam.passed(_proof(exam, passes))
        await ticker.tick()


def _may_appear(exam: Examination, look: Look) -> bool:
    """Whether a service that does not run may still be about to: nothing was seen of its new start, and time is left."""
    facts = look.facts
    if facts is None or facts.running is not False or exam.elapsed_s >= APPEAR_S:
        return False
    return facts.invocation in ("", exam.event.baseline)


async def _counted(exam: Examination, passes: int) -> int:
    """Return the passes in a row after one more probe; one that could not be made changes nothing."""
    if exam.checker is None:
        return passes
    result = await exam.sample()
    if result.status == "error":
        return passes
    return passes + 1 if result.success else 0


def _proof(exam: Examination, passes: int) -> str:
    if exam.checker is None:
        facts = exam.look_taken.facts
        return "nothing to check" if facts is None or facts.running is None else "the service runs"
    return f"{passes} probes passed in a row, and the release was read back"
