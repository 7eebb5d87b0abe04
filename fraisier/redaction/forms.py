"""How a value looks once other programs have written it: quoted, escaped, encoded, wrapped."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

_WRAPS = (76, 64)
"""How many characters a line has in the base64 of MIME and of OpenSSL."""

_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})


def forms(value: str) -> Iterator[str]:
    """Yield the value in every form that it is looked for in; some more than once, some shorter than what can be masked."""
    raw = value.encode("utf-8", "surrogateescape")
    yield value
    for quoted in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        yield quoted
        yield _lower_escapes(quoted)
    escaped = json.dumps(value)[1:-1]
    yield escaped
    yield json.dumps(escaped)[1:-1]  # a document inside a document
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    yield repr(raw)[2:-1]
    yield shlex.quote(value)[1:-1] if "'" in value else value
    yield value.translate(_HTML)
    yield raw.hex()
    yield raw.hex().upper()
    yield from _base64(raw)


def _lower_escapes(quoted: str) -> str:
    """Return `%2F` as `%2f`, as some programs write it."""
    first, *rest = quoted.split("%")
    return first + "".join(f"%{part[:2].lower()}{part[2:]}" for part in rest)


def _base64(raw: bytes) -> Iterator[str]:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(raw).decode().rstrip("=")
        yield whole
        for width in _WRAPS:
            if len(whole) > width:
                yield from (whole[start : start + width] for start in range(0, len(whole), width))
        for offset in range(3):
            # The same bytes at another offset of a longer text (`user:password`) come out as other
            # characters; the characters that are mixed with what stands before and after are left off.
            coded = encode(b"\0" * offset + raw).decode().rstrip("=")
            yield coded[(offset * 8 + 5) // 6 : (offset + len(raw)) * 8 // 6]
