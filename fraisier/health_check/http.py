"""Ask over HTTP."""

from __future__ import annotations

import importlib
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, Self, cast
from urllib.parse import unquote, urlunsplit

from fraisier.clock import Clock, SystemClock
from fraisier.health_check.base import Good, Probe
from fraisier.health_check.certificate import not_after
from fraisier.health_check.expectation import Answer, Expectation, Fetch, Request, StatusSpec
from fraisier.health_check.failures import ProbeError, ProbeFailed
from fraisier.health_check.redirects import fetch_following
from fraisier.health_check.tls import TLSContexts
from fraisier.redaction import UnreadableURLError, read_url

WARN_BEFORE_S = 14 * 86_400.0
"""So long before the end of its certificate a server is warned of."""


class HTTPClient(Protocol):
    """Sends requests over connections that it keeps until it is closed."""

    async def fetch(self, request: Request) -> Answer:
        """Send a request and return the answer; raise OSError, ProbeFailed or ProbeError."""
        ...

    async def aclose(self) -> None:
        """Close all connections in order."""
        ...


def new_client(*, keep_alive: bool = True, contexts: TLSContexts | None = None) -> HTTPClient:
    """Return a client. The library behind it is loaded here, because most programs never probe over HTTP."""
    module = importlib.import_module("fraisier.health_check.http_client")
    return cast(HTTPClient, module.AiohttpClient(keep_alive=keep_alive, contexts=contexts))


class HTTPHealthChecker(Probe):
    """Passes when a URL answers as expected.

    `expect_status` is a status, a class such as `2xx`, or several; `expect_body` a regular expression that must be found
    in the body (its first MiB, and with a repeat in the expression its first 8192 characters; ValueError for a repeat
    inside of a repeat); `expect_json` values by dotted path. Redirects are answers,
    unless `follow_redirects`; then the last answer counts, and headers stay at their origin. `verify_tls` checks
    the certificate, against the authorities in `ca_file` where there is one; a good answer carries a warning
    when the certificate, verified or not, ends within `tls_warn_before` seconds (0: never). `connect_timeout`
    bounds the connecting of each request alone (seconds), the timeout of `check` everything. By itself each
    check opens and closes a connection; within `async with checker:` the connection is kept for the next check.
    `fetch` sends the requests elsewhere. User and password of the URL go into the Authorization header; they and
    the query stay out of messages: tokens stand there.
    """

    check_type = "http"

    def __init__(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        expect_status: StatusSpec = 200,
        expect_body: str = "",
        expect_json: Mapping[str, Any] | None = None,
        follow_redirects: bool = False,
        verify_tls: bool = True,
        ca_file: str = "",
        tls_warn_before: float = WARN_BEFORE_S,
        connect_timeout: float | None = None,
        fetch: Fetch | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.url = url
        bare, credentials = _without_user(url)
        self._request = Request(
            method=method.upper(),
            url=bare,
            headers={**credentials, **(headers or {})},
            verify_tls=verify_tls,
            ca_file=ca_file,
            follow_redirects=follow_redirects,
            connect_timeout_s=connect_timeout,
        )
        self._expectation = Expectation(expect_status, expect_body, expect_json)
        self._warn_before_s = tls_warn_before
        self._fetch = fetch
        self._clock = clock or SystemClock()
        self._client: HTTPClient | None = None

    async def __aenter__(self) -> Self:
        """Keep connections from here on."""
        self._client = new_client()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the kept connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def describe(self) -> str:
        """Return `METHOD URL` without user, query and fragment."""
        return f"{self._request.method} {shown_url(self.url)}"

    def address(self) -> tuple[str, int]:
        """Return host and port that are asked. Raises UnreadableURLError."""
        parts = read_url(self.url)
        return parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)

    async def ask(self) -> Good:
        """Send the request once, follow it where that is wanted, and judge the answer."""
        try:
            answer = await self._answer()
            self._expectation.judge(answer)
        except UnreadableURLError as error:
            raise ProbeError(f"{self._request.method}: {error}") from None
        except ValueError:
            # A line break in a header, for one. The text of such an error may show what stands there.
            raise ProbeError(f"{self.describe()}: this cannot be sent as a request") from None
        except ProbeFailed as failure:
            raise ProbeFailed(f"{self.describe()}: {failure}", answered=failure.answered) from failure
        except ProbeError as failure:
            raise ProbeError(f"{self.describe()}: {failure}") from failure
        return Good(f"{self.describe()}: status {answer.status}", self._warnings(answer))

    async def _answer(self) -> Answer:
        if read_url(self.url).scheme not in ("http", "https"):
            raise ProbeError("only http and https can be asked")
        if self._fetch is not None:
            return await fetch_following(self._fetch, self._request)
        if self._client is not None:
            return await fetch_following(self._client.fetch, self._request)
        client = new_client(keep_alive=False)
        try:
            return await fetch_following(client.fetch, self._request)
        finally:
            await client.aclose()

    def _warnings(self, answer: Answer) -> tuple[str, ...]:
        if not answer.certificate or self._warn_before_s <= 0:
            return ()
        try:
            end = not_after(answer.certificate)
        except ValueError as error:
            return (f"the end of the certificate cannot be read: {error}",)
        left = end - datetime.fromtimestamp(self._clock.now_us() / 1e6, UTC)
        if left > timedelta(seconds=self._warn_before_s):
            return ()
        days = max(left, timedelta(0)).days
        when = f"ends in {days} day{'' if days == 1 else 's'}, on" if left > timedelta(0) else "has ended, on"
        return (f"the certificate {when} {end:%Y-%m-%d %H:%M} UTC",)


def _without_user(url: str) -> tuple[str, dict[str, str]]:
    """Return the URL without user and password, and the header that carries them."""
    try:
        parts = read_url(url)
    except UnreadableURLError:
        return url, {}
    user, password = parts.username, parts.password
    if user is None:
        return url, {}
    token = b64encode(f"{unquote(user)}:{unquote(password or '')}".encode()).decode()
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return bare, {"Authorization": f"Basic {token}"}


def shown_url(url: str) -> str:
    """Return a URL without the parts in which secrets stand."""
    try:
        parts = read_url(url)
    except UnreadableURLError:
        return "a URL that cannot be read"
    port = f":{parts.port}" if parts.port else ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{parts.scheme}://{host}{port}{parts.path}"
