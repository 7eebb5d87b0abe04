"""Puts values into shell commands so that they stay values, whatever they contain and whatever quotes they
stand in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal

from fraisier.config.template import (
    Name,
    Piece,
    Reference,
    TemplateError,
    bad_reference,
    name_at,
    reference_at,
)

Quoting = Literal["plain", "double", "single", "comment"]
Part = tuple[Piece, Quoting]

_CASE = re.compile(r"case\b")
_DOUBLE_SPECIAL = re.compile(r'([\\"$`])')
_BREAKS = " \t\n;&|"
_BEFORE_WORD = f"{_BREAKS}(<>"


def splice(template: str, *, value: Callable[[str], str], variable: Callable[[Reference], str]) -> str:
    """Return a command for `sh -c` in which each name is its value and each reference an environment
    variable.

    `value` gives the text for a `{{ name }}`; it is quoted for the place where it stands and is always part
    of one word. `variable` gives the name of the environment variable that carries a reference's value; it
    expands to one word, literally. What else begins with `$` is the shell's own. Raises TemplateError where
    neither can be made safe (here-documents, backticks, arithmetic, `$'…'`, inside the shell's own `${…}`).
    """
    out = []
    for piece, quoting in parts(template):
        if isinstance(piece, str):
            out.append(piece)
        elif isinstance(piece, Name):
            out.append(quoted(value(piece.name), quoting))
        else:
            out.append(expanded(variable(piece), quoting))
    return "".join(out)


def quoted(value: str, quoting: Quoting) -> str:
    """Return `value` as shell text that stands for itself inside `quoting`.

    Raises TemplateError for a NUL, which no command can hold.
    """
    if "\0" in value:
        raise TemplateError("a value with a NUL byte cannot stand in a command")
    if quoting == "double":
        return _DOUBLE_SPECIAL.sub(r"\\\1", value)
    if quoting == "comment":
        return ""
    inner = value.replace("'", "'\\''")
    # Quotes are always set: a bare `2` before `>` or a bare `A=b` would mean something else to the shell.
    return f"'{inner}'" if quoting == "plain" else inner


def expanded(variable: str, quoting: Quoting) -> str:
    """Return shell text inside `quoting` that expands to the value of `variable` as one literal word."""
    forms: dict[Quoting, str] = {
        "plain": f'"${{{variable}}}"',
        "double": f"${{{variable}}}",
        "single": f"'\"${{{variable}}}\"'",
        "comment": "",
    }
    return forms[quoting]


def parts(template: str) -> Iterator[Part]:
    """Yield literal pieces, names and references of a command with the quoting they stand in.

    Raises TemplateError.
    """
    return _Scanner(template).scan()


class _Scanner:
    """Follows a command as `sh` reads it, as far as quoting goes.

    `_stack` holds the open contexts: `"` for double quotes, `(` for a subshell or command substitution.
    `_doubt` names a construct after which the quoting is no longer certain; names and references are refused
    from there on.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._stack: list[str] = []
        self._doubt = ""
        self._escape_end = -1

    def scan(self) -> Iterator[Part]:
        while self._at < len(self._text):
            if (part := self._placeholder(self._quoting())) is not None:
                yield part
            elif self._stack and self._stack[-1] == '"':
                yield from self._in_double()
            else:
                yield from self._in_plain()

    def _quoting(self) -> Quoting:
        return "double" if self._stack and self._stack[-1] == '"' else "plain"

    def _starts(self, word: str) -> bool:
        return self._text.startswith(word, self._at)

    def _take(self, count: int) -> Part:
        start, self._at = self._at, self._at + count
        return self._text[start : self._at], "plain"

    def _placeholder(self, quoting: Quoting) -> Part | None:
        """Take what is ours at the present place, if anything is."""
        text, at = self._text, self._at
        if self._starts("{{"):
            piece, self._at = name_at(text, at)
        elif self._starts("${{"):
            raise bad_reference(text, at)
        elif found := reference_at(text, at):
            piece, self._at = found
        else:
            return None
        if self._doubt and not isinstance(piece, str):
            raise TemplateError(
                f"{text[at : self._at]} cannot stand here ({self._doubt})", "hand the value over in `env`"
            )
        return piece, quoting

    def _in_double(self) -> Iterator[Part]:
        if self._starts('"'):
            self._stack.pop()
            yield self._take(1)
        else:
            yield from self._common()

    def _in_plain(self) -> Iterator[Part]:
        char = self._text[self._at]
        if char == '"':
            self._stack.append('"')
            yield self._take(1)
        elif char == "'":
            yield self._take(1)
            yield from self._until("'", "single")
        elif char == "#" and self._word_starts():
            yield from self._until("\n", "comment")
        elif char == ")" and self._stack:
            self._stack.pop()
            yield self._take(1)
        elif char == "(" and not self._starts("(("):
            self._stack.append("(")
            yield self._take(1)
        else:
            self._note_doubt()
            yield from self._common()

    def _word_starts(self) -> bool:
        return self._at == 0 or (self._text[self._at - 1] in _BEFORE_WORD and self._at != self._escape_end)

    def _note_doubt(self) -> None:
        """Remember a construct after which the quoting cannot be told."""
        if self._starts("<<"):
            self._doubt = "after a here-document"
        elif self._starts("(("):
            self._doubt = "after (( … ))"
        elif self._starts("#") and self._text[self._at - 1] == ")":
            self._doubt = "after )#"
        elif self._starts("$'") or self._starts("$["):
            self._doubt = f"after {self._text[self._at : self._at + 2]}"
        elif self._stack and self._word_starts() and _CASE.match(self._text, self._at):
            self._doubt = "after `case` inside parentheses"

    def _common(self) -> Iterator[Part]:
        """Take what means the same in double quotes and outside of them."""
        if self._starts("\\\n"):
            self._join_lines()
        elif self._starts("\\"):
            if self._starts("\\{{"):
                raise TemplateError("a backslash cannot stand before {{", "write {{{{ for a literal {{")
            yield self._take(2)
            self._escape_end = self._at
        elif self._starts("$$") and not self._starts("$${"):
            yield self._take(2)
        elif self._starts("`"):
            yield self._take(1)
            yield from self._closed("`", "inside backticks; $( … ) can hold it")
        elif self._starts("$(("):
            yield self._take(3)
            yield from self._closed("))", "inside $(( … ))")
        elif self._starts("$("):
            self._stack.append("(")
            yield self._take(2)
        elif self._starts("$${") or self._starts("${"):
            self._at += self._starts("$$")
            yield self._take(2)
            yield from self._closed("}", "inside the shell's own ${ … }")
        else:
            yield self._take(1)

    def _join_lines(self) -> None:
        """Leave a line continuation out, as the shell does before it looks for words."""
        before, after = self._text[: self._at], self._text[self._at + 2 :]
        if before and before[-1] not in _BREAKS and after[:1] not in {" ", "\t", "\n"}:
            # It may stand in the middle of `$(` or `<<`, which would then go unseen.
            self._doubt = "after a line break in the middle of a word"
        self._text = before + after

    def _until(self, end: str, quoting: Quoting) -> Iterator[Part]:
        """Take a run in which only names and references are special, with its end."""
        while self._at < len(self._text):
            if (part := self._placeholder(quoting)) is not None:
                yield part
            elif self._starts("$${"):
                self._at += 1
                yield self._take(2)
            elif self._starts(end):
                yield self._take(len(end))
                return
            else:
                yield self._take(1)

    def _closed(self, end: str, where: str) -> Iterator[Part]:
        """Take a run in which nothing of ours may stand. Quotes in it leave its end uncertain."""
        before, self._doubt = self._doubt, where
        quotes = False
        while self._at < len(self._text) and not self._starts(end):
            if (part := self._placeholder("plain")) is not None:
                yield part
                continue
            quotes = quotes or self._text[self._at] in "'\"`({"
            if self._starts("\\"):
                yield self._take(1)
            yield self._take(1)
        yield self._take(len(end))
        self._doubt = before or (f"after quotes {where}" if quotes else "")
