"""One real deployment and its rollback, seen from every side: log lines, metrics, audit rows and figures tell one story; and
the public pieces by themselves, as an embedder uses them."""

from __future__ import annotations

import io
import json
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from fraisier import Orchestrator, figures
from fraisier.audit import AuditLogger, EventFilter, export, list_events, load_or_make_key, verify
from fraisier.clock import SystemClock
from fraisier.config.schema import Config, Environment, Fraise, HealthCheck, Rollout, Service, Source, Target
from fraisier.errors import HealthCheckError
from fraisier.events import TYPE_OF, Actor, Record
from fraisier.events import types as ev
from fraisier.health_check import (
    CompositeHealthChecker,
    ExecHealthChecker,
    HealthChecker,
    HealthCheckManager,
    HealthCheckResult,
    HTTPHealthChecker,
    TCPHealthChecker,
)
from fraisier.journal.memory import MemoryJournal
from fraisier.logging import (
    ConsoleFormatter,
    ContextualLogger,
    LoggingSubscriber,
    current_context,
    setup_structured_logging,
)
from fraisier.metrics import (
    DeploymentMetrics,
    MetricsRecorder,
    MetricsSubscriber,
    get_metrics_recorder,
    render,
)
from fraisier.redaction import Redactor
from fraisier.testing import SeededIds, run_virtual
from tests.health.servers import http_server, silent_port

SECRET = "s3ntinel-of-the-shop"
ALICE = Actor(user="alice", host="desk", trigger="cli")


# one story, four sinks ------------------------------------------------------------------------------------


@dataclass
class Story:
    """What two deployments left in every sink: the first succeeds, the second is unhealthy and goes back."""

    ids: tuple[str, str]
    outcomes: tuple[str, str]
    lines: list[dict[str, Any]]
    registry: Any
    records: list[Record]
    report: Any
    figures: dict[str, Any]
    exposition: str

    def of(self, *kinds: type[ev.Event]) -> list[Any]:
        """Return the events of the kinds that are in the journal."""
        return [record.event for record in self.records if isinstance(record.event, kinds)]

    def value(self, name: str, **labels: str) -> float:
        """Return a sample of the live metrics, 0 when there is none."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def sums(self, name: str, by: str) -> dict[str, float]:
        """Return the samples of the name that are not 0, summed up by one label."""
        found: Counter[str] = Counter()
        for metric in self.registry.collect():
            for sample in metric.samples:
                if sample.name == name and sample.value:
                    found[sample.labels[by]] += sample.value
        return dict(found)


def shop(root: Path) -> Config:
    """Return a shop on two targets whose release says itself whether it is well."""
    settings = Environment(
        provider="local",
        targets=(Target(name="t1"), Target(name="t2")),
        source=Source(path=str(root / "source")),
        app_path=f"{root}/srv/{{{{ target.name }}}}",
        env={"SHOP_TOKEN": "${SHOP_TOKEN}"},
        service=Service(process="sleep 1000", stop_timeout_s=2),
        health_check=HealthCheck(
            type="exec",
            command="test -e current/well || test -e well || { echo unwell with $SHOP_TOKEN; exit 1; }",
            interval_s=0.05,
            rise=1,
            deadline_s=2,
        ),
        rollout=Rollout(strategy="all_at_once"),
    )
    return Config(fraises={"shop": Fraise(name="shop", type="api", environments={"production": settings})})


async def live_through(root: Path) -> Story:
    """Deploy twice with everything attached."""
    (root / "source").mkdir()
    (root / "source" / "well").write_text("yes")
    stream, redactor, recorder = io.StringIO(), Redactor(), MetricsRecorder(DeploymentMetrics())
    setup_structured_logging("DEBUG", "json", stream=stream, redactor=redactor)
    store = f"sqlite:///{root}/state/fraisier.db"
    options: dict[str, Any] = {"actor": ALICE, "metrics": recorder, "redactor": redactor}
    async with Orchestrator(
        shop(root), store, environ={"SHOP_TOKEN": SECRET, "PATH": "/usr/bin:/bin"}, **options
    ) as o:
        good = await o.deploy("shop", "production", version="one")
        (root / "source" / "well").rename(root / "source" / "ill")
        bad = await o.deploy("shop", "production", version="two")
        await o.control("stop", "shop", "production")
        assert await o.bus.wait_idle(20)
        records = await o.journal.read(0, limit=100_000)
        report = await verify(o.journal, load_or_make_key("", root / "state"))
        told = await figures.stats(o.journal, days=1, now_us=SystemClock().now_us())
    registry = recorder.metrics.registry
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    exposition = render(registry).decode()
    pair = (good, bad)
    return Story(
        (pair[0].deployment_id, pair[1].deployment_id), (pair[0].outcome, pair[1].outcome),
        lines, registry, records, report, told, exposition,
    )  # fmt: skip


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Both deployments, lived through once."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield anyio.run(live_through, tmp_path_factory.mktemp("story"))
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_the_story_is_the_one_that_is_told_below(story: Story) -> None:
    """A success, then a failure that was put right."""
    assert story.outcomes == ("succeeded", "rolled_back")


def test_every_line_of_a_deployment_names_it(story: Story) -> None:
    """With its fraise and environment; lines about a target or a step name those too."""
    told = [line["context"] for line in story.lines if line["logger"] == "fraisier.events"]
    about = [context for context in told if context.get("deployment_id") in story.ids]
    assert len(about) > 30
    assert all((context["fraise"], context["environment"]) == ("shop", "production") for context in about)
    steps = [line["context"] for line in story.lines if line["message"].startswith("step.")]
    assert {context["target"] for context in steps} == {"t1", "t2"}
    assert {"fetch", "switch", "verify"} <= {context["step"] for context in steps}


def test_the_lines_are_the_rows_of_the_journal_in_their_order(story: Story) -> None:
    """Nothing is missing, doubled, or out of order."""
    logged = [line["context"]["seq"] for line in story.lines if line["context"].get("seq")]
    assert logged[: len(story.records)] == [record.seq for record in story.records]


def test_what_failed_is_logged_as_an_error(story: Story) -> None:
    """And nothing of the deployment that succeeded is."""
    errors = [line for line in story.lines if line["level"] == "ERROR"]
    assert {"health.failed", "deployment.rolled_back"} <= {line["message"] for line in errors}
    assert story.ids[0] not in {line["context"]["deployment_id"] for line in errors}


def test_plan_and_request_stay_out_of_the_log(story: Story) -> None:
    """They are long, and `show` has them."""
    (planned, *_) = [line for line in story.lines if line["message"] == "deployment.planned"]
    assert planned["context"]["version"] == "one"
    assert not {"plan", "request"} & planned["context"].keys()


def test_each_deployment_is_counted_under_its_outcome(story: Story) -> None:
    """With the type of the fraise and of the provider; the linked rollback is none of them."""
    assert story.sums("fraisier_deployments_total", "status") == {"success": 1, "rolled_back": 1}
    labels = {"provider": "local", "status": "success", "fraise_type": "api"}
    assert story.value("fraisier_deployments_total", **labels) == 1
    assert story.sums("fraisier_deployment_duration_seconds_count", "status") == {
        "success": 1,
        "rolled_back": 1,
    }


def test_nothing_is_active_when_all_has_ended(story: Story) -> None:
    """The gauge comes back to zero, in the figures too."""
    assert story.registry.get_sample_value("fraisier_active_deployments", {"provider": "local"}) == 0
    assert story.figures["active"] == 0


def test_durations_in_metrics_and_journal_agree(story: Story) -> None:
    """Second for second."""
    (good,) = [e for e in story.of(ev.DeploymentSucceeded) if e.deployment_id == story.ids[0]]
    (bad,) = story.of(ev.DeploymentRolledBack)
    name = "fraisier_deployment_duration_seconds_sum"
    assert story.sums(name, "status") == pytest.approx(
        {"success": good.duration_s, "rolled_back": bad.duration_s}
    )
    spent = story.figures["duration_s"]
    assert spent["max"] == pytest.approx(max(good.duration_s, bad.duration_s))


def test_the_rollback_is_counted_by_its_reason(story: Story) -> None:
    """In the metrics, in the journal and in the figures."""
    (back,) = story.of(ev.RollbackSucceeded)
    assert story.sums("fraisier_rollbacks_total", "reason") == {back.reason: 1}
    assert story.figures["rollbacks_by_reason"] == {back.reason: 1}
    assert story.value("fraisier_rollback_duration_seconds_sum", provider="local") == pytest.approx(
        back.duration_s
    )


def test_probes_are_the_same_in_verdicts_metrics_and_figures(story: Story) -> None:
    """By status, and as many in the buckets of their durations."""
    counted: Counter[str] = Counter()
    for verdict in story.of(ev.HealthPassed, ev.HealthFailed):
        counted.update(verdict.counts)
    assert counted["pass"] >= 4
    assert counted["fail"] >= 2
    assert story.sums("fraisier_health_checks_total", "status") == dict(counted)
    buckets = story.value("fraisier_health_check_duration_seconds_count", provider="local", check_type="exec")
    assert buckets == counted.total()
    (checks,) = story.figures["health_checks"]
    assert (checks["check_type"], checks["pass"], checks["fail"]) == (
        "exec",
        counted["pass"],
        counted["fail"],
    )


def test_errors_are_counted_by_class(story: Story) -> None:
    """Those of the attempts that failed."""
    failed = Counter(step.error_type for step in story.of(ev.StepFailed))
    assert failed
    assert story.sums("fraisier_deployment_errors_total", "error_type") == failed
    assert story.figures["errors"] == failed


def test_a_replay_of_the_journal_gives_the_live_metrics(story: Story) -> None:
    """Series by series, so that an exporter over the store tells of past runs."""
    again = CollectorRegistry()
    subscriber = MetricsSubscriber(MetricsRecorder(DeploymentMetrics(again)))
    subscriber.from_records(story.records)

    def samples(registry: Any) -> dict[tuple[str, ...], float]:
        return {
            (sample.name, *sorted(sample.labels.values())): round(sample.value, 6)
            for metric in registry.collect()
            for sample in metric.samples
            if not sample.name.endswith("_created")
        }

    assert samples(again) == samples(story.registry)


def test_the_exposition_can_be_read_by_prometheus_own_parser(story: Story) -> None:
    """With help and type for every metric."""
    families = {family.name: family for family in text_string_to_metric_families(story.exposition)}
    assert families["fraisier_deployments"].type == "counter"
    assert families["fraisier_deployment_duration_seconds"].type == "histogram"
    assert all(family.documentation for family in families.values())


def test_the_trail_names_who_asked(story: Story) -> None:
    """User, host and through what; the linked rollback was asked for by the recovery."""
    asked = story.of(ev.DeploymentRequested)
    assert {(request.actor.user, request.actor.host) for request in asked} == {("alice", "desk")}
    assert [(request.kind, request.actor.trigger) for request in asked] == [
        ("deploy", "cli"),
        ("deploy", "cli"),
        ("rollback", "recovery"),
    ]


def test_every_ending_is_signed_and_the_trail_verifies(story: Story) -> None:
    """A checkpoint for each of the two deployments and the rollback."""
    assert (story.report.ok, story.report.problem) == (True, "")
    assert story.report.checkpoints == len(story.of(ev.AuditCheckpointed)) == 3
    assert story.report.rows == len(story.records)
    assert {check.deployment_id for check in story.of(ev.AuditCheckpointed)} >= set(story.ids)


def test_an_intent_is_in_the_trail_before_its_outcome(story: Story) -> None:
    """For every step of every target."""
    begun: set[tuple[str, str, str]] = set()
    for record in story.records:
        event = record.event
        key = (event.deployment_id, event.target, getattr(event, "step", ""))
        if isinstance(event, ev.StepStarted):
            begun.add(key)
        elif isinstance(event, ev.StepSucceeded | ev.StepFailed):
            assert key in begun
    assert len(begun) > 10


def test_the_secret_is_in_no_sink(story: Story) -> None:
    """Though the unhealthy release printed it into every failing probe."""
    rows = " ".join(repr(record) for record in story.records)
    assert "unwell with ***" in rows
    for sink in (json.dumps(story.lines), rows, story.exposition, json.dumps(story.figures)):
        assert SECRET not in sink


# logging --------------------------------------------------------------------------------------------------


@pytest.fixture
def console() -> Iterator[io.StringIO]:
    """Lines for people, from level info on."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    setup_structured_logging("info", "console", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_for_people_has_time_level_logger_message_and_fields(console: io.StringIO) -> None:
    """What has spaces in it is quoted, nested values are JSON."""
    ContextualLogger("shop").warning("slow", step="fetch", told="two words", counts={"pass": 1})
    time, level, name, *rest = console.getvalue().split(maxsplit=3)
    assert datetime.fromisoformat(time).tzinfo == UTC
    assert (level, name) == ("WARNING", "shop:")
    assert rest == ['slow step=fetch told="two words" counts="{\\"pass\\":1}"\n']


def test_a_traceback_follows_its_line(console: io.StringIO) -> None:
    """On lines of its own, with the cause."""
    try:
        try:
            raise OSError("disk")
        except OSError as error:
            raise HealthCheckError("not healthy") from error
    except HealthCheckError:
        ContextualLogger("shop").exception("gave up", target="t1")
    first, *rest = console.getvalue().splitlines()
    assert first.endswith("shop: gave up target=t1")
    assert "OSError: disk" in rest
    assert rest[-1].endswith("HealthCheckError: not healthy")


def test_the_innermost_field_wins(console: io.StringIO) -> None:
    """Call over inner block over outer block; after the block all is as before."""
    logger = ContextualLogger()
    with logger.context(target="t1", wave=1):
        with logger.context(target="t2"):
            logger.info("inner")
            logger.info("call", target="t3")
        logger.info("outer")
    shown = [line.partition("fraisier: ")[2] for line in console.getvalue().splitlines()]
    assert shown == ["inner target=t2 wave=1", "call target=t3 wave=1", "outer target=t1 wave=1"]
    assert dict(current_context()) == {}


async def test_the_context_goes_along_into_threads_and_tasks(console: io.StringIO) -> None:
    """What a task starts knows what the task is about; what it adds stays with it."""
    logger = ContextualLogger("shop")

    async def child(name: str) -> None:
        with logger.context(target=name):
            await anyio.to_thread.run_sync(logger.info, "in a thread")

    with logger.context(deployment_id="d1"):
        async with anyio.create_task_group() as group:
            for name in ("t1", "t2"):
                group.start_soon(child, name)
        logger.info("after")
    lines = sorted(line.partition("shop: ")[2] for line in console.getvalue().splitlines() if "shop:" in line)
    assert lines == [
        "after deployment_id=d1",
        "in a thread deployment_id=d1 target=t1",
        "in a thread deployment_id=d1 target=t2",
    ]


@pytest.mark.parametrize(
    "told",
    [
        "Basic dXNlcjpzM250aW5lbC1vZi10aGUtc2hvcA==",
        "--token=s3ntinel-of-the-shop;",
        '{"t": "s3ntinel-of-the-shop"}',
        "https://bob:whatever@git.example.com/shop",
    ],
)
def test_a_known_value_is_masked_in_the_forms_that_occur(told: str) -> None:
    """As it is, in base64 behind a user's name, in JSON; and any password in a URL."""
    redactor = Redactor()
    redactor.register(SECRET)
    record = logging.makeLogRecord({"name": "x", "msg": "%s", "args": (told,), "levelname": "INFO"})
    line = ConsoleFormatter(redactor).format(record)
    assert "***" in line
    assert not any(secret in line for secret in (SECRET, "whatever", "aW5lbC1vZi10aGUtc2hv"))


async def test_a_passing_check_with_a_warning_is_logged_as_one() -> None:
    """It is what somebody must see before the certificate ends."""
    stream = io.StringIO()
    logger = logging.Logger("own", logging.INFO)
    logger.addHandler(logging.StreamHandler(stream))
    logger.handlers[0].setFormatter(ConsoleFormatter())
    subscriber = LoggingSubscriber(ContextualLogger(logger))
    for warnings in ((), ("the certificate ends in 2 days",)):
        await subscriber(Record(1, "id", 0, ev.HealthPassed(target="t1", warnings=warnings)))
    levels = [line.split()[1] for line in stream.getvalue().splitlines()]
    assert levels == ["INFO", "WARNING"]


# metrics --------------------------------------------------------------------------------------------------


def test_the_recorder_of_the_process_is_one_and_the_same() -> None:
    """Whoever is not given one shares it, and what it counts."""
    recorder = get_metrics_recorder()
    assert recorder is get_metrics_recorder()
    before = recorder.get_metrics_summary()["rollbacks"].get("observed", 0)
    get_metrics_recorder().record_rollback("local", "observed", 1.0)
    assert recorder.get_metrics_summary()["rollbacks"]["observed"] == before + 1


def test_a_duration_at_a_bound_belongs_below_it() -> None:
    """As Prometheus counts: less than or equal."""
    registry = CollectorRegistry()
    recorder = MetricsRecorder(DeploymentMetrics(registry))
    for seconds in (5, 5.001, 700):
        recorder.record_deployment_complete("local", "api", "succeeded", seconds)
    name = "fraisier_deployment_duration_seconds_bucket"
    counts = [
        registry.get_sample_value(name, {"provider": "local", "status": "success", "le": bound})
        for bound in ("5.0", "10.0", "600.0", "+Inf")
    ]
    assert counts == [1, 2, 2, 3]


def test_gauges_show_the_newest_value() -> None:
    """A lock that was waited for, and a provider that came back."""
    registry = CollectorRegistry()
    recorder = MetricsRecorder(DeploymentMetrics(registry))
    for waited_s, there in ((3.5, False), (0.25, True)):
        recorder.record_lock_wait("shop", "local", waited_s)
        recorder.set_provider_availability("local", there)
    labels = {"service": "shop", "provider": "local"}
    assert registry.get_sample_value("fraisier_deployment_lock_wait_seconds", labels) == 0.25
    assert registry.get_sample_value("fraisier_provider_availability", {"provider": "local"}) == 1


# audit ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def trail() -> AsyncIterator[tuple[MemoryJournal, AuditLogger]]:
    """A journal in memory, and a logger into it that knows a secret."""
    journal = MemoryJournal(clock=SystemClock(), ids=SeededIds(3))
    await journal.open(lambda records: None)
    redactor = Redactor()
    redactor.register(SECRET)
    yield journal, AuditLogger(journal.append, actor=ALICE, redactor=redactor)
    await journal.close()


async def test_a_row_is_durable_before_its_method_returns() -> None:
    """The record that comes back is the one that is in the journal, in order."""
    async with trail() as (journal, audit):
        first = await audit.log_lock_timeout("shop", "production", waited_s=30)
        second = await audit.log_security_event("login_failed", severity="high", detail=f"with {SECRET}")
        assert await journal.read(0) == [first, second]
        assert (first.seq, second.seq) == (1, 2)
        assert isinstance(second.event, ev.SecurityReported)
        assert second.event.detail == "with ***"


async def test_rows_are_found_by_type_actor_and_time() -> None:
    """Each filter alone, and together."""
    async with trail() as (journal, audit):
        await audit.log_deployment_start("d1", "shop", "production", "v1")
        await audit.log_configuration_change("fraises.yaml", ["fraises.shop"], actor=Actor(user="bob"))
        middle = (await audit.log_webhook_received("github", "push", branch="main")).at_us
        await audit.log_deployment_complete("d1", "shop", "production", duration_s=2)

        async def types(**where: Any) -> list[str]:
            return [TYPE_OF[type(found.event)] async for found in list_events(journal, EventFilter(**where))]

        assert await types(type="deployment.*") == [
            "deployment.requested",
            "deployment.started",
            "deployment.succeeded",
        ]
        assert await types(actor="bob") == ["config.changed"]
        assert "webhook.received" in await types(since_us=middle)
        assert await types(since_us=middle + 10**12) == []
        assert await types(type="deployment.*", actor="bob") == []


async def test_an_export_has_the_actor_in_its_rows() -> None:
    """As JSON Lines, an object a row."""
    async with trail() as (journal, audit):
        await audit.log_deployment_start("d1", "shop", "production", "v1")
        rows = [json.loads(line) async for line in export(journal)]
    assert [row["seq"] for row in rows] == [1, 2]
    assert rows[0]["data"]["actor"] == {"user": "alice", "host": "desk", "trigger": "cli"}


# health checks --------------------------------------------------------------------------------------------


def failing_first(times: int) -> tuple[list[str], Callable[[web.Request], Awaitable[web.StreamResponse]]]:
    """Return a handler that answers 503 so many times before it answers 200, and the list of what was asked."""
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(status=503 if len(seen) <= times else 200)

    return seen, handler


async def test_retries_go_on_until_a_real_server_is_well() -> None:
    """And not a request longer."""
    seen, handler = failing_first(2)
    async with http_server(handler) as base:
        result = await HealthCheckManager().check_with_retries(
            HTTPHealthChecker(f"{base}/h"), max_retries=5, initial_delay=0.01
        )
    assert result.success
    assert seen == ["/h"] * 3


async def test_ready_waits_for_a_server_that_starts_late() -> None:
    """The port is taken at first, and nobody listens on it before the first question was answered."""
    manager, answers = HealthCheckManager(), []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        checker = TCPHealthChecker(*server.getsockname())

        class Late(HealthChecker):
            async def check(self, timeout: float = 5.0) -> HealthCheckResult:
                result = await checker.check(timeout)
                answers.append(result.success)
                server.listen()
                return result

        assert await manager.check_service_ready(Late(), deadline=30, interval=0.01)
    assert answers == [False, True]


async def test_at_least_two_of_three_real_services() -> None:
    """HTTP is well, a port listens, a command fails; with the results of the parts."""
    _, handler = failing_first(0)
    async with http_server(handler) as base, silent_port() as port:
        composite = CompositeHealthChecker(2)
        composite.add_check("web", HTTPHealthChecker(base))
        composite.add_check("queue", TCPHealthChecker("127.0.0.1", port))
        composite.add_check("disk", ExecHealthChecker(["false"]))
        result = await composite.check()
        all_well, parts = await composite.check_all()
    assert (result.success, all_well) == (True, False)
    assert result.message == "2 of 3 passed; disk: exec false: exit code 1"
    assert {name: part.status for name, part in parts.items()} == {
        "web": "pass",
        "queue": "pass",
        "disk": "fail",
    }
    assert json.loads(json.dumps(result.to_dict()))["parts"]["disk"]["check_type"] == "exec"


async def test_real_checks_run_side_by_side_within_one_timeout() -> None:
    """Ten that hang take as long as one."""
    async with silent_port() as port:
        composite = CompositeHealthChecker("any")
        for number in range(10):
            composite.add_check(str(number), HTTPHealthChecker(f"http://127.0.0.1:{port}/"))
        result = await composite.check(timeout=0.3)
    assert (result.status, result.answered) == ("fail", False)
    assert 0.3 <= result.duration < 2.5


async def test_what_cannot_be_asked_decides_nothing_in_a_composite() -> None:
    """An error beside a pass leaves `all` open, and `any` decided."""
    for require, status in (("all", "error"), ("any", "pass")):
        composite = CompositeHealthChecker(require)
        composite.add_check("works", ExecHealthChecker(["true"]))
        composite.add_check("missing", ExecHealthChecker(["/no/such/probe"]))
        assert (await composite.check()).status == status


async def test_results_of_real_checks_are_metrics() -> None:
    """Pass, fail and error, by type, each with its duration."""
    registry = CollectorRegistry()
    manager = HealthCheckManager("local", recorder=MetricsRecorder(DeploymentMetrics(registry)))
    _, handler = failing_first(1)
    async with http_server(handler) as base:
        for _ in range(2):
            await manager.check_and_record_metrics(HTTPHealthChecker(base))
    await manager.check_and_record_metrics(ExecHealthChecker(["/no/such/probe"]))
    name = "fraisier_health_checks_total"
    for kind, status in (("http", "fail"), ("http", "pass"), ("exec", "error")):
        labels = {"provider": "local", "check_type": kind, "status": status}
        assert registry.get_sample_value(name, labels) == 1
    labels = {"provider": "local", "check_type": "http"}
    assert registry.get_sample_value("fraisier_health_check_duration_seconds_count", labels) == 2


async def test_a_manager_without_a_recorder_counts_for_the_process() -> None:
    """Under the type of the provider that it was made with."""

    class Provider:
        type = "observed_provider"

    await HealthCheckManager(Provider()).check_and_record_metrics(ExecHealthChecker(["true"]))
    labels = {"provider": "observed_provider", "check_type": "exec", "status": "pass"}
    registry = get_metrics_recorder().metrics.registry
    assert registry.get_sample_value("fraisier_health_checks_total", labels) == 1


def test_a_question_of_ones_own_works_everywhere() -> None:
    """A subclass of HealthChecker, in a composite and with retries; on virtual time."""

    class Queue(HealthChecker):
        check_type = "queue"
        left = 3

        async def check(self, timeout: float = 5.0) -> HealthCheckResult:
            await anyio.sleep(1)
            self.left -= 1
            return HealthCheckResult(self.left <= 0, self.check_type, 1.0, f"{self.left} left")

    async def run() -> tuple[HealthCheckResult, float]:
        composite = CompositeHealthChecker()
        composite.add_check("queue", Queue())
        return await HealthCheckManager().check_with_retries(composite), anyio.current_time()

    result, spent_s = run_virtual(run)
    assert result.success
    assert result.parts["queue"].message == "0 left"
    assert spent_s == 3 * 1 + 1 + 2


async def test_the_documented_check_of_an_embedder_works(capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands on the page."""
    page = (Path(__file__).parents[1] / "docs" / "EMBEDDING.md").read_text()
    code = page.partition("## Health checks by themselves")[2].partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)

    async def up(_: web.Request) -> web.Response:
        return web.json_response({"state": "up"})

    async with http_server(up) as base:
        assert await names["is_ready"](int(base.rpartition(":")[2]))
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["page", "pass"],
        ["port", "pass"],
        ["disk", "pass"],
    ]
