"""Goes through a configuration object text by text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fraisier.config import hints, schema


def texts(settings: schema.Settings, where: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (key path, text, kind) of every text that is resolved at the moment of use, in the order of the schema; a
    key that is not set has none.
    """
    for key in hints.keys_of(type(settings)).values():
        if value := getattr(settings, key.attribute):
            place = f"{where}.{key.word}" if where else key.word
            yield from _texts(value, place, key.text_kind)


def _texts(value: Any, where: str, kind: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, schema.Settings):
        yield from texts(value, where)
    elif isinstance(value, str):
        if kind:
            yield where, value, kind
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, f"{where}.{key}", kind)
    elif isinstance(value, tuple):
        # The arguments of a command that is given as a list are no shell text.
        inner = "secret" if kind == "command" and where.endswith("command") else kind
        for index, item in enumerate(value):
            yield from _texts(item, f"{where}[{index}]", inner)
