"""Where user and password of a URL stand, also of one that no library can read: a password with `/`, `?` or `#` in it.

Such a URL is read as it was meant, up to the last `@`. A library takes the beginning of the password for a port, and
tells it in its error; that is why nobody else here reads a URL, and why no error of a library is passed on.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

BREAKS = re.compile(r"[/?#@:\[\]\\\s]+")
"""What a library could take a password apart at."""

_SCHEME = re.compile(r"[A-Za-z0-9+.-]{1,32}://")
_TEXT_END = re.compile(r"[\s'\"<>]")
_AUTHORITY_END = re.compile(r"[/?#]")
# References and templates are looked at as a port would be: they show nothing, and their slashes are their own.
_PUT_IN = re.compile(r"\$\{[^{}]*\}|\{\{[^{}]*\}\}")
_HOST = re.compile(r"(?:localhost|\[[^\[\]]*\]|[\w-]+(?:\.[\w-]+)+)(?::[0-9]{1,5})?|[\w-]+:[0-9]{1,5}")
_HOST_AND_PORT = re.compile(r"[^:@]+:[0-9]{1,5}|localhost|[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_PORT_MAX = 65_535


class UnreadableURLError(ValueError):
    """Raised when a URL cannot be read, or would be read otherwise than it was meant. Its text shows nothing of the URL."""

    def __init__(self, *, has_user: bool = False) -> None:
        how = ": in user and password write `/` as %2F, `?` as %3F, `#` as %23 and `@` as %40"
        super().__init__(f"the URL cannot be read{how if has_user else ''}")


class Userinfo(NamedTuple):
    """Where in a text a scheme begins, where behind it user and password do, and where the `@` behind those stands."""

    scheme: int
    start: int
    end: int


@functools.lru_cache(maxsize=256)
def read_url(url: str) -> SplitResult:
    """Return the parts of a URL, of which the port can be had, too. Raises UnreadableURLError."""
    try:
        parts = urlsplit(url)
        is_read = parts.port is None or parts.port >= 0
    except ValueError:
        is_read = False
    found = userinfo_of(url)
    if not is_read or (found is not None and _AUTHORITY_END.search(url, found.start, found.end)):
        raise UnreadableURLError(
            has_user="@" in url
        )  # outside of the handler, so that the other error is gone
    return parts


def userinfo_of(address: str) -> Userinfo | None:
    """Return where user and password stand in a text that is one address and nothing else, or None."""
    scheme = _SCHEME.match(address)
    plain = _plain(address)
    end = None if scheme is None else _end(plain, scheme.end(), len(plain))
    return None if scheme is None or end is None else Userinfo(0, scheme.end(), end)


def userinfos(text: str) -> Iterator[Userinfo]:
    """Yield where users and passwords stand in the URLs of a text, in order."""
    plain = _plain(text)
    position = run_end = 0
    while (scheme := _SCHEME.search(plain, position)) is not None:
        position = scheme.end()
        if position >= run_end:
            space = _TEXT_END.search(plain, position)
            run_end = space.start() if space else len(plain)
        upcoming = _SCHEME.search(plain, position, run_end)
        end = _end(plain, position, upcoming.start() if upcoming else run_end)
        if end is None and upcoming and not _is_before(plain, position, upcoming.start()):
            end = _end(plain, position, run_end)  # a password with `://` in it
        if end is not None:
            yield Userinfo(scheme.start(), position, end)
            position = end + 1


def _plain(text: str) -> str:
    return _PUT_IN.sub(lambda match: "0" * len(match[0]), text) if "{" in text else text


def _end(text: str, start: int, stop: int) -> int | None:
    """Return where the `@` behind user and password stands in the URL whose scheme ends at `start`, or None."""
    last = text.rfind("@", start, stop)
    if last < 0:
        return None
    cut = _authority_end(text, start, stop)
    first = text.rfind("@", start, cut)
    if first == last:
        return last
    behind = text[last + 1 : _authority_end(text, last + 1, stop)]
    if first < 0:
        # `http://host/a@b` is none; `http://bob:12/x@127.0.0.1:80/` is more likely one than not.
        is_meant = not _is_readable(text, start, stop) or (
            _has_port(text[start:cut])
            and not _HOST.fullmatch(text[start:cut].partition(":")[0])
            and _HOST_AND_PORT.fullmatch(behind)
        )
        return last if is_meant else None
    # With two of them the first ends the user, where a host can follow; `/@scope` is a path.
    is_first = ":" not in text[start:first] or _HOST.fullmatch(text[first + 1 : cut]) or text[last - 1] == "/"
    return first if is_first else last


def _authority_end(text: str, start: int, stop: int) -> int:
    found = _AUTHORITY_END.search(text, start, stop)
    return found.start() if found else stop


def _is_readable(text: str, start: int, stop: int) -> bool:
    """Whether what stands before a path can be a host with its port."""
    authority = text[start : _authority_end(text, start, stop)].rpartition("@")[2]
    host, _, port = authority.rpartition(":")
    if ":" in host and not host.endswith("]") and not authority.endswith("]"):
        return False
    if not host or authority.endswith("]"):
        return True
    return not port or (port.isdecimal() and port.isascii() and int(port[:9]) <= _PORT_MAX)


def _is_before(text: str, start: int, stop: int) -> bool:
    """Whether a URL can end at `stop`, where the next one seems to begin."""
    return text[stop - 1] != ":" and _is_readable(text, start, stop)


def _has_port(authority: str) -> bool:
    return authority.rpartition(":")[2].isdecimal()
