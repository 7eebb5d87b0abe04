"""Reads a YAML file into a tree with places.

What no configuration needs (custom tags, several documents) is refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import yaml

from fraisier.config.problems import Report
from fraisier.config.tree import Entry, Mapping, Node, Scalar, Sequence, Tag

BYTES_MAX = 4 << 20
DEPTH_MAX = 40
NODES_MAX = 200_000
"""Counted with every alias written out, so that a few lines of aliases cannot stand for millions of values."""

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STANDARD = "tag:yaml.org,2002:"
_KEYS_TAKEN_FOR_BOOL = frozenset({"on", "off", "yes", "no", "y", "n"})
_TAGS: dict[str, Tag] = {
    "str": "str",
    "int": "int",
    "float": "float",
    "bool": "bool",
    "null": "null",
    "timestamp": "other",
    "value": "str",
    "merge": "str",
}
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unreadable(Exception):
    """Raised when reading cannot go on; the problem is in the report."""


def read_document(path: Path, report: Report) -> Mapping | None:
    """Return the top-level mapping of a file, or None with the reason in the report. Raises nothing."""
    text = _read_text(path, report)
    if text is None:
        return None
    try:
        root = _Reader(text, report).document()
    except yaml.MarkedYAMLError as error:
        _note_syntax(error, text, report)
        return None
    except (yaml.YAMLError, Unreadable) as error:
        if not isinstance(error, Unreadable):
            report.add_at(1, 1, "", "yaml_syntax", f"this is not YAML: {error}")
        return None
    if root is None or (isinstance(root, Scalar) and root.tag == "null"):
        report.add_at(1, 1, "", "empty", "the file is empty", "`fraisier init` writes an example")
    elif not isinstance(root, Mapping):
        kind = "a list" if isinstance(root, Sequence) else "a single value"
        report.add(root, "", "top_level", f"expected a mapping with `fraises:` at the top, found {kind}")
    else:
        return root
    return None


def _read_text(path: Path, report: Report) -> str | None:
    try:
        if path.is_dir():
            report.add_at(1, 1, "", "file_unreadable", "this is a directory, not a file")
            return None
        with path.open("rb") as stream:
            raw = stream.read(BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = getattr(error, "strerror", None) or str(error)
        message = "there is no such file" if missing else f"the file cannot be read: {reason}"
        report.add_at(1, 1, "", "file_missing" if missing else "file_unreadable", message)
        return None
    if len(raw) > BYTES_MAX:
        report.add_at(1, 1, "", "too_large", f"the file is larger than {BYTES_MAX >> 20} MiB")
        return None
    return _decode(raw, report)


def _decode(raw: bytes, report: Report) -> str | None:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _place(raw[: error.start].decode("utf-8-sig", "replace"))
        byte = raw[error.start]
        report.add_at(line, column, "", "encoding", f"the file is not UTF-8: byte 0x{byte:02x} stands here")
        return None
    if (bad := _UNPRINTABLE.search(text)) is not None:
        line, column = _place(text[: bad.start()])
        message = f"the control character U+{ord(bad[0]):04X} cannot stand in a YAML file"
        report.add_at(line, column, "", "encoding", message)
        return None
    return text


def _place(before: str) -> tuple[int, int]:
    """Return line and column, from 1, of what follows `before`."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _note_syntax(error: yaml.MarkedYAMLError, text: str, report: Report) -> None:
    """Note a syntax error where a person can mend it."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    problem = error.problem or "this is not YAML"
    lines = text.split("\n")
    here = lines[line - 1] if line <= len(lines) else ""
    if "\t" in here[:column] and not here[:column].strip():
        tab = here.index("\t") + 1
        report.add_at(line, tab, "", "tab", "a tab cannot indent in YAML", "indent with spaces")
        return
    opened = error.context_mark
    if opened is not None and line > text.rstrip().count("\n") + 1 and line > opened.line + 1:
        # The end of the file is where the parser noticed; where the open thing begins is where it is mended.
        line, column = opened.line + 1, opened.column + 1
    context = f" {error.context}" if error.context else ""
    report.add_at(
        line, column, "", "yaml_syntax", f"this is not YAML: {problem}{context}", _syntax_hint(problem)
    )


def _syntax_hint(problem: str) -> str:
    if "mapping values are not allowed" in problem:
        return "quote a text that contains `: `"
    if "cannot start any token" in problem:
        return "quote a text that begins with a special character"
    return ""


class _Reader:
    """Builds the tree from the parser's events, so that nesting and aliases are bounded while they are read."""

    def __init__(self, text: str, report: Report) -> None:
        self._loader = _Loader(text)
        self._report = report
        self._anchors: dict[str, Node | None] = {}
        self._extents: dict[int, tuple[int, int]] = {}

    def document(self) -> Node | None:
        """Return the only document's root, None when there is none. Raises yaml.YAMLError and Unreadable."""
        loader = self._loader
        try:
            loader.get_event()
            if loader.check_event(yaml.StreamEndEvent):
                return None
            loader.get_event()
            root = self._node(loader.get_event(), "", 0)
            loader.get_event()
            if not loader.check_event(yaml.StreamEndEvent):
                self._refuse(
                    loader.get_event(), "", "several_documents", "a second document begins here (`---`)"
                )
            return root
        finally:
            loader.dispose()

    def _refuse(self, event: Any, path: str, code: str, message: str, suggestion: str = "") -> None:
        """Note what makes reading on pointless, and stop."""
        mark = event.start_mark
        self._report.add_at(mark.line + 1, mark.column + 1, path, code, message, suggestion)
        raise Unreadable

    def _node(self, event: Any, path: str, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        if depth > DEPTH_MAX:
            self._too_deep(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        node: Node
        children: list[Node] = []
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, path, depth, children)
        else:
            node = self._mapping(event, path, depth, children)
        self._measure(event, node, children)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _too_deep(self, event: Any) -> None:
        self._refuse(event, "", "too_deep", f"this is nested deeper than {DEPTH_MAX} levels")

    def _measure(self, event: Any, node: Node, children: list[Node]) -> None:
        """Remember how many values a node holds and how deep they go, and refuse what is too much."""
        extents = [self._extents[id(child)] for child in children]
        size = 1 + sum(size for size, _ in extents)
        height = 1 + max((height for _, height in extents), default=0)
        if size > NODES_MAX:
            self._refuse(event, "", "too_large", f"with its aliases this has more than {NODES_MAX} values")
        if height > DEPTH_MAX + 1:
            self._too_deep(event)
        self._extents[id(node)] = (size, height)

    def _alias(self, event: Any, path: str) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            word = "contains itself" if event.anchor in self._anchors else "is not defined before this place"
            self._refuse(event, path, "yaml_syntax", f"the alias *{event.anchor} {word}")
        return cast(Node, node)

    def _scalar(self, event: Any, path: str) -> Scalar:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        short = tag.removeprefix(_STANDARD)
        if tag == short or short not in _TAGS:
            self._note_tag(event, path, tag)
        mark = event.start_mark
        return Scalar(mark.line + 1, mark.column + 1, event.value, _TAGS.get(short, "str"))

    def _note_tag(self, event: Any, path: str, tag: str) -> None:
        mark = event.start_mark
        self._report.add_at(
            mark.line + 1, mark.column + 1, path, "unknown_tag", f"the tag {tag} is not known here"
        )

    def _sequence(self, event: Any, path: str, depth: int, children: list[Node]) -> Sequence:
        if event.tag not in {None, "!", f"{_STANDARD}seq"}:
            self._note_tag(event, path, event.tag)
        while not isinstance(child := self._loader.get_event(), yaml.SequenceEndEvent):
            children.append(self._node(child, f"{path}[{len(children)}]", depth + 1))
        mark = event.start_mark
        return Sequence(mark.line + 1, mark.column + 1, tuple(children))

    def _mapping(self, event: Any, path: str, depth: int, children: list[Node]) -> Mapping | Scalar:
        if event.tag not in {None, "!", f"{_STANDARD}map"}:
            self._note_tag(event, path, event.tag)
        entries: dict[str, Entry] = {}
        merged: list[Node] = []
        broken = False
        while not isinstance(child := self._loader.get_event(), yaml.MappingEndEvent):
            key = self._key(child, path, depth)
            place = f"{path}.{key.text}" if path else key.text
            value = self._node(self._loader.get_event(), place, depth + 1)
            children.append(value)
            broken = broken or key.tag == "broken"
            if key.text == "<<" and key.tag == "other":
                merged.append(value)
            elif key.text in entries:
                first = entries[key.text].key.line
                self._report.add(
                    key, place, "duplicate_key", f"the key `{key.text}` is here twice (first in line {first})"
                )
            elif key.tag == "str":
                entries[key.text] = Entry(key, value)
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if broken:
            message = "expected texts as keys, found a mapping or list"
            suggestion = "quote a text that begins with {{"
            self._report.add_at(line, column, path, "key_type", message, suggestion)
            return Scalar(line, column, "", "broken")
        for value in merged:
            self._merge(value, entries, path)
        return Mapping(line, column, entries)

    def _key(self, event: Any, path: str, depth: int) -> Scalar:
        """Return the key that `event` begins; one that is no text is noted or, as a mapping or list,
        `broken`.
        """
        if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]:
            mark: Any = event.start_mark
            return Scalar(mark.line + 1, mark.column + 1, "<<", "other")
        node = self._node(event, path, depth + 1)
        if isinstance(node, Scalar):
            if node.tag == "str" or (node.tag == "bool" and node.text.lower() in _KEYS_TAKEN_FOR_BOOL):
                return Scalar(node.line, node.column, node.text, "str")
            self._report.add(
                node, path, "key_type", f"expected a text as key, found {node.text!r}", "quote the key"
            )
            return Scalar(node.line, node.column, f"{node.text}@{node.line}:{node.column}", "null")
        return Scalar(node.line, node.column, "", "broken")

    def _merge(self, value: Node, entries: dict[str, Entry], path: str) -> None:
        """Put what `<<` names under what is already there; of several, the first wins."""
        for source in value.items if isinstance(value, Sequence) else (value,):
            if isinstance(source, Mapping):
                for word, entry in source.entries.items():
                    entries.setdefault(word, entry)
            else:
                self._report.add(
                    source, f"{path}.<<".lstrip("."), "wrong_type", "expected a mapping after <<"
                )
