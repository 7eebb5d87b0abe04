"""Ask over HTTP."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, Self, cast
from urllib.parse import urlsplit

from fraisier.health_check.base import Probe
from fraisier.health_check.expectation import Answer, Expectation, Request, StatusSpec
from fraisier.health_check.failures import ProbeError, ProbeFailed

Fetch = Callable[[Request], Awaitable[Answer]]


class HTTPClient(Protocol):
    """Sends requests over connections that it keeps until it is closed."""

    async def fetch(self, request: Request) -> Answer:
        """Send a request and return the answer; raise OSError, ProbeFailed or ProbeError."""
        ...

    async def aclose(self) -> None:
        """Close all connections in order."""
        ...


def new_client(*, keep_alive: bool = True) -> HTTPClient:
    """Return a client. The library behind it is loaded here, because most programs never probe over HTTP."""
    module = importlib.import_module("fraisier.health_check.http_client")
    return cast(HTTPClient, module.AiohttpClient(keep_alive=keep_alive))


class HTTPHealthChecker(Probe):
    """Passes when a URL answers as expected.

    `expect_status` is a status, a class such as `2xx`, or several; `expect_body` a regular expression that
    must be found in the body (its first MiB); `expect_json` values by dotted path. Redirects are answers,
    unless `follow_redirects`. `connect_timeout` bounds the connecting alone, the timeout of `check`
    everything. By itself each check opens and closes a connection; within `async with checker:` the
    connection is kept for the next check. `fetch` sends the request elsewhere. The query and user of the URL
    stay out of messages: tokens stand there.
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
        connect_timeout: float | None = None,
        fetch: Fetch | None = None,
    ) -> None:
        self.url = url
        self._request = Request(
            method=method.upper(),
            url=url,
            headers=dict(headers or {}),
            verify_tls=verify_tls,
            follow_redirects=follow_redirects,
            connect_timeout_s=connect_timeout,
        )
        self._expectation = Expectation(expect_status, expect_body, expect_json)
        self._fetch = fetch
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
        """Return host and port that are asked. Raises ValueError for a URL without them."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)

    async def ask(self) -> str:
        """Send the request once and judge the answer."""
        try:
            answer = await self._answer()
            self._expectation.judge(answer)
        except ValueError as error:
            raise ProbeError(f"{self.describe()}: {error}") from error
        except ProbeFailed as failure:
            raise ProbeFailed(f"{self.describe()}: {failure}", answered=failure.answered) from failure
        except ProbeError as failure:
            raise ProbeError(f"{self.describe()}: {failure}") from failure
        return f"{self.describe()}: status {answer.status}"

    async def _answer(self) -> Answer:
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ProbeError("only http and https can be asked")
        if self._fetch is not None:
            return await self._fetch(self._request)
        if self._client is not None:
            return await self._client.fetch(self._request)
        client = new_client(keep_alive=False)
        try:
            return await client.fetch(self._request)
        finally:
            await client.aclose()


def shown_url(url: str) -> str:
    """Return a URL without the parts in which secrets stand."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "a URL that cannot be read"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{parts.scheme}://{host}{port}{parts.path}"
