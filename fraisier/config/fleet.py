"""Rules that look at all fraises of a file together."""

from __future__ import annotations

import os.path
from collections.abc import Mapping as Table
from collections.abc import Sequence

import msgspec

from fraisier.config import schema, template
from fraisier.config.problems import Report, did_you_mean
from fraisier.config.resolve import names_for
from fraisier.config.template import TemplateError
from fraisier.config.tree import Mapping, Node
from fraisier.config.tree import Sequence as List
from fraisier.errors import ConfigurationError


class Placed(msgspec.Struct, frozen=True):
    """An environment of the provider local, and where its `app_path` stands in the file."""

    fraise: str
    environment: str
    value: schema.Environment
    node: Node
    path: str


def check_paths(report: Report, placed: Sequence[Placed]) -> None:
    """Note every directory that two targets would share; each would overwrite what the other runs."""
    owners: dict[str, tuple[Placed, str]] = {}
    noted: set[tuple[str, str]] = set()
    for place in placed:
        for target in place.value.targets:
            directory = _rendered(place, target)
            owner, name = owners.setdefault(directory, (place, target.name))
            if not directory or (owner is place and name == target.name) or (owner.path, place.path) in noted:
                continue
            noted.add((owner.path, place.path))
            if owner is place:
                whose = f"the targets {name!r} and {target.name!r}"
            elif (owner.fraise, owner.environment) == (place.fraise, place.environment):
                whose = f"{place.fraise} {place.environment} and its fallback"
            else:
                whose = f"{owner.fraise} {owner.environment} and {place.fraise} {place.environment}"
            message = f"{whose} would share the directory {directory}"
            report.add(
                place.node,
                place.path,
                "duplicate_path",
                message,
                "put {{ target.name }} into it" if owner is place else "",
            )


def _rendered(place: Placed, target: schema.Target) -> str:
    """Return the directory of a target, or an empty text when its template is in error (which was noted
    before).
    """
    names = {}
    try:
        names = names_for(fraise=place.fraise, environment=place.environment, target=target)
        text = template.render(place.value.app_path, name=names.__getitem__, reference=str)
    except (TemplateError, ConfigurationError, KeyError):
        return ""
    return os.path.normpath(text) if text else ""


def check_dependencies(report: Report, fraises: Table[str, schema.Fraise], node: Mapping) -> None:
    """Note dependencies on what does not exist, and circles."""
    known = [word for word in node.entries if not word.startswith("x-")]
    for name, fraise in fraises.items():
        for index, wanted in enumerate(fraise.depends_on):
            if wanted not in known:
                place, path = _dependency(node, name, index, wanted)
                message = f"there is no fraise {wanted!r}"
                report.add(
                    place,
                    path,
                    "unknown_dependency",
                    message,
                    did_you_mean(wanted, [word for word in known if word != name]),
                )
    seen: set[str] = set()
    for name in fraises:
        if (circle := _circle(name, fraises, seen)) and not seen.issuperset(circle):
            seen.update(circle)
            index = fraises[circle[0]].depends_on.index(circle[1])
            place, path = _dependency(node, circle[0], index, circle[1])
            report.add(
                place, path, "dependency_circle", f"the dependencies form a circle: {' → '.join(circle)}"
            )


def _circle(start: str, fraises: Table[str, schema.Fraise], known: set[str]) -> list[str]:
    """Return the shortest circle through `start`, from it back to it, or an empty list."""
    paths = [[start]]
    reached = set(known)
    for path in paths:
        fraise = fraises.get(path[-1])
        for wanted in fraise.depends_on if fraise else ():
            if wanted == start:
                return [*path, start]
            if wanted not in reached:
                reached.add(wanted)
                paths.append([*path, wanted])
    return []


def _dependency(node: Mapping, name: str, index: int, wanted: str) -> tuple[Node, str]:
    """Return the place and the key path of one entry of a fraise's `depends_on`."""
    path = f"fraises.{name}.depends_on"
    fraise = node.get(name)
    items = fraise.get("depends_on") if isinstance(fraise, Mapping) else None
    if not isinstance(items, List):
        return node, path
    for position, item in enumerate(items.items):
        if position >= index and getattr(item, "text", "") == wanted:
            return item, f"{path}[{position}]"
    return items, path
