"""The checkers against real servers, sockets and processes."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from fraisier.health_check import (
    CompositeHealthChecker,
    ExecHealthChecker,
    HealthChecker,
    HealthCheckManager,
    HealthCheckResult,
    HTTPHealthChecker,
    TCPHealthChecker,
)
from fraisier.health_check.failures import ProbeFailed, failure_of
from fraisier.testing import run_virtual
from tests.health.servers import closed_port, http_server, silent_port


async def ok(_: web.Request) -> web.Response:
    """Answer 200."""
    return web.json_response({"state": "up", "checks": [{"name": "db", "ok": True}], "n": 1})


async def http_result(handler: Any, path: str = "/health", **options: Any) -> HealthCheckResult:
    """Ask a server once."""
    async with http_server(handler) as base:
        return await HTTPHealthChecker(base + path, **options).check(timeout=2)


def answering(status: int, **options: Any) -> Any:
    """Return a handler with one fixed answer."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, **options)

    return handler


# results -------------------------------------------------------------------------------------------------


def test_a_result_carries_what_is_promised() -> None:
    """success, check_type, duration, message, a timestamp, and all of it JSON-ready."""
    result = HealthCheckResult(success=True, check_type="http", duration=0.25)
    assert result.message is None
    assert result.timestamp > 1_600_000_000
    described = result.to_dict()
    assert described.pop("timestamp") == result.timestamp
    assert described == {
        "success": True,
        "status": "pass",
        "check_type": "http",
        "duration": 0.25,
        "message": None,
        "warnings": [],
        "parts": {},
    }


def test_a_result_cannot_contradict_itself() -> None:
    """success and status agree: a failed one cannot have the status pass."""
    assert HealthCheckResult(success=False, check_type="tcp", duration=0.1).status == "fail"
    with pytest.raises(ValueError, match="status pass"):
        HealthCheckResult(success=False, check_type="tcp", duration=0.1, status="pass")


# http ----------------------------------------------------------------------------------------------------


async def test_http_passes_on_200() -> None:
    """The default expectation is status 200."""
    result = await http_result(ok)
    assert result.success
    assert (result.status, result.check_type) == ("pass", "http")
    assert 0 < result.duration < 2


@pytest.mark.parametrize(
    ("expected", "status", "passes"),
    [
        (200, 204, False),
        ([200, 204], 204, True),
        ("2xx", 299, True),
        ("2xx", 301, False),
        (("200", "3xx"), 302, True),
        (503, 503, True),
    ],
)
async def test_http_statuses(expected: Any, status: int, passes: bool) -> None:
    """One status, several, and whole classes can be expected."""
    result = await http_result(answering(status), expect_status=expected)
    assert result.success is passes


def test_no_status_at_all_is_refused() -> None:
    """A check that nothing can pass is a mistake."""
    with pytest.raises(ValueError, match="at least one status"):
        HTTPHealthChecker("http://127.0.0.1/", expect_status=[])


async def test_a_wrong_status_is_an_answered_failure_with_an_excerpt() -> None:
    """The message names request, status, expectation, and the beginning of the body."""
    result = await http_result(answering(500, text="no database"))
    assert result.status == "fail"
    assert result.answered
    assert "GET http://127.0.0.1:" in (result.message or "")
    assert "status 500, expected 200: no database" in (result.message or "")


async def test_http_redirects_are_answers_unless_asked() -> None:
    """A redirect is not followed by itself."""

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/end":
            return web.Response(text="here")
        raise web.HTTPFound("/end")

    assert not (await http_result(handler)).success
    assert (await http_result(handler, follow_redirects=True)).success


async def test_http_body_expression() -> None:
    """expect_body must be found in the body."""
    assert (await http_result(answering(200, text="version 42"), expect_body=r"version \d+$")).success
    failed = await http_result(answering(200, text="version x"), expect_body=r"version \d+$")
    assert "does not match" in (failed.message or "")


async def test_a_bad_expression_is_our_error_not_the_services() -> None:
    """What the prober cannot do is neither a pass nor a fail."""
    result = await http_result(ok, expect_body="(")
    assert (result.success, result.status, result.answered) == (False, "error", False)


NESTED = [
    r"^(a+)+$",
    r"(\w+\s*)+$",
    r"(?:a*?b?)*c",
    r"((a{1,99}b)?){3,}",
    r"(x|(y+))+",
    r"(?=(a+)+$)",
    r"(?>(a+)+b)",
    r"(a+){50}",
]


@pytest.mark.parametrize("pattern", NESTED)
def test_a_repeat_inside_of_a_repeat_is_refused(pattern: str) -> None:
    """Matching it can take forever, and nothing else happens meanwhile."""
    with pytest.raises(ValueError, match=r"expect_body: a repeat inside of a repeat.*possessive"):
        HTTPHealthChecker("http://127.0.0.1/", expect_body=pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r'"status":\s*"(up|ok)"',
        r"^version \d+\.\d+(\.\d+)?$",
        r"(\d{1,3}\.){3}\d{1,3}",
        r"(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}",
        r"(a++)+$",
        r"(?>a+b?)*$",
        r"(ok|ready)+",
        r"(?i)<title>[^<]*</title>.*done",
        r"([0-9a-f]{2}:)+",
    ],
)
async def test_ordinary_expressions_end_in_time(pattern: str) -> None:
    """Whatever a service answers."""
    for body in ("a" * 2**20 + "!", " " * 2**20 + "!", "1." * 2**18):
        with anyio.fail_after(5):
            result = await http_result(answering(200, text=body), expect_body=pattern)
        assert result.duration < 2


async def test_a_repeat_is_matched_with_the_beginning_of_a_body() -> None:
    """The message says so; a plain word is found anywhere."""
    body = "x" * 8192 + "up 1"
    failed = await http_result(answering(200, text=body), expect_body=r"up \d+")
    assert "only its first 8192 characters" in (failed.message or "")
    assert (await http_result(answering(200, text=body), expect_body="up [0-9]")).success


@pytest.mark.parametrize(
    ("json", "passes"),
    [
        ({"state": "up"}, True),
        ({"checks.0.ok": True, "$.n": 1}, True),
        ({"checks.1.ok": True}, False),
        ({"n": True}, False),
        ({"state.deeper": 1}, False),
    ],
)
async def test_http_json_values_by_path(json: dict[str, Any], passes: bool) -> None:
    """Paths go through objects and lists; true is not 1."""
    assert (await http_result(ok, expect_json=json)).success is passes


async def test_json_expected_but_not_found() -> None:
    """A body that is no JSON fails, and the message says so."""
    result = await http_result(answering(200, text="<html>"), expect_json={"a": 1})
    assert result.status == "fail"
    assert "not JSON" in (result.message or "")


async def test_http_method_and_headers_are_sent() -> None:
    """The server sees what was configured."""
    seen: list[tuple[str, str | None]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.headers.get("X-Probe")))
        return web.Response()

    await http_result(handler, method="post", headers={"X-Probe": "yes"})
    assert seen == [("POST", "yes")]


async def test_only_the_first_mebibyte_of_a_body_is_read() -> None:
    """An endless body does not fill the memory; what stands after the limit is not found."""
    body = b"x" * (1024 * 1024) + b"needle"
    result = await http_result(answering(200, body=body), expect_body="needle")
    assert not result.success
    assert "only its first 1048576 bytes" in (result.message or "")


async def test_a_refused_connection_is_an_answer_of_the_host() -> None:
    """Nobody listens: a failure with evidence."""
    result = await HTTPHealthChecker(f"http://127.0.0.1:{closed_port()}/").check()
    assert (result.status, result.answered) == ("fail", True)
    assert "refused" in (result.message or "")


async def test_silence_is_a_failure_that_says_what_was_waited_for() -> None:
    """A timeout names the request and the time, and is no evidence."""
    async with silent_port() as port:
        result = await HTTPHealthChecker(f"http://127.0.0.1:{port}/live").check(timeout=0.2)
    assert (result.status, result.answered) == ("fail", False)
    assert result.message == f"GET http://127.0.0.1:{port}/live: no answer within 0.2 s"
    assert 0.2 <= result.duration < 1.5


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/x", "http://[::1"])
async def test_what_cannot_be_asked_is_an_error(url: str) -> None:
    """A URL that cannot be asked says nothing about the service."""
    result = await HTTPHealthChecker(url).check(timeout=10)
    assert result.status == "error", result.message


async def test_what_is_not_http_is_a_failure() -> None:
    """A server that speaks something else is not healthy."""

    async def greet(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"220 mail.example.com ESMTP\r\n")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, greet)
        result = await HTTPHealthChecker(f"http://127.0.0.1:{port}/").check()
        group.cancel_scope.cancel()
    assert (result.status, result.answered) == ("fail", True)


async def test_secrets_in_a_url_stay_out_of_messages() -> None:
    """User, password and query are not shown."""
    async with http_server(answering(500)) as base:
        url = base.replace("http://", "http://bob:hunter2@") + "/h?token=abc123"
        message = (await HTTPHealthChecker(url).check()).message or ""
    assert "/h" in message
    assert not any(secret in message for secret in ("bob", "hunter2", "abc123"))


async def test_within_its_context_a_checker_keeps_its_connection() -> None:
    """Checks in `async with` share a connection; without it each has its own, and none is left open."""
    peers: list[object] = []

    async def handler(request: web.Request) -> web.Response:
        peers.append(request.transport.get_extra_info("peername"))  # type: ignore[union-attr]
        return web.Response()

    async with http_server(handler) as base:
        async with HTTPHealthChecker(base) as checker:
            for _ in range(3):
                assert (await checker.check()).success
        for _ in range(2):
            assert (await checker.check()).success
    assert len(set(peers[:3])) == 1
    assert len(set(peers)) == 3


async def test_the_connect_timeout_is_separate() -> None:
    """Connecting has its own, shorter limit."""
    checker = HTTPHealthChecker("http://192.0.2.1/", connect_timeout=0.05)
    result = await checker.check(timeout=5)
    assert not result.success
    assert result.duration < 2


# tcp -----------------------------------------------------------------------------------------------------


async def test_tcp_passes_when_somebody_listens() -> None:
    """Taking the connection is enough."""
    async with silent_port() as port:
        result = await TCPHealthChecker("127.0.0.1", port).check()
    assert (result.success, result.check_type) == (True, "tcp")


async def test_tcp_refused() -> None:
    """Nobody listens: an answered failure that names the address."""
    port = closed_port()
    result = await TCPHealthChecker("127.0.0.1", port).check()
    assert (result.status, result.answered) == ("fail", True)
    assert f"tcp 127.0.0.1:{port}" in (result.message or "")


async def test_running_out_of_file_descriptors_is_an_error() -> None:
    """Our own lack of something says nothing about the service."""

    async def connect(host: str, port: int) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    result = await TCPHealthChecker("127.0.0.1", 1, connect=connect).check()
    assert (result.status, result.answered) == ("error", False)
    assert "too many open files" in (result.message or "")


async def test_an_unknown_host_is_an_error() -> None:
    """A name that cannot be resolved leaves the question unasked."""

    async def connect(host: str, port: int) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    result = await TCPHealthChecker("orders.internal", 80, connect=connect).check()
    assert (result.status, result.answered) == ("error", False)
    assert "Temporary failure" in (result.message or "")


# exec ----------------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(*pids: int) -> None:
    """Wait until the kernel has carried out the killing; fails when it never does."""
    with anyio.fail_after(5):
        while any(alive(pid) for pid in pids):
            await anyio.sleep(0.01)


async def test_exec_string_goes_to_the_shell_and_a_list_is_argv() -> None:
    """Shell syntax works in a string and is plain text in a list."""
    assert (await ExecHealthChecker("test $((1 + 1)) -eq 2 && echo fine").check()).success
    result = await ExecHealthChecker(["echo", "$HOME;", "a b"]).check()
    assert result.success
    assert (result.message or "").endswith("$HOME; a b")


async def test_exec_failure_shows_code_and_the_end_of_the_output() -> None:
    """Both streams are in the tail, which is bounded."""
    command = "yes x | head -c 100000; echo out; echo err >&2; exit 3"
    result = await ExecHealthChecker(command, label="probe.sh").check()
    message = result.message or ""
    assert (result.status, result.answered) == ("fail", True)
    assert message.startswith("exec probe.sh: exit code 3")
    assert message.endswith("out\nerr")
    assert len(message) < 2200


async def test_exec_death_by_signal_is_told() -> None:
    """A command that is killed fails with the signal's number."""
    assert "signal 9" in ((await ExecHealthChecker("kill -9 $$").check()).message or "")


@pytest.mark.parametrize("command", [["/no/such/command"], "/no/such/command", ["/etc/passwd"]])
async def test_exec_of_what_cannot_be_run_is_an_error(command: Any) -> None:
    """A missing or not executable command is the prober's trouble."""
    assert (await ExecHealthChecker(command).check()).status == "error"


async def test_exec_env_and_cwd(tmp_path: Path) -> None:
    """env is added to the environment, cwd is where it runs."""
    checker = ExecHealthChecker(
        'test "$MARK" = yes && test -n "$PATH" && pwd', env={"MARK": "yes"}, cwd=str(tmp_path)
    )
    result = await checker.check()
    assert (result.message or "").endswith(str(tmp_path))


async def test_exec_timeout_kills_the_whole_group(tmp_path: Path) -> None:
    """At the timeout neither the command nor its children are left."""
    command = f"sleep 60 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/leader; sleep 60"
    result = await ExecHealthChecker(command).check(timeout=1.5)
    assert (result.status, result.answered) == ("fail", False)
    assert "no answer within 1.5 s" in (result.message or "")
    assert result.duration < 10
    pids = [int((tmp_path / name).read_text()) for name in ("child", "leader")]
    await gone(*pids)


async def test_exec_leaves_no_background_child_after_success(tmp_path: Path) -> None:
    """A child that the command leaves behind is ended too, and does not delay the result."""
    result = await ExecHealthChecker(f"sleep 60 & echo $! > {tmp_path}/child; exit 0").check(timeout=30)
    assert result.success
    assert result.duration < 10
    await gone(int((tmp_path / "child").read_text()))


async def test_exec_cancellation_ends_the_process(tmp_path: Path) -> None:
    """Cancelling the check ends what it started before the cancellation goes on."""
    command = f"echo $$ > {tmp_path}/new && mv {tmp_path}/new {tmp_path}/pid; sleep 60"
    async with anyio.create_task_group() as group:
        group.start_soon(ExecHealthChecker(command).check, 30)
        with anyio.fail_after(5):
            while not (tmp_path / "pid").exists():
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert not alive(int((tmp_path / "pid").read_text()))


# composite -----------------------------------------------------------------------------------------------


class Fixed(HealthChecker):
    """Answers as told, after the given time."""

    def __init__(self, status: Any, after_s: float = 0.0) -> None:
        self.status = status
        self.after_s = after_s
        self.asked = 0

    async def check(self, timeout: float = 5.0) -> HealthCheckResult:
        self.asked += 1
        await anyio.sleep(self.after_s)
        return HealthCheckResult(self.status == "pass", "fixed", self.after_s, "said", status=self.status)


def composite(require: str | int, *statuses: str) -> CompositeHealthChecker:
    """Return a composite of fixed answers."""
    made = CompositeHealthChecker(require)
    for number, status in enumerate(statuses):
        made.add_check(f"c{number}", Fixed(status))
    return made


async def test_check_all_returns_each_result_by_name() -> None:
    """The answer is a verdict and the results in the order of adding."""
    good, results = await composite("all", "pass", "fail").check_all()
    assert not good
    assert {name: result.success for name, result in results.items()} == {"c0": True, "c1": False}
    assert (await composite("all", "pass", "fail").check_all(require_all=False))[0]


@pytest.mark.parametrize(
    ("require", "statuses", "expected"),
    [
        ("all", ("pass", "pass"), "pass"),
        ("all", ("pass", "fail"), "fail"),
        ("any", ("fail", "pass"), "pass"),
        ("any", ("fail", "fail"), "fail"),
        (2, ("pass", "fail", "pass"), "pass"),
        ("2", ("pass", "fail", "fail"), "fail"),
        ("all", ("pass", "error"), "error"),
        ("all", ("fail", "error"), "fail"),
        ("any", ("pass", "error"), "pass"),
        ("all", (), "fail"),
    ],
)
async def test_composite_as_a_checker(require: str | int, statuses: tuple[str, ...], expected: str) -> None:
    """all, any or a number must pass; an error decides only when the others leave it open."""
    assert (await composite(require, *statuses).check()).status == expected


def test_composite_checks_run_at_the_same_time() -> None:
    """Ten slow checks take as long as one."""
    made = CompositeHealthChecker()
    for number in range(10):
        made.add_check(str(number), Fixed("pass", 3.0))
    result = run_virtual(made.check)
    assert result.success
    assert result.duration == 3.0


def test_composite_refuses_a_name_twice_and_senseless_requirements() -> None:
    """Names are unique; at least one check must be required."""
    made = composite("all", "pass")
    with pytest.raises(ValueError, match="c0"):
        made.add_check("c0", Fixed("pass"))
    with pytest.raises(ValueError, match="require"):
        CompositeHealthChecker(0)


class Raises(HealthChecker):
    """A checker with a defect."""

    async def check(self, timeout: float = 5.0) -> HealthCheckResult:
        raise KeyError("a-secret-value")


@pytest.mark.parametrize(
    ("checker", "told"),
    [
        (TCPHealthChecker("127.0.0.1", 70000), "a number from 1 to 65535"),
        (TCPHealthChecker("127.0.0.1", -1), "a number from 1 to 65535"),
        (ExecHealthChecker("echo \0"), "ValueError"),
        (ExecHealthChecker([]), "cannot probe: "),
        (TCPHealthChecker("a" * 70 + ".example", 80), "cannot probe: "),
    ],
)
async def test_what_a_prober_trips_over_is_an_error(checker: HealthChecker, told: str) -> None:
    """Neither a pass nor a fail, whoever asks."""
    result = await checker.check()
    assert (result.success, result.status, result.answered) == (False, "error", False)
    assert told in (result.message or "")


async def test_a_checker_that_raises_is_an_error_for_whoever_asks_it() -> None:
    """Its class is told, not its text; the other checks of a composite keep their results."""
    made = composite("any", "pass")
    made.add_check("broken", Raises())
    good, results = await made.check_all(require_all=False)
    assert good
    assert [results[name].status for name in ("c0", "broken")] == ["pass", "error"]
    assert results["broken"].message == "custom check: cannot probe: KeyError"
    assert (await HealthCheckManager().check_with_retries(Raises(), max_retries=0)).status == "error"
    counted = Counted()
    result = await HealthCheckManager(recorder=counted).check_and_record_metrics(Raises())
    assert (result.status, counted.seen) == ("error", ["error"])


class Counted:
    """Keeps the statuses that are recorded."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def record_health_check(self, provider: str, check_type: str, status: str, duration: float) -> None:
        self.seen.append(status)


def test_a_checker_that_takes_no_notice_of_its_timeout_fails_at_it() -> None:
    """In a composite and in a manager."""
    made = CompositeHealthChecker()
    made.add_check("slow", Fixed("pass", 3.0))
    made.add_check("quick", Fixed("pass", 0.25))

    async def run() -> tuple[HealthCheckResult, HealthCheckResult]:
        manager = HealthCheckManager()
        return await made.check(timeout=0.5), await manager.check_with_retries(
            Fixed("pass", 3.0), 0, timeout=0.5
        )

    summed, alone = run_virtual(run)
    assert (summed.status, summed.duration) == ("fail", 0.5)
    assert {name: part.status for name, part in summed.parts.items()} == {"slow": "fail", "quick": "pass"}
    assert summed.parts["slow"].message == "custom check: no answer within 0.5 s"
    assert (alone.status, alone.duration, alone.answered) == ("fail", 0.5, False)


# manager -------------------------------------------------------------------------------------------------


class Waits:
    """Stands in for sleeping."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


async def test_retries_wait_longer_each_time_up_to_the_maximum() -> None:
    """One check and max_retries more, with growing waits in between."""
    waits, checker = Waits(), Fixed("fail")
    manager = HealthCheckManager(sleep=waits)
    result = await manager.check_with_retries(
        checker, max_retries=4, initial_delay=1, backoff_factor=3, max_delay=5
    )
    assert not result.success
    assert checker.asked == 5
    assert waits.seconds == [1, 3, 5, 5]


async def test_retries_end_with_the_first_pass() -> None:
    """A healthy service is asked once."""
    checker = Fixed("pass")
    assert (await HealthCheckManager().check_with_retries(checker)).success
    assert checker.asked == 1


async def test_results_are_recorded_with_provider_type_and_status() -> None:
    """The recorder gets provider, check type, pass|fail|error and the duration."""
    recorded: list[tuple[Any, ...]] = []

    class Recorder:
        def record_health_check(self, *fields: Any) -> None:
            recorded.append(fields)

    manager = HealthCheckManager("bare_metal", "d1", recorder=Recorder())
    for status in ("pass", "fail", "error"):
        await manager.check_and_record_metrics(Fixed(status))
    assert recorded == [("bare_metal", "fixed", status, 0.0) for status in ("pass", "fail", "error")]


def test_ready_waits_until_it_passes_or_its_deadline() -> None:
    """check_service_ready asks again and again, and gives up at its deadline."""

    async def run() -> tuple[bool, bool, int, float]:
        manager, sick = HealthCheckManager(), Fixed("fail")
        good = await manager.check_service_ready(Fixed("pass"))
        bad = await manager.check_service_ready(sick, deadline=9.5, interval=1.0)
        return good, bad, sick.asked, anyio.current_time()

    assert run_virtual(run) == (True, False, 10, 9.5)


async def test_healthy_asks_once() -> None:
    """check_service_healthy is one question."""
    manager, sick = HealthCheckManager(), Fixed("fail")
    assert not await manager.check_service_healthy(sick)
    assert sick.asked == 1


def test_an_error_that_holds_several_is_told_as_each_of_them() -> None:
    """As a name with several addresses gives it: one that said no was there, whatever became of the others."""
    several = OSError("all connection attempts failed")
    several.__cause__ = ExceptionGroup(
        "", [ConnectionRefusedError(errno.ECONNREFUSED, ""), OSError(errno.EHOSTUNREACH, "")]
    )
    found = failure_of(several, "tcp shop:80")
    assert isinstance(found, ProbeFailed)
    assert (str(found), found.answered) == ("tcp shop:80: connection refused; no route to host", True)
