"""Lays an environment over `defaults`: mappings merge deeply, everything else replaces."""

from __future__ import annotations

from fraisier.config.problems import Report
from fraisier.config.reader import joined
from fraisier.config.rules import SERVICE_FORMS, SOURCE_FORMS, TYPE_KEYS
from fraisier.config.tree import Entry, Mapping, Node, Scalar


def with_source(node: Mapping, report: Report, path: str) -> Mapping:
    """Return an environment in which `git_repo: URL` stands as `source: {git: URL}`, at its own place."""
    short = node.entries.get("git_repo")
    if short is None:
        return node
    entries = {word: entry for word, entry in node.entries.items() if word != "git_repo"}
    long = node.entries.get("source")
    if long is not None:
        later, word = max(
            (short.key, "git_repo"), (long.key, "source"), key=lambda pair: (pair[0].line, pair[0].column)
        )
        message = "`git_repo` is short for `source: {git: …}`; only one of the two can be here"
        report.add(later, joined(path, word), "conflict", message)
        return Mapping(node.line, node.column, entries)
    git = {"git": Entry(short.key, short.value, "git_repo")}
    entries["source"] = Entry(short.key, Mapping(short.key.line, short.key.column, git))
    return Mapping(node.line, node.column, entries)


def merge(under: Mapping, over: Mapping) -> Mapping:
    """Return an environment over the defaults.

    What `over` says in one form puts away the other forms that `under` has.
    """
    entries = dict(under.entries)
    for word, entry in over.entries.items():
        below = under.get(word)
        if isinstance(below, Mapping) and isinstance(entry.value, Mapping):
            below = _without_other_forms(word, below, entry.value)
            entries[word] = Entry(entry.key, _deep(below, entry.value), entry.place)
        else:
            entries[word] = entry
    return Mapping(over.line, over.column, entries)


def _deep(under: Node, over: Node) -> Node:
    if not (isinstance(under, Mapping) and isinstance(over, Mapping)):
        return over
    entries = dict(under.entries)
    for word, entry in over.entries.items():
        below = entries.get(word)
        value = entry.value if below is None else _deep(below.value, entry.value)
        entries[word] = Entry(entry.key, value, entry.place)
    return Mapping(over.line, over.column, entries)


def _without_other_forms(word: str, under: Mapping, over: Mapping) -> Mapping:
    dropped: set[str] = set()
    for forms in [SOURCE_FORMS] * (word == "source") + [SERVICE_FORMS] * (word == "service"):
        if any(key in over.entries for form in forms for key in form):
            dropped = {key for form in forms if not any(key in over.entries for key in form) for key in form}
    if word == "health_check" and _type(over) not in {"", _type(under)}:
        dropped = {key for keys in TYPE_KEYS.values() for key in keys}
    return Mapping(
        under.line, under.column, {key: e for key, e in under.entries.items() if key not in dropped}
    )


def _type(node: Mapping) -> str:
    value = node.get("type")
    return value.text if isinstance(value, Scalar) else ""
