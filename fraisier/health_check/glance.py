"""Is it healthy now? One look, one probe."""

from __future__ import annotations

import anyio

from fraisier.health_check.examination import Examination, Verdict

LOOK_S = 10.0


async def glance(exam: Examination) -> Verdict:
    """Return the verdict of this moment."""
    limit_s = exam.limited(exam.timing.timeout_s + LOOK_S)
    with anyio.move_on_after(limit_s):
        return await _glance(exam)
    return exam.overdue(limit_s)


async def _glance(exam: Examination) -> Verdict:
    look = await exam.look()
    if look.unreachable:
        return exam.unreachable(look)
    if look.facts is None:
        return exam.failed("no_answer", f"{exam.event.target}: {look.problem}", bad=False)
    ended = exam.exited(look)
    if ended:
        return exam.failed("exited", f"{exam.event.target}: {ended}", bad=True)
    found = await exam.disagrees(look)
    if found is not None:
        reason = "wrong_release" if found.proved else "no_answer"
        return exam.failed(reason, f"{exam.event.target}: {found.text}", bad=found.proved)
    if exam.checker is None:
        return exam.passed("nothing to check" if look.facts.running is None else "the service runs")
    result = await exam.sample()
    told = result.message or ""
    if result.success:
        return exam.passed(told)
    answered = result.status == "fail" and result.answered
    return exam.failed("fall" if answered else "no_answer", f"{exam.event.target}: {told}", bad=answered)
