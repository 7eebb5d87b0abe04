"""The command line of the simulation: `python -m fraisier.simulation --seeds 2000`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from fraisier.simulation.campaign import Sum, fingerprint, run
from fraisier.simulation.generator import generate
from fraisier.simulation.kept import Kept, keep, load
from fraisier.simulation.reach import unreached
from fraisier.simulation.report import TRACE_MOST, failure, summary
from fraisier.simulation.shrink import shrink
from fraisier.simulation.spec import Spec
from fraisier.simulation.trial import Verdict, run_trial

REACHES_FROM = 2000
"""A campaign of so many seeds must have gone through everything that can be reached."""

_TOLD_MOST = 5
_PROGRESS_S = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return 0 when every promise held, 1 when not."""
    options = _parser().parse_args(arguments)
    logging.disable(logging.CRITICAL)
    if options.kept is not None:
        return _one(load(options.kept).spec, options)
    if options.seed is not None:
        return _one(generate(options.seed), options)
    seeds = range(options.start, options.start + options.seeds)
    if options.fingerprint:
        _say(f"{fingerprint(seeds, jobs=options.jobs, fifo=options.fifo)}  {_version()}, {len(seeds)} seeds")
        return 0
    return _campaign(seeds, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fraisier.simulation",
        description="Whole rollouts in a simulated world that breaks, each drawn from a seed.",
    )
    add = parser.add_argument
    add("--seeds", type=int, default=2000, metavar="N", help="how many seeds (2000)")
    add("--start", type=int, default=0, metavar="K", help="the first seed (0)")
    add("--seed", type=int, metavar="N", help="one seed only; if it fails, it is made smaller")
    add("--kept", type=Path, metavar="FILE", help="one trial that was kept as JSON")
    add("--keep", type=Path, metavar="FILE", help="with --seed or --kept: where a trial that fails is kept")
    add("--trace", action="store_true", help="with --seed or --kept: print the trace, also when all is well")
    add("--no-shrink", action="store_true", help="with --seed or --kept: do not look for a smaller trial")
    add("--fifo", action="store_true", help="run tasks in the order of a real loop instead of a drawn one")
    add("--first", action="store_true", help="stop at the first seed that fails")
    add("--fingerprint", action="store_true", help="print the SHA-256 over all traces, and judge nothing")
    add("--jobs", type=int, default=_cores(), metavar="J", help="worker processes (one per core)")
    add("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    return parser


def _one(spec: Spec, options: argparse.Namespace) -> int:
    verdict = run_trial(spec, trace=options.trace, fifo=options.fifo)
    if not verdict.findings:
        _say(verdict.trace if options.trace else f"seed {spec.seed}: every promise held")
        return 0
    _say(failure(verdict, spec, trace_most=sys.maxsize if options.trace else TRACE_MOST))
    if not options.no_shrink:
        spec, used = shrink(spec)
        _say(f"smaller, after {used} trials:\n{msgspec.json.encode(spec).decode()}")
        _say("\n".join(run_trial(spec).findings))
    if options.keep is not None:
        keep(Kept(verdict.findings[0], spec), options.keep)
    return 1


def _campaign(seeds: Sequence[int], options: argparse.Namespace) -> int:
    begun_s = told_s = time.monotonic()
    told: list[Verdict] = []

    def on_progress(total: Sum, failures: list[Verdict]) -> None:
        nonlocal told_s
        for verdict in failures[: _TOLD_MOST - len(told)]:
            told.append(verdict)
            _say(failure(verdict, generate(verdict.seed)))
        if time.monotonic() - told_s >= _PROGRESS_S or total.seeds == len(seeds):
            told_s = time.monotonic()
            rate = total.seeds / (told_s - begun_s)
            _say(
                f"{total.seeds}/{len(seeds)} seeds, {rate:.0f}/s, {len(total.failed)} failed", file=sys.stderr
            )

    total = run(seeds, jobs=options.jobs, fifo=options.fifo, stops=options.first, on_progress=on_progress)
    took_s = time.monotonic() - begun_s
    whole = total.seeds >= REACHES_FROM and not options.first
    missing = unreached(total.counters, total.asked) if whole else []
    _say(summary(total, took_s, jobs=options.jobs))
    if options.out is not None:
        findings = {str(verdict.seed): verdict.findings for verdict in told}
        figures = {"took_s": took_s, "jobs": options.jobs, "sum": total, "unreached": missing}
        options.out.write_bytes(msgspec.json.encode({**figures, "findings": findings}, order="sorted"))
    for name in missing:
        _say(f"never reached: {name}")
    if total.failed:
        _say(f"failed seeds: {', '.join(map(str, sorted(total.failed)[:50]))}")
        _say(f"look at one with `python -m fraisier.simulation --seed {min(total.failed)} --trace`")
    return 1 if total.failed or missing else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version() -> str:
    return "Python {}.{}.{}".format(*sys.version_info)


def _say(text: str, *, file: TextIO | None = None) -> None:
    out = file or sys.stdout
    out.write(text + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
