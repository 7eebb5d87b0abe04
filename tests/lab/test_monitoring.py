"""The dashboard and the alerts against a real Prometheus that scrapes `fraisier metrics` of real deployments."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from fraisier.metrics import METRICS
from tests.acceptance.kit import Project, Run
from tests.lab.monitoring import FILES, NODE_TOOLS, TOOLS, Prometheus, exporter, lacking, prometheus

pytestmark = [pytest.mark.lab, pytest.mark.once]
needs_prometheus = pytest.mark.skipif(bool(lacking(TOOLS)), reason=lacking(TOOLS))

BOARD: dict[str, Any] = json.loads((FILES / "grafana-dashboard.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
README = (FILES / "README.md").read_text()
RULES = yaml.safe_load((FILES / "alert-rules.yml").read_text())["groups"][0]["rules"]
SCHEMA = ("@grafana/schema@12.4.2", "typescript@5.9.3")
SERIES_SUFFIX = re.compile(r"_(bucket|sum|count)$")


def expressions() -> dict[str, str]:
    """Return every query of the dashboard as Grafana sends it when all of each variable is selected."""
    found = {}
    for panel in PANELS:
        for target in panel["targets"]:
            text = target["expr"]
            for name in ("fraise", "environment", "provider"):
                text = text.replace(f"${name}", ".*")
            found[f"{panel['title']} {target['refId']}"] = text
    return found


def metrics_in(text: str) -> set[str]:
    """Return the metrics that a text names, without the ends of the series of histograms and summaries."""
    names = {spec.name for spec in METRICS}
    found = re.findall(r"\bfraisier_[a-z0-9_]+", text)
    return {one if one in names else SERIES_SUFFIX.sub("", one) for one in found}


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
    check = "interval: 50ms, timeout: 2s, rise: 1, fall: 2, deadline: 1s"
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
    assert codes == [0, 3, 0, 0, 1, 0]


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
        ("job", "staging", "success"): 1,
    }
    totals = ask.query("sum by (status) (fraisier_deployments_total) > 0")
    by_status = {labels["status"]: value for labels, value in totals}
    assert by_status == {"success": 3, "rolled_back": 1, "unchanged": 1, "failed": 1}
    values = {query: ask.value(query) for query in NUMBERS}
    assert values == NUMBERS


NUMBERS = {
    'fraisier_rollbacks_total{reason="health_check_failed"}': 1,
    'fraisier_deployment_failures_total{reason="prepare_failed"}': 1,
    'fraisier_step_retries_total{step="stage"}': 1,
    'fraisier_recoveries_total{status="success"}': 1,
    'fraisier_deployment_errors_total{error_type="ProviderUnavailableError"}': 1,
    'fraisier_deployment_errors_total{error_type="HookError"}': 1,
    'fraisier_hook_duration_seconds_count{phase="before_deploy",status="success"}': 1,
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


# the files


def test_the_dashboard_has_its_panels_rows_and_variables() -> None:
    titles = {panel["title"] for panel in PANELS}
    assert titles >= {
        "Deployment rate",
        "Success rate (1 h)",
        "Duration percentiles",
        "Errors by type",
        "Active deployments",
        "Health checks by type",
        "Health check duration, 95%",
        "Rollbacks by reason",
    }
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Deployments", "Health", "Recovery", "Fraisier itself"]
    names = [variable["name"] for variable in BOARD["templating"]["list"]]
    assert names == ["datasource", "fraise", "environment", "provider"]
    used = set(re.findall(r"\$(\w+)", json.dumps(PANELS)))
    assert used == {"fraise", "environment", "provider"}


def test_no_two_panels_lie_on_each_other() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_every_metric_is_on_a_panel_or_listed_as_not() -> None:
    """And none is named, there or in an alert, that does not exist."""
    names = {spec.name for spec in METRICS}
    shown = metrics_in(json.dumps(BOARD))
    left_out = set(re.findall(r"^\| `(fraisier_\w+)` \|", README, re.M))
    alerted = metrics_in(json.dumps(RULES))
    assert shown | alerted <= names
    assert shown | left_out == names
    assert not shown & left_out


def test_every_label_that_is_asked_for_exists() -> None:
    """In a selector of the dashboard or of an alert."""
    labels = {spec.name: {*spec.labels, "le"} for spec in METRICS}
    texts = [*expressions().values(), *(rule["expr"] for rule in RULES)]
    seen = 0
    for text in texts:
        for name, selector in re.findall(r"(fraisier_\w+)\{([^}]*)\}", text):
            known = labels.get(name) or labels[SERIES_SUFFIX.sub("", name)]
            asked = set(re.findall(r"(\w+)\s*(?:=|!)", selector))
            assert asked <= known, (name, asked - known)
            seen += len(asked)
    assert seen > 50


@needs_prometheus
@pytest.mark.parametrize(
    "command",
    [
        "check config prometheus.yml",
        "check rules alert-rules.yml",
        "test rules alert-rules.test.yml",
    ],
)
def test_promtool_is_content(command: str) -> None:
    done = subprocess.run(
        ["promtool", *command.split()], cwd=FILES, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_each_alert_is_tested_to_fire_and_not_to_fire_and_is_in_the_readme() -> None:
    rules = {rule["alert"]: rule for rule in RULES}
    fires: set[str] = set()
    silent: set[str] = set()
    for group in yaml.safe_load((FILES / "alert-rules.test.yml").read_text())["tests"]:
        for case in group["alert_rule_test"]:
            (fires if case["exp_alerts"] else silent).add(case["alertname"])
    assert fires == silent == set(rules)
    documented = dict(re.findall(r"^\| `(Fraisier\w+)` \| (\w+) \|", README, re.M))
    assert documented == {name: rule["labels"]["severity"] for name, rule in rules.items()}


def test_an_alert_that_could_not_fire_would_be_noticed(tmp_path: Path) -> None:
    """The tests of the rules fail when a threshold is moved."""
    lacks = lacking(TOOLS)
    if lacks:
        pytest.skip(lacks)
    rules = (FILES / "alert-rules.yml").read_text()
    (tmp_path / "alert-rules.yml").write_text(rules.replace("wait_seconds > 300", "wait_seconds > 3000"))
    cases = yaml.safe_load((FILES / "alert-rules.test.yml").read_text())
    cases["tests"] = [case for case in cases["tests"] if case["name"].startswith("FraisierLockWait ")]
    (tmp_path / "alert-rules.test.yml").write_text(yaml.safe_dump(cases))
    done = subprocess.run(
        ["promtool", "test", "rules", "alert-rules.test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "FraisierLockWait" in done.stderr + done.stdout


@pytest.mark.skipif(bool(lacking(NODE_TOOLS)), reason=lacking(NODE_TOOLS))
def test_the_dashboard_has_the_type_of_grafanas_schema(tmp_path: Path) -> None:
    """By `tsc --strict`, which refuses a key or a value that Grafana does not know."""
    install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", *SCHEMA]
    (tmp_path / "package.json").write_text('{"private": true}')
    done = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    checker = Path(__file__).with_name("dashboard.ts").read_text()
    board = (FILES / "grafana-dashboard.json").read_text()
    files = {
        "good.ts": board,
        "key.ts": board.replace('"graphTooltip"', '"graphTooltips"', 1),
        "value.ts": board.replace('"drawStyle": "line"', '"drawStyle": "lines"', 1),
    }
    for name, text in files.items():
        before, marker, after = checker.partition("export const")
        (tmp_path / name).write_text(before + marker + after.replace("DASHBOARD", text))
    options = "--noEmit --strict --skipLibCheck --target es2022 --module nodenext --moduleResolution nodenext"
    tsc = ["node", "node_modules/typescript/bin/tsc", *options.split(), *files]
    checked = subprocess.run(tsc, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    wrong = set(re.findall(r"^(\w+\.ts)\(", checked.stdout, re.M))
    assert wrong == {"key.ts", "value.ts"}, checked.stdout[:3000]
