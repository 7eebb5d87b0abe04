"""What is wrong with a configuration: one problem, one place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from fraisier.config.tree import Node


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    `line` and `column` count from 1; `path` is the key path, empty for the file as a whole; `code` is a
    stable word for programs; `suggestion` says what to write instead, or is empty.
    """

    file: str
    line: int
    column: int
    path: str
    code: str
    message: str
    suggestion: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the problem JSON-ready: file, line, column, path, code, message, suggestion."""
        return {name: getattr(self, name) for name in self.__struct_fields__}

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        more = f" ({self.suggestion})" if self.suggestion else ""
        return f"{self.file}:{self.line}:{self.column}: {where}{self.message}{more}"


class Report:
    """Collects the problems of one file; one that is found twice at the same place is kept once."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._problems: dict[tuple[int, int, str, str], Problem] = {}

    def add(self, node: Node, path: str, code: str, message: str, suggestion: str = "") -> None:
        """Note a problem at the place of `node`."""
        self.add_at(node.line, node.column, path, code, message, suggestion)

    def add_at(
        self, line: int, column: int, path: str, code: str, message: str, suggestion: str = ""
    ) -> None:
        """Note a problem at a line and column, both counted from 1."""
        problem = Problem(self._file, line, column, path, code, message, suggestion)
        # What `defaults` hold is met again in each environment; the first path, that of its own place, stays.
        self._problems.setdefault((line, column, code, message), problem)

    def problems(self) -> list[Problem]:
        """Return what was found, in the order of the file."""
        return sorted(self._problems.values(), key=lambda problem: (problem.line, problem.column))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean "…"?` for the known word that looks most like `word`, or an empty text."""
    by_folded = {name.lower().replace("-", "_"): name for name in known}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), list(by_folded), n=1, cutoff=0.6)
    return f'did you mean "{by_folded[close[0]]}"?' if close else ""


def listed(words: Sequence[str]) -> str:
    """Return words as a person lists them: `a, b or c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
