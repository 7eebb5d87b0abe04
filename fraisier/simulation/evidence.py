"""Further rules of the judge: what a conclusion must rest on. Steps on effects, verdicts on answers, success on fresh ones, a
takeover on a holder that is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fraisier.events import Event, Record
from fraisier.events import types as ev
from fraisier.rollout.plan import PlanTarget
from fraisier.rollout.steps import HEALTH_STEPS
from fraisier.simulation.judge import Judge
from fraisier.simulation.process import Process
from fraisier.simulation.world import Command

_SEEN = frozenset({"exited", "wrong_release"})
"""Reasons that a look at the target gives, without any probe."""


class Hold:
    """A lease as it was last written: by whom, and until when it lasts on the wall clock and on the world's."""

    def __init__(self, process: Process | None, at_us: int, expires_us: int, now_s: float) -> None:
        self.process = process
        self.expires_us = expires_us
        self.silent_s = now_s + (expires_us - at_us) / 1_000_000

    def may_be_taken(self, at_us: int, now_s: float) -> bool:
        """Whether its holder is gone, or let it expire, or was silent for as long."""
        gone = self.process is None or self.process.gone
        return gone or at_us >= self.expires_us or now_s >= self.silent_s


class Evidence:
    """Asks its rules of the same store and world as a judge, after it, and tells it what it finds."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._holds: dict[tuple[str, str], Hold] = {}
        self._updated: dict[str, int] = {}
        self._newest_seq = 0
        self._done: set[tuple[str, str, str]] = set()
        self._rules: dict[type[Event], Callable[[Record, Any], None]] = {
            ev.DeploymentPlanned: self._way_back_is_good,
            ev.TargetUpdated: self._note_updated,
            ev.StepSucceeded: self._was_done,
            ev.HealthPassed: self._enough_answers,
            ev.HealthFailed: self._bad_needs_an_answer,
            ev.DeploymentSucceeded: self._success_is_fresh,
        }
        judge.store.observers.append(self.record)
        judge.world.observers.append(self.effect)

    def record(self, record: Record, process: Process | None) -> None:
        """Judge a record that just became durable."""
        if record.seq <= self._newest_seq:  # the store lost rows, and what was concluded from them is void
            self._holds.clear()
            self._updated.clear()
        self._newest_seq = record.seq
        self._lease(record, process)
        rule = self._rules.get(record.event.__class__)
        if rule is not None:
            rule(record, record.event)

    def effect(self, command: Command, moment: str) -> None:
        """Judge a command that acts at a host."""
        call = command.call
        self._ask("P7 every command names the log that its token counts in")
        if call.log_id != self._judge.store.fence_id:
            self._find("P7", f"{call.step} on {command.host.name} {moment} with a token of no known log")
        if moment == "takes effect":
            self._done.add((call.deployment_id, command.host.name, call.step))

    # leases

    def _lease(self, record: Record, process: Process | None) -> None:
        event = record.event
        key, now_s = (event.fraise, event.environment), self._judge.world.now_s()
        if isinstance(event, ev.LeaseReleased):
            self._holds.pop(key, None)
        elif isinstance(event, ev.LeaseRenewed):
            self._holds[key] = Hold(process, record.at_us, event.expires_at, now_s)
        elif isinstance(event, ev.LeaseAcquired):
            self._ask("P7 a lease is taken only from a holder that is gone or silent")
            held = self._holds.get(key)
            if (
                held is not None
                and held.process is not process
                and not held.may_be_taken(record.at_us, now_s)
            ):
                holder = held.process.name if held.process is not None else "nobody"
                self._find(
                    "P7", f"epoch {event.epoch} was taken from {holder}, which lives (seq {record.seq})"
                )
            self._holds[key] = Hold(process, record.at_us, event.expires_at, now_s)

    # plans

    def _way_back_is_good(self, record: Record, event: ev.DeploymentPlanned) -> None:
        plan = self._judge._plans[event.deployment_id]
        rows = self._judge.store._tables.release_rows
        for target in plan.changes if plan.kind == "deploy" else ():
            self._ask("P4 no plan would go back to a release that is known to be bad")
            row = rows.get((plan.fraise, plan.environment, target.name, target.previous_release))
            if row is not None and row.bad:
                self._find(
                    "P4",
                    f"{target.name} would go back to {target.previous_release}, which is bad (seq {record.seq})",
                )

    # steps

    def _was_done(self, record: Record, event: ev.StepSucceeded) -> None:
        if event.step in HEALTH_STEPS:
            return
        self._ask("P5 a step that is said to have succeeded was done at its target")
        if (event.deployment_id, event.target, event.step) not in self._done:
            self._find(
                "P5", f"{event.step} on {event.target} succeeded, and was never done (seq {record.seq})"
            )

    # answers

    def _enough_answers(self, record: Record, event: ev.HealthPassed) -> None:
        plan, target = self._planned(event)
        check = None
        if plan is not None and target is not None:
            check = (target.settings or plan.settings).health_check
        if check is None or event.check_type == "none":
            return
        self._ask("P5 a passed health check rests on as many good answers as were wanted")
        wanted = check.rise if event.purpose == "verify" else 1
        good = event.counts.get("pass", 0)
        if good < wanted:
            self._find("P5", f"{event.target} passed with {good} good answers of {wanted} (seq {record.seq})")

    def _bad_needs_an_answer(self, record: Record, event: ev.HealthFailed) -> None:
        self._ask("P5 only an answer makes a release bad")
        if event.bad and event.reason not in _SEEN and not event.counts.get("fail"):
            self._find(
                "P5",
                f"{event.target} calls its release bad ({event.reason}), and nobody answered (seq {record.seq})",
            )

    def _note_updated(self, record: Record, event: ev.TargetUpdated) -> None:
        self._updated[event.deployment_id] = record.seq

    def _success_is_fresh(self, record: Record, event: ev.DeploymentSucceeded) -> None:
        plan = self._judge._plans.get(event.deployment_id)
        if plan is None or plan.kind != "deploy":
            return
        state = self._judge._state(event.deployment_id)
        for target in plan.changes:
            if target.wave >= len(plan.waves) or state.targets[target.name].outcome != "updated":
                continue
            self._ask("P5 targets of earlier waves answered after the last one was updated")
            passed = self._judge._passed.get((event.deployment_id, target.name), 0)
            if passed < self._updated.get(event.deployment_id, 0):
                self._find("P5", f"succeeded without asking {target.name} again (seq {record.seq})")

    # small things

    def _planned(self, event: Event) -> tuple[Any, PlanTarget | None]:
        plan = self._judge._plans.get(event.deployment_id)
        found = None if plan is None else next((t for t in plan.targets if t.name == event.target), None)
        return plan, found

    def _ask(self, rule: str) -> None:
        self._judge.asked[rule] += 1

    def _find(self, promise: str, what: str) -> None:
        self._judge.findings.append(f"{promise}: {what}")
