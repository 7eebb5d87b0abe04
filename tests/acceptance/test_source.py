"""A source that is out of reach, or only for a moment: through the command line, with a real server."""

from __future__ import annotations

import hashlib
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.acceptance.kit import Project, Run, outcomes
from tests.ports import free_ports

pytestmark = pytest.mark.once


@dataclass
class Archive(Project):
    """A project whose version is an archive behind `address`."""

    count: int = 1
    address: str = ""
    sha256: str = "0" * 64
    recovery: str = "{retry: {max_attempts: 3, base_delay: 50ms}}"
    more: str = field(default="", repr=False)

    def write(self) -> None:
        super().write()
        path = self.root / "fraises.yaml"
        text = path.read_text().replace(
            f"git_repo: {self.repo}\n        branch: main",
            f'source: {{archive: "{self.address}", sha256: {self.sha256}}}',
        )
        path.write_text(
            text.replace("{retry: {max_attempts: 2, base_delay: 50ms}}", self.recovery) + self.more
        )


def dead_address() -> str:
    """An address that carries credentials and that nobody listens at."""
    return f"http://me:hunter2hunter2@127.0.0.1:{free_ports(1)[0]}/web.tar"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Archive]:
    made = Archive(tmp_path, address=dead_address())
    made.commit("v1")
    yield made
    made.end()


def decided(run: Run) -> list[tuple[str, str, int]]:
    return [
        (line["step"], line["data"]["action"], line["attempt"])
        for line in run.lines
        if line["type"] == "recovery.decided"
    ]


def scraped(project: Project) -> dict[str, float]:
    """Every sample that `fraisier metrics` tells of the store."""
    samples = (line.rpartition(" ") for line in project.run("metrics", "--once").out.splitlines())
    return {name: float(value) for name, _, value in samples if name and not name.startswith("#")}


def test_a_server_that_is_down_is_asked_as_often_as_configured_and_counted(project: Archive) -> None:
    run = project.deploy("v1")
    assert (run.code, run.result["outcome"], run.result["reason"]) == (1, "failed", "prepare_failed")
    assert decided(run) == [("resolve", "retry", 1), ("resolve", "retry", 2), ("resolve", "fail", 3)]
    found = scraped(project)
    errors = 'fraisier_deployment_errors_total{error_type="ProviderConnectionError",provider="local"}'
    assert found[errors] == 3
    assert found['fraisier_step_retries_total{provider="local",step="resolve"}'] == 2
    assert found['fraisier_provider_availability{provider="local"}'] == 0
    assert "hunter2" not in run.out + run.err + project.run("events", "--json").out


class Flaky(BaseHTTPRequestHandler):
    """Refuses as long as there are refusals left, then gives the file."""

    refusals: ClassVar[list[tuple[int, dict[str, str]]]]
    body: bytes
    asked: ClassVar[list[str]]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, headers = self.refusals.pop(0) if self.refusals else (200, {})
        body = self.body if status == 200 else b""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def server(project: Archive) -> Iterator[type[Flaky]]:
    """A server of the project's archive, which the configuration names from now on."""
    tar = project.root / "web.tar"
    with tarfile.open(tar, "w") as archive:
        for name in ("service.py", "VERSION", "MODE"):
            archive.add(project.repo / name, name)

    class Server(Flaky):
        refusals: ClassVar[list[tuple[int, dict[str, str]]]] = []
        body = tar.read_bytes()
        asked: ClassVar[list[str]] = []

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as listening:
        project.address = f"http://127.0.0.1:{listening.server_port}/web.tar"
        project.sha256 = hashlib.sha256(Server.body).hexdigest()
        project.write()
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield Server
        listening.shutdown()
        thread.join()


def test_a_server_that_comes_back_is_only_late(project: Archive, server: type[Flaky]) -> None:
    server.refusals = [(502, {}), (503, {})]
    run = project.deploy("v1")
    assert (run.code, outcomes(run.result)) == (0, {"t1": "updated"})
    assert decided(run) == [("resolve", "retry", 1), ("resolve", "retry", 2)]
    assert [line["attempt"] for line in run.lines if line["type"] == "recovery.succeeded"] == [3]
    assert len(server.asked) == 3
    assert project.answers() == {"t1": "v1"}
    assert scraped(project)['fraisier_provider_availability{provider="local"}'] == 1


def test_a_busy_server_is_not_asked_before_it_wants_to(project: Archive, server: type[Flaky]) -> None:
    """The header counts where it asks for more than the configured wait."""
    server.refusals = [(429, {"Retry-After": "1"})]
    run = project.deploy("v1")
    assert (run.code, len(server.asked)) == (0, 2)
    (decision,) = [line["data"] for line in run.lines if line["type"] == "recovery.decided"]
    assert (decision["action"], decision["delay_s"]) == ("retry", 1.0)


def circuits(run: Run) -> list[tuple[str, str]]:
    """Every change of a circuit, with whose it is."""
    return [
        (line["type"], line["data"]["resource"]) for line in run.lines if line["type"].startswith("circuit.")
    ]


def test_a_server_that_fails_too_often_is_left_alone(project: Archive, server: type[Flaky]) -> None:
    """The third attempt is refused before it begins; the circuit is open for longer than any retry waits, so none follows."""
    server.refusals = [(503, {})] * 9
    project.recovery = "{retry: {max_attempts: 5, base_delay: 50ms}, circuit_breaker: {failure_threshold: 2}}"
    project.write()
    run = project.deploy("v1")
    assert (run.code, run.result["reason"], len(server.asked)) == (1, "prepare_failed", 2)
    assert "could not be reached too often, and is left alone until" in run.result["detail"]
    assert decided(run) == [("resolve", "retry", 1), ("resolve", "retry", 2)]
    resource = f"local source:{project.address.removeprefix('http://').partition('/')[0]}"
    assert circuits(project.run("events", "--json")) == [("circuit.opened", resource)]
    found = scraped(project)
    assert found['fraisier_circuit_transitions_total{provider="local",state="open"}'] == 1
    assert found['fraisier_circuit_state{provider="local",state="open"}'] == 1
    assert f"{resource} is LEFT ALONE until" in project.run("events").out
    assert project.run("audit", "verify", "--json").document["ok"] is True


def test_when_its_time_is_over_a_trial_finds_that_it_is_back(project: Archive, server: type[Flaky]) -> None:
    server.refusals = [(503, {})] * 2
    project.recovery = (
        "{retry: {max_attempts: 5, base_delay: 50ms}, "
        "circuit_breaker: {failure_threshold: 2, recovery_timeout: 500ms}}"
    )
    project.write()
    run = project.deploy("v1")
    assert (run.code, outcomes(run.result), len(server.asked)) == (0, {"t1": "updated"}, 3)
    assert [kind for kind, _ in circuits(project.run("events", "--json"))] == [
        "circuit.opened",
        "circuit.half_opened",
        "circuit.closed",
    ]


def test_fraises_of_one_server_share_its_circuit(project: Archive, server: type[Flaky]) -> None:
    """One run deploys both; the second one is not even asked for once the first found the server down."""
    server.refusals = [(503, {})] * 9
    project.recovery = "{retry: {max_attempts: 1}, circuit_breaker: {failure_threshold: 1}}"
    project.more = f"""
  worker:
    type: etl
    environments:
      production:
        provider: local
        targets: [w1]
        source: {{archive: "{project.address}", sha256: {project.sha256}}}
        app_path: {project.root}/srv/worker
        recovery: {project.recovery}
"""
    project.write()
    run = project.run("deploy", "web,worker", "production", "--version", "v1", "--json")
    assert run.code == 1, run.err
    results = [line for line in run.lines if line["type"] == "result"]
    assert [result["reason"] for result in results] == ["prepare_failed"] * 2
    assert len(server.asked) == 1
    assert [kind for kind, _ in circuits(project.run("events", "--json"))] == ["circuit.opened"]
