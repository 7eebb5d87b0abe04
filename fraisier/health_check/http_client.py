"""HTTP by aiohttp; a module of its own because loading that library takes a third of a second."""

from __future__ import annotations

import aiohttp
from aiohttp.connector import Connection

from fraisier.health_check.expectation import BODY_MAX, Answer, Request
from fraisier.health_check.failures import ProbeError, ProbeFailed
from fraisier.health_check.tls import TLSContexts, certificate_of

CONNECTIONS_MAX = 256
USER_AGENT = "fraisier-health"


class _Response(aiohttp.ClientResponse):
    """Notes the certificate while the connection is at hand; it may be given back with the last byte of the head."""

    certificate: bytes = b""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Read the head of the answer."""
        transport = connection.transport
        self.certificate = certificate_of(transport.get_extra_info("ssl_object") if transport else None)
        return await super().start(connection)


class AiohttpClient:
    """One session for all requests of its loop. Without `keep_alive` each request has a connection of its
    own."""

    def __init__(self, *, keep_alive: bool = True, contexts: TLSContexts | None = None) -> None:
        self._keep_alive = keep_alive
        self._contexts = contexts or TLSContexts()
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, request: Request) -> Answer:
        """Send a request; raises OSError when there is no connection, ProbeFailed for what is not HTTP."""
        try:
            return await self._send(request)
        except aiohttp.InvalidURL as error:
            raise ProbeError("this is not a URL that can be asked") from error
        except aiohttp.ServerTimeoutError as error:
            message = f"no connection within {request.connect_timeout_s or 0:g} s"
            raise ProbeFailed(message, answered=False) from error
        except (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch) as error:
            raise ProbeFailed(f"TLS: {error}") from error
        except aiohttp.ServerDisconnectedError as error:
            raise ProbeFailed("the connection was closed without an answer") from error
        except aiohttp.ClientOSError:
            raise
        except aiohttp.ClientError as error:
            raise ProbeFailed(f"{type(error).__name__}: {error}") from error

    async def aclose(self) -> None:
        """Close the session and its connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _send(self, request: Request) -> Answer:
        secure = request.url.lower().startswith("https:")
        async with self._opened().request(
            request.method,
            request.url,
            headers=request.headers,
            allow_redirects=False,
            ssl=await self._contexts.get(request) if secure else True,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=request.connect_timeout_s),
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(65536):
                body += chunk
                if len(body) > BODY_MAX:
                    # The rest is not wanted; the connection with it in the pipe cannot be used again.
                    response.close()
                    break
            return Answer(
                response.status,
                bytes(body[:BODY_MAX]),
                len(body) > BODY_MAX,
                location=response.headers.get("Location", ""),
                certificate=getattr(response, "certificate", b""),
            )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, force_close=not self._keep_alive)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": USER_AGENT},
                raise_for_status=False,
                response_class=_Response,
                trust_env=False,
            )
        return self._session
