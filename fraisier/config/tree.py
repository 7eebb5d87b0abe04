"""A YAML document as plain data in which everything knows its place."""

from __future__ import annotations

from typing import Literal

import msgspec

Tag = Literal["str", "int", "float", "bool", "null", "other", "broken"]
"""`broken` is what was reported already and is passed over in silence."""


class Scalar(msgspec.Struct, frozen=True):
    """A single value: its text as written, and what YAML takes it for. Line and column count from 1."""

    line: int
    column: int
    text: str
    tag: Tag


class Sequence(msgspec.Struct, frozen=True):
    """A list."""

    line: int
    column: int
    items: tuple[Node, ...]


class Entry(msgspec.Struct, frozen=True):
    """A key and its value. `place` is the word under which a person finds it when that is not the key itself."""

    key: Scalar
    value: Node
    place: str = ""


class Mapping(msgspec.Struct, frozen=True):
    """Keys and values, in the order of the file."""

    line: int
    column: int
    entries: dict[str, Entry]

    def get(self, word: str) -> Node | None:
        """Return the value of a key, or None when it is not there."""
        entry = self.entries.get(word)
        return None if entry is None else entry.value


Node = Scalar | Sequence | Mapping


def describe(node: Node) -> str:
    """Return what a node is, in words for a message."""
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    if node.tag == "null":
        return "nothing"
    if node.tag == "bool":
        return f"{node.text!r}, which YAML reads as {str(is_true(node)).lower()}"
    return repr(node.text if len(node.text) <= 40 else f"{node.text[:40]}…")


def is_true(node: Scalar) -> bool:
    """Return the truth of a scalar that YAML takes for a boolean."""
    return node.text.lower() in {"true", "yes", "on"}
