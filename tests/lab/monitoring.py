"""A Prometheus of one's own, and `fraisier metrics` for it to scrape. Both end with the block that they were started in."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.lab.kit import CHECKOUT, INSTALL, LabError
from tests.ports import free_ports

FILES = CHECKOUT / "monitoring"
TOOLS = {"prometheus": "prometheus", "promtool": "prometheus"}
NODE_TOOLS = {"node": "nodejs", "npm": "npm"}

BOARD: dict[str, Any] = json.loads((FILES / "grafana-dashboard.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]

_READY_S = 30.0
_STOP_S = 10.0
_STEP_S = 0.1
_SCRAPED_S = 10.0

Series = tuple[dict[str, str], float]
"""What a query gives of one series: its labels, and its newest value."""


def lacking(tools: dict[str, str]) -> str:
    """Return what this machine lacks of `tools` (Debian's package by command), with the command that installs it."""
    packages = sorted({package for tool, package in tools.items() if shutil.which(tool) is None})
    return f"needs {' '.join(packages)}: {INSTALL} {' '.join(packages)}" if packages else ""


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


@dataclass(frozen=True)
class Prometheus:
    """A server that is ready. `url` is its base, without a slash at the end."""

    url: str

    def query(self, expression: str) -> list[Series]:
        """Return what an expression gives now, or soon: a scrape that took too long, on a busy machine, hides every series
        until the next one. Raises LabError for an expression that cannot be read."""
        deadline = time.monotonic() + _SCRAPED_S
        while True:
            at = f"{time.time():.3f}"
            # Both looks are at one moment, so that no scrape lies between what they see and the answer.
            before = self._is_up(at)
            found = self._get("query", query=expression, time=at)["result"]
            if (before and self._is_up(at)) or time.monotonic() > deadline:
                return [(row["metric"], float(row["value"][1])) for row in found]
            time.sleep(_STEP_S)

    def _is_up(self, at: str) -> bool:
        """Whether no target's last scrape before `at` (seconds since 1970) failed."""
        return not self._get("query", query="up == 0", time=at)["result"]

    def value(self, expression: str) -> float:
        """Return the sum of what an expression gives now, 0 for nothing."""
        return sum(value for _, value in self.query(expression))

    def until(
        self, expression: str, wanted: Callable[[list[Series]], bool] = bool, *, timeout_s: float = 30.0
    ) -> list[Series]:
        """Return what an expression gives as soon as that is wanted (default: anything). Raises LabError in the end."""
        deadline = time.monotonic() + timeout_s
        while not wanted(found := self.query(expression)):
            if time.monotonic() > deadline:
                raise LabError(f"after {timeout_s:g} s {expression} gives {found}")
            time.sleep(_STEP_S)
        return found

    def alerts(self) -> set[str]:
        """Return the names of the alerts that are pending or firing."""
        return {row["labels"]["alertname"] for row in self._get("alerts")["alerts"]}

    def _get(self, path: str, **values: str) -> dict[str, Any]:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(values)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise LabError(f"{values or path}: {error.read().decode()}") from error
        return found


@contextlib.contextmanager
def prometheus(base: Path, *targets: str, interval: str = "500ms") -> Iterator[Prometheus]:
    """Run a Prometheus that keeps its data in `base` and scrapes `targets` (`host:port`) as the shipped configuration says,
    only more often. Wait with `until` for the first scrape."""
    base.mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load((FILES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    config["rule_files"] = [str(FILES / "alert-rules.yml")]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = list(targets)
    (base / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    argv = [
        "prometheus",
        f"--config.file={base}/prometheus.yml",
        f"--storage.tsdb.path={base}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with _running(argv, base / "prometheus.log"):
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/-/ready", base / "prometheus.log")
        yield Prometheus(url)


@contextlib.contextmanager
def exporter(argv: Sequence[str], base: Path) -> Iterator[str]:
    """Run `fraisier metrics` with the command line `argv` up to the command's name, on a free port; give `host:port`."""
    base.mkdir(parents=True, exist_ok=True)
    log = base / "exporter.log"
    (port,) = free_ports(1)
    with _running([*argv, "metrics", "--port", str(port)], log):
        _wait_for(f"http://127.0.0.1:{port}/-/ready", log)
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def _running(argv: Sequence[str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_STOP_S)


def _wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(_STEP_S)
    raise LabError(f"{url} does not answer after {_READY_S:g} s:\n{log.read_text(errors='replace')[-3000:]}")
