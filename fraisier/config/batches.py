"""Reads `batch`: a number, a percentage, or a ramp that grows."""

from __future__ import annotations

from typing import Protocol

from fraisier.config import scalars, tree
from fraisier.config.problems import Report
from fraisier.config.scalars import Refused


class Plain(Protocol):
    """What reading a batch needs of a reader."""

    report: Report

    def plain(self, node: tree.Node, path: str) -> str:
        """Return a text that is complete now."""
        ...


def batch(reader: Plain, node: tree.Node, path: str) -> tuple[str, ...]:
    """Return the entries of a batch. Raises Refused; problems of single entries of a ramp go to the report.

    A single value repeats. A ramp of one entry is followed by all the rest, so it is written out as two.
    """
    if not isinstance(node, tree.Sequence):
        return (scalars.count_or_percent(reader.plain(node, path)),)
    if not node.items:
        raise Refused("empty_value", "expected at least one value, found an empty list")
    values: list[str] = []
    for index, item in enumerate(node.items):
        place = f"{path}[{index}]"
        try:
            value = scalars.count_or_percent(reader.plain(item, place))
            _must_grow(values[-1] if values else "", value)
            values.append(value)
        except Refused as error:
            reader.report.add(item, place, error.code, error.message, error.suggestion)
    if len(node.items) == 1 and values and values != ["100%"]:
        values.append("100%")
    return tuple(values) or ("100%",)


def _must_grow(before: str, value: str) -> None:
    if not before:
        return
    if before.endswith("%") and not value.endswith("%"):
        raise Refused("bad_batch", f"a number cannot follow a percentage in a ramp: {value} after {before}")
    same_kind = before.endswith("%") == value.endswith("%")
    if same_kind and int(value.rstrip("%")) <= int(before.rstrip("%")):
        raise Refused(
            "bad_batch", f"the entries of a ramp are cumulative and must grow: {value} after {before}"
        )
