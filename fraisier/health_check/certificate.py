"""When a server's certificate ends. Read from the certificate itself, because Python decodes only those that it trusts."""

from __future__ import annotations

from datetime import UTC, datetime

_VERSION = 0xA0
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18
_CENTURY_TURN = 50
"""Two digits from here on mean 19xx, below it 20xx (RFC 5280, 4.1.2.5.1)."""


def not_after(der: bytes) -> datetime:
    """Return the end of validity of an X.509 certificate in DER. Raises ValueError for what is not one."""
    try:
        at = _inside(der, _inside(der, 0))
        if der[at] == _VERSION:
            at = _behind(der, at)
        for _ in ("serial number", "signature algorithm", "issuer"):
            at = _behind(der, at)
        at = _behind(der, _inside(der, at))
        _, start, end = _element(der, at)
        return _time(der[at], der[start:end].decode("ascii"))
    except (IndexError, ValueError) as error:
        raise ValueError("this is not an X.509 certificate in DER") from error


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return tag, beginning and end of the content of the element at a place."""
    tag, length = der[at], der[at + 1]
    start = at + 2
    if length & 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(der[start : start + size], "big"), start + size
    if start + length > len(der):
        raise IndexError("an element is longer than the certificate")
    return tag, start, start + length


def _inside(der: bytes, at: int) -> int:
    return _element(der, at)[1]


def _behind(der: bytes, at: int) -> int:
    return _element(der, at)[2]


def _time(tag: int, text: str) -> datetime:
    if tag == _UTC_TIME:
        century = "19" if int(text[:2]) >= _CENTURY_TURN else "20"
    elif tag == _GENERALIZED_TIME:
        century = ""
    else:
        raise ValueError("no time stands where the validity should")
    return datetime.strptime(century + text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
