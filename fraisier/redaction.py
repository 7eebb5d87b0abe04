"""Keeps secrets out of every sink: values that are known are masked wherever they turn up."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
MIN_LENGTH = 6
"""Shorter values are not masked: they would blank out ordinary words, and guessing them takes no log."""

_DEPTH_MAX = 50
_SECRET_WORDS = frozenset(
    {"password", "passwords", "passwd", "pwd", "passphrase", "secret", "secrets", "token", "tokens", "bearer"}
    | {"authorization", "credential", "credentials", "cookie", "cookies", "apikey"}
)
_SECRET_PAIRS = ("api_key", "access_key", "private_key", "secret_key", "signing_key", "session_id")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_USERINFO = re.compile(
    r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s/?#'\"<>@:]*)(?P<password>:[^\s/?#'\"<>]*)?@"
)


class Redactor:
    """Knows secret values and takes them out of texts and of nested data."""

    def __init__(self) -> None:
        self._forms: tuple[str, ...] = ()

    def register(self, value: str) -> None:
        """Mask `value` from now on, also as it looks URL-quoted, in base64, in JSON and in a shell word.

        A value of several lines is masked line by line too, since output is reported in lines. Values shorter
        than MIN_LENGTH characters are left alone.
        """
        known = set(self._forms)
        for part in {value, value.strip(), *(line.strip() for line in value.splitlines())}:
            if len(part) >= MIN_LENGTH:
                known.update(form for form in _forms(part) if len(form) >= MIN_LENGTH)
        if len(known) != len(self._forms):
            self._forms = tuple(sorted(known, key=lambda form: (-len(form), form)))

    def scrub(self, text: str) -> str:
        """Return `text` with every registered value, and every password in a URL, as `***`."""
        spans = sorted(_occurrences(text, self._forms))
        if spans:
            text = _blank(text, spans)
        return mask_url(text) if "://" in text and "@" in text else text

    def scrub_object(self, value: Any) -> Any:
        """Return a copy of nested lists, tuples, sets and mappings without secrets, by value and by key name.

        Numbers under a key that ends in `token` stay: they are fencing tokens. Objects of other types are
        returned as they are.
        """
        return self._scrub(value, secret="", depth=0)

    def _scrub(self, value: Any, *, secret: str, depth: int) -> Any:
        if depth > _DEPTH_MAX:
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
                    item, secret=secret or _secret_key(key), depth=depth + 1
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


def mask_url(url: str) -> str:
    """Return `url` (or a text with URLs in it) without passwords; a lone user name stays, but not in http(s),
    where it is a token.
    """
    return _USERINFO.sub(_masked_userinfo, url)


def _masked_userinfo(match: re.Match[str]) -> str:
    scheme, user, password = match["scheme"], match["user"], match["password"]
    if password is not None:
        return f"{scheme}{user}:{MASK}@"
    if user and scheme.lower() in {"http://", "https://"}:
        return f"{scheme}{MASK}@"
    return match[0]


def _secret_key(key: object) -> str:
    """Return the normalised key when it names something secret, else an empty text."""
    if not isinstance(key, str):
        return ""
    name = re.sub(r"[^a-z0-9]+", "_", _CAMEL.sub("_", key).lower())
    if any(pair in name for pair in _SECRET_PAIRS) or not _SECRET_WORDS.isdisjoint(name.split("_")):
        return name
    return ""


def _forms(value: str) -> Iterator[str]:
    raw = value.encode("utf-8", "surrogateescape")
    yield value
    yield quote(raw)
    yield quote(raw, safe="")
    yield quote_plus(raw)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    yield shlex.quote(value)[1:-1] if "'" in value else value
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode().rstrip("=")
        for offset in range(3):
            # The same bytes at another offset of a longer text (`user:password`) come out as other
            # characters; the characters that are mixed with what stands before and after are left off.
            coded = encode(b"\0" * offset + raw).decode().rstrip("=")
            yield coded[(offset * 8 + 5) // 6 : (offset + len(raw)) * 8 // 6]


def _occurrences(text: str, forms: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    for form in forms:
        start = text.find(form)
        while start >= 0:
            yield start, start + len(form)
            start = text.find(form, start + 1)


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
