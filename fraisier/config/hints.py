"""The types of the schema, read once a class and only when they are needed."""

from __future__ import annotations

import functools
import types
import typing
from typing import Any

import msgspec

from fraisier.config import schema


class Key(msgspec.Struct, frozen=True):
    """One key of a configuration object: its word in the file, its attribute, how it is read, and whether it must be there.

    `text_kind` is `text`, `secret` or `command` when its texts are resolved at the moment of use, else empty.
    """

    word: str
    attribute: str
    hint: Any
    kind: schema.Kind | None
    required: bool
    default: Any
    text_kind: str


@functools.cache
def keys_of(cls: type[schema.Settings]) -> dict[str, Key]:
    """Return the keys of a schema class by their word in the file, in the order of the class."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {}
    for info in msgspec.structs.fields(cls):
        hint, kind = annotated(hints[info.name])
        default = info.default if info.default is not msgspec.NODEFAULT else None
        if info.default_factory is not msgspec.NODEFAULT:
            default = info.default_factory()
        found[info.encode_name] = Key(
            info.encode_name, info.name, hint, kind, info.required, default, _text_kind(hint, kind)
        )
    return found


def annotated(hint: Any) -> tuple[Any, schema.Kind | None]:
    """Return a hint without its annotation, and the annotation.

    `X | None` counts as X: absence is how None is said.
    """
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        if len(members) == 1:
            return annotated(members[0])
    if typing.get_origin(hint) is typing.Annotated:
        base, *extras = typing.get_args(hint)
        return base, next((extra for extra in extras if isinstance(extra, schema.Kind)), None)
    return hint, None


def _text_kind(hint: Any, kind: schema.Kind | None) -> str:
    names = {kind.name} if kind else set()
    waiting = list(typing.get_args(hint))
    while waiting:
        inner, kind = annotated(waiting.pop())
        names |= {kind.name} if kind else set()
        waiting += [] if isinstance(inner, type) else typing.get_args(inner)
    return next((name for name in ("command", "secret", "text") if name in names), "")


def extra_words(cls: type[schema.Settings]) -> tuple[str, ...]:
    """Return the words that a class takes in the file beyond its own keys."""
    extra = {
        "Environment": ("git_repo",),
        "Fraise": ("environments",),
        "Config": ("defaults", "fraises"),
    }
    return extra.get(cls.__name__, ())
