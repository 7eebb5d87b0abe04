"""Makes a failing trial smaller: whatever can be left out while the same promise stays broken is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from fraisier.config.schema import Environment, HealthCheck, Retry, Rollout
from fraisier.simulation.spec import Spec
from fraisier.simulation.trial import run_trial

T = TypeVar("T", bound=msgspec.Struct)

_ACT_EXTRAS = ("dies_at", "dies_before", "dies_after", "observer", "force", "limit", "lock_wait_s", "machine")
_FAULT_EXTRAS = ("lost", "unanswered", "silent", "delay_s", "host")
_SPEC_EXTRAS = (
    "supervised", "settled", "durations_s", "failing_migrations", "lease_ttl_s", "heartbeat_s",
)  # fmt: skip
_KEPT = frozenset(
    {"provider", "targets", "source", "app_path", "env", "service", "health_check", "rollout", "recovery"}
)
"""Settings without which there is nothing to deploy, and those whose own fields are tried one by one."""


def promises(findings: list[str]) -> set[str]:
    """Return which promises the findings say are broken: the words before the colon."""
    return {finding.partition(":")[0] for finding in findings}


def break_of(spec: Spec) -> set[str]:
    """Run a trial and return the promises that it breaks."""
    return promises(run_trial(spec).findings)


def shrink(
    spec: Spec, *, trials: int = 400, breaks: Callable[[Spec], set[str]] = break_of
) -> tuple[Spec, int]:
    """Return the smallest trial found that breaks a promise that `spec` breaks, too, and how many trials that took.

    `trials` bounds the search. A trial that breaks nothing is returned as it is."""
    broken = breaks(spec)
    used = 1
    again = bool(broken)
    while again:
        again = False
        # After each success the rest is made from the smaller one; a whole round without any is the end.
        candidates = smaller(spec)
        while (candidate := next(candidates, None)) is not None:
            if used >= trials:
                return spec, used
            used += 1
            if breaks(candidate) & broken:
                spec, again = candidate, True
                break
    return spec, used


def smaller(spec: Spec) -> Iterator[Spec]:
    """Yield trials that are a little less than this one, what leaves most out first."""
    yield from _without_halves(spec)
    for name in ("acts", "faults", "behaviours"):
        have = getattr(spec, name)
        for number in range(len(have) - 1, -1, -1):
            yield _with(spec, **{name: have[:number] + have[number + 1 :]})
    if len(spec.settings.targets) > 1:
        yield _without_last_target(spec)
    for number, act in enumerate(spec.acts):
        for simpler in _plainer(act, _ACT_EXTRAS):
            yield _with(spec, acts=(*spec.acts[:number], simpler, *spec.acts[number + 1 :]))
    for number, fault in enumerate(spec.faults):
        for plainer in _plainer(fault, _FAULT_EXTRAS):
            yield _with(spec, faults=(*spec.faults[:number], plainer, *spec.faults[number + 1 :]))
    yield from _plainer(spec, _SPEC_EXTRAS)
    for settings in _plainer_settings(spec.settings):
        yield _with(spec, settings=settings)


def _without_halves(spec: Spec) -> Iterator[Spec]:
    for name in ("faults", "acts"):
        have = getattr(spec, name)
        if len(have) > 2:
            half = len(have) // 2
            yield _with(spec, **{name: have[:half]})
            yield _with(spec, **{name: have[half:]})


def _without_last_target(spec: Spec) -> Spec:
    targets = spec.settings.targets[:-1]
    names = {"", *(target.name for target in targets)}
    return _with(
        spec,
        settings=msgspec.structs.replace(spec.settings, targets=targets),
        behaviours=tuple(one for one in spec.behaviours if one[1] in names),
        faults=tuple(fault for fault in spec.faults if fault.host in names),
    )


def _plainer_settings(settings: Environment) -> Iterator[Environment]:
    names = [name for name in settings.__struct_fields__ if name not in _KEPT]
    yield from _plainer(settings, names)
    for rollout in _plainer(settings.rollout, Rollout.__struct_fields__):
        yield msgspec.structs.replace(settings, rollout=rollout)
    for retry in _plainer(settings.recovery.retry, Retry.__struct_fields__):
        recovery = msgspec.structs.replace(settings.recovery, retry=retry)
        yield msgspec.structs.replace(settings, recovery=recovery)
    check = settings.health_check
    if check is not None:
        yield msgspec.structs.replace(settings, health_check=None)
        timing = [name for name in HealthCheck.__struct_fields__ if name in ("interval_s", "rise", "fall")]
        for plainer in _plainer(check, timing):
            yield msgspec.structs.replace(settings, health_check=plainer)


def _plainer(whole: T, names: Iterable[str]) -> Iterator[T]:
    """Yield copies with one of the fields back at its default, for each that is not there already."""
    for field in msgspec.structs.fields(whole):
        if field.name not in names:
            continue
        default = field.default if field.default is not msgspec.NODEFAULT else _made(field.default_factory)
        if default is not msgspec.NODEFAULT and getattr(whole, field.name) != default:
            yield msgspec.structs.replace(whole, **{field.name: default})


def _made(factory: Any) -> Any:
    return factory if factory is msgspec.NODEFAULT else factory()


def _with(spec: Spec, **changes: Any) -> Spec:
    return msgspec.structs.replace(spec, **changes)
