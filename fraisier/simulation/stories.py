"""Trials with a plot: what chance alone brings about too seldom to prove anything.

Each story changes a drawn trial as little as it needs. Whatever else was drawn (the configuration, hooks, faults) stays, so
that the same story meets many worlds.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from fraisier.simulation.services import Behaviour
from fraisier.simulation.spec import Act, ActKind, Fault, Spec

CHANCE = 0.35
"""So many of the trials have a plot."""


def with_story(rng: random.Random, spec: Spec) -> Spec:
    """Return the trial as it was drawn, or one of the stories in its world."""
    if rng.random() >= CHANCE:
        return spec
    return rng.choice(STORIES)(rng, spec)


def _worn(rng: random.Random, spec: Spec) -> Spec:
    """The first release cannot be gone back to: it comes up once only. Then deploy what fails, twice."""
    host = rng.choice(spec.settings.targets).name
    worn = [("v1", host, Behaviour("worn")), ("v2", host, Behaviour("sick")), ("v3", host, Behaviour("sick"))]
    kept = [one for one in spec.behaviours if one[:2] not in {found[:2] for found in worn}]
    at_s = spec.acts[-1].at_s + 70.0
    again = Act(at_s=at_s, kind="deploy", version="v3", force=True, lock_wait_s=60.0)
    return _changed(spec, behaviours=(*kept, *worn), acts=(*spec.acts, again), least_s=at_s + 110.0)


def _given_up(rng: random.Random, spec: Spec) -> Spec:
    """An abort while the waves go on, and the process dies on the way back."""
    aborted_s = rng.uniform(1, 15)
    killed_s = aborted_s + rng.uniform(0.5, 6)
    spec = _with_rollout(_good(rng, spec), batch=("1",), on_failure="rollback", pause_s=0.0)
    return _changed(spec, acts=_killed(rng, killed_s, Act(at_s=aborted_s, kind="abort")))


def _out_of_time(rng: random.Random, spec: Spec) -> Spec:
    """Nothing fails but the time, and the process dies on the way back."""
    timeout_s = rng.uniform(4, 25)
    killed_s = timeout_s + rng.uniform(0.0, 5)
    spec = _with_rollout(_good(rng, spec), batch=("1",), on_failure="rollback")
    settings = msgspec.structs.replace(spec.settings, rollback_timeout_s=200.0)
    return _changed(spec, acts=_killed(rng, killed_s), settings=settings, impatient_s=timeout_s)


def _cut_short(rng: random.Random, spec: Spec) -> Spec:
    """Somebody ends the pause between two waves."""
    acts = (
        Act(at_s=0.0, kind="deploy", version="v2"),
        Act(at_s=rng.uniform(4, 25), kind="promote"),
        Act(at_s=rng.uniform(25, 40), kind="promote"),
    )
    return _changed(_with_rollout(_good(rng, spec), batch=("1",), pause_s=30.0), acts=acts)


def _once_more(rng: random.Random, spec: Spec) -> Spec:
    """A full disk fails a deployment, and it is asked for once more when there is room."""
    full_s = rng.uniform(5, 15)
    acts = (
        Act(at_s=0.5, kind="deploy", version="v2"),
        Act(at_s=full_s + rng.uniform(5, 30), kind="retry", lock_wait_s=60.0),
    )
    full = Fault(kind="disk_full", at_s=0.0, for_s=full_s)
    return _changed(_good(rng, spec), acts=acts, faults=(full, *spec.faults), failing_migrations=False)


def _crossing(rng: random.Random, spec: Spec) -> Spec:
    """Commands of the dead are still on their way when the next holder sends its own, over a link that is quick again."""
    acts, slow = [Act(at_s=0.0, kind="deploy", version="v2")], []
    at_s = 0.0
    for number in range(3):
        at_s += rng.uniform(3, 12)
        slow.append(Fault(kind="weather", at_s=at_s - 3.0, for_s=3.0, delay_s=rng.uniform(4, 10)))
        acts.append(Act(at_s=at_s, kind="kill"))
        kind: ActKind = rng.choice(("deploy", "resume", "rollback"))
        version = f"v{3 - number % 2}" if kind == "deploy" else ""
        acts.append(Act(at_s=at_s + 0.01, kind=kind, version=version, lock_wait_s=60.0))
    return _changed(spec, acts=tuple(acts), faults=(*slow, *spec.faults))


def _silence(rng: random.Random, spec: Spec) -> Spec:
    """Nobody hears anything any more: neither of what was done, nor of what was not."""
    silent = Fault(kind="weather", at_s=rng.uniform(0, 10), for_s=rng.uniform(5, 60), silent=0.6)
    return _changed(spec, faults=(silent, *spec.faults))


def _twice(rng: random.Random, spec: Spec) -> Spec:
    """What is asked for is asked for again before it is done, and then the other thing."""
    kind: ActKind = rng.choice(("abort", "pause"))
    at_s = rng.uniform(1, 15)
    acts = (
        Act(at_s=0.0, kind="deploy", version="v2"),
        *(Act(at_s=at_s + offset, kind=kind) for offset in (0.0, rng.uniform(0.01, 1.0))),
        Act(at_s=at_s + rng.uniform(1.0, 3.0), kind="pause" if kind == "abort" else "abort"),
    )
    return _changed(spec, acts=acts)


def _busy(rng: random.Random, spec: Spec) -> Spec:
    """Once more, while another deployment has the lock; then back, and not even that is waited for."""
    aborted_s = rng.uniform(1, 8)
    back_s = aborted_s + rng.uniform(30, 60)
    acts = (
        Act(at_s=0.0, kind="deploy", version="v2"),
        Act(at_s=aborted_s, kind="abort"),
        Act(at_s=aborted_s + 8.0, kind="deploy", version="v3"),
        Act(at_s=aborted_s + rng.uniform(8.5, 12), kind="retry"),
        Act(at_s=back_s, kind="rollback", lock_wait_s=60.0),
        Act(at_s=back_s + rng.uniform(0.1, 5), kind="interrupt"),
    )
    return _changed(spec, acts=acts)


def _impatient(rng: random.Random, spec: Spec) -> Spec:
    """What is there already is deployed again and dies; and who waits for the lock is told to stop waiting."""
    acts = (
        Act(at_s=0.0, kind="deploy", version="v1", dies_at=rng.randint(40, 200)),
        Act(at_s=rng.uniform(0.5, 5), kind="resume", lock_wait_s=60.0),
        Act(at_s=20.0, kind="deploy", version="v2"),
        Act(at_s=20.0 + rng.uniform(0.1, 3), kind="resume", machine="b", lock_wait_s=60.0),
        Act(at_s=24.0, kind="interrupt"),
    )
    return _changed(spec, acts=acts)


STORIES: tuple[Callable[[random.Random, Spec], Spec], ...] = (
    _worn,
    _given_up,
    _out_of_time,
    _cut_short,
    _once_more,
    _crossing,
    _silence,
    _twice,
    _busy,
    _impatient,
)


def _killed(rng: random.Random, killed_s: float, *before: Act) -> tuple[Act, ...]:
    """A deployment whose process is killed, and gone on with soon after."""
    return (
        Act(at_s=0.0, kind="deploy", version="v2"),
        *before,
        Act(at_s=killed_s, kind="kill"),
        Act(at_s=killed_s + rng.uniform(0.5, 10), kind="resume", lock_wait_s=20.0),
    )


def _good(rng: random.Random, spec: Spec) -> Spec:
    """Let the second version be good everywhere, and not the quickest."""
    kept = [one for one in spec.behaviours if one[0] != "v2"]
    good = ("v2", "", Behaviour("slow", after_s=rng.uniform(0, 3)))
    return msgspec.structs.replace(spec, behaviours=(*kept, good))


def _with_rollout(spec: Spec, **rollout: Any) -> Spec:
    settings = spec.settings
    changed = msgspec.structs.replace(settings.rollout, **rollout)
    return msgspec.structs.replace(spec, settings=msgspec.structs.replace(settings, rollout=changed))


def _changed(spec: Spec, *, least_s: float = 0.0, **changes: Any) -> Spec:
    """Change a trial, and let it become calm only after its last act."""
    acts = changes.get("acts", spec.acts)
    calm_at_s = max(spec.calm_at_s, least_s, acts[-1].at_s + 20.0)
    return msgspec.structs.replace(spec, **changes, calm_at_s=calm_at_s)
