"""HTTP checks against servers that behave badly, or speak TLS, over both ways to reach them: from here, and through a
transport's connection."""

from __future__ import annotations

import functools
import shutil
import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from fraisier.health_check import CompositeHealthChecker, HealthCheckResult, HTTPHealthChecker
from fraisier.health_check.certificate import not_after
from fraisier.health_check.expectation import Answer, Request
from fraisier.health_check.stream_http import fetch_over
from fraisier.health_check.tls import TLSContexts
from tests.health.servers import (
    closed_port,
    full_port,
    http_server,
    make_certificate,
    raw_server,
    reset,
    slow_loris,
    tls_of,
)

Ask = Callable[..., Awaitable[HealthCheckResult]]


@pytest.fixture(params=["here", "through a transport"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Ask once, on one of the two ways."""

    async def once(url: str, timeout: float = 5, **options: Any) -> HealthCheckResult:
        if request.param != "here":
            fetch = functools.partial(fetch_over, anyio.connect_tcp, contexts=TLSContexts())
            options["fetch"] = fetch
        return await HTTPHealthChecker(url, **options).check(timeout=timeout)

    return once


async def fine(_: web.Request) -> web.Response:
    """Answer 200."""
    return web.Response(text="fine")


# bad servers ---------------------------------------------------------------------------------------------


async def test_a_body_that_never_ends_is_cut_off_by_the_total_timeout(ask: Ask) -> None:
    """A server that sends a byte now and then keeps nobody for longer than was allowed."""
    async with raw_server(slow_loris) as port:
        result = await ask(f"http://127.0.0.1:{port}/", timeout=0.3)
    assert (result.status, result.answered) == ("fail", False)
    assert "no answer within 0.3 s" in (result.message or "")
    assert 0.3 <= result.duration < 10


async def test_a_connection_that_is_reset_is_a_failure_of_a_live_host(ask: Ask) -> None:
    """It says so, and is evidence."""
    async with raw_server(reset) as port:
        result = await ask(f"http://127.0.0.1:{port}/")
    assert (result.status, result.answered) == ("fail", True)
    assert "reset" in (result.message or "") or "closed without an answer" in (result.message or "")


async def test_a_connection_that_is_closed_without_a_word_is_a_failure(ask: Ask) -> None:
    """An empty answer is none."""

    async def hang_up(stream: Any) -> None:
        await stream.receive()

    async with raw_server(hang_up) as port:
        result = await ask(f"http://127.0.0.1:{port}/")
    assert (result.status, result.answered) == ("fail", True)
    assert "closed without an answer" in (result.message or "")


@pytest.mark.parametrize("said", [b"220 mail.example.com ESMTP\r\n\r\n", b"HTTP/1.1 fine\r\n\r\n", b"hello"])
async def test_what_is_not_http_is_a_failure(ask: Ask, said: bytes) -> None:
    """Whatever else answers there is not the service."""

    async def speak(stream: Any) -> None:
        await stream.receive()
        await stream.send(said)

    async with raw_server(speak) as port:
        result = await ask(f"http://127.0.0.1:{port}/")
    assert (result.status, result.answered) == ("fail", True)


async def test_the_end_of_a_body_is_known_though_the_connection_stays_open(ask: Ask) -> None:
    """Content-Length counts; nobody waits for a server that does not hang up."""

    async def keep_open(stream: Any) -> None:
        await stream.receive()
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
        await anyio.sleep_forever()

    async with raw_server(keep_open) as port:
        result = await ask(f"http://127.0.0.1:{port}/", timeout=3, expect_body="^fine$")
    assert result.success


async def test_the_answer_to_a_head_has_no_body(ask: Ask) -> None:
    """Its Content-Length is that of another answer."""
    async with http_server(fine) as base:
        result = await ask(base, method="HEAD", timeout=3)
    assert result.success


async def test_a_listener_that_never_accepts_meets_the_connect_timeout(ask: Ask) -> None:
    """Connecting has a limit of its own below the total one."""
    async with full_port() as port:
        result = await ask(f"http://127.0.0.1:{port}/", timeout=5, connect_timeout=0.1)
        late = await ask(f"http://127.0.0.1:{port}/", timeout=0.2)
    assert (result.status, result.answered) == ("fail", False)
    assert "no connection within 0.1 s" in (result.message or "")
    assert result.duration < 4
    assert "no answer within 0.2 s" in (late.message or "")


async def test_the_connect_timeout_does_not_bound_the_answer(ask: Ask) -> None:
    """A slow answer over a quick connection is in time."""

    async def slow(_: web.Request) -> web.Response:
        await anyio.sleep(0.7)
        return web.Response()

    async with http_server(slow) as base:
        assert (await ask(base, connect_timeout=0.5)).success


async def test_headers_with_a_line_break_are_our_own_error(ask: Ask) -> None:
    """They could smuggle a second request in."""
    async with http_server(fine) as base:
        result = await ask(base, headers={"X-Probe": "a\r\nX-Other: b"})
    assert result.status == "error"


# redirects -----------------------------------------------------------------------------------------------


class Hops:
    """A server that sends on: /N to /N-1, /0 answers."""

    def __init__(self, status: int = 302) -> None:
        self.status = status
        self.seen: list[tuple[str, str, str | None]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append((request.method, request.path, request.headers.get("X-Token")))
        left = int(request.path.strip("/"))
        if left == 0:
            return web.Response(text="arrived")
        return web.Response(status=self.status, headers={"Location": f"/{left - 1}"})


async def test_a_redirect_is_the_answer_unless_it_is_followed(ask: Ask) -> None:
    """Following is asked for."""
    hops = Hops()
    async with http_server(hops.answer) as base:
        assert "status 302" in ((await ask(f"{base}/2")).message or "")
        assert (await ask(f"{base}/2", follow_redirects=True, expect_body="arrived")).success
    assert [path for _, path, _ in hops.seen] == ["/2", "/2", "/1", "/0"]


async def test_redirects_are_followed_five_times(ask: Ask) -> None:
    """Then it is a loop."""
    async with http_server(Hops().answer) as base:
        assert (await ask(f"{base}/5", follow_redirects=True)).success
        result = await ask(f"{base}/6", follow_redirects=True)
    assert (result.status, result.answered) == ("fail", True)
    assert "more than 5 redirects" in (result.message or "")


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [(302, "POST", "GET"), (303, "PUT", "GET"), (303, "HEAD", "HEAD"), (307, "POST", "POST")],
)
async def test_the_method_after_a_redirect(ask: Ask, status: int, method: str, then: str) -> None:
    """As every client of HTTP does it."""
    hops = Hops(status)
    async with http_server(hops.answer) as base:
        assert (await ask(f"{base}/1", follow_redirects=True, method=method)).success
    assert [seen[0] for seen in hops.seen] == [method, then]


async def test_headers_stay_at_their_origin(ask: Ask) -> None:
    """A token is sent along within an origin, and never to another one."""
    hops, other = Hops(), Hops()
    async with http_server(other.answer) as elsewhere:

        async def away(request: web.Request) -> web.Response:
            if request.path == "/9":
                raise web.HTTPFound(f"{elsewhere}/0")
            return await hops.answer(request)

        async with http_server(away) as base:
            headers = {"X-Token": "s3cr3t"}
            assert (await ask(f"{base}/1", follow_redirects=True, headers=headers)).success
            assert (await ask(f"{base}/9", follow_redirects=True, headers=headers)).success
    assert [token for _, _, token in hops.seen] == ["s3cr3t", "s3cr3t"]
    assert [token for _, _, token in other.seen] == [None]


@pytest.mark.parametrize(
    "target",
    ["ftp://127.0.0.1/x", "https:///x", "javascript:alert(1)", "http://127.0.0.1:99999/", "http://[::1"],
)
async def test_a_redirect_to_elsewhere_than_http_fails(ask: Ask, target: str) -> None:
    """Nothing else is asked."""

    async def away(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": target})

    async with http_server(away) as base:
        result = await ask(base, follow_redirects=True)
    assert result.status == "fail"
    assert "does not lead to an HTTP address" in (result.message or "")


async def test_user_and_password_of_the_url_are_sent_and_not_shown(ask: Ask) -> None:
    """As basic authentication, on both ways."""
    seen: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(status=401)

    async with http_server(handler) as base:
        result = await ask(base.replace("http://", "http://bob:p%40ss@"))
    assert seen == [f"Basic {b64encode(b'bob:p@ss').decode()}"]
    assert not any(secret in (result.message or "") for secret in ("bob", "p%40ss", "p@ss"))


# TLS -----------------------------------------------------------------------------------------------------

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs openssl: apt-get install openssl"
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that signs itself and ends in three days."""
    return make_certificate(tmp_path_factory.mktemp("tls"), days=3)


@needs_openssl
async def test_a_certificate_that_nobody_vouches_for_fails(ask: Ask, certificate: Path) -> None:
    """It is the service that shows it, so it is a failure and evidence."""
    async with http_server(fine, tls_of(certificate)) as base:
        result = await ask(base)
    assert (result.status, result.answered) == ("fail", True)
    assert "TLS" in (result.message or "")


@needs_openssl
async def test_an_own_authority_is_trusted_by_its_file(ask: Ask, certificate: Path) -> None:
    """And the name in the certificate is compared all the same."""
    async with http_server(fine, tls_of(certificate)) as base:
        assert (await ask(base, ca_file=str(certificate))).success
        result = await ask(base.replace("127.0.0.1", "localhost"), ca_file=str(certificate))
    assert result.status == "fail"


@needs_openssl
async def test_a_check_that_verifies_nothing_passes(ask: Ask, certificate: Path) -> None:
    """verify_tls: false."""
    async with http_server(fine, tls_of(certificate)) as base:
        assert (await ask(base, verify_tls=False)).success


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_ca_file_that_cannot_be_used_is_our_own_error(
    ask: Ask, tmp_path: Path, content: str | None
) -> None:
    """It says nothing about the service."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    result = await ask(f"https://127.0.0.1:{closed_port()}/", ca_file=str(path))
    assert (result.status, result.answered) == ("error", False)
    assert f"the CA file {path} cannot be used" in (result.message or "")


@needs_openssl
@pytest.mark.parametrize("options", [{"verify_tls": False}, {"ca": True}], ids=["unverified", "verified"])
async def test_a_certificate_that_ends_soon_is_warned_of(
    ask: Ask, certificate: Path, options: dict[str, Any]
) -> None:
    """A warning, whether it is verified or not, and no failure; where the empty body is no matter."""

    async def empty(_: web.Request) -> web.Response:
        return web.Response(status=204)

    options = {"ca_file": str(certificate)} if "ca" in options else options
    async with http_server(empty, tls_of(certificate)) as base:
        warned = await ask(base, expect_status=204, **options)
        quiet = await ask(base, expect_status=204, tls_warn_before=86_400, **options)
        never = await ask(base, expect_status=204, tls_warn_before=0, **options)
    assert warned.success
    (warning,) = warned.warnings
    assert warning.startswith("the certificate ends in 2 days, on 2")
    assert warned.to_dict()["warnings"] == [warning]
    assert quiet.warnings == never.warnings == ()


class Later:
    """The clock of some days on."""

    def __init__(self, days: int) -> None:
        self.days = days

    def now_us(self) -> int:
        return int((datetime.now(UTC) + timedelta(days=self.days)).timestamp() * 1e6)


@needs_openssl
async def test_a_certificate_that_has_ended_is_warned_of_where_it_is_not_verified(certificate: Path) -> None:
    """By the clock that was handed in."""
    later = Later(days=4)
    async with http_server(fine, tls_of(certificate)) as base:
        result = await HTTPHealthChecker(base, verify_tls=False, clock=later).check()
    assert result.success
    assert result.warnings[0].startswith("the certificate has ended, on 2")


@needs_openssl
async def test_the_warnings_of_parts_are_those_of_the_composite(certificate: Path) -> None:
    """With the part's name."""
    async with http_server(fine, tls_of(certificate)) as base:
        composite = CompositeHealthChecker()
        composite.add_check("page", HTTPHealthChecker(base, verify_tls=False))
        result = await composite.check()
    assert result.success
    assert result.warnings[0].startswith("page: the certificate ends in 2 days")
    assert result.to_dict()["parts"]["page"]["status"] == "pass"


@needs_openssl
async def test_a_redirect_never_leaves_https(ask: Ask, certificate: Path) -> None:
    """What was meant to be private stays so."""
    async with http_server(fine) as plain:

        async def away(_: web.Request) -> web.Response:
            return web.Response(status=302, headers={"Location": plain})

        async with http_server(away, tls_of(certificate)) as base:
            result = await ask(base, verify_tls=False, follow_redirects=True)
    assert result.status == "fail"
    assert "leaves HTTPS" in (result.message or "")


@needs_openssl
async def test_tls_is_part_of_connecting(ask: Ask) -> None:
    """A server that takes the connection and never shakes hands meets the connect timeout."""

    async def mute(stream: Any) -> None:
        await anyio.sleep_forever()

    async with raw_server(mute) as port:
        result = await ask(f"https://127.0.0.1:{port}/", verify_tls=False, connect_timeout=0.1)
    assert (result.status, result.answered) == ("fail", False)
    assert "no connection within 0.1 s" in (result.message or "")


@needs_openssl
async def test_a_server_without_tls_where_tls_is_asked_for_fails(ask: Ask) -> None:
    """The handshake fails, at the service's cost."""
    async with http_server(fine) as base:
        result = await ask(base.replace("http://", "https://"), verify_tls=False)
    assert (result.status, result.answered) == ("fail", True)


# certificates --------------------------------------------------------------------------------------------


@needs_openssl
@pytest.mark.parametrize("days", [1, 400, 30_000], ids=["soon", "two digits", "four digits"])
def test_the_end_of_a_certificate_is_read_from_it(tmp_path: Path, days: int) -> None:
    """Both forms in which X.509 writes a time; beyond 2049 the year has four digits."""
    made = make_certificate(tmp_path, days=days)
    end = not_after(ssl.PEM_cert_to_DER_cert(made.read_text().partition("-----END PRIVATE KEY-----\n")[2]))
    assert abs(end - datetime.now(UTC) - timedelta(days=days)) < timedelta(minutes=5)


@needs_openssl
def test_what_is_no_certificate_is_refused_and_never_breaks_the_reader(certificate: Path) -> None:
    """Cut off anywhere before its end of validity, or not DER at all."""
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text().partition("-----END PRIVATE KEY-----\n")[2])
    for wrong in (b"", b"0", b"\x30\x03abc", der[:20], der[: len(der) // 2], bytes(len(der)), der[:-1]):
        with pytest.raises(ValueError, match=r"not an X\.509 certificate"):
            not_after(wrong)


async def test_a_certificate_that_cannot_be_read_is_said_to_be_so() -> None:
    """A warning, because the service did answer."""

    async def fetch(request: Request) -> Answer:
        return Answer(200, certificate=b"nonsense")

    result = await HTTPHealthChecker("https://shop.example/", fetch=fetch).check()
    assert result.success
    assert "cannot be read" in result.warnings[0]
