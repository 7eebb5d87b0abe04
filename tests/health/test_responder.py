"""The health responder's rules, under virtual time: a fake service, a fake provider, the real responder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import anyio
import pytest
from anyio.streams.stapled import StapledByteStream

from fraisier.config.resolve import Resolver
from fraisier.config.schema import Environment, HealthCheck, Rollout, Target
from fraisier.errors import ProviderConnectionError, ProviderError, ValidationError
from fraisier.events.types import Event, HealthFailed, HealthPassed, HealthRequested, HealthSampled
from fraisier.health_check import HealthResponder, HealthSubject
from fraisier.providers.base import TargetContext, TargetFacts
from fraisier.redaction import Redactor
from fraisier.testing import VirtualClock, run_virtual
from fraisier.transports.base import Completed

NEW, OLD = "r2", "r1"
TCP = HealthCheck(type="tcp", port="8000", interval_s=1, timeout_s=2, rise=2, fall=3, deadline_s=30)

Script = Callable[[float], Any]


@dataclass
class World:
    """A target as the provider sees it; everything is a function of the virtual time in seconds."""

    type: ClassVar[str] = "fake"
    answers: Script = lambda now: True
    """True: the port takes connections; False: refused; None: silence; an error: raised."""
    running: Script = lambda now: True
    release: Script = lambda now: NEW
    running_release: Script = lambda now: NEW
    invocation: Script = lambda now: "new"
    looks: int = 0
    probes: list[float] = field(default_factory=list)
    tail_lines: tuple[str, ...] = ()
    old_serves: Script = lambda now: ""
    probe_s: float = 0.0
    lost: Script = lambda now: False

    async def inspect(self, context: TargetContext) -> TargetFacts:
        self.looks += 1
        now = anyio.current_time()
        lost = self.lost(now)
        if lost:
            raise lost if isinstance(lost, Exception) else ProviderConnectionError("no route to web-1")
        return TargetFacts(
            release=self.release(now),
            running=self.running(now),
            running_release=self.running_release(now),
            invocation=self.invocation(now),
        )

    async def transport(self, context: TargetContext) -> World:
        if self.lost(anyio.current_time()) is True:
            raise ProviderConnectionError("no route to web-1")
        return self

    async def open_connection(self, host: str, port: int) -> Any:
        now = anyio.current_time()
        self.probes.append(now)
        await anyio.sleep(self.probe_s)
        answer = self.answers(now)
        if answer is None:
            await anyio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        if not answer:
            raise ConnectionRefusedError(111, "Connection refused")
        return connection(b"" if answer is True else answer)

    async def run(self, command: Any, *, cwd: str = "", env: Any = None, on_output: Any = None) -> Completed:
        self.probes.append(anyio.current_time())
        return self.answers(anyio.current_time())(command, cwd, env)

    async def tail(self, context: TargetContext, lines: int) -> list[str]:
        return list(self.tail_lines[-lines:])

    async def serves_old_release(self, context: TargetContext, port: int, release: str) -> str:
        return str(self.old_serves(anyio.current_time()))


def connection(answer: bytes) -> StapledByteStream:
    """Return a stream that takes whatever is sent, says `answer` and ends."""

    class Sender(anyio.abc.ByteSendStream):
        async def send(self, item: bytes) -> None:
            self.sent = item

        async def aclose(self) -> None: ...

    class Receiver(anyio.abc.ByteReceiveStream):
        left = answer

        async def receive(self, max_bytes: int = 65536) -> bytes:
            if not self.left:
                raise anyio.EndOfStream
            chunk, self.left = self.left[:max_bytes], self.left[max_bytes:]
            return chunk

        async def aclose(self) -> None: ...

    return StapledByteStream(Sender(), Receiver())


Verdict = HealthPassed | HealthFailed


@dataclass
class Asked:
    """A verdict, when it came (virtual seconds), and what was told meanwhile."""

    verdict: Any
    at_s: float
    samples: list[HealthSampled]


def ask(
    world: World,
    *,
    check: HealthCheck | None = TCP,
    min_healthy_s: float = 0.0,
    environ: Mapping[str, str] | None = None,
    **event: Any,
) -> Asked:
    """Ask a responder about the world."""
    settings = Environment(
        provider="fake",
        app_path="/srv/app",
        health_check=check,
        rollout=Rollout(min_healthy_time_s=min_healthy_s),
        env={"PORT": "8000"},
    )
    context = TargetContext("api", "production", Target(name="web-1"), settings)
    resolver = Resolver(environ or {}, Redactor(), "/")
    subject = HealthSubject(context, world, resolver, "fake")  # type: ignore[arg-type]
    fields = {"deployment_id": "d1", "fraise": "api", "environment": "production", "target": "web-1"}
    request = HealthRequested(**{**fields, "release": NEW, "version": "v2", "baseline": "old", **event})
    told: list[Event] = []

    async def run() -> Asked:
        responder = HealthResponder(
            lambda deployment, target: subject, clock=VirtualClock(), emit=told.append
        )
        verdict = await responder(request)
        await responder.aclose()
        return Asked(verdict, anyio.current_time(), [one for one in told if isinstance(one, HealthSampled)])

    return run_virtual(run)


def expect_failed(asked: Asked, reason: str, *, bad: bool) -> str:
    """Check that the verdict is bad in the given way, and return its message."""
    assert isinstance(asked.verdict, HealthFailed), asked.verdict
    assert (asked.verdict.reason, asked.verdict.bad) == (reason, bad), asked.verdict.message
    return asked.verdict.message


# verify: coming up ---------------------------------------------------------------------------------------


def test_a_healthy_release_passes_after_rise_probes_and_a_read_back() -> None:
    """Two good probes one interval apart, then the release is read back as evidence."""
    asked = ask(World())
    assert isinstance(asked.verdict, HealthPassed)
    assert asked.at_s == 1.0
    assert asked.verdict.counts == {"pass": 2}
    assert asked.verdict.buckets == {"0.1": 2}
    assert asked.verdict.evidence == {"release": NEW, "invocation": "new"}
    assert (asked.verdict.provider, asked.verdict.check_type, asked.verdict.purpose) == (
        "fake",
        "tcp",
        "verify",
    )
    assert asked.verdict.duration_s == 1.0


def test_a_slow_start_within_the_deadline_passes() -> None:
    """Any number of failing probes before the first rise is a start-up, even far beyond fall."""
    asked = ask(World(answers=lambda now: now >= 20))
    assert isinstance(asked.verdict, HealthPassed)
    assert asked.at_s == 21.0
    assert asked.verdict.counts == {"fail": 20, "pass": 2}


def test_flapping_before_the_first_rise_is_a_start_up() -> None:
    """Single passes between failures neither pass nor fail the verify."""
    asked = ask(World(answers=lambda now: now >= 10 or int(now) % 2 == 0))
    assert isinstance(asked.verdict, HealthPassed)
    assert asked.at_s == 11.0


def test_a_service_that_never_answers_well_fails_at_the_deadline() -> None:
    """The message names what was waited for, where, how long, since when, and the last answer."""
    asked = ask(World(answers=lambda now: False))
    message = expect_failed(asked, "deadline", bad=True)
    assert asked.at_s == 30.0
    assert "web-1: waited for 2 good answers in a row (tcp 127.0.0.1:8000) for 30 s since 20" in message
    assert "last answer: tcp 127.0.0.1:8000: connection refused" in message


def test_silence_is_a_failure_but_never_bad() -> None:
    """Timeouts alone are no evidence against a release."""
    asked = ask(World(answers=lambda now: None))
    expect_failed(asked, "deadline", bad=False)
    assert set(asked.verdict.counts) == {"fail"}


def test_when_no_sample_could_be_taken_there_is_no_answer() -> None:
    """Errors of our own say nothing: no_answer, not bad."""
    asked = ask(World(answers=lambda now: OSError(24, "Too many open files")))
    expect_failed(asked, "no_answer", bad=False)
    assert set(asked.verdict.counts) == {"error"}


def test_an_old_refusal_is_no_evidence_when_we_could_not_ask_since() -> None:
    """A refusal at the start-up followed by trouble of our own does not make the release bad."""
    asked = ask(World(answers=lambda now: now >= 3 and OSError(24, "Too many open files")))
    expect_failed(asked, "deadline", bad=False)


def test_a_reference_that_cannot_be_resolved_is_an_error_of_ours() -> None:
    """The verdict says what is missing and does not blame the release."""
    asked = ask(World(), check=HealthCheck(type="http", url="http://127.0.0.1/${NOT_SET}", deadline_s=5))
    assert "NOT_SET" in expect_failed(asked, "no_answer", bad=False)


@pytest.mark.parametrize("port", ["70000", "0", "-1", "http", "{{ target.name }}"])
def test_a_port_that_is_none_is_an_error_of_ours(port: str) -> None:
    """The responder gives a verdict that says so."""
    asked = ask(World(), check=HealthCheck(type="tcp", port=port, deadline_s=5))
    assert "expected a port from 1 to 65535" in expect_failed(asked, "no_answer", bad=False)


def test_a_transport_that_breaks_is_an_error_of_ours() -> None:
    """Whatever it raises, the responder gives a verdict, without the text of the error."""
    asked = ask(World(answers=lambda now: RuntimeError("a-secret-value")), check=TCP)
    message = expect_failed(asked, "no_answer", bad=False)
    assert "RuntimeError" in message and "a-secret-value" not in message


def test_an_error_in_between_neither_counts_nor_resets() -> None:
    """pass, error, pass is two passes."""
    asked = ask(World(answers=lambda now: OSError(24, "Too many open files") if now == 1 else True))
    assert isinstance(asked.verdict, HealthPassed)
    assert asked.at_s == 2.0


def test_an_exit_at_the_start_fails_at_once() -> None:
    """A started service that is gone ends the verify with its last log lines, long before the deadline."""
    asked = ask(World(running=lambda now: False, tail_lines=("Traceback", "ImportError: orders")))
    message = expect_failed(asked, "exited", bad=True)
    assert asked.at_s == 0.0
    assert message.endswith("its last log lines:\nTraceback\nImportError: orders")


def test_a_service_that_was_never_seen_running_gets_a_short_grace() -> None:
    """It may appear a moment after the restart; when it does not, that is an exit."""
    late = World(running=lambda now: now >= 0.5, invocation=lambda now: "new" if now >= 0.5 else "")
    assert isinstance(ask(late).verdict, HealthPassed)
    never = ask(World(running=lambda now: False, invocation=lambda now: ""))
    expect_failed(never, "exited", bad=True)
    assert 0.9 <= never.at_s <= 1.2


def test_an_exit_during_the_start_up_fails_at_the_next_look() -> None:
    """Each round looks whether the service still runs."""
    asked = ask(World(answers=lambda now: False, running=lambda now: now < 4.5))
    expect_failed(asked, "exited", bad=True)
    assert asked.at_s == 5.0


def test_a_look_that_does_not_tell_the_invocation_is_no_restart() -> None:
    """Only another invocation is one."""
    asked = ask(World(answers=lambda now: now >= 3, invocation=lambda now: "" if now == 2 else "new"))
    assert isinstance(asked.verdict, HealthPassed)


def test_a_crash_loop_is_an_exit() -> None:
    """A service that something starts again and again has another invocation each time."""
    asked = ask(World(answers=lambda now: False, invocation=lambda now: f"run-{int(now // 3)}"))
    assert "started again" in expect_failed(asked, "exited", bad=True)
    assert asked.at_s == 3.0


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (World(release=lambda now: OLD), "current is r1, not r2"),
        (World(running_release=lambda now: OLD), "belongs to r1"),
        (World(invocation=lambda now: "old"), "the old process still runs"),
        (World(old_serves=lambda now: "pid 7 of r1 listens on 8000"), "pid 7 of r1 listens on 8000"),
    ],
)
def test_a_200_from_the_old_process_is_no_evidence(world: World, why: str) -> None:
    """Good probes with a read-back that disagrees fail as wrong_release, at the deadline."""
    asked = ask(world)
    assert why in expect_failed(asked, "wrong_release", bad=True)
    assert asked.at_s == 30.0


def test_a_read_back_may_agree_later() -> None:
    """While only the read-back disagrees the verify goes on."""
    asked = ask(World(invocation=lambda now: "old" if now < 7.5 else "new"))
    assert isinstance(asked.verdict, HealthPassed)
    assert asked.at_s == 8.0


def test_the_old_release_is_asked_for_only_before_passing() -> None:
    """The costly question is not part of every round."""
    questions: list[float] = []
    world = World(answers=lambda now: now >= 10, old_serves=lambda now: questions.append(now) or "")
    assert isinstance(ask(world).verdict, HealthPassed)
    assert questions == [11.0]


def test_an_unreachable_target_is_unreachable_at_the_deadline() -> None:
    """A lost link may come back within the deadline; else the verdict says unreachable, not bad."""
    back = ask(World(lost=lambda now: now < 10))
    assert isinstance(back.verdict, HealthPassed)
    gone = ask(World(lost=lambda now: now >= 0))
    assert "no route to web-1" in expect_failed(gone, "unreachable", bad=False)


def test_a_look_that_fails_otherwise_is_no_proof() -> None:
    """Good probes without a read-back do not pass, and do not make the release bad."""
    asked = ask(World(lost=lambda now: ProviderError("systemctl: permission denied")))
    assert "permission denied" in expect_failed(asked, "no_answer", bad=False)


# verify: times -------------------------------------------------------------------------------------------


def test_probes_keep_a_fixed_rate_and_late_ones_are_left_out() -> None:
    """Slow probes do not overlap, bunch or drift: each starts on a multiple of the interval."""
    world = World(answers=lambda now: now >= 20, probe_s=1.3)
    ask(world)
    assert all(start == int(start) for start in world.probes)
    assert world.probes[:4] == [0.0, 2.0, 4.0, 6.0]


def test_the_initial_delay_comes_before_the_first_probe_but_not_before_the_first_look() -> None:
    """No probe is sent in it; an exit in it is seen all the same."""
    check = HealthCheck(type="tcp", port="8000", initial_delay_s=5, deadline_s=30)
    world = World()
    assert isinstance(ask(world, check=check).verdict, HealthPassed)
    assert world.probes == [5.0, 6.0]
    early = ask(World(running=lambda now: now < 2), check=check)
    expect_failed(early, "exited", bad=True)
    assert early.at_s == 2.0


def test_the_budget_caps_the_deadline() -> None:
    """What is left of the deployment's time is the limit."""
    asked = ask(World(answers=lambda now: False), budget_s=4.0)
    assert "for 4 s" in expect_failed(asked, "deadline", bad=True)
    assert asked.at_s == 4.0


def test_a_look_that_hangs_ends_at_the_deadline() -> None:
    """The deadline bounds everything, the provider's look too."""

    class Hanging(World):
        async def inspect(self, context: TargetContext) -> TargetFacts:
            await anyio.sleep_forever()
            raise AssertionError

    asked = ask(Hanging())
    expect_failed(asked, "no_answer", bad=False)
    assert asked.at_s == 30.0


def test_each_probe_is_told() -> None:
    """HealthSampled carries target, type, status and message of every probe."""
    asked = ask(World(answers=lambda now: now >= 1))
    assert [one.status for one in asked.samples] == ["fail", "pass", "pass"]
    assert {(one.target, one.check_type, one.deployment_id) for one in asked.samples} == {
        ("web-1", "tcp", "d1")
    }
    assert "refused" in asked.samples[0].message


# verify: nothing configured ------------------------------------------------------------------------------


def test_without_a_check_the_service_must_run_with_the_release() -> None:
    """Two looks a moment apart; an exit in between fails."""
    good = ask(World(), check=None)
    assert isinstance(good.verdict, HealthPassed)
    assert good.verdict.check_type == "none"
    assert 0 < good.at_s < 1
    expect_failed(ask(World(running=lambda now: now < 0.1), check=None), "exited", bad=True)
    expect_failed(ask(World(release=lambda now: OLD), check=None), "wrong_release", bad=True)


def test_without_service_and_check_only_the_link_is_read_back() -> None:
    """There is nothing to check, and the evidence says so."""
    asked = ask(World(running=lambda now: None, invocation=lambda now: ""), check=None)
    assert isinstance(asked.verdict, HealthPassed)
    assert asked.at_s == 0.0
    assert asked.verdict.evidence == {"release": NEW, "checked": "nothing to check"}


# bake ----------------------------------------------------------------------------------------------------


def test_bake_passes_after_min_healthy_time() -> None:
    """Not a moment earlier, and with a last good answer at its end."""
    world = World()
    asked = ask(world, purpose="bake", min_healthy_s=4.5)
    assert isinstance(asked.verdict, HealthPassed)
    assert asked.at_s == 4.5
    assert world.probes == [0.0, 1.0, 2.0, 3.0, 4.0, 4.5]


def test_dying_within_min_healthy_time_fails() -> None:
    """An exit is a verdict at the next look, even at the very end."""
    asked = ask(World(running=lambda now: now < 2.5), purpose="bake", min_healthy_s=10)
    expect_failed(asked, "exited", bad=True)
    assert asked.at_s == 3.0
    last = ask(World(running=lambda now: now < 9.9), purpose="bake", min_healthy_s=9.95)
    expect_failed(last, "exited", bad=True)


def test_fall_failures_in_a_row_fail_the_bake() -> None:
    """After the rise failing probes are a verdict; fewer than fall are not."""
    asked = ask(World(answers=lambda now: now < 5), purpose="bake", min_healthy_s=60)
    assert "3 probes failed in a row" in expect_failed(asked, "fall", bad=True)
    assert asked.at_s == 7.0
    hiccup = ask(World(answers=lambda now: now not in (5, 6)), purpose="bake", min_healthy_s=10)
    assert isinstance(hiccup.verdict, HealthPassed)


def test_silence_in_the_bake_fails_it_but_is_not_bad() -> None:
    """Timeouts in a row end the bake without blaming the release."""
    expect_failed(ask(World(answers=lambda now: None), purpose="bake", min_healthy_s=60), "fall", bad=False)


def test_the_bake_does_not_end_on_a_failing_probe() -> None:
    """With fewer than fall failures at its end it goes on until the next pass or the fall."""
    good = ask(World(answers=lambda now: now != 2), purpose="bake", min_healthy_s=2)
    assert isinstance(good.verdict, HealthPassed)
    assert good.at_s == 3.0
    expect_failed(ask(World(answers=lambda now: now < 2), purpose="bake", min_healthy_s=2), "fall", bad=True)


def test_a_bake_without_any_answer_does_not_pass() -> None:
    """Success needs positive evidence."""
    asked = ask(
        World(answers=lambda now: OSError(24, "Too many open files")), purpose="bake", min_healthy_s=3
    )
    expect_failed(asked, "no_answer", bad=False)


def test_another_release_during_the_bake_fails() -> None:
    """Somebody switched it away."""
    asked = ask(World(release=lambda now: NEW if now < 3 else OLD), purpose="bake", min_healthy_s=10)
    expect_failed(asked, "wrong_release", bad=True)
    assert asked.at_s == 3.0


def test_a_target_lost_during_the_bake_is_unreachable() -> None:
    """A few lost looks are forgiven, fall in a row are not; neither is bad."""
    forgiven = ask(World(lost=lambda now: now in (3, 4)), purpose="bake", min_healthy_s=10)
    assert isinstance(forgiven.verdict, HealthPassed)
    asked = ask(World(lost=lambda now: now >= 3), purpose="bake", min_healthy_s=60)
    expect_failed(asked, "unreachable", bad=False)
    assert asked.at_s == 5.0


def test_a_bake_without_a_check_watches_the_service() -> None:
    """It must run through min_healthy_time."""
    good = ask(World(), check=None, purpose="bake", min_healthy_s=3)
    assert isinstance(good.verdict, HealthPassed)
    assert good.at_s == 3.0
    expect_failed(
        ask(World(running=lambda now: now < 2), check=None, purpose="bake", min_healthy_s=3),
        "exited",
        bad=True,
    )


# plan and check ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", ["plan", "check"])
def test_plan_and_check_probe_once(purpose: str) -> None:
    """One look, one probe, an answer at once."""
    world = World()
    asked = ask(world, purpose=purpose)
    assert isinstance(asked.verdict, HealthPassed)
    assert (world.looks, len(world.probes), asked.at_s) == (1, 1, 0.0)


@pytest.mark.parametrize(
    ("world", "reason", "bad"),
    [
        (World(answers=lambda now: False), "fall", True),
        (World(answers=lambda now: None), "no_answer", False),
        (World(answers=lambda now: OSError(24, "Too many open files")), "no_answer", False),
        (World(running=lambda now: False), "exited", True),
        (World(release=lambda now: OLD), "wrong_release", True),
        (World(lost=lambda now: True), "unreachable", False),
        (World(lost=lambda now: ProviderError("cannot look")), "no_answer", False),
    ],
)
def test_a_single_probe_tells_what_is_wrong(world: World, reason: str, bad: bool) -> None:
    """Each kind of trouble has its reason; only what was seen is bad."""
    expect_failed(ask(world, purpose="check"), reason, bad=bad)


def test_without_a_check_running_is_enough() -> None:
    """`fraisier health` of a service without a check looks whether it runs."""
    assert isinstance(
        ask(World(), check=None, purpose="check", release="", baseline="").verdict, HealthPassed
    )
    expect_failed(
        ask(World(running=lambda now: False), check=None, purpose="check", release=""), "exited", bad=True
    )


def test_an_unknown_purpose_is_refused() -> None:
    """A question that nobody defined has no answer."""
    with pytest.raises(ValidationError, match="gossip"):
        ask(World(), purpose="gossip")


# where probes run ----------------------------------------------------------------------------------------


def test_http_from_the_target_goes_through_its_transport() -> None:
    """The request travels over the transport's connection, and the answer is judged as any other."""
    answer = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"v": "v2"}'
    check = HealthCheck(
        type="http", url="http://127.0.0.1:8000/h?v={{ version }}", expect_json={"v": "v2"}, rise=1
    )
    assert isinstance(ask(World(answers=lambda now: answer), check=check).verdict, HealthPassed)
    sick = ask(World(answers=lambda now: b"HTTP/1.1 503 No\r\n\r\nno db"), check=check, budget_s=2)
    assert "status 503, expected 200: no db" in expect_failed(sick, "deadline", bad=True)


def test_exec_from_the_target_runs_in_current_with_the_environment() -> None:
    """The command runs where service commands run, with `env`."""
    ran: list[tuple[Any, ...]] = []

    def run(command: Any, cwd: str, env: Any) -> Completed:
        ran.append((command, cwd, dict(env)))
        return Completed(0, "", "")

    check = HealthCheck(type="exec", command="./health {{ release_path }}", rise=1)
    assert isinstance(ask(World(answers=lambda now: run), check=check).verdict, HealthPassed)
    assert ran[0][1:] == ("/srv/app/current", {"PORT": "8000"})
    assert "/srv/app/releases/r2" in ran[0][0]


def test_secrets_stay_out_of_messages_and_samples() -> None:
    """A secret that a check prints is masked wherever the verdict shows it."""
    check = HealthCheck(type="exec", command="./health --token ${TOKEN}", deadline_s=2)
    world = World(answers=lambda now: lambda *_: Completed(1, "bad token s3cr3t-value", ""))
    asked = ask(world, check=check, environ={"TOKEN": "s3cr3t-value"})
    assert "bad token ***" in expect_failed(asked, "deadline", bad=True)
    assert all("s3cr3t" not in sample.message for sample in asked.samples)


def test_a_composite_asks_all_its_parts() -> None:
    """require: any passes with one of two."""
    parts = (
        HealthCheck(type="tcp", port="1", name="a"),
        HealthCheck(type="exec", command=("false",), name="b"),
    )
    check = HealthCheck(type="composite", require="any", checks=parts, rise=1)

    class Mixed(World):
        async def run(self, command: Any, **_: Any) -> Completed:
            return Completed(1, "", "")

    asked = ask(Mixed(), check=check)
    assert isinstance(asked.verdict, HealthPassed)
    assert asked.verdict.check_type == "composite"


def test_fifty_targets_are_examined_side_by_side() -> None:
    """Fifty slow starters take as long as one."""
    results: list[Verdict] = []

    async def run() -> float:
        settings = Environment(provider="fake", health_check=TCP)
        worlds = {f"t{n}": World(answers=lambda now: now >= 10) for n in range(50)}

        def lookup(_: str, target: str) -> HealthSubject:
            context = TargetContext("api", "production", Target(name=target), settings)
            return HealthSubject(context, worlds[target], Resolver({}, Redactor(), "/"), "fake")  # type: ignore[arg-type]

        responder = HealthResponder(lookup, clock=VirtualClock(), emit=lambda event: None)

        async def one(target: str) -> None:
            results.append(await responder(HealthRequested(target=target, release=NEW, baseline="old")))

        async with anyio.create_task_group() as group:
            for target in worlds:
                group.start_soon(one, target)
        return anyio.current_time()

    assert run_virtual(run) == 11.0
    assert all(isinstance(verdict, HealthPassed) for verdict in results)


def test_cancelling_a_request_leaves_nothing_behind() -> None:
    """An abort ends the examination at once."""

    async def run() -> tuple[float, list[float]]:
        world = World(answers=lambda now: None)
        settings = Environment(provider="fake", health_check=TCP)
        context = TargetContext("api", "production", Target(name="web-1"), settings)
        subject = HealthSubject(context, world, Resolver({}, Redactor(), "/"), "fake")  # type: ignore[arg-type]
        responder = HealthResponder(lambda *_: subject, clock=VirtualClock(), emit=lambda event: None)
        with anyio.move_on_after(5):
            await responder(HealthRequested(target="web-1", release=NEW))
        ended = anyio.current_time()
        await anyio.sleep(60)
        return ended, world.probes

    ended, probes = run_virtual(run)
    assert ended == 5.0
    assert max(probes) < 5.0
