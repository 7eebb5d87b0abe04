"""What a campaign must have gone through: a rule that is never asked, or a fault that never happens, proves nothing.

The names come from the code as far as it has them, so that what is new there is wanted here without anybody thinking of it.
What cannot be reached is excused by name, with the reason.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import get_args, get_type_hints

from fraisier.events.types import EVENT_TYPES
from fraisier.simulation import cast, evidence, faults, judge, store, world
from fraisier.simulation.links import Fate
from fraisier.simulation.spec import Act, ActKind, FaultKind

ENDS: Mapping[ActKind, tuple[str, ...]] = {
    "deploy": (
        "succeeded", "unchanged", "rolled_back", "failed", "needs_attention", "aborted", "interrupted", "locked",
        "unreachable", "paused", "LEASE_LOST", "DATABASE_TRANSACTION_ERROR",
    ),
    "rollback": ("succeeded", "failed", "needs_attention", "interrupted", "locked", "unreachable"),
    "resume": (
        "succeeded", "rolled_back", "failed", "needs_attention", "aborted", "INTERRUPTED", "paused", "unchanged",
        "nothing", "unreachable", "DEPLOYMENT_LOCKED",
    ),
    "retry": ("succeeded", "failed", "locked", "nothing", "USAGE_ERROR"),
    "abort": ("done", "already", "refused", "nothing"),
    "pause": ("done", "already", "refused", "nothing"),
    "promote": ("done", "refused", "nothing"),
    "freeze": ("frozen",),
    "thaw": ("thawed",),
    "kill": (),
    "stop": (),
    "continue": (),
    "interrupt": (),
}  # fmt: skip
"""What each act of a person came to at least once. The last four are done to a process and end nothing themselves."""

OUTCOMES: Mapping[str, str] = {
    "succeeded": r"deploy is succeeded",
    "unchanged": r"deploy is unchanged \(unchanged\)",
    "rolled_back": r"deploy is rolled_back \(.+\)",
    "failed": r"deploy is failed \(.+\)",
    "needs_attention": r"(deploy|rollback) is needs_attention \(.+\)",
    "aborted": r"deploy is aborted \(aborted\)",
    "interrupted": r"(deploy|resume): interrupted",
    "superseded": r"deploy is superseded \(superseded\)",
    "locked": r"deploy is locked \(locked\)",
    "unreachable": r"deploy is unreachable \(unreachable\)",
    "paused": r"(deploy|resume): paused",
    "skipped": "",
}
"""Every outcome of a deployment, and the counters that prove it; `skipped` needs several fraises, which no trial has."""

REASONS = (
    "partial", "prepare_failed", "health_check_failed", "capacity", "migrate_failed", "unreachable",
)  # fmt: skip
"""Why a deployment failed."""

PATHS = (
    "leases taken over",
    "rollbacks of a whole deployment",
    "rollbacks of one target",
    "recovery of a step: retry",
    "recovery of a step: fail",
    "recovery of a deployment: fallback",
    "recovery of a deployment: rollback",
    "recovery of a deployment: hold",
    "recovery of a deployment: stop",
    "steps in doubt",
    "steps attempted again",
    "releases found to be bad",
    "first releases taken away again",
    *(f"asked to {action}: {effect}" for action in ("abort", "pause", "promote") for effect in ("done", "refused")),
    "asked to resume: done",
    *(f"processes that died {place}" for place in ("before an append", "after an append", "at an await", "by a signal")),
)  # fmt: skip
"""The ways that a census tells apart."""

EXCUSED: Mapping[str, str] = {
    "outcome skipped": "it needs several fraises, and a trial has one",
    **dict.fromkeys(
        ("event service.requested", "event service.succeeded", "event service.failed"),
        "nobody steers single services in a trial",
    ),
    **dict.fromkeys(
        ("event webhook.accepted", "event webhook.received", "event config.changed"), "a server writes these"
    ),
    **dict.fromkeys(
        ("event step.output", "event health.sampled", "event health.requested"),
        "it is announced, never recorded",
    ),
    "event audit.pruned": "nobody prunes in a trial",
    "event provider.unavailable": "nobody calls a provider unavailable but embedders",
    "event performance.slow": "nothing takes real time in a trial",
    "event security.reported": "nobody writes these in a trial",
    "event system.noted": "nobody writes these in a trial",
}
"""What is not reached, and why."""


JUDGES = (judge, evidence)
"""The modules that ask rules."""


def wanted() -> dict[str, str]:
    """Return everything that a campaign must reach: what it is, and the pattern of the counters that prove it."""
    found = {f"outcome {name}": pattern for name, pattern in OUTCOMES.items()}
    found |= {f"a failure because of {reason}": rf".+ is failed \({reason}\)" for reason in REASONS}
    exact = [
        *(f"{kind}: {end}" for kind, ends in ENDS.items() for end in ends),
        *(f"faults: {kind}" for kind in get_args(FaultKind)),
        *(f"commands {fate}" for fate in get_args(Fate) if fate != "arrives"),
        *(f"observers: {kind}" for kind in get_args(get_type_hints(Act)["observer"]) if kind),
        *(f"event {name}" for name in EVENT_TYPES),
        *(name for module in (world, cast, faults, store) for name in _counted(module)),
        *PATHS,
    ]
    found |= {name: re.escape(name) for name in exact}
    return {name: pattern for name, pattern in found.items() if name not in EXCUSED}


def rules() -> list[str]:
    """Return every rule that the judge can ask."""
    return [
        node.args[0].value
        for module in JUDGES
        for node in _calls(module, "_ask")
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    ]


def unreached(counters: Counter[str], asked: Counter[str]) -> list[str]:
    """Return what a campaign should have gone through and did not."""
    hit = [name for name, count in counters.items() if count]
    missing = [
        name for name, pattern in wanted().items() if not any(re.fullmatch(pattern, one) for one in hit)
    ]
    return missing + [f"the rule {rule}" for rule in dict.fromkeys(rules()) if not asked[rule]]


def _counted(module: ModuleType) -> Iterator[str]:
    """Yield the names of the counters that a module counts under."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Attribute)
            and node.value.attr in ("counters", "outcomes")
            and isinstance(node.slice, ast.Constant)
        ):
            yield str(node.slice.value)


def _calls(module: ModuleType, method: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            yield node
