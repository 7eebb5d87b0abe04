"""What holds after a crash, wherever it was: each function returns what is broken, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fraisier.events import TYPE_OF
from fraisier.events import types as ev
from fraisier.journal.fold import DeploymentState
from fraisier.rollout.fallback import is_beside
from tests.simulation.scenarios import TARGETS, Scenario
from tests.simulation.stage import SimulatedFleet

TAKEN_AGAIN = {"verify", "bake"}
"""Steps whose earlier success proves nothing after a crash."""


@dataclass(frozen=True)
class Aftermath:
    """The fleet after a crash and what was done about it: `outcomes` of the repairs (resumed deployments, or the one that
    was sent after), the `fewest` targets that served at any moment since the deployment began."""

    scenario: Scenario
    fleet: SimulatedFleet
    outcomes: tuple[str, ...]
    fewest: int

    @property
    def deployments(self) -> list[DeploymentState]:
        """All deployments, oldest first."""
        return self.fleet.deployments()

    @property
    def doubt(self) -> bool:
        """Whether a migration began and nobody can know whether it ended. Who is sent after a dead deployment asks the
        journal alone, and there an intent without an outcome is enough."""
        if "begun" in self.fleet.world.receipts.values():
            return True
        steps = [t.steps.get("migrate") for d in self.deployments for t in d.targets.values()]
        return self.scenario.superseded and any(step and step.status == "started" for step in steps)


def it_ends_by_name(a: Aftermath) -> Iterator[str]:
    """A repair ends in an outcome that the scenario allows; a person is needed only where a migration is in doubt."""
    for outcome in a.outcomes:
        if outcome not in a.scenario.ends and not (outcome == "needs_attention" and a.doubt):
            yield f"the outcome is {outcome!r}, not {' or '.join(sorted(a.scenario.ends))}"


def no_target_serves_what_is_sick(a: Aftermath) -> Iterator[str]:
    """No target is left on a version that does not work there."""
    world = a.fleet.world
    if "needs_attention" in a.outcomes:
        return
    for name, version in world.serving().items():
        if version and not world.is_healthy(name):
            yield f"{name} is left on {version[:8]}, which is not healthy there"


def outcomes_say_what_serves(a: Aftermath) -> Iterator[str]:
    """`succeeded` means the new version everywhere, `rolled_back` the previous one."""
    serving = a.fleet.world.serving()
    if any(name for name in serving if is_beside(name)) and a.deployments[-1].fallback:
        here = {version for name, version in serving.items() if not is_beside(name)}
        if here != {a.scenario.previous}:
            yield f"went through the fallback, but the environment's own targets serve {serving}"
        serving = {name: version for name, version in serving.items() if is_beside(name)}
    for outcome in a.outcomes[-1:]:
        wanted = {
            "succeeded": {a.scenario.version},
            "rolled_back": {a.scenario.previous},
            "failed": {a.scenario.version, a.scenario.previous},
        }.get(outcome)
        if wanted is not None and not set(serving.values()) <= wanted:
            yield f"{outcome}, but the targets serve {serving}"


def migrations_happen_once(a: Aftermath) -> Iterator[str]:
    """A release's migration is done once and undone once, in this order."""
    for release in dict.fromkeys(release for _, release in a.fleet.world.migrations):
        kinds = [kind for kind, of in a.fleet.world.migrations if of == release]
        if kinds not in (["do"], ["do", "undo"]):
            yield f"migrations of {release}: {', '.join(kinds)}"


def nothing_is_switched_before_all_is_staged(a: Aftermath) -> Iterator[str]:
    """No target is switched to a release before every target of that deployment has it."""
    effects = a.fleet.world.effects
    for deployment in a.deployments:
        if deployment.kind != "deploy":
            continue
        changed = {
            name: t.release
            for name, t in deployment.targets.items()
            if t.action == "update" and is_beside(name) == bool(deployment.fallback)
        }
        switches = [
            number
            for number, (step, name, release) in enumerate(effects)
            if step == "switch" and changed.get(name) == release
        ]
        staged = {
            name
            for step, name, release in effects[: min(switches, default=0)]
            if step == "stage" and changed.get(name) == release
        }
        if switches and staged != set(changed):
            yield f"{deployment.id}: switched when only {', '.join(sorted(staged))} were staged"


def enough_targets_serve(a: Aftermath) -> Iterator[str]:
    """At most one target is away at any moment."""
    if a.scenario.before and a.fewest < TARGETS - 1:
        yield f"only {a.fewest} of {TARGETS} targets served at some moment"


def the_journal_is_sound(a: Aftermath) -> Iterator[str]:
    """The chain verifies and the tables are the fold of the log."""
    yield from a.fleet.faults()


def no_step_is_repeated(a: Aftermath) -> Iterator[str]:
    """A step with a recorded success is not taken again in its deployment."""
    done: set[tuple[str, str, str]] = set()
    for record in a.fleet.records():
        event = record.event
        if isinstance(event, ev.StepSucceeded) and event.step not in TAKEN_AGAIN:
            done.add((event.deployment_id, event.target, event.step))
        elif isinstance(event, ev.StepStarted) and (event.deployment_id, event.target, event.step) in done:
            yield f"{TYPE_OF[event.__class__]} {event.step}@{event.target} after its success (seq {record.seq})"


def nothing_is_left_open(a: Aftermath) -> Iterator[str]:
    """Every deployment has its terminal row, less one that needs a person, or that another one was sent after before it
    had a version: it may wait for the lease in a process that lives, for all that anybody knows."""
    for deployment in a.deployments:
        waits = a.scenario.superseded and not deployment.version
        refused = a.scenario.superseded and "needs_attention" in a.outcomes
        if not deployment.is_terminal and deployment.state != "needs_attention" and not waits and not refused:
            yield f"deployment {deployment.id[-6:]} ({deployment.kind}) is left {deployment.state}"


PROMISES = (
    it_ends_by_name,
    no_target_serves_what_is_sick,
    outcomes_say_what_serves,
    migrations_happen_once,
    nothing_is_switched_before_all_is_staged,
    enough_targets_serve,
    the_journal_is_sound,
    no_step_is_repeated,
    nothing_is_left_open,
)


def broken(aftermath: Aftermath) -> list[str]:
    """Return every promise that does not hold."""
    return [f"{promise.__name__}: {fault}" for promise in PROMISES for fault in promise(aftermath)]
