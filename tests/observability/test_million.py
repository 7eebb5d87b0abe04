"""A journal of a million rows verifies in bounded time and memory, and looking at the present costs what it always did."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.observability.big_store import build

ROWS = 1_000_000
VERIFY_S_MAX = 20.0
RSS_MB_MAX = 200.0
RATIO_MAX = 2.0
PAIRS = 9
pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def argv(store: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "fraisier", "--store", f"sqlite:///{store}", *words, "--json"]


def measured(store: Path, *words: str) -> tuple[str, float, float, float]:
    """Run a command; return its output, its seconds of wall time and of processor time, and its most memory in MB."""
    with tempfile.TemporaryFile("w+") as out:
        began = time.perf_counter()
        process = subprocess.Popen(argv(store, *words), stdout=out, cwd=store.parent)
        most_kb = 0
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            most_kb = max(most_kb, _high_water_kb(process.pid))
            time.sleep(0.005)
        wall_s = time.perf_counter() - began
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read()
    assert process.returncode == 0, said
    return said, wall_s, usage.ru_utime + usage.ru_stime, most_kb / 1024


def _high_water_kb(pid: int) -> int:
    # Of the program itself: what `wait4` tells includes the memory of whoever started it.
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("million") / "fraisier.db"
    place = "app_path: '/srv/{{ fraise }}/{{ target.name }}'"
    environment = f"targets: [web-1, web-2], source: {{path: .}}, {place}, service: {{process: run}}"
    fraises = "".join(
        f"  app-{n}: {{environments: {{production: {{provider: local, {environment}}}}}}}\n" for n in range(3)
    )
    store.with_name("fraises.yaml").write_text(f"fraises:\n{fraises}")
    began = time.perf_counter()
    rows = build(store, ROWS)
    print(f"\n{rows} rows, {store.stat().st_size >> 20} MB, built in {time.perf_counter() - began:.0f} s")  # noqa: T201
    return store


def test_a_million_rows_verify_within_time_and_memory(million: Path) -> None:
    """Chain, columns and every signature, by the command line in a process of its own."""
    said, wall_s, cpu_s, rss_mb = measured(million, "audit", "verify")
    report = json.loads(said)
    print(f"\naudit verify: {wall_s:.1f} s wall, {cpu_s:.1f} s processor, {rss_mb:.0f} MB")  # noqa: T201
    assert report["ok"]
    assert report["rows"] >= ROWS
    assert report["checkpoints"] > 20_000
    assert wall_s < VERIFY_S_MAX
    assert rss_mb < RSS_MB_MAX


@pytest.mark.parametrize("command", ["history", "status"])
def test_looking_at_the_present_costs_as_much_as_on_an_empty_store(million: Path, command: str) -> None:
    """The median of pairs that run in turn, so that what else the machine does meets both."""
    empty = million.with_name(f"empty-{command}.db")
    measured(empty, "db", "upgrade")
    ratios = []
    for _ in range(PAIRS):
        _, none_s, _, _ = measured(empty, command)
        said, many_s, _, _ = measured(million, command)
        ratios.append(many_s / none_s)
    assert len(said) > 1000
    ratio = statistics.median(ratios)
    print(f"\n{command}: {ratio:.2f} times the time of an empty store")  # noqa: T201
    assert ratio < RATIO_MAX
