"""What logging, metrics and audit cost a rollout to 50 local targets, in CPU seconds.

The same rollout runs with none of them, with each alone, and with all, in turn, each run in a process of its own. Logging
writes JSON lines at level info into a file; metrics feed a Prometheus registry that is rendered once at the end; the audit
trail is signed. CPU seconds count from before the orchestrator is made until it is closed; imports of the modules count for
nobody. Everything else (journal, bus, leases, probes) is the same in all of them.

All three live in this process, and the commands that a rollout runs are the same ones in every variant. So the cost is what
the process itself spends more, as a share of what the whole rollout spends, commands included: that leaves out the noise of
git and tar, which is many times what is measured here.

    python benchmarks/observability.py [--rounds N] [--targets N]

Prints medians over the rounds, each run beside the one without any in the same round: the CPU seconds of the whole and of the
process itself, the cost, and the plain ratios of both. Exits 1 when all together cost more than the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import rollout

from fraisier import Orchestrator
from fraisier.events.types import AuditCheckpointed
from fraisier.logging import setup_structured_logging
from fraisier.metrics import DeploymentMetrics, MetricsRecorder, render
from fraisier.redaction import Redactor

LIMIT = 0.05
PARTS = ("logging", "metrics", "audit")
VARIANTS: dict[str, tuple[str, ...]] = {"none": (), **{part: (part,) for part in PARTS}, "all": PARTS}


class Observed(Orchestrator):
    """An orchestrator to which only the chosen of the three subscribe."""

    def __init__(self, parts: tuple[str, ...], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        subscribe = self.bus.subscribe

        def choose(name: str, *rest: Any, **settings: Any) -> Any:
            wanted = name not in PARTS or name in parts
            return subscribe(name, *rest, **settings) if wanted else None

        self.bus.subscribe = choose  # type: ignore[method-assign]


def cpu_s() -> float:
    """Return the CPU seconds of this process and of the children that it waited for."""
    return own_cpu_s() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def own_cpu_s() -> float:
    """Return the CPU seconds of this process, all of its threads."""
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])


async def deploy(parts: tuple[str, ...], repository: Path, work: Path, count: int) -> dict[str, float]:
    """Roll out once, and return what it cost; fails when the parts did not write what they should."""
    for name in ("aiosqlite", "prometheus_client", "structlog", "fraisier.providers.local"):
        importlib.import_module(name)
    config = rollout.configured(repository, work, count)
    redactor = Redactor()
    began, own = cpu_s(), own_cpu_s()
    with (work / "log").open("w") as log:
        if "logging" in parts:
            setup_structured_logging("INFO", "json", stream=log, redactor=redactor)
        recorder = MetricsRecorder(DeploymentMetrics()) if "metrics" in parts else MetricsRecorder()
        options = {"metrics": recorder, "redactor": redactor}
        store = f"sqlite:///{work}/state/fraisier.db"
        async with Observed(parts, config, store, **options) as orchestrator:
            result = await orchestrator.deploy("api", "production")
            assert await orchestrator.bus.wait_idle(30)
            records = await orchestrator.journal.read(0, limit=100_000) if "audit" in parts else []
            signed = any(isinstance(record.event, AuditCheckpointed) for record in records)
        exposition = render(recorder.metrics.registry) if "metrics" in parts else b""
    if result.outcome != "succeeded":
        raise RuntimeError(f"{result.outcome}: {result.detail}")
    spent = {"cpu_s": cpu_s() - began, "own_s": own_cpu_s() - own}
    written = {
        "logging": bool((work / "log").read_text()),
        "metrics": b"fraisier_deployments_total{" in exposition,
        "audit": signed,
    }
    if written != {part: part in parts for part in PARTS}:
        raise RuntimeError(f"with {parts} there was written: {written}")
    return spent


def run_once(variant: str, repository: Path, work: Path, count: int) -> None:
    """Run a variant in this process, and print what it cost."""
    print(json.dumps(asyncio.run(deploy(VARIANTS[variant], repository, work, count))))


def measure(variant: str, repository: Path, root: Path, count: int) -> dict[str, float]:
    """Run a variant in a process of its own."""
    work = root / variant
    work.mkdir()
    command = [sys.executable, __file__, "--once", variant, "--work", str(work)]
    command += ["--repository", str(repository), "--targets", str(count)]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    finally:
        rollout.end_services(work)
        shutil.rmtree(work)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def compared(runs: list[dict[str, float]], bare: list[dict[str, float]]) -> dict[str, float]:
    """Return the medians of a variant beside those of the one without any, round by round."""
    pairs = list(zip(runs, bare, strict=True))
    whole = statistics.median(run["cpu_s"] for run in bare)
    return {
        "whole s": statistics.median(run["cpu_s"] for run in runs),
        "own s": statistics.median(run["own_s"] for run in runs),
        "cost": statistics.median(run["own_s"] - other["own_s"] for run, other in pairs) / whole,
        "own": statistics.median(run["own_s"] / other["own_s"] for run, other in pairs),
        "whole": statistics.median(run["cpu_s"] / other["cpu_s"] for run, other in pairs),
    }


def show(found: dict[str, list[dict[str, float]]]) -> float:
    """Print the table, and return the cost of all together."""
    print(f"{'with':<10} {'whole s':>8} {'own s':>8} {'cost':>8} {'own':>8} {'whole':>8}")
    figures = {variant: compared(runs, found["none"]) for variant, runs in found.items()}
    for variant, row in figures.items():
        shown = f"{row['whole s']:>8.3f} {row['own s']:>8.3f} {row['cost']:>+8.1%} {row['own']:>8.3f}"
        print(f"{variant:<10} {shown} {row['whole']:>8.3f}")
    return figures["all"]["cost"]


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--targets", type=int, default=50)
    parser.add_argument("--once", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--repository", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        run_once(options.once, options.repository, options.work, options.targets)
        return 0
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory(prefix="fraisier-bench-") as name:
        root = Path(name)
        repository = rollout.make_repository(root)
        measure("none", repository, root, 2)
        for number in range(options.rounds):
            order = list(VARIANTS)
            # Each begins a round as often as the others, so that nobody always runs on a warm or a busy machine.
            for variant in order[number % len(order) :] + order[: number % len(order)]:
                found[variant].append(measure(variant, repository, root, options.targets))
    all_together = show(found)
    print(
        f"all together: {all_together:+.1%}; limit {LIMIT:.0%}; {options.targets} targets, {options.rounds} rounds"
    )
    return 0 if all_together <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
