"""Draws a trial from a seed: a valid configuration, versions that behave badly, people, crashes, and faults of the world."""

from __future__ import annotations

import random
from typing import Any, Literal

import msgspec

from fraisier.config.schema import (
    FALLBACK_MARK,
    CircuitBreaker,
    Environment,
    Fallback,
    HealthCheck,
    Hook,
    Hooks,
    Migrate,
    Recovery,
    Retry,
    Rollout,
    Service,
    Source,
    Target,
)
from fraisier.simulation.services import Behaviour, Kind
from fraisier.simulation.spec import Act, ActKind, Fault, FaultKind, Spec
from fraisier.simulation.stories import with_story

SECRET = "sentinel-Zx81-never-to-be-seen"  # noqa: S105 - it is there to be looked for
"""The value of the one secret that every simulated configuration uses."""

_BAD: tuple[Kind, ...] = ("sick", "exits", "late", "dies", "flapping", "crash_loop")
_HOOKED = (
    "before_deploy",
    "after_prepare",
    "before_stage",
    "before_switch",
    "after_restart",
    "after_verify",
    "after_deploy",
    "on_failure",
    "on_rollback",
    "on_abort",
    "always",
)
_STEER: tuple[ActKind, ...] = ("abort", "pause", "promote", "resume")


def generate(seed: int) -> Spec:
    """Return the trial of a seed."""
    rng = random.Random(seed)  # noqa: S311 - a trial is no secret
    count = rng.choice((1, 2, 3, 3, 3, 4, 5))
    settings = _settings(rng, count)
    hosts = [target.name for target in settings.targets]
    chaos = rng.random()
    acts, end_s = _acts(rng)
    faults = () if chaos < 0.3 else _faults(rng, hosts, end_s)
    spec = Spec(
        seed=seed,
        settings=settings,
        supervised=rng.random() < 0.7,
        settled=rng.random() < 0.85,
        behaviours=_behaviours(rng, hosts),
        durations_s=_durations(rng),
        failing_migrations=rng.random() < 0.15,
        lease_ttl_s=rng.choice((30.0, 30.0, 10.0)),
        heartbeat_s=rng.choice((5.0, 5.0, 2.0)),
        acts=acts,
        faults=faults,
        calm_at_s=end_s + rng.uniform(5, 60),
    )
    spec = with_story(rng, _with_freezes(rng, _with_hooks(rng, spec), end_s))
    return _with_circuits(rng, _with_fallback(rng, spec))


def _with_fallback(rng: random.Random, spec: Spec) -> Spec:
    """Give a few trials another place for the whole deployment: the same targets, on hosts of its own."""
    if rng.random() >= 0.06:
        return spec
    settings = spec.settings
    targets = tuple(Target(name=f"{target.name}{FALLBACK_MARK}standby") for target in settings.targets)
    standby = msgspec.structs.replace(settings, targets=targets, app_path="/standby/{{ target.name }}")
    return _with_recovery(spec, fallback=(Fallback(name="standby", settings=standby),))


def _with_circuits(rng: random.Random, spec: Spec) -> Spec:
    """Let a few trials lose patience soon, and for a short time."""
    if rng.random() >= 0.2:
        return spec
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout_s=rng.choice((0.1, 1.0)))
    return _with_recovery(spec, circuit_breaker=breaker)


def _with_recovery(spec: Spec, **changes: Any) -> Spec:
    recovery = msgspec.structs.replace(spec.settings.recovery, **changes)
    return msgspec.structs.replace(spec, settings=msgspec.structs.replace(spec.settings, recovery=recovery))


def _with_hooks(rng: random.Random, spec: Spec) -> Spec:
    """Give a quarter of the trials hooks, a few of which fail."""
    if rng.random() >= 0.25:
        return spec
    chosen: dict[str, tuple[Hook, ...]] = {}
    for number in range(1, rng.choice((1, 2, 2, 3)) + 1):
        point = rng.choice(_HOOKED)
        resume: Literal["manual", "rerun"] = rng.choice(("manual", "rerun"))
        on: Literal["orchestrator", "target"] | None = rng.choice((None, None, "orchestrator"))
        hook = Hook(command="./hook", name=f"h{number}", resume=resume, on=on, timeout_s=30.0)
        chosen[point] = (*chosen.get(point, ()), hook)
    failing = tuple(f"h{number}" for number in (1, 2) if rng.random() < 0.15)
    return msgspec.structs.replace(
        spec,
        settings=msgspec.structs.replace(spec.settings, hooks=Hooks(**chosen)),
        durations_s={**spec.durations_s, "hook": rng.choice((0.1, 1.0, 6.0))},
        failing_hooks=failing,
    )


def _with_freezes(rng: random.Random, spec: Spec, end_s: float) -> Spec:
    """Let somebody freeze the fraise in a few trials."""
    if rng.random() >= 0.08:
        return spec
    at_s = rng.uniform(0, end_s)
    found = [*spec.acts, _start(rng, at_s, "freeze")]
    if rng.random() < 0.5:
        found.append(_start(rng, at_s + rng.uniform(1, 20), "thaw"))
    return msgspec.structs.replace(spec, acts=tuple(sorted(found, key=lambda act: act.at_s)))


def _settings(rng: random.Random, count: int) -> Environment:
    deadline_s = rng.choice((6.0, 10.0, 20.0))
    interval_s = rng.choice((0.5, 1.0, 2.0))
    common: dict[str, Any] = {
        "interval_s": interval_s,
        "timeout_s": 3.0,
        "rise": rng.choice((1, 2)),
        "fall": rng.choice((2, 3)),
        "deadline_s": deadline_s,
    }
    check: HealthCheck | None = HealthCheck(type="exec", command="probe", **common)
    drawn = rng.random()
    if drawn < 0.3:
        check = HealthCheck(type="http", url="http://127.0.0.1:8000/health", **common)
    elif drawn < 0.4:
        check = None
    return Environment(
        provider="local",
        targets=tuple(Target(name=f"t{number}") for number in range(1, count + 1)),
        source=Source(git="https://git.example.com/app.git"),
        app_path="/srv/{{ target.name }}",
        env={"TOKEN": "${SENTINEL}"},
        service=Service(process="./serve"),
        health_check=check,
        keep_releases=rng.choice((1, 2, 5)),
        migrate=_migrate(rng),
        rollout=_rollout(rng),
        recovery=Recovery(
            retry=Retry(
                max_attempts=rng.choice((1, 2, 3)), base_delay_s=rng.choice((0.1, 1.0)), max_delay_s=5.0
            )
        ),
        timeout_s=rng.choice((240.0, 600.0)),
        rollback_timeout_s=rng.choice((None, 200.0)),
    )


def _migrate(rng: random.Random) -> Migrate | None:
    if rng.random() < 0.55:
        return None
    on: Literal["first", "all"] = rng.choice(("first", "first", "all"))
    resume: Literal["manual", "rerun"] = rng.choice(("manual", "manual", "rerun"))
    back = "migrate down" if rng.random() < 0.6 else ""
    return Migrate(command="migrate up", rollback_command=back, on=on, resume=resume, timeout_s=30.0)


def _rollout(rng: random.Random) -> Rollout:
    on_failure: Literal["rollback", "hold", "stop"] = rng.choice(
        ("rollback", "rollback", "rollback", "hold", "stop")
    )
    strategy: Literal["rolling", "all_at_once"] = "all_at_once" if rng.random() < 0.15 else "rolling"
    return Rollout(
        strategy=strategy,
        batch=rng.choice((("1",), ("2",), ("50%",), ("1", "100%"), ("1", "50%", "100%"), ("100%",))),
        pause_s=rng.choice((0.0, 0.0, 0.0, 8.0)),
        max_unavailable=rng.choice((None, "1", "1", "2", "50%", "100%")),
        max_failures=rng.choice((0, 0, 0, 1, 2)),
        max_parallel=rng.choice((1, 2, 32)),
        min_healthy_time_s=rng.choice((0.0, 0.0, 2.0, 5.0)),
        progress_deadline_s=rng.choice((600.0, 600.0, 40.0)),
        on_failure=on_failure,
        on_unreachable=rng.choice(("abort", "abort", "skip")),
    )


def _behaviours(rng: random.Random, hosts: list[str]) -> tuple[tuple[str, str, Behaviour], ...]:
    found = [("v1", "", Behaviour("slow", after_s=rng.uniform(0, 2)))]
    for version in ("v2", "v3"):
        drawn = rng.random()
        if drawn < 0.45:
            behaviour = Behaviour(rng.choice(("good", "slow")), after_s=rng.uniform(0, 3))
            found.append((version, "", behaviour))
            continue
        kind = rng.choice(_BAD)
        after_s = rng.uniform(0.5, 8) if kind == "dies" else 1000.0
        host = rng.choice(hosts) if drawn < 0.8 else ""
        found.append((version, host, Behaviour(kind, after_s=after_s)))
    return tuple(found)


def _durations(rng: random.Random) -> dict[str, float]:
    return {
        "fetch": rng.choice((0.0, 0.1)),
        "stage": rng.choice((0.1, 1.0, 4.0)),
        "migrate": rng.choice((0.5, 3.0, 10.0)),
        "switch": 0.05,
        "restart": rng.choice((0.1, 0.5, 2.0)),
    }


def _acts(rng: random.Random) -> tuple[tuple[Act, ...], float]:
    acts: list[Act] = []
    at_s = 0.0
    version = 2
    acts.append(_start(rng, at_s, "deploy", f"v{version}"))
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4))):
        at_s += rng.choice((0.05, 0.5, 2.0, 5.0, 15.0)) * rng.uniform(0.2, 1.5)
        drawn = rng.random()
        if drawn < 0.18:
            acts.append(Act(at_s=at_s, kind="kill"))
        elif drawn < 0.26:
            acts.append(Act(at_s=at_s, kind="stop"))
            acts.append(Act(at_s=at_s + rng.uniform(5, 70), kind="continue"))
        elif drawn < 0.34:
            acts.append(Act(at_s=at_s, kind="interrupt"))
        elif drawn < 0.58:
            acts.append(_start(rng, at_s, rng.choice(_STEER)))
        elif drawn < 0.68:
            acts.append(_start(rng, at_s, "resume"))
        elif drawn < 0.8:
            version = rng.choice((2, 3))
            acts.append(_start(rng, at_s, "deploy", f"v{version}"))
        elif drawn < 0.9:
            acts.append(_start(rng, at_s, "rollback"))
        else:
            acts.append(_start(rng, at_s, "retry"))
    return tuple(sorted(acts, key=lambda act: act.at_s)), at_s + 10.0


def _start(rng: random.Random, at_s: float, kind: ActKind, version: str = "") -> Act:
    crash: dict[str, int] = {}
    drawn = rng.random()
    if drawn < 0.2:
        crash["dies_at"] = rng.randint(1, 450)
    elif drawn < 0.28:
        crash["dies_before"] = rng.randint(1, 90)
    elif drawn < 0.36:
        crash["dies_after"] = rng.randint(1, 90)
    observer: Literal["", "raises", "hangs", "lags"] = ""
    if rng.random() < 0.1:
        observer = rng.choice(("raises", "hangs", "lags"))
    return Act(
        at_s=at_s,
        kind=kind,
        version=version,
        machine=rng.choice(("a", "a", "a", "b")),
        force=rng.random() < 0.1,
        limit=("t1",) if rng.random() < 0.07 else (),
        lock_wait_s=rng.choice((0.0, 0.0, 20.0, 90.0)),
        observer=observer,
        **crash,
    )


def _faults(rng: random.Random, hosts: list[str], end_s: float) -> tuple[Fault, ...]:
    found = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        kinds: tuple[FaultKind, ...] = (
            "weather", "weather", "weather", "cut", "hole", "reboot", "disk_full", "clock", "store_busy",
            "store_fails", "store_loses",
        )  # fmt: skip
        kind = rng.choice(kinds)
        fault: dict[str, Any] = {
            # Half of them come while the first deployment is likely to be at work.
            "at_s": rng.uniform(0, rng.choice((6.0, end_s * 0.8))),
            "for_s": rng.choice((1.0, 5.0, 20.0, 60.0)),
            "host": rng.choice((*hosts, "")),
        }
        if kind == "weather":
            fault |= {
                "lost": rng.choice((0.0, 0.1, 0.4)),
                "unanswered": rng.choice((0.0, 0.1, 0.4)),
                "silent": rng.choice((0.0, 0.0, 0.2)),
                "delay_s": rng.choice((0.0, 0.2, 1.5)),
            }
        elif kind == "clock":
            fault["by_s"] = rng.choice((-7200.0, -40.0, 20.0, 40.0, 3600.0))
        elif kind == "store_loses":
            fault["rows"] = rng.randint(1, 12)
        found.append(Fault(kind=kind, **fault))
    return tuple(sorted(found, key=lambda fault: fault.at_s))
