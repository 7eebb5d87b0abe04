"""Measures how long the command line takes to start, as multiples of `python -c pass` on the same machine.

Runs are interleaved, so that a busy moment touches all of them alike; the minimum of each is compared with its budget.
Exits with 1 when one is over. Usage: `python benchmarks/startup.py [RUNS]`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BUDGETS = {
    "--version": 2.0,
    "--help": 10.0,
    "deploy --help": 10.0,
    "completion bash": 10.0,
    "list": 13.0,
    "validate": 13.0,
}
BASE = "python -c pass"
RUNS = 15


def program() -> list[str]:
    """Return the installed script beside this interpreter, or the module where there is none."""
    script = shutil.which("fraisier", path=str(Path(sys.executable).parent))
    return [script] if script else [sys.executable, "-m", "fraisier"]


def once(command: list[str], cwd: str) -> float:
    """Return how long a command took, in milliseconds."""
    environ = {**os.environ, "FRAISIER_STORE": f"sqlite:///{cwd}/store.db"}
    began = time.perf_counter()
    subprocess.run(command, cwd=cwd, env=environ, check=True, capture_output=True)
    return (time.perf_counter() - began) * 1000


def main() -> int:
    """Measure, print a table, and return the exit code."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    commands = {BASE: [sys.executable, "-c", "pass"]}
    commands |= {words: [*program(), *words.split()] for words in BUDGETS}
    took: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as cwd:
        once([*program(), "init"], cwd)
        for _ in range(runs):
            for name, command in commands.items():
                took[name].append(once(command, cwd))
    base = min(took[BASE])
    over = []
    print(f"{'command':<18} {'min ms':>8} {'median':>8} {'max':>8} {'ratio':>7} {'budget':>7}")
    for name, times in took.items():
        ratio, budget = min(times) / base, BUDGETS.get(name, 1.0)
        verdict = "" if ratio <= budget else "  OVER"
        print(
            f"{name:<18} {min(times):>8.1f} {statistics.median(times):>8.1f} {max(times):>8.1f}"
            f" {ratio:>7.2f} {budget:>7.1f}{verdict}"
        )
        if verdict:
            over.append(name)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
