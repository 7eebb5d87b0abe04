"""Steps: the intent, what was printed, the outcome."""

from __future__ import annotations

from typing import Any, ClassVar

from fraisier.events.base import StepEvent


class StepStarted(StepEvent, frozen=True, tag="step.started"):
    """The intent: durable before the step touches the target. `before` is what a probe needs to tell done from not done."""

    before: dict[str, Any] = {}


class StepOutput(StepEvent, frozen=True, tag="step.output"):
    """A line that a step printed; `stream` is stdout or stderr. Ephemeral."""

    ephemeral: ClassVar[bool] = True

    stream: str = "stdout"
    line: str = ""


class StepSucceeded(StepEvent, frozen=True, tag="step.succeeded"):
    """The outcome: the step is done; `evidence` says how that is known."""

    duration_s: float = 0.0
    evidence: dict[str, Any] = {}


class StepFailed(StepEvent, frozen=True, tag="step.failed"):
    """The outcome: the step failed. `known` is False when the effect may have happened all the same."""

    duration_s: float = 0.0
    code: str = ""
    error_type: str = ""
    message: str = ""
    recoverable: bool = False
    known: bool = True
    output_tail: tuple[str, ...] = ()
