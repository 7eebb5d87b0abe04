"""What may stand in a text of the configuration: `{{ name }}`, `${VAR}`, `${VAR:-default}` and
`${file:PATH}`.

`$${` is a literal `${` and `{{{{` a literal `{{`. A value that is put in is never looked at again.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator

import msgspec


class Name(msgspec.Struct, frozen=True):
    """`{{ name }}`: a fact about the target or the deployment."""

    name: str


class Reference(msgspec.Struct, frozen=True):
    """`${…}`: a value from the environment (`variable`) or from a file (`path`); exactly one of the two is
    set.
    """

    variable: str = ""
    path: str = ""
    default: str | None = None

    def __str__(self) -> str:
        return f"${{file:{self.path}}}" if self.path else f"${{{self.variable}}}"


Piece = str | Name | Reference


class TemplateError(ValueError):
    """Raised when a template cannot be read. `suggestion` is what to write instead, or empty."""

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.suggestion = suggestion


_SPECIAL = re.compile(r"\$\$\{|\$\{|\{\{")
NAME = re.compile(r"\{\{[ \t\n]*([A-Za-z_][A-Za-z0-9_.-]*)[ \t\n]*\}\}")
REFERENCE = re.compile(
    r"\$\{(?:file:(?P<path>[^{}\0]+)|(?P<variable>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}\0]*))?)\}"
)
_OPENING = re.compile(r"\$\{|\{\{")
_EXCERPT = 30


def name_at(text: str, start: int) -> tuple[Piece, int]:
    """Return what the `{{` at `start` begins, and where that ends. Raises TemplateError."""
    if text.startswith("{{{{", start):
        return "{{", start + 4
    if (match := NAME.match(text, start)) is None:
        raise TemplateError(
            f"{_excerpt(text, start)!r} is no template: expected {{{{ name }}}}",
            "write {{{{ for a literal {{",
        )
    return Name(match[1]), match.end()


def reference_at(text: str, start: int) -> tuple[Reference, int] | None:
    """Return the reference that begins at `start` and where it ends, or None when it is none of ours."""
    if (match := REFERENCE.match(text, start)) is None:
        return None
    return Reference(
        variable=match["variable"] or "", path=match["path"] or "", default=match["default"]
    ), match.end()


def pieces(text: str) -> Iterator[Piece]:
    """Yield literal texts, names and references of `text` in order. Raises TemplateError."""
    position = 0
    while (special := _SPECIAL.search(text, position)) is not None:
        if special.start() > position:
            yield text[position : special.start()]
        if special[0] == "$${":
            yield "${"
            position = special.end()
        elif special[0] == "{{":
            piece, position = name_at(text, special.start())
            yield piece
        elif found := reference_at(text, special.start()):
            reference, position = found
            yield reference
        else:
            raise bad_reference(text, special.start())
    if position < len(text):
        yield text[position:]


@functools.lru_cache(maxsize=256)
def _pieces(text: str) -> tuple[Piece, ...]:
    """Templates are few, and each is rendered for every look at every target."""
    return tuple(pieces(text))


def bad_reference(text: str, start: int) -> TemplateError:
    """Return the error for a `${` at `start` that begins no reference of ours."""
    if text.startswith("${{", start):
        return TemplateError(f"{_excerpt(text, start)!r} mixes two forms", "write {{ name }} or ${NAME}")
    message = (
        f"{_excerpt(text, start)!r} is no reference: expected ${{NAME}}, ${{NAME:-default}} or ${{file:PATH}}"
    )
    return TemplateError(message, "write $${ for a literal ${")


def render(text: str, *, name: Callable[[str], str], reference: Callable[[Reference], str]) -> str:
    """Return `text` with each name and reference replaced by what the two functions give for it."""
    if "{" not in text:
        return text
    return "".join(
        piece if isinstance(piece, str) else name(piece.name) if isinstance(piece, Name) else reference(piece)
        for piece in _pieces(text)
    )


def escape(value: str) -> str:
    """Return a text that renders to exactly `value`."""
    return _OPENING.sub(lambda match: "$${" if match[0] == "${" else "{{{{", value)


def _excerpt(text: str, start: int) -> str:
    end = text.find("}}", start)
    return text[start : min(end + 2 if end >= 0 else len(text), start + _EXCERPT)].splitlines()[0]
