"""The promises, looked after while a simulated world runs: told of every durable record and every effect at a host.

Each rule counts how often it was asked, so that a rule that is never asked shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from fraisier.events import TYPE_OF, Event, Record
from fraisier.events import types as ev
from fraisier.journal.fold import DeploymentState
from fraisier.rollout.plan import Plan, PlanTarget, decode_plan
from fraisier.simulation.process import Process
from fraisier.simulation.store import SharedStore
from fraisier.simulation.world import Command, World

CHANGING = frozenset({"migrate", "switch", "restart"})
ASKED_AGAIN = frozenset({"verify", "bake"})
RECENT_S = 20.0
"""So long after a fault of the world, what a host does says nothing about us."""

_TERMINAL: frozenset[type[Event]] = frozenset(
    {
        ev.DeploymentSucceeded,
        ev.DeploymentFailed,
        ev.DeploymentRolledBack,
        ev.DeploymentAborted,
    }
)
_UNDER_LEASE: frozenset[type[Event]] = frozenset(
    {
        ev.StepStarted,
        ev.StepSucceeded,
        ev.StepFailed,
        ev.WaveStarted,
        ev.WaveSucceeded,
        ev.WaveFailed,
        ev.TargetStarted,
        ev.TargetUpdated,
        ev.TargetFailed,
        ev.TargetRolledBack,
        ev.RollbackStarted,
        ev.RollbackSucceeded,
        ev.DeploymentPlanned,
        ev.DeploymentSucceeded,
        ev.DeploymentRolledBack,
        ev.DeploymentAborted,
    }
)
_NEVER_HEALTHY = frozenset({"sick", "exits"})


class Judge:
    """Watches one store and one world. `findings` are the promises that were broken, in words, with their place."""

    def __init__(self, store: SharedStore, world: World) -> None:
        self.store = store
        self.world = world
        self.findings: list[str] = []
        self.asked: Counter[str] = Counter()
        self.trusts_tokens = True
        """Until the store lost what it had called safe."""
        self._plans: dict[str, Plan] = {}
        self._done: set[tuple[str, str, str]] = set()
        self._ended: set[str] = set()
        self._epochs: dict[Process, dict[tuple[str, str], int]] = {}
        self._newest: dict[tuple[str, str], int] = {}
        self._good: dict[tuple[str, str, str], str] = {}
        self._restarted: dict[tuple[str, str], int] = {}
        self._passed: dict[tuple[str, str], int] = {}
        self._away: dict[str, set[str]] = {}
        self._well: set[tuple[str, str]] = set()
        """Places and targets that were said to be healthy: who never was is missed by nobody."""
        self._rules: dict[type[Event], list[Callable[[Record, Any], None]]] = {
            ev.LeaseAcquired: [self._epoch_grows],
            ev.DeploymentPlanned: [self._plan_is_safe],
            ev.StepStarted: [
                self._barrier,
                self._waves_in_order,
                self._not_twice,
                self._capacity,
                self._no_way_on_after_a_decision,
            ],
            ev.StepSucceeded: [self._note_done],
            ev.TargetStarted: [self._failures_are_counted],
            ev.HealthPassed: [self._evidence],
            ev.DeploymentSucceeded: [self._success],
            ev.DeploymentRolledBack: [self._back],
            ev.DeploymentFailed: [self._failed],
        }
        store.observers.append(self.record)
        world.observers.append(self.effect)

    # what it is told

    def record(self, record: Record, process: Process | None) -> None:
        """Judge a record that just became durable."""
        event = record.event
        self._lease_holds(record, process)
        for rule in self._rules.get(event.__class__, ()):
            rule(record, event)
        if event.__class__ in _TERMINAL:
            self._ends_once(record, event)
            self._nothing_runs_on(record, event)
            self._untouched(record, event)
        self._last_good(record)

    def effect(self, command: Command, moment: str) -> None:
        """Judge a command that acts at a host: it needs a durable intent, and the newest holder."""
        call = command.call
        if not self.trusts_tokens:
            return
        self._ask("P8 no effect without a durable intent")
        epoch, seq = call.token
        found = self.store.records[seq - 1].event if 0 < seq <= len(self.store.records) else None
        intent = isinstance(found, (ev.StepStarted, ev.HookStarted)) and (
            found.deployment_id,
            found.target,
            found.step,
            found.attempt,
        ) == (call.deployment_id, call.context.target.name, call.step, call.attempt)
        if not intent:
            self._find(
                "P8", f"{call.step} on {command.host.name} {moment} with the token {call.token}: no intent"
            )
        self._ask("P7 effects belong to the newest holder that acted there")
        if moment == "takes effect" and not command.detached:
            newest = command.host.tokens.get(call.log_id, (0, 0))[0]
            if newest > epoch:
                self._find("P7", f"{call.step} on {command.host.name} of epoch {epoch} after epoch {newest}")

    # leases

    def _lease_holds(self, record: Record, process: Process | None) -> None:
        event = record.event
        key = (event.fraise, event.environment)
        if process is None:
            return
        if isinstance(event, ev.LeaseAcquired):
            self._epochs.setdefault(process, {})[key] = event.epoch
            return
        if event.__class__ not in _UNDER_LEASE:
            return
        self._ask("P7 nothing is written under a lease that is another's")
        mine = self._epochs.get(process, {}).get(key, 0)
        if isinstance(event, ev.DeploymentAborted) and not self._state(event.deployment_id).version:
            return  # it was given up while it waited for the lease
        if mine != self._newest.get(key, 0):
            self._find(
                "P7",
                f"{process.name} wrote {TYPE_OF[event.__class__]} under epoch {mine}, "
                f"the newest is {self._newest.get(key, 0)} (seq {record.seq})",
            )

    def _epoch_grows(self, record: Record, event: ev.LeaseAcquired) -> None:
        key = (event.fraise, event.environment)
        self._ask("P7 epochs only grow")
        if event.epoch <= self._newest.get(key, 0):
            self._find("P7", f"epoch {event.epoch} after {self._newest[key]} (seq {record.seq})")
        self._newest[key] = event.epoch

    # plans and steps

    def _plan_is_safe(self, record: Record, event: ev.DeploymentPlanned) -> None:
        plan = self._plans[event.deployment_id] = decode_plan(bytes(event.plan))
        if plan.kind != "deploy":
            return  # where it goes back to was frozen in the plan that failed
        for target in plan.targets:
            row = self.store._tables.release_rows.get(
                (plan.fraise, plan.environment, target.name, target.previous_release)
            )
            self._ask("P4 never back to a release that is known to be bad")
            if row is not None and row.bad:
                self._find(
                    "P4",
                    f"{target.name} would go back to {target.previous_release}, which is bad (seq {record.seq})",
                )

    def _barrier(self, record: Record, event: ev.StepStarted) -> None:
        plan = self._plans.get(event.deployment_id)
        if plan is None or plan.kind != "deploy" or event.step not in CHANGING or event.before.get("settles"):
            return
        self._ask("P4 nothing is changed before every target is staged")
        state = self._state(event.deployment_id)
        for target in plan.changes:
            known = state.targets[target.name]
            if "stage" not in target.steps or known.outcome in ("unreachable", "failed", "rolled_back"):
                continue
            stage = known.steps.get("stage")
            if stage is None or stage.status != "succeeded":
                self._find(
                    "P4", f"{event.step} on {event.target} before {target.name} is staged (seq {record.seq})"
                )

    def _waves_in_order(self, record: Record, event: ev.StepStarted) -> None:
        plan, target = self._planned(event)
        if plan is None or target is None or plan.kind != "deploy" or event.step not in CHANGING:
            return
        if event.before.get("settles"):
            return
        migrate = plan.settings.migrate
        if event.step == "migrate" and migrate is not None and migrate.on == "first":
            return  # it comes before all waves, whichever target does it
        self._ask("P1 a wave begins after the one before it is verified")
        waves = self._state(event.deployment_id).waves
        for number in range(1, target.wave):
            if waves.get(number) != "succeeded":
                self._find(
                    "P1",
                    f"{event.step} on {event.target} in wave {target.wave}, wave {number} is "
                    f"{waves.get(number, 'not begun')} (seq {record.seq})",
                )

    def _not_twice(self, record: Record, event: ev.StepStarted) -> None:
        self._ask("P6 a step that is done is not taken again")
        if event.step not in ASKED_AGAIN and (event.deployment_id, event.target, event.step) in self._done:
            self._find("P6", f"{event.step} on {event.target} again after its success (seq {record.seq})")

    def _note_done(self, record: Record, event: ev.StepSucceeded) -> None:
        self._done.add((event.deployment_id, event.target, event.step))

    def _capacity(self, record: Record, event: ev.StepStarted) -> None:
        plan, target = self._planned(event)
        if event.step != "restart" or plan is None or target is None:
            return
        place = f"{event.fraise}/{event.environment}"
        away = self._away.setdefault(place, set())
        if target.action == "remove":
            away.discard(event.target)  # its first release is taken away again: from here on nobody misses it
            self._well.discard((place, event.target))
            return
        if event.target in plan.down:
            return  # it was down when this was planned, so it needs no permit
        key = (event.deployment_id, event.target)
        self._restarted[key] = record.seq
        now_s = self.world.now_s()
        away.difference_update([name for name in away if self.world.hosts[name].serves(now_s)])
        host = self.world.hosts[event.target]
        if host.serves(now_s) and event.attempt == 1 and self.trusts_tokens:
            self._ask("P2 never more targets away than max_unavailable")
            others = sorted(
                name
                for name in away - {event.target}
                if now_s - self.world.hosts[name].faulted_s > RECENT_S or self.world.hosts[name].faulted_s < 0
            )
            if len(others) + 1 > plan.max_unavailable:
                self._find(
                    "P2",
                    f"restart on {event.target} while {', '.join(others)} are away, "
                    f"max_unavailable is {plan.max_unavailable} (seq {record.seq})",
                )
        if host.serves(now_s) and (place, event.target) in self._well:
            away.add(event.target)

    def _no_way_on_after_a_decision(self, record: Record, event: ev.StepStarted) -> None:
        state = self._state(event.deployment_id)
        if state.kind == "deploy" and event.step in CHANGING and not event.before.get("settles"):
            self._ask("P4 after the decision to roll back nothing goes forward")
            if state.decision == "rollback":
                self._find("P4", f"{event.step} on {event.target} after the decision (seq {record.seq})")

    def _failures_are_counted(self, record: Record, event: ev.TargetStarted) -> None:
        plan = self._plans.get(event.deployment_id)
        if plan is None or plan.kind != "deploy":
            return
        self._ask("P2 no target begins once more than max_failures have failed")
        targets = self._state(event.deployment_id).targets.values()
        failed = [
            t.name for t in targets if t.outcome in ("failed", "unreachable", "rolled_back") and t.begun
        ]
        if len(failed) > plan.max_failures:
            self._find("P2", f"{event.target} begins after {', '.join(failed)} failed (seq {record.seq})")

    # evidence

    def _evidence(self, record: Record, event: ev.HealthPassed) -> None:
        self._passed[event.deployment_id, event.target] = record.seq
        # It serves, as far as anybody can know; what it does after that is its own.
        place = f"{event.fraise}/{event.environment}"
        self._well.add((place, event.target))
        self._away.get(place, set()).discard(event.target)
        host = self.world.hosts.get(event.target)
        now_s = self.world.now_s()
        if host is None or not event.release or 0 <= now_s - host.faulted_s <= RECENT_S:
            return
        self._ask("P5 a passed health check tells the truth")
        kind = host.unit.behaviour.kind
        never = kind in _NEVER_HEALTHY and (kind == "exits" or event.check_type != "none")
        if host.unit.release != event.release or never:
            self._find(
                "P5",
                f"{event.target} is said to be healthy with {event.release}; it runs "
                f"{host.unit.release or 'nothing'}, which is {kind} (seq {record.seq})",
            )

    def _success(self, record: Record, event: ev.DeploymentSucceeded) -> None:
        plan, state = self._plans.get(event.deployment_id), self._state(event.deployment_id)
        if plan is None:
            return
        now_s = self.world.now_s()
        for target in plan.targets:
            if target.action == "remove":
                continue
            key, known = (event.deployment_id, target.name), state.targets[target.name]
            self._ask("P5 success needs evidence on every target")
            if known.outcome not in ("updated", "unchanged"):
                self._find(
                    "P5", f"succeeded, and {target.name} is {known.outcome or 'open'} (seq {record.seq})"
                )
            elif self._passed.get(key, 0) <= self._restarted.get(key, 0):
                self._find("P5", f"succeeded without a health check of {target.name} (seq {record.seq})")
            host = self.world.hosts[target.name]
            faulted = host.faulted_s >= 0 and now_s - host.faulted_s < 600
            if known.outcome == "updated" and host.current != target.release:
                self._find("P5", f"succeeded, and {target.name} is on {host.current} (seq {record.seq})")
            good = self.world.behaviour(target.version, target.name).is_good
            works = host.serves(now_s) if plan.settings.health_check else host.unit.runs(now_s)
            if good and not faulted and not works:
                self._find("P5", f"succeeded, and {target.name} does not serve (seq {record.seq})")

    def _back(self, record: Record, event: ev.DeploymentRolledBack) -> None:
        plan, state = self._plans.get(event.deployment_id), self._state(event.deployment_id)
        if plan is None:
            return
        by_name = {target.name: target for target in plan.targets}
        for name, target in state.targets.items():
            if not target.begun:
                continue
            self._ask("P4 rolled back means every changed target is on its previous release")
            current, previous = self.world.hosts[name].current, by_name[name].previous_release
            if target.outcome != "rolled_back" or current != previous:
                self._find(
                    "P4",
                    f"rolled back, and {name} is {target.outcome} on {current or 'nothing'}, "
                    f"not {previous or 'nothing'} (seq {record.seq})",
                )

    def _failed(self, record: Record, event: ev.DeploymentFailed) -> None:
        self._ask("P4 a failed preparation changes nothing")
        if event.reason == "prepare_failed":
            begun = [t.name for t in self._state(event.deployment_id).targets.values() if t.begun]
            if begun:
                self._find("P4", f"prepare_failed, and {', '.join(begun)} were begun (seq {record.seq})")

    def _ends_once(self, record: Record, event: Event) -> None:
        self._ask("P6 a deployment ends once")
        if event.deployment_id in self._ended:
            self._find(
                "P6",
                f"{TYPE_OF[event.__class__]} of {event.deployment_id[-6:]} after its end (seq {record.seq})",
            )
        self._ended.add(event.deployment_id)

    def _nothing_runs_on(self, record: Record, event: Event) -> None:
        if not self.trusts_tokens:
            return
        self._ask("P6 nothing of a deployment runs on after its end")
        state = self._state(event.deployment_id)
        for host in (*self.world.hosts.values(), self.world.here):
            for (deployment_id, kind, _), receipt in host.receipts.items():
                known = state.targets.get(host.name)
                doubtful = known is not None and known.outcome in ("in_doubt", "unreachable")
                if deployment_id == event.deployment_id and receipt == "running" and host.up and not doubtful:
                    self._find(
                        "P6",
                        f"{TYPE_OF[event.__class__]} while a job ({kind}) runs on {host.name} (seq {record.seq})",
                    )

    def _untouched(self, record: Record, event: Any) -> None:
        plan, state = self._plans.get(event.deployment_id), self._state(event.deployment_id)
        if plan is None:
            return
        by_name = {target.name: target for target in plan.targets}
        for name, target in state.targets.items():
            self._ask("P5 untouched means that nothing was begun there")
            if target.outcome == "untouched" and CHANGING & target.steps.keys():
                self._find("P5", f"{name} is untouched, and {target.step} was begun (seq {record.seq})")
            planned, current = by_name.get(name), self.world.hosts[name].current
            if planned is None or not target.begun or target.outcome in ("in_doubt", "unreachable"):
                continue
            self._ask("P6 what was touched is on the new release, or on the previous one")
            mine = {planned.release, planned.previous_release, planned.current_release}
            if current not in mine:
                self._find("P6", f"{name} is left on {current or 'nothing'} (seq {record.seq})")

    def _last_good(self, record: Record) -> None:
        for key, place in self.store._tables.placements.items():
            if self._good.get(key, "") == place.good_release:
                continue
            self._ask("P4 last good moves only with a terminal row")
            if self._good.get(key) is not None and record.event.__class__ not in _TERMINAL:
                self._find(
                    "P4",
                    f"{TYPE_OF[record.event.__class__]} moved the last good of {key[2]} (seq {record.seq})",
                )
            self._good[key] = place.good_release

    # small things

    def forget_tail(self) -> None:
        """The store lost rows that it had called safe: what was concluded from them is void."""
        self.trusts_tokens = False
        self._good = {key: place.good_release for key, place in self.store._tables.placements.items()}
        self._newest = {key: lease.epoch for key, lease in self.store._tables.leases.items()}
        self._done.clear()
        self._ended = {d.id for d in self.store._tables.deployments.values() if d.is_terminal}

    def _planned(self, event: ev.StepStarted) -> tuple[Plan | None, PlanTarget | None]:
        plan = self._plans.get(event.deployment_id)
        found = None if plan is None else next((t for t in plan.targets if t.name == event.target), None)
        return plan, found

    def _state(self, deployment_id: str) -> DeploymentState:
        found = self.store._tables.find_deployment(deployment_id)
        assert found is not None
        return found

    def _ask(self, rule: str) -> None:
        self.asked[rule] += 1

    def _find(self, promise: str, what: str) -> None:
        self.findings.append(f"{promise}: {what}")
