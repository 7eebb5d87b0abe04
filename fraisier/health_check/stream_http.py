"""HTTP over a connection that a transport opened: one request in HTTP/1.0, so the answer ends with the connection."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSAttribute, TLSStream

from fraisier.health_check.expectation import BODY_MAX, Answer, Request
from fraisier.health_check.failures import ProbeError, ProbeFailed
from fraisier.health_check.tcp import Connect, put_down
from fraisier.health_check.tls import TLSContexts, certificate_of
from fraisier.redaction import read_url

HEAD_MAX = 64 * 1024


async def fetch_over(connect: Connect, request: Request, contexts: TLSContexts) -> Answer:
    """Send a request through `connect` and return the answer; a redirect is one. Raises ProbeFailed, ProbeError, OSError."""
    parts = read_url(request.url)
    if not parts.hostname:
        raise ProbeError("there is no host in the URL")
    head = _head(request, parts)
    context = await contexts.get(request) if parts.scheme == "https" else None
    try:
        stream = await _opened(connect, parts, context, request.connect_timeout_s)
        try:
            await stream.send(head)
            return await _answer(stream, bodiless=request.method == "HEAD")
        finally:
            await put_down(stream)
    except ssl.SSLError as error:
        raise ProbeFailed(f"TLS: {error.reason or error}") from error
    except (anyio.BrokenResourceError, anyio.EndOfStream) as error:
        raise ProbeFailed("the connection was closed without an answer") from error


async def _opened(
    connect: Connect, parts: SplitResult, context: ssl.SSLContext | None, limit_s: float | None
) -> ByteStream:
    """Connect, and agree on TLS where there is a context; both within the connect timeout."""
    if limit_s is None:
        return await _secured(connect, parts, context)
    with anyio.move_on_after(limit_s):
        return await _secured(connect, parts, context)
    raise ProbeFailed(f"no connection within {limit_s:g} s", answered=False)


async def _secured(connect: Connect, parts: SplitResult, context: ssl.SSLContext | None) -> ByteStream:
    host = parts.hostname or ""
    stream = await connect(host, parts.port or (443 if context else 80))
    if context is None:
        return stream
    secured = None
    try:
        secured = await TLSStream.wrap(stream, hostname=host, ssl_context=context, standard_compatible=False)
        return secured
    finally:
        if secured is None:
            await put_down(stream)


def _head(request: Request, parts: SplitResult) -> bytes:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.netloc.rpartition("@")[2]
    headers = {"Host": host, "User-Agent": "fraisier-health", "Connection": "close", **request.headers}
    lines = [f"{request.method} {path} HTTP/1.0", *(f"{name}: {value}" for name, value in headers.items())]
    if any("\r" in line or "\n" in line for line in lines):
        raise ProbeError("a line break stands in the URL or in a header")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


async def _answer(stream: ByteStream, *, bodiless: bool) -> Answer:
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0 and len(data) <= HEAD_MAX:
        if not await _more(stream, data):
            break
    status, headers = _parsed(bytes(data), end)
    body = data[end + 4 :]
    # A server that keeps the connection open all the same says how much there is.
    length = headers.get("content-length", "")
    wanted = min(int(length), BODY_MAX + 1) if length.isdecimal() else BODY_MAX + 1
    while len(body) < (0 if bodiless else wanted) and await _more(stream, body):
        pass
    ssl_object = stream.extra(TLSAttribute.ssl_object, None)  # noqa: S610 - not a query of a database
    return Answer(
        status,
        bytes(body[:BODY_MAX]),
        len(body) > BODY_MAX,
        location=headers.get("location", ""),
        certificate=certificate_of(ssl_object),
    )


async def _more(stream: ByteStream, data: bytearray) -> bool:
    try:
        data += await stream.receive(65536)
    except anyio.EndOfStream:
        return False
    return True


def _parsed(data: bytes, end: int) -> tuple[int, Mapping[str, str]]:
    """Return the status and the headers, their names in lower case; `end` is where the head ends."""
    if not data:
        raise ProbeFailed("the connection was closed without an answer")
    first, *rest = data[: max(end, 0)].split(b"\r\n")
    words = first.split(None, 2)
    if end < 0 or len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ProbeFailed("the answer is not HTTP")
    pairs = (line.decode("latin-1").partition(":") for line in rest)
    return int(words[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}
