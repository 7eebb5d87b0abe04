"""The dashboard and the alerts against a real Prometheus that scrapes `fraisier metrics` of real deployments."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.kit import Project, Run
from tests.lab.kit import Host
from tests.lab.monitoring import FILES, TOOLS, Prometheus, exporter, expressions, lacking, prometheus
from tests.lab.units import UnitProject

Make = Callable[..., UnitProject]
pytestmark = [pytest.mark.lab, pytest.mark.once]
needs_prometheus = pytest.mark.skipif(bool(lacking(TOOLS)), reason=lacking(TOOLS))

JOB = """\
  job:
    type: etl
    environments:
      staging:
        provider: local
        targets: [t1]
        source: {{path: "{root}/job"}}
        app_path: {root}/srv/job
        recovery: {{retry: {{max_attempts: 2, base_delay: 50ms}}}}
        hooks:
          before_deploy: [{{name: backup, command: "true"}}]
          after_deploy: [{{name: report, command: "exit 3", on_failure: warn}}]
"""


# Fails the first time, as on a disk that is full for a moment.
TAR = """\
#!/bin/sh
[ -e "$0.ran" ] && exec {tar} "$@"
: >"$0.ran"
exit 1
"""


@dataclass
class Watched:
    """A store that real deployments fill, and the Prometheus that looks on."""

    project: Project
    server: Prometheus


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Have deployments that end well, unchanged, rolled back and failed, with a retry and hooks, while they are watched."""
    base = tmp_path
    check = "interval: 50ms, timeout: 2s, rise: 1, fall: 2, deadline: 3s"
    root = base / "project"
    project = Project(root, count=2, check=check, extra=JOB.format(root=root))
    try:
        with (
            exporter(project.argv(), base / "exporter") as target,
            prometheus(base / "prometheus", target, interval="300ms") as server,
        ):
            server.until("fraisier_build_info")
            deploy_all(project)
            rows = project.run("audit", "verify", "--json").document["rows"]
            server.until("fraisier_journal_events_total", lambda found: found[0][1] >= rows)
            yield Watched(project, server)
    finally:
        project.end()


def deploy_all(project: Project) -> None:
    codes = []
    for version, mode in (("v1", "ok"), ("v2", "sick"), ("v3", "ok")):
        project.commit(version, mode)
        codes.append(project.deploy(version).code)
    codes.append(project.deploy("v3").code)
    codes.append(project.deploy("no-such-version").code)
    codes.append(deploy_job(project).code)
    # What is seen for the first time is no increase: hooks run twice.
    codes.append(project.run("deploy", "job", "staging", "--version", "j2", "--json").code)
    assert codes == [0, 3, 0, 0, 1, 0, 0]


def deploy_job(project: Project) -> Run:
    """Deploy what is unpacked at the second attempt only."""
    source, path = project.root / "job", project.root / "bin"
    for directory in (source, path):
        directory.mkdir()
    (source / "job.txt").write_text("work")
    (path / "tar").write_text(TAR.format(tar=shutil.which("tar")))
    (path / "tar").chmod(0o755)
    return project.run(
        "deploy", "job", "staging", "--version", "j1", "--json", env={"PATH": f"{path}:{os.environ['PATH']}"}
    )


@needs_prometheus
def test_a_real_prometheus_sees_what_was_deployed(watched: Watched) -> None:
    """The numbers are right, each query of the dashboard gives some, and the alerts of what happened fire, no others."""
    check_numbers(watched.server)
    check_queries(watched.server)
    check_alerts(watched.server)
    check_formats(watched)


def check_numbers(ask: Prometheus) -> None:
    """By outcome, fraise and environment; what went wrong is named."""
    by_fraise = {
        (labels["fraise"], labels["environment"], labels["status"]): value
        for labels, value in ask.query("fraisier_fraise_deployments_total > 0")
    }
    assert by_fraise == {
        ("web", "production", "success"): 2,
        ("web", "production", "rolled_back"): 1,
        ("web", "production", "unchanged"): 1,
        ("web", "production", "failed"): 1,
        ("job", "staging", "success"): 2,
    }
    totals = ask.query("sum by (status) (fraisier_deployments_total) > 0")
    by_status = {labels["status"]: value for labels, value in totals}
    assert by_status == {"success": 4, "rolled_back": 1, "unchanged": 1, "failed": 1}
    values = {query: ask.value(query) for query in NUMBERS}
    assert values == NUMBERS


NUMBERS = {
    'fraisier_rollbacks_total{reason="health_check_failed"}': 1,
    'fraisier_deployment_failures_total{reason="prepare_failed"}': 1,
    'fraisier_step_retries_total{step="stage"}': 1,
    'fraisier_recoveries_total{status="success"}': 1,
    'fraisier_deployment_errors_total{error_type="ProviderUnavailableError"}': 1,
    'fraisier_deployment_errors_total{error_type="HookError"}': 2,
    'fraisier_hook_duration_seconds_count{phase="before_deploy",status="success"}': 2,
    "sum(fraisier_active_deployments)": 0,
    'fraisier_targets{fraise="web",health="healthy"}': 2,
    'fraisier_last_deployment_success{fraise="web"}': 0,
    'fraisier_last_deployment_success{fraise="job"}': 1,
}


def check_queries(ask: Prometheus) -> None:
    """None is empty after deployments of each kind, and none divides by nothing."""
    for name, expression in expressions().items():
        found = ask.until(expression, lambda found: any(math.isfinite(value) for _, value in found))
        assert all(math.isfinite(value) for _, value in found), (name, found)


def check_alerts(ask: Prometheus) -> None:
    """A deployment failed and one was rolled back; nothing is stuck or out of reach."""
    ask.until("ALERTS", lambda found: len({labels["alertname"] for labels, _ in found}) >= 3)
    assert ask.alerts() == {"FraisierDeploymentFailed", "FraisierRolledBack", "FraisierSuccessRateLow"}


def check_formats(watched: Watched) -> None:
    """Prometheus asks for OpenMetrics and reads it without a complaint; promtool has none about the text."""
    assert watched.server.value('up{job="fraisier"}') == 1
    once = watched.project.run("metrics", "--once")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=once.out, capture_output=True, text=True, timeout=30
    )
    assert (once.code, checked.returncode, checked.stdout, checked.stderr) == (0, 0, "", "")


def test_the_unit_runs_on_a_real_systemd(host: Host, project: Make) -> None:
    """Hardened as it is: it reads a store that others write to, and ends as its manager asks."""
    web = project()
    assert web.put("v1").code == 0
    text = (FILES / "fraisier-metrics.service").read_text()
    program = f"{sys.executable} -m fraisier --store {web.store} metrics"
    host.unit("fraisier-metrics.service", text.replace("/usr/local/bin/fraisier metrics", program))
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8001/metrics').read().decode())"
    host.check("systemctl", "start", "fraisier-metrics")
    try:
        told = wait_for(lambda: host.run(sys.executable, "-c", ask))
        assert 'fraisier_deployments_total{fraise_type="api",provider="local",status="success"} 1.0' in told
    finally:
        host.check("systemctl", "stop", "fraisier-metrics")
    assert host.show("fraisier-metrics", "Result") == "success"
    assert host.show("fraisier-metrics", "ExecMainStatus") == "0"


def wait_for(ask: Callable[[], Run]) -> str:
    """Return what a command prints as soon as it succeeds."""
    deadline = time.monotonic() + 20
    while (done := ask()).code != 0:
        assert time.monotonic() < deadline, done.err
        time.sleep(0.1)
    return done.out
