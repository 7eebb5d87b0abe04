"""Health checks as a deployment runs them and as `fraisier health` shows them: every key, over real targets."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Project
from tests.health.servers import make_certificate

pytestmark = pytest.mark.once

SERVICE = """\
import http.server, json, os, pathlib, ssl

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        known = self.headers.get("X-Probe") == os.environ["PROBE_TOKEN"]
        self.answer(201 if known else 403, b"hello")
    def do_GET(self):
        if self.path == "/old":
            return self.answer(302, Location="/health")
        state = pathlib.Path("state").read_text()
        self.answer(200, json.dumps({"state": state, "parts": [{"ok": True}]}).encode())
    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
if os.environ.get("CERTIFICATE"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["CERTIFICATE"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
TOKEN = "t0ken-of-the-probe"
HERE = "127.0.0.1:{{ target.vars.port }}"
TIMES: dict[str, Any] = {"interval": "50ms", "timeout": "3s", "rise": 1, "deadline": "20s"}


def everything() -> dict[str, Any]:
    """Return a composite that uses every key of every type but those of TLS."""
    return {
        "type": "composite",
        "require": 5,
        "checks": [
            {
                "name": "posted",
                "type": "http",
                "url": f"http://{HERE}/",
                "method": "POST",
                "headers": {"X-Probe": "${PROBE_TOKEN}"},
                "expect_status": ["201", "204"],
                "expect_body": "^hel+o$",
            },
            {
                "name": "moved",
                "type": "http",
                "url": f"http://{HERE}/old",
                "follow_redirects": True,
                "connect_timeout": "1s",
                "expect_json": {"state": "up", "parts.0.ok": True},
            },
            {"name": "port", "type": "tcp", "host": "127.0.0.1", "port": "{{ target.vars.port }}"},
            {"name": "argv", "type": "exec", "command": ["test", "-f", "state"]},
            {
                "name": "any of two",
                "type": "composite",
                "require": "any",
                "checks": [
                    {"name": "shell", "type": "exec", "command": "test $(cat state) = up && echo fine"},
                    {"name": "never", "type": "exec", "command": "exit 3"},
                ],
            },
            {"name": "missing", "type": "exec", "command": ["/no/such/program"]},
        ],
        **TIMES,
    }


@pytest.fixture
def shop(project: Project) -> Project:
    """A project whose service has more to ask for; nothing is deployed yet."""
    (project.repo / "serve.py").write_text(SERVICE)
    (project.repo / "state").write_text("up")
    project.commit("two")
    project.environ["PROBE_TOKEN"] = TOKEN
    return project


def configure(shop: Project, check: dict[str, Any], **env: str) -> None:
    """Write the configuration with one health check."""
    known = shop.environment()["env"] | {"PROBE_TOKEN": "${PROBE_TOKEN}"} | env
    shop.write_config(health_check=check, env=known)


def test_every_kind_of_check_decides_over_a_deployment_and_is_shown(shop: Project) -> None:
    """The parts of the composite, that it fails when they do, and that a prober's own failure is an error."""
    configure(shop, everything())
    assert shop.lines("deploy", "shop", "staging")[-1]["outcome"] == "succeeded"
    found = shop.json("health", "shop", "staging")
    assert [(row["target"], row["status"], row["healthy"]) for row in found["targets"]] == [
        ("t1", "pass", True),
        ("t2", "pass", True),
    ]
    parts = {part["name"]: (part["check_type"], part["status"]) for part in found["targets"][0]["parts"]}
    assert parts == {
        "posted": ("http", "pass"),
        "moved": ("http", "pass"),
        "port": ("tcp", "pass"),
        "argv": ("exec", "pass"),
        "any of two": ("composite", "pass"),
        "any of two/shell": ("exec", "pass"),
        "any of two/never": ("exec", "fail"),
        "missing": ("exec", "error"),
    }
    shown = shop.run("health").stdout
    assert "any of two/never" in shown
    assert TOKEN not in shown + json.dumps(found)
    verdicts = [line for line in shop.lines("events") if line["type"] == "health.passed"]
    assert {part["name"] for part in verdicts[0]["data"]["parts"]} == set(parts)

    (shop.root / "srv" / "t2" / "current" / "state").write_text("down")
    sick = shop.json("health", code=1)
    assert [row["status"] for row in sick["targets"]] == ["pass", "fail"]
    assert "state is 'down', expected 'up'" in sick["targets"][1]["message"]
    assert sick["healthy"] is False


def test_a_release_that_fails_one_required_part_goes_back(shop: Project) -> None:
    """The composite is what the rollout asks, with the part's name in the reason."""
    configure(shop, everything() | {"deadline": "3s"})
    shop.run("deploy", "shop", "staging")
    (shop.repo / "state").write_text("down")
    shop.commit("three")
    result = shop.lines("deploy", "shop", "staging", code=3)[-1]
    assert result["outcome"] == "rolled_back"
    failed = [line for line in shop.lines("events") if line["type"] == "health.failed"][-1]["data"]
    assert failed["check_type"] == "composite"
    assert "moved" in failed["message"]
    assert {part["name"]: part["status"] for part in failed["parts"]}["moved"] == "fail"


def test_what_cannot_be_asked_is_neither_healthy_nor_unhealthy(shop: Project) -> None:
    """Exit 6, status error; and a target that is really unhealthy weighs more."""
    configure(shop, {"type": "exec", "command": ["true"], **TIMES})
    shop.run("deploy", "shop", "staging")
    configure(shop, {"type": "exec", "command": ["/no/such/program"], **TIMES})
    found = shop.json("health", code=6)
    assert {(row["status"], row["healthy"], row["reason"]) for row in found["targets"]} == {
        ("error", False, "no_answer")
    }
    assert shop.run("health", code=6).stdout.count("unknown") == 2
    shop.run("stop", "shop", "staging", "--limit", "t1", "-y")
    assert [row["status"] for row in shop.json("health", code=1)["targets"]] == ["fail", "error"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl: apt-get install openssl")
def test_a_deployment_over_tls_warns_of_a_certificate_that_ends_soon(shop: Project, tmp_path: Path) -> None:
    """Verified against the configured authority; the warning is on the screen, in the journal and in `health`."""
    certificate = make_certificate(tmp_path, days=3)
    check = {"type": "http", "url": f"https://{HERE}/health", "ca_file": str(certificate), **TIMES}
    configure(shop, check, CERTIFICATE=str(certificate))
    told = shop.run("deploy", "shop", "staging").stderr
    assert "warning: the certificate ends in 2 days" in told
    found = shop.json("health")
    assert found["healthy"] is True
    assert found["targets"][0]["warnings"][0].startswith("the certificate ends in 2 days")
    assert "warning: the certificate ends" in shop.run("health").stdout

    configure(shop, check | {"tls_warn_before": "1d"}, CERTIFICATE=str(certificate))
    assert shop.json("health")["targets"][0]["warnings"] == []
    del check["ca_file"]
    configure(shop, check, CERTIFICATE=str(certificate))
    assert "TLS" in shop.json("health", code=1)["targets"][0]["message"]
    configure(shop, check | {"verify_tls": False}, CERTIFICATE=str(certificate))
    assert shop.json("health")["healthy"] is True


def test_a_command_that_hangs_leaves_nothing_behind(shop: Project) -> None:
    """Its whole process group is ended at the timeout."""
    configure(shop, {"type": "exec", "command": ["true"], **TIMES})
    shop.run("deploy", "shop", "staging")
    mark = f"{shop.root}/hangs"
    program = shop.root / "hangs"
    program.write_text(f"#!/bin/sh\n{sys.executable} -c 'import time; time.sleep(600)' {mark} & wait\n")
    program.chmod(0o755)
    configure(shop, {"type": "exec", "command": [str(program)], **TIMES, "timeout": "300ms"})
    found = shop.json("health", code=1)
    assert all("no answer within 0.3 s" in row["message"] for row in found["targets"])
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if mark.encode() in read(path)]


def read(path: Path) -> bytes:
    """Return what a file of /proc says, nothing when its process has gone."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
