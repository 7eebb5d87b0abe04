"""The fallbacks of an environment: other environments, written as what is different about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from fraisier.config import schema
from fraisier.config.merge import merge, with_source
from fraisier.config.problems import Report
from fraisier.config.reader import INVALID, joined
from fraisier.config.scalars import Refused, name
from fraisier.config.tree import Entry, Mapping, Node, Scalar, describe
from fraisier.config.tree import Sequence as List

ReadEnvironment = Callable[[Mapping, str, Node], Any]
"""Reads a whole environment at a key path, or returns INVALID; the node is where what is missing is reported."""


def without_fallbacks(node: Mapping) -> Mapping:
    """Return an environment without its `recovery.fallback`: that is no part of a fallback itself."""
    recovery = node.entries.get("recovery")
    if (
        recovery is None
        or not isinstance(recovery.value, Mapping)
        or "fallback" not in recovery.value.entries
    ):
        return node
    inner = recovery.value
    kept = {word: entry for word, entry in inner.entries.items() if word != "fallback"}
    value = Mapping(inner.line, inner.column, kept)
    return Mapping(
        node.line, node.column, {**node.entries, "recovery": Entry(recovery.key, value, recovery.place)}
    )


def read_fallbacks(
    report: Report, node: Mapping, path: str, read: ReadEnvironment
) -> tuple[schema.Fallback, ...]:
    """Return the fallbacks of the environment at `path`; what is wrong with them is in the report."""
    recovery = node.get("recovery")
    listed = recovery.get("fallback") if isinstance(recovery, Mapping) else None
    if listed is None:
        return ()
    where = joined(path, "recovery.fallback")
    if not isinstance(listed, List):
        report.add(listed, where, "wrong_type", f"expected a list, found {describe(listed)}")
        return ()
    found: list[schema.Fallback] = []
    for index, item in enumerate(listed.items):
        place = f"{where}[{index}]"
        if not isinstance(item, Mapping):
            report.add(item, place, "wrong_type", f"expected a mapping, found {describe(item)}")
            continue
        called = _name(report, item, place, index, [one.name for one in found])
        own = Mapping(item.line, item.column, {w: e for w, e in item.entries.items() if w != "name"})
        _refuse_nested(report, own, place)
        over = without_fallbacks(with_source(own, report, place))
        value = read(merge(without_fallbacks(node), over), place, item)
        if value is not INVALID and called:
            found.append(schema.Fallback(name=called, settings=_marked(value, called)))
    return tuple(found)


def _name(report: Report, item: Mapping, path: str, index: int, taken: Sequence[str]) -> str:
    """Return what a fallback is called, or an empty text when that is no name or is used already."""
    entry = item.entries.get("name")
    if entry is None:
        called = f"fallback-{index + 1}"
    elif not isinstance(entry.value, Scalar):
        message = f"expected a text, found {describe(entry.value)}"
        report.add(entry.value, joined(path, "name"), "wrong_type", message)
        return ""
    else:
        try:
            called = name(entry.value.text)
        except Refused as error:
            report.add(entry.value, joined(path, "name"), error.code, error.message, error.suggestion)
            return ""
    if called in taken:
        at = item if entry is None else entry.value
        message = f"another fallback is called {called!r} already"
        report.add(at, joined(path, "name"), "duplicate_fallback", message, "give it another `name`")
        return ""
    return called


def _refuse_nested(report: Report, item: Mapping, path: str) -> None:
    recovery = item.get("recovery")
    if isinstance(recovery, Mapping) and "fallback" in recovery.entries:
        message = "a fallback has none of its own: what is tried after it stands behind it in the list"
        report.add(recovery.entries["fallback"].key, joined(path, "recovery.fallback"), "conflict", message)


def _marked(value: schema.Environment, called: str) -> schema.Environment:
    """Return the settings with the fallback's mark on their targets: what is recorded of those is recorded apart."""
    targets = [
        msgspec.structs.replace(target, name=f"{target.name}{schema.FALLBACK_MARK}{called}")
        for target in value.targets
    ]
    return msgspec.structs.replace(value, targets=tuple(targets))
