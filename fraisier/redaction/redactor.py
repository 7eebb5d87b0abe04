"""Takes out of texts and nested data what is known to be secret."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from fraisier.redaction.address import BREAKS
from fraisier.redaction.clipping import CUT
from fraisier.redaction.forms import forms
from fraisier.redaction.patterns import is_secret_key, mask_named, mask_url, passwords_in
from fraisier.redaction.secret import MASK, Secret

MIN_LENGTH = 6
"""Shorter values are not masked: they would blank out ordinary words, and guessing them takes no log."""

_DIRECTORIES = frozenset({"PWD", "OLDPWD"})
_DEPTH_MAX = 50
_HALF_MIN = 3
"""So many characters of a value beside a cut are masked; fewer tell nothing."""


class Redactor:
    """Knows secret values and takes them out of texts and of nested data."""

    def __init__(self) -> None:
        self._forms: tuple[str, ...] = ()

    def register(self, value: str) -> None:
        """Mask `value` from now on, also as it looks URL-quoted, in base64, in JSON and in a shell word.

        A value of several lines is masked line by line too, since output is reported in lines. Values shorter
        than MIN_LENGTH characters are left alone.
        """
        self._register_all(passwords_in(value) if "://" in value else ())
        known = set(self._forms)
        for part in {value, value.strip(), *(line.strip() for line in value.splitlines())}:
            if len(part) >= MIN_LENGTH:
                known.update(form for form in forms(part) if len(form) >= MIN_LENGTH)
        if len(known) != len(self._forms):
            self._forms = tuple(sorted(known, key=lambda form: (-len(form), form)))

    def register_address(self, text: str) -> None:
        """Mask the password of an address (or those of the URLs in a text), as it stands there and decoded. One that should
        have been encoded is masked in pieces, too, as other programs take it apart."""
        self._register_all(passwords_in(text, whole=True) if "://" in text else ())

    def register_pieces(self, value: str) -> None:
        """Mask what a secret value is taken apart into where it stands in a URL without being encoded."""
        self._register_all(BREAKS.split(value))

    def _register_all(self, passwords: Iterable[str]) -> None:
        for password in passwords:
            for form in {password, unquote(password)}:
                self.register(form)

    def register_named(self, values: Mapping[str, str]) -> None:
        """Mask those values whose names say that they are secret (`API_TOKEN`): of an environment that hooks get.
        `PWD` is where a shell stands, and not a password."""
        for name, value in values.items():
            if is_secret_key(name) and name not in _DIRECTORIES:
                self.register(value)

    def scrub(self, text: str) -> str:
        """Return `text` with `***` for every registered value, for what is left of one where the text was cut (`…`),
        for every password in a URL, and for every value under a telling name (`password=…`)."""
        spans = sorted(_occurrences(text, self._forms))
        if CUT in text:
            spans = sorted([*spans, *_halves(text, self._forms)])
        if spans:
            text = _blank(text, spans)
        if "://" in text and "@" in text:
            text = mask_url(text)
        return mask_named(text) if "=" in text or ":" in text else text

    def scrub_object(self, value: Any) -> Any:
        """Return a copy of nested lists, tuples, sets and mappings without secrets, by value, by type and by key name.

        Numbers under a key that ends in `token` stay: they are fencing tokens. Objects of other types are
        returned as they are.
        """
        return self._scrub(value, secret="", depth=0)

    def _scrub(self, value: Any, *, secret: str, depth: int) -> Any:
        if depth > _DEPTH_MAX or isinstance(value, Secret):
            return MASK
        if isinstance(value, str):
            return MASK if secret and value else self.scrub(value)
        if isinstance(value, bytes):
            return (
                MASK.encode()
                if secret
                else self.scrub(value.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
            )
        if isinstance(value, dict):
            return {
                self.scrub(key) if isinstance(key, str) else key: self._scrub(
                    item, secret=secret or is_secret_key(key), depth=depth + 1
                )
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple, set, frozenset)):
            items = [self._scrub(item, secret=secret, depth=depth + 1) for item in value]
            return items if isinstance(value, list) else _rebuilt(value, items)
        if (
            secret
            and isinstance(value, (int, float))
            and not isinstance(value, bool)
            and not secret.endswith("token")
        ):
            return MASK
        return value


def _occurrences(text: str, known: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    for form in known:
        start = text.find(form)
        while start >= 0:
            yield start, start + len(form)
            start = text.find(form, start + 1)


def _halves(text: str, known: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Yield what stands before a cut and begins a value, and what stands behind one and ends a value."""
    at = text.find(CUT)
    while at >= 0:
        behind = at + len(CUT)
        last, first = text[max(at - _HALF_MIN, 0) : at], text[behind : behind + _HALF_MIN]
        for form in known:
            for place in _places(form, last):
                size = place + _HALF_MIN
                if size <= at and text.startswith(form[:size], at - size):
                    yield at - size, at
            for place in _places(form, first):
                if text.startswith(form[place:], behind):
                    yield behind, behind + len(form) - place
        at = text.find(CUT, behind)


def _places(form: str, piece: str) -> Iterator[int]:
    """Yield where a piece of _HALF_MIN characters stands in a form."""
    place = form.find(piece) if len(piece) == _HALF_MIN else -1
    while place >= 0:
        yield place
        place = form.find(piece, place + 1)


def _blank(text: str, spans: list[tuple[int, int]]) -> str:
    """Replace each run of overlapping spans by one mask, so that no rest of a second value stays beside the
    first.
    """
    parts: list[str] = []
    end = 0
    for start, stop in spans:
        if start >= end or not parts:
            parts += [text[end:start], MASK]
        end = max(end, stop)
    return "".join((*parts, text[end:]))


def _rebuilt(model: tuple[Any, ...] | set[Any] | frozenset[Any], items: list[Any]) -> Any:
    if isinstance(model, tuple):
        return tuple(items)
    return set(items) if isinstance(model, set) else frozenset(items)
