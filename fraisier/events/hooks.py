"""Hooks: the intent and the outcome of a command of the user's. What it printed are events `step.output`."""

from __future__ import annotations

from fraisier.events.base import StepEvent


class HookEvent(StepEvent, frozen=True, kw_only=True):
    """What the events of a hook share. `phase` is the key that it stands under (`before_switch`), `where` the place that it
    runs at; `step` is `hook:NAME`, and `target` is empty when it runs for the deployment as a whole."""

    phase: str = ""
    name: str = ""
    where: str = ""


class HookStarted(HookEvent, frozen=True, tag="hook.started"):
    """The intent: durable before the hook is run."""


class HookSucceeded(HookEvent, frozen=True, tag="hook.succeeded"):
    """The outcome: the hook ended with exit code 0."""

    duration_s: float = 0.0


class HookFailed(HookEvent, frozen=True, tag="hook.failed"):
    """The outcome: the hook failed, with `on_failure` as its consequence. `known` is False when nobody knows how it ended;
    `exit_code` is None when there is none."""

    duration_s: float = 0.0
    on_failure: str = "warn"
    exit_code: int | None = None
    code: str = ""
    message: str = ""
    known: bool = True
    output_tail: tuple[str, ...] = ()
