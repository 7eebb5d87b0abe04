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

from tests.acceptance.kit import Project, Run, free_ports, outcomes

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
