"""The files of monitoring/: complete, of Grafana's type, and accepted by promtool."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from fraisier.metrics import METRICS
from tests.lab.monitoring import BOARD, FILES, NODE_TOOLS, PANELS, TOOLS, expressions, lacking

pytestmark = [pytest.mark.lab, pytest.mark.once]
needs_prometheus = pytest.mark.skipif(bool(lacking(TOOLS)), reason=lacking(TOOLS))

README = (FILES / "README.md").read_text()
RULES = yaml.safe_load((FILES / "alert-rules.yml").read_text())["groups"][0]["rules"]
SCHEMA = ("@grafana/schema@12.4.2", "typescript@5.9.3")
SERIES_SUFFIX = re.compile(r"_(bucket|sum|count)$")


def metrics_in(text: str) -> set[str]:
    """Return the metrics that a text names, without the ends of the series of histograms and summaries."""
    names = {spec.name for spec in METRICS}
    found = re.findall(r"\bfraisier_[a-z0-9_]+", text)
    return {one if one in names else SERIES_SUFFIX.sub("", one) for one in found}


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


def test_what_only_grows_is_shown_over_a_time() -> None:
    """A counter or a histogram as it stands says what happened since its process began to count, whenever that was."""
    growing = {spec.name for spec in METRICS if spec.kind in ("counter", "histogram")}
    plain = {
        panel
        for panel, text in expressions().items()
        for name, window in re.findall(r"(fraisier_\w+)(?:\{[^}]*\})?(\[\w+\])?", text)
        if not window and (name in growing or SERIES_SUFFIX.sub("", name) in growing)
    }
    assert plain == {"Dead letters A"}  # they stay until somebody looks at them


def test_every_file_of_the_folder_is_in_the_readme() -> None:
    """And none that is not there; so is every command's file."""
    there = {path.name for path in FILES.iterdir()} - {"README.md"}
    table = README.partition("## 1.")[0]
    assert set(re.findall(r"`([\w-]+\.[\w.]+)`", table)) == there
    copied = re.findall(r"^cp (.*) \S+$", README, re.M)
    assert copied
    assert {name for line in copied for name in line.split()} <= there


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
    quietly = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1")
    install = ["npm", "install", *quietly, "--fetch-timeout=30000", *SCHEMA]
    (tmp_path / "package.json").write_text('{"private": true}')
    done = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    if re.search(r"E(NOTFOUND|AI_AGAIN|CONNREFUSED|CONNRESET|TIMEDOUT|NETUNREACH)|network", done.stderr):
        pytest.skip(f"npm's registry, which has {' and '.join(SCHEMA)}, cannot be reached")
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
