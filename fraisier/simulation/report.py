"""What a campaign says: the summary of all trials, and the whole story of one that failed."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fraisier.simulation.campaign import Sum
from fraisier.simulation.spec import Spec
from fraisier.simulation.trial import Verdict

TRACE_MOST = 60
"""Lines of a trace that are shown; a longer one goes to a file."""

_GROUPS = (
    ("deployments", "deploy is "),
    ("rollbacks", "rollback is "),
    ("faults", "faults: "),
    ("commands and connections", ("commands ", "connections ", "older commands", "steps refused", "host reboots")),
    ("processes", ("processes ", "observers: ")),
    (
        "recovery paths",
        ("recovery of ", "rollbacks of ", "leases ", "steps ", "releases ", "first ", "migrations ", "asked to "),
    ),
)  # fmt: skip


def summary(total: Sum, took_s: float, *, jobs: int) -> str:
    """Return the figures of a campaign, for people."""
    cpu_s = max(total.cpu_s, 1e-9)
    hours = total.virtual_s / 3600
    lines = [
        f"{total.seeds} seeds in {took_s:.1f} s with {jobs} jobs: {total.seeds / max(took_s, 1e-9):.1f} seeds/s, "
        f"{total.seeds / cpu_s:.1f} seeds/s/core, {total.deployments / cpu_s:.1f} deployments/s/core",
        f"{total.deployments} deployments in {hours:,.0f} virtual hours; {sum(total.asked.values())} invariant checks; "
        f"{len(total.failed)} seeds broke a promise",
    ]
    told: set[str] = set()
    for title, beginnings in _GROUPS:
        found = {
            name: count
            for name, count in sorted(total.counters.items())
            if name.startswith(beginnings) and name not in told
        }
        told |= found.keys()
        lines += _table(title, found)
    promises: Counter[str] = Counter()
    for rule, count in total.asked.items():
        promises[rule.partition(" ")[0]] += count
    lines += _table("invariant checks", dict(sorted(promises.items(), key=lambda one: _number(one[0]))))
    return "\n".join(lines)


def failure(verdict: Verdict, spec: Spec, *, trace_most: int = TRACE_MOST) -> str:
    """Return all that is known of a failed trial. A trace of more than `trace_most` lines goes to a file of its own."""
    trace = verdict.trace.splitlines()
    faults = [f"  {msgspec.json.encode(fault).decode()}" for fault in spec.faults]
    acts = [f"  {msgspec.json.encode(act).decode()}" for act in spec.acts]
    settings = msgspec.json.encode(msgspec.structs.replace(spec, acts=(), faults=())).decode()
    lines = [f"SEED {spec.seed} broke a promise:", *(f"  {one}" for one in verdict.findings)]
    lines += ["spec:", f"  {settings}", "acts:", *acts, "faults:", *(faults or ["  none"])]
    if len(trace) > trace_most:
        path = Path(tempfile.gettempdir()) / f"fraisier-simulation-{spec.seed}.trace"
        path.write_text(verdict.trace + "\n", encoding="utf-8")
        lines.append(f"trace: {len(trace)} lines in {path}")
    else:
        lines += ["trace:", *trace]
    return "\n".join(lines)


def _table(title: str, found: dict[str, int]) -> Iterator[str]:
    if found:
        yield f"\n{title}:"
        for name, count in found.items():
            yield f"  {count:>9} {name}"


def _number(promise: str) -> int:
    return int(promise[1:]) if promise[1:].isdigit() else 0
