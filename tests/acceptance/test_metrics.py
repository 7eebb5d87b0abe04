"""`fraisier metrics` as a process of its own, over stores that other processes fill."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.acceptance.kit import Project, Run

Make = Callable[..., Project]
pytestmark = pytest.mark.once

WITHOUT_CLIENT = """\
import sys
sys.modules["prometheus_client"] = None
from fraisier.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        """The series of one name that are not 0, by their labels' values in the order of the labels' names."""
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in parse_text(self.body.decode())
            for sample in family.samples
            if sample.name == name and sample.value
        }


@dataclass
class Exporter:
    """A running `fraisier metrics`."""

    process: subprocess.Popen[str]
    url: str

    def ask(self, path: str = "/metrics", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url.removesuffix("/metrics") + path, headers=named)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), error.read())

    def until(self, name: str, wanted: dict[tuple[str, ...], float], within_s: float = 20.0) -> None:
        """Wait until the series of a name that are not 0 are the wanted ones."""
        deadline = time.monotonic() + within_s
        while (found := self.ask().values(name)) != wanted:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def end(self, number: int) -> Run:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        return Run(self.process.returncode, out, err)


@contextmanager
def exporting(store: str, *options: str) -> Iterator[Exporter]:
    """Run it on a free port until the end of the block."""
    argv = [sys.executable, "-m", "fraisier", "--store", store, "metrics", "--port", "0", "--json", *options]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        yield Exporter(process, json.loads(process.stdout.readline())["url"])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def metrics(store: str, *options: str) -> Run:
    argv = [sys.executable, "-m", "fraisier", "--store", store, "metrics", *options]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=40, stdin=subprocess.DEVNULL)
    return Run(done.returncode, done.stdout, done.stderr)


def test_what_others_deployed_is_there_and_what_they_deploy_comes(project: Make) -> None:
    """Past runs are visible, and new ones appear without a restart."""
    web = project(count=1)
    web.commit("v1")
    assert web.deploy("v1").code == 0
    with exporting(web.store) as exporter:
        name = "fraisier_fraise_deployments_total"
        exporter.until(name, {("production", "web", "local", "success"): 1})
        assert web.deploy("v1").code == 0
        exporter.until(
            name,
            {("production", "web", "local", "success"): 1, ("production", "web", "local", "unchanged"): 1},
        )
        rows = web.run("audit", "verify", "--json").document["rows"]
        exporter.until("fraisier_journal_events_total", {(): rows})
        assert exporter.ask().values("fraisier_targets") == {("production", "web", "healthy"): 1}
        assert (
            exporter.ask().values("fraisier_store_bytes")[()]
            >= (web.root / "state/fraisier.db").stat().st_size
        )


def test_a_deployment_of_another_process_is_active_until_it_ends_or_its_process_dies(project: Make) -> None:
    """What the journal alone would show for ever is told by the lock and the process table."""
    web = project(count=1, env='LIFE_S: "60"', check="interval: 50ms, timeout: 2s, rise: 1, deadline: 60s")
    web.commit("v1", "slow")
    with exporting(web.store) as exporter:
        argv = web.argv("deploy", "web", "production", "--version", "v1", "--json")
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            exporter.until("fraisier_active_deployments", {("local",): 1})
            exporter.until("fraisier_unfinished_deployments", {("production", "web", "running"): 1})
            assert exporter.ask().values("fraisier_lease_held") == {("production", "web"): 1}
        finally:
            process.kill()
            process.wait()
        exporter.until("fraisier_active_deployments", {})
        exporter.until("fraisier_unfinished_deployments", {("production", "web", "interrupted"): 1})
        assert exporter.ask().values("fraisier_lease_held") == {}
        assert web.run("abort", "--json").code == 0
        exporter.until("fraisier_unfinished_deployments", {})


def test_a_freeze_and_a_refused_deployment_are_seen(project: Make) -> None:
    web = project(count=1)
    web.commit("v1")
    assert web.run("lock", "acquire", "web", "production", "-m", "audit week").code == 0
    assert web.deploy("v1").code == 5
    with exporting(web.store) as exporter:
        exporter.until("fraisier_frozen", {("production", "web"): 1})
        found = exporter.ask()
        assert found.values("fraisier_deployments_total") == {("api", "local", "locked"): 1}
        assert found.values("fraisier_deployment_errors_total") == {("DeploymentLockError", "local"): 1}
        assert found.values("fraisier_deployment_failures_total") == {("local", "locked"): 1}
        assert web.run("lock", "release", "web", "production").code == 0
        exporter.until("fraisier_frozen", {})


@pytest.fixture
def empty(tmp_path: Path) -> str:
    """The URL of a store that is not there."""
    return f"sqlite:///{tmp_path}/fraisier.db"


def test_each_format_is_given_as_asked_for(empty: str) -> None:
    """Text unless OpenMetrics is asked for, each with its type, read by a parser of its own; compressed on request."""
    with exporting(empty) as exporter:
        plain = exporter.ask()
        assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "fraisier_build_info" in {family.name for family in parse_text(plain.body.decode())}
        assert b"_created" not in plain.body
        asked = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        opened = exporter.ask(Accept=asked)
        assert opened.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert opened.body.endswith(b"# EOF\n")
        assert "fraisier_build" in " ".join(family.name for family in parse_openmetrics(opened.body.decode()))
        packed = exporter.ask(Accept_Encoding="gzip")
        assert packed.headers["Content-Encoding"] == "gzip"
        assert b"fraisier_build_info" in gzip.decompress(packed.body)


def test_the_other_paths_say_what_is_here_and_that_it_lives(empty: str) -> None:
    with exporting(empty) as exporter:
        page = exporter.ask("/")
        assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert b'href="metrics"' in page.body
        assert exporter.ask("/-/healthy").status == 200
        assert exporter.ask().status == 200
        assert exporter.ask("/-/ready").status == 200
        assert exporter.ask("/nothing").status == 404


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGHUP, 130)]
)
def test_it_ends_when_it_is_told_to(empty: str, number: int, code: int) -> None:
    """SIGTERM is how a service manager ends what it started; the others are a person's. Open connections hold up nothing."""
    with exporting(empty) as exporter:
        port = int(exporter.url.rpartition(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as idle:
            idle.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(15) == b"HTTP/1.1 200 OK"
            ended = exporter.end(number)
    assert (ended.code, ended.out, ended.err) == (code, "", "")


def test_a_port_that_is_in_use_is_told_with_what_to_try(empty: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = metrics(empty, "--port", str(port))
        as_json = metrics(empty, "--port", str(port), "--json")
    assert told.code == as_json.code == 2
    assert told.err.splitlines() == [
        f"error: 127.0.0.1 port {port} is in use by another process",
        f"  try: choose another with --port, or see who has it: ss -ltnp 'sport = :{port}'",
    ]
    error = as_json.document["error"]
    assert (error["code"], error["context"]) == ("USAGE_ERROR", {"address": "127.0.0.1", "port": port})


@pytest.mark.parametrize("address", ["192.0.2.1", "not a name", ""])
def test_an_address_that_is_not_here_is_told(empty: str, address: str) -> None:
    """Also none at all, which would be every address there is."""
    told = metrics(empty, "--port", "0", "--address", address)
    assert (told.code, told.out) == (2, "")
    assert "--address" in told.err
    assert "Traceback" not in told.err


def test_without_prometheus_client_it_names_the_extra_and_all_else_works(empty: str) -> None:
    def run(*words: str) -> Run:
        argv = [sys.executable, "-c", WITHOUT_CLIENT, "--store", empty, *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=40, stdin=subprocess.DEVNULL)
        return Run(done.returncode, done.stdout, done.stderr)

    told = run("metrics", "--once")
    assert (told.code, told.out) == (2, "")
    assert told.err.splitlines() == [
        "error: `fraisier metrics` needs prometheus_client, which is not installed",
        "  try: pip install 'fraisier[metrics]'; everything else works without it",
    ]
    assert run("history", "--json").document == {"deployments": []}


def test_a_store_that_is_made_replaced_or_broken_meanwhile_is_read_again(project: Make) -> None:
    """Counters follow the store that is there, as after a restart; while it cannot be read, no half of the truth is told."""
    web = project(count=1)
    web.commit("v1")
    place = web.root / "state/fraisier.db"
    with exporting(web.store) as exporter:
        assert exporter.ask().values("fraisier_deployments_total") == {}
        assert web.deploy("v1").code == 0
        exporter.until("fraisier_deployments_total", {("api", "local", "success"): 1})
        assert web.run("db", "backup", str(web.root / "backup.db")).code == 0
        assert web.deploy("v1").code == 0
        exporter.until(
            "fraisier_deployments_total",
            {("api", "local", "success"): 1, ("api", "local", "unchanged"): 1},
        )
        other = place.with_name("other")
        other.write_bytes(b"this is no database" * 100)
        other.rename(place)
        for beside in ("-wal", "-shm"):
            place.with_name(place.name + beside).unlink(missing_ok=True)
        assert exporter.ask().status == 503
        assert exporter.ask("/-/ready").status == 503
        assert exporter.ask("/-/healthy").status == 200
        shutil.copy(web.root / "backup.db", other)
        other.rename(place)
        exporter.until("fraisier_deployments_total", {("api", "local", "success"): 1})
        ended = exporter.end(signal.SIGTERM)
    assert (ended.code, ended.out) == (0, "")
    assert "the store cannot be read: " in ended.err
    assert ended.err.rstrip().endswith("the store can be read again")


def test_a_store_that_somebody_is_making_is_an_empty_one(project: Make) -> None:
    """Between the file and its tables is a moment in which somebody may ask."""
    web = project(count=1)
    path = web.root / "state/fraisier.db"
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    with exporting(web.store) as exporter:
        answer = exporter.ask()
        assert (answer.status, answer.values("fraisier_journal_events_total")) == (200, {})
        assert web.run("lock", "acquire", "web", "production", "-m", "why").code == 0
        exporter.until("fraisier_journal_events_total", {(): 1})


def test_a_store_that_cannot_be_read_at_the_start_is_an_error(tmp_path: Path) -> None:
    place = tmp_path / "fraisier.db"
    place.write_bytes(b"this is no database" * 100)
    for options in (["--port", "0"], ["--once"]):
        told = metrics(f"sqlite:///{place}", *options)
        assert (told.code, told.out) == (1, "")
        assert str(place) in told.err
        assert "Traceback" not in told.err
    assert metrics(f"sqlite:///{tmp_path}", "--once").code == 1


def test_once_prints_the_metrics_and_ends(project: Make) -> None:
    """As text for a textfile collector, or as JSON."""
    web = project(count=1)
    web.commit("v1")
    assert web.deploy("v1").code == 0
    told = web.run("metrics", "--once")
    assert (told.code, told.err) == (0, "")
    found = Answer(200, {}, told.out.encode()).values("fraisier_deployments_total")
    assert found == {("api", "local", "success"): 1}
    samples: list[dict[str, Any]] = web.run("metrics", "--once", "--json").document["metrics"]
    wanted = {"name": "fraisier_deployments_total", "value": 1.0}
    labels = {"provider": "local", "status": "success", "fraise_type": "api"}
    assert {**wanted, "labels": labels} in samples
    assert {sample["name"] for sample in samples} >= {"fraisier_build_info", "fraisier_targets"}


def local_ipv6() -> str:
    """Return the local address of IPv6, or another one of this machine where there is none."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return "::1"
    except OSError:
        return "127.0.0.2"


def test_it_says_where_it_listens(empty: str) -> None:
    """On stderr, for people; nothing with --quiet."""
    address = local_ipv6()
    argv = [
        sys.executable,
        "-m",
        "fraisier",
        "--store",
        empty,
        "metrics",
        "--port",
        "0",
        "--address",
        address,
    ]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    shown = f"[{address}]" if ":" in address else address
    assert line.startswith(f"serving the metrics of {empty.removeprefix('sqlite://')[1:]} at http://{shown}:")
    assert line.endswith("/metrics; Ctrl-C ends it\n")
    assert process.returncode == 0
    assert not Path(empty.removeprefix("sqlite:///")).exists()
