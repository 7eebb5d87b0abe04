"""The command line of the simulation: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import gc
import json
import logging
from collections import Counter
from pathlib import Path

import pytest

from fraisier.simulation import __main__ as program
from fraisier.simulation.campaign import Done, Sum, run, trials, until_failed
from fraisier.simulation.generator import generate
from fraisier.simulation.report import failure, summary
from fraisier.simulation.trial import Verdict, run_trial

pytestmark = pytest.mark.virtual


def test_a_campaign_adds_up_what_its_workers_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes come to the same sum as one trial after the other."""
    out = tmp_path / "figures.json"
    assert program.main(["--seeds", "24", "--start", "3", "--jobs", "2", "--out", str(out)]) == 0
    figures = json.loads(out.read_text())
    alone = Sum()
    for seed in range(3, 27):
        alone.note(run_trial(generate(seed)))
    assert figures["sum"]["seeds"] == 24
    assert figures["sum"]["counters"] == dict(alone.counters)
    assert figures["sum"]["asked"] == dict(alone.asked)
    assert figures["unreached"] == []
    told = capsys.readouterr()
    assert "24 seeds in" in told.out
    assert "invariant checks" in told.out
    assert "24/24 seeds" in told.err


def test_one_seed_prints_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    """The whole story, from the first process to who serves what."""
    assert program.main(["--seed", "4", "--trace"]) == 0
    assert capsys.readouterr().out == run_trial(generate(4), trace=True).trace + "\n"


def test_nothing_more_is_asked_for_after_a_failure() -> None:
    """The chunk that failed is the last one."""
    failed = Verdict(2, ["P4: something"], Counter(), Counter(), 1, 1.0)
    results = iter([Done(Sum()), Done(Sum(), [failed]), Done(Sum())])
    assert len(list(until_failed(results))) == 2
    assert len(list(results)) == 1


def test_a_campaign_leaves_the_process_as_it_was() -> None:
    """The garbage collector and the log work for whoever comes after it."""
    before = (gc.isenabled(), gc.get_freeze_count(), logging.root.manager.disable)
    list(trials(range(2), jobs=1))
    assert (gc.isenabled(), gc.get_freeze_count(), logging.root.manager.disable) == before


def test_progress_is_told_after_every_chunk() -> None:
    """The sum so far, and the failures that are new."""
    told: list[int] = []
    total = run(range(20), jobs=1, on_progress=lambda total, _failures: told.append(total.seeds))
    assert told == [10, 20]
    assert total.seeds == 20


def test_a_failure_tells_seed_spec_faults_findings_and_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long trace goes to a file whose name is told."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spec = next(generate(seed) for seed in range(100) if generate(seed).faults)
    good = run_trial(spec, trace=True)
    verdict = Verdict(
        spec.seed, ["P4: something"], good.counters, good.asked, good.deployments, good.took_s, good.trace
    )
    told = failure(verdict, spec, trace_most=3)
    path = tmp_path / f"fraisier-simulation-{spec.seed}.trace"
    assert f"SEED {spec.seed} broke a promise" in told
    assert "P4: something" in told
    assert spec.faults[0].kind in told
    assert str(path) in told
    assert path.read_text() == good.trace + "\n"
    assert good.trace.splitlines()[0] in failure(verdict, spec, trace_most=10_000)


def test_the_summary_counts_per_promise() -> None:
    """Rules belong to the promise that they begin with."""
    total = Sum(seeds=2, deployments=4, virtual_s=7200.0, cpu_s=0.5)
    total.asked.update({"P4 one": 3, "P4 other": 4, "P10 third": 1})
    told = summary(total, 1.0, jobs=1)
    assert "2 seeds in 1.0 s" in told
    assert "8.0 deployments/s/core" in told
    assert told.index(" 7 P4") < told.index(" 1 P10")
