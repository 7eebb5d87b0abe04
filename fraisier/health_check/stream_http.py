"""HTTP over a connection that a transport opened: one request in HTTP/1.0, so the answer ends with the
connection."""

from __future__ import annotations

import ssl
from urllib.parse import SplitResult, urlsplit

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from fraisier.health_check.expectation import BODY_MAX, Answer, Request
from fraisier.health_check.failures import ProbeError, ProbeFailed
from fraisier.health_check.tcp import Connect

HEAD_MAX = 64 * 1024


async def fetch_over(connect: Connect, request: Request) -> Answer:
    """Send a request through `connect` and return the answer. Redirects are not followed."""
    parts = urlsplit(request.url)
    if not parts.hostname:
        raise ProbeError("there is no host in the URL")
    stream = await connect(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
    try:
        if parts.scheme == "https":
            stream = await _with_tls(stream, parts.hostname, verify=request.verify_tls)
        await stream.send(_head(request, parts))
        return _parsed(await _read_all(stream))
    except ssl.SSLError as error:
        raise ProbeFailed(f"TLS: {error.reason or error}") from error
    except (anyio.BrokenResourceError, anyio.EndOfStream) as error:
        raise ProbeFailed("the connection was closed without an answer") from error
    finally:
        await anyio.aclose_forcefully(stream)


async def _with_tls(stream: ByteStream, host: str, *, verify: bool) -> ByteStream:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return await TLSStream.wrap(stream, hostname=host, ssl_context=context, standard_compatible=False)


def _head(request: Request, parts: SplitResult) -> bytes:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.netloc.rpartition("@")[2]
    headers = {"Host": host, "User-Agent": "fraisier-health", "Connection": "close", **request.headers}
    lines = [f"{request.method} {path} HTTP/1.0", *(f"{name}: {value}" for name, value in headers.items())]
    if any("\r" in line or "\n" in line for line in lines):
        raise ProbeError("a line break stands in the URL or in a header")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


async def _read_all(stream: ByteStream) -> bytes:
    data = bytearray()
    while len(data) <= HEAD_MAX + BODY_MAX:
        try:
            data += await stream.receive(65536)
        except anyio.EndOfStream:
            break
    return bytes(data)


def _parsed(data: bytes) -> Answer:
    head, end, body = data.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(None, 2)
    if not data:
        raise ProbeFailed("the connection was closed without an answer")
    if not end or len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ProbeFailed("the answer is not HTTP")
    return Answer(int(words[1]), body[:BODY_MAX], len(body) > BODY_MAX)
