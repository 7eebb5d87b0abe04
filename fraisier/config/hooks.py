"""Hooks: where they may stand, what they mean when they say nothing, and what contradicts itself in them."""

from __future__ import annotations

import msgspec

from fraisier.config import schema
from fraisier.config.problems import Report
from fraisier.config.reader import joined
from fraisier.config.tree import Mapping, Node, Scalar, Sequence

DEPLOYMENT_PHASES = ("deploy", "prepare")
"""Phases of the deployment as a whole; every other phase is a step of each target."""

CHANGING_PHASES = ("migrate", "switch", "restart", "verify", "bake", "deploy")
"""Phases after which something was changed, so that a failed hook takes it back."""

ENDINGS = ("on_failure", "on_rollback", "on_abort", "always")
"""Hooks that see how it went, and cannot change it."""


def phase_of(point: str) -> str:
    """Return the phase that a hook's key names: `switch` for `before_switch`, nothing for those of the end."""
    return "" if point in ENDINGS else point.partition("_")[2]


def is_of_deployment(point: str) -> bool:
    """Whether hooks of this key belong to the deployment as a whole, and not to each target's step."""
    return point in ENDINGS or phase_of(point) in DEPLOYMENT_PHASES


def hooks_at(hooks: schema.Hooks, point: str) -> tuple[schema.Hook, ...]:
    """Return the hooks of one key (`before_switch`) in their order, each with name, place and consequence filled in."""
    found: tuple[schema.Hook, ...] = getattr(hooks, point)
    return tuple(
        msgspec.structs.replace(
            hook,
            name=hook.name or f"{point}-{number}",
            on=hook.on or ("orchestrator" if is_of_deployment(point) else "target"),
            on_failure=hook.on_failure or _consequence(point),
        )
        for number, hook in enumerate(found, 1)
    )


def _consequence(point: str) -> schema.HookConsequence:
    if point in ENDINGS or point == "after_cleanup":
        return "warn"
    return "rollback" if point.startswith("after_") and phase_of(point) in CHANGING_PHASES else "abort"


def knows_target(key: str, hooks: schema.Hooks) -> bool:
    """Whether the hook whose text stands at `key` (`hooks.always[0].command`) runs for one target."""
    point = key.removeprefix("hooks.").partition("[")[0]
    number = key.partition("[")[2].partition("]")[0]
    if not is_of_deployment(point):
        return True
    found = getattr(hooks, point, ())
    return number.isdecimal() and int(number) < len(found) and found[int(number)].on == "target"


def check(report: Report, value: schema.Hooks, node: Mapping, path: str, at: Node) -> None:
    """Names are different at one place, and no hook wants what cannot be had there."""
    for point, entry in node.entries.items():
        if point.startswith("x-") or not isinstance(entry.value, Sequence):
            continue
        first: dict[str, int] = {}
        for index, item in enumerate(entry.value.items):
            where = f"{joined(path, point)}[{index}]"
            name = item.get("name") if isinstance(item, Mapping) else None
            text = name.text if isinstance(name, Scalar) else f"{point}-{index + 1}"
            if text in first:
                message = f"the hook {text!r} is here twice (first as {point}[{first[text]}])"
                report.add(name or item, joined(where, "name"), "conflict", message)
            first.setdefault(text, index)
            if isinstance(item, Mapping):
                _consequence_fits(report, item, point, where)


def _consequence_fits(report: Report, item: Mapping, point: str, where: str) -> None:
    wanted = item.get("on_failure")
    if not isinstance(wanted, Scalar):
        return
    if point in ENDINGS and wanted.text in ("abort", "rollback"):
        message = f"a hook of `{point}` sees how it ended and cannot change it: only `warn` is possible"
    elif point.endswith("_cleanup") and wanted.text == "rollback":
        message = (
            "when releases are cleaned up everything serves already: only `abort` and `warn` are possible"
        )
    else:
        return
    report.add(wanted, joined(where, "on_failure"), "contradiction", message, "write warn")
