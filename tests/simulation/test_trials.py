"""Trials: they say the same every time, what once failed never fails again, and a few new ones hold."""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from fraisier.cli import exits
from fraisier.journal.state import OPEN_STATES, TERMINAL_STATES
from fraisier.simulation import reach
from fraisier.simulation.campaign import Sum, fingerprint
from fraisier.simulation.generator import generate
from fraisier.simulation.kept import Kept, keep, load
from fraisier.simulation.shrink import promises, shrink, smaller
from fraisier.simulation.spec import ActKind, Spec
from fraisier.simulation.trial import run_trial

REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*.json"))
ROOT = Path(__file__).parents[2]
SEEDS = range(100_000, 100_060)
"""Others than those of a campaign that begins at its first seed."""


@pytest.mark.virtual
@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_holds(seed: int) -> None:
    """A few trials of everything; thousands are what `nox -s simulate` is for."""
    verdict = run_trial(generate(seed))
    assert verdict.findings == [], verdict.trace
    assert verdict.deployments > 0
    assert sum(verdict.asked.values()) > 0


@pytest.mark.virtual
@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_what_once_failed_never_fails_again(path: Path) -> None:
    """Each trial that was kept tells why in a sentence, and breaks no promise any more."""
    kept = load(path)
    assert kept.why.endswith(".")
    verdict = run_trial(kept.spec)
    assert verdict.findings == [], verdict.trace


@pytest.mark.virtual
@pytest.mark.parametrize("seed", [0, 7, 12])
def test_fifo_runs_the_tasks_as_a_real_loop_would(seed: int) -> None:
    """The order is not drawn then, every promise holds as well, and the story is another one."""
    verdict = run_trial(generate(seed), trace=True, fifo=True)
    assert verdict.findings == [], verdict.trace
    assert verdict.trace == run_trial(generate(seed), trace=True, fifo=True).trace
    assert verdict.trace != run_trial(generate(seed), trace=True).trace


@pytest.mark.virtual
def test_the_same_seed_tells_the_same_story_twice() -> None:
    """Byte for byte, also after other trials ran in the same process."""
    first = [run_trial(generate(seed), trace=True).trace for seed in range(12)]
    second = [run_trial(generate(seed), trace=True).trace for seed in reversed(range(12))]
    assert first == second[::-1]
    assert all("deployment.requested" in trace for trace in first)


@pytest.mark.virtual
def test_the_same_seeds_tell_the_same_story_in_every_process() -> None:
    """Whatever the order of sets of strings is there, and in how many workers it runs."""
    prints = {_fingerprint(sys.executable, hash_seed) for hash_seed in ("1", "2")}
    assert prints == {fingerprint(range(8), jobs=1)}


def _fingerprint(python: str, hash_seed: str) -> str:
    words = [python, "-m", "fraisier.simulation", "--fingerprint", "--seeds", "8", "--jobs", "1"]
    environ = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        words, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=100, check=True
    )
    return done.stdout.split()[0]


def test_a_trial_goes_to_a_file_and_comes_back(tmp_path: Path) -> None:
    """Every setting that the generator draws comes back as it was."""
    path = tmp_path / "trial.json"
    for seed in range(200):
        keep(Kept("why.", generate(seed)), path)
        assert load(path) == Kept("why.", generate(seed))


def test_a_fingerprint_is_that_of_the_traces() -> None:
    """Another trace is another fingerprint."""
    digest = hashlib.sha256(run_trial(generate(3), trace=True).trace.encode()).hexdigest()
    assert fingerprint([3], jobs=1) == hashlib.sha256(digest.encode()).hexdigest()
    assert fingerprint([3], jobs=1) != fingerprint([4], jobs=1)


# shrinking


def test_a_failing_trial_is_made_smaller_while_the_same_promise_stays_broken() -> None:
    """Whatever has no part in it is left out; here all but one fault and two targets."""

    def breaks(spec: Spec) -> set[str]:
        cut = any(fault.kind == "cut" for fault in spec.faults)
        return {"P3"} if cut and len(spec.settings.targets) > 1 else {"P5"}

    seed = next(one for one in range(1000) if breaks(generate(one)) == {"P3"} and len(generate(one).acts) > 2)
    small, trials = shrink(generate(seed), breaks=breaks)
    assert [fault.kind for fault in small.faults] == ["cut"]
    assert (len(small.settings.targets), small.acts, small.behaviours) == (2, (), ())
    assert small.settings.rollout == type(small.settings.rollout)()
    assert trials < 400


def test_the_search_for_a_smaller_trial_is_bounded() -> None:
    """After so many trials it gives back the smallest so far; a trial that breaks nothing stays as it is."""
    asked = []

    def breaks(spec: Spec) -> set[str]:
        asked.append(spec)
        return {"P1"}

    _, trials = shrink(generate(3), trials=5, breaks=breaks)
    assert (trials, len(asked)) == (5, 5)
    assert shrink(generate(3), breaks=lambda _spec: set()) == (generate(3), 1)


def test_every_smaller_trial_can_run() -> None:
    """None of them names a host that it has not, and each differs from the one that it was made of."""
    spec = generate(11)
    candidates = list(smaller(spec))
    assert len(candidates) > 10
    for candidate in candidates:
        names = {target.name for target in candidate.settings.targets} | {""}
        assert candidate != spec
        assert {fault.host for fault in candidate.faults} | {
            host for _, host, _ in candidate.behaviours
        } <= names
        run_trial(candidate)


def test_promises_are_the_words_before_the_colon() -> None:
    """Where and when differ from trial to trial."""
    assert promises(["P4: t1 on x (seq 3)", "P4: t2 on y", "P8: no intent"]) == {"P4", "P8"}


# reachability


def test_what_is_excused_is_known() -> None:
    """An excuse for something that is not there any more would hide nothing, and confuse."""
    known = {f"outcome {name}" for name in reach.OUTCOMES} | {f"event {name}" for name in reach.EVENT_TYPES}
    assert set(reach.EXCUSED) <= known
    assert not set(reach.EXCUSED) & set(reach.wanted())


def test_every_act_outcome_and_state_is_in_the_table() -> None:
    """A new one must be thought of."""
    assert set(reach.ENDS) == set(get_args(ActKind))
    assert set(reach.OUTCOMES) == set(exits._OF_OUTCOME)
    moving = {"planned", "queued", "running", "rolling_back"}
    assert TERMINAL_STATES | set(OPEN_STATES) - moving <= set(reach.OUTCOMES)


def test_every_rule_of_the_judges_is_found() -> None:
    """The names are read from its source: as many as there are questions."""
    nodes = [node for one in reach.JUDGES for node in ast.walk(ast.parse(inspect.getsource(one)))]
    asks = [node for node in nodes if isinstance(node, ast.Attribute) and node.attr == "_ask"]
    assert len(reach.rules()) == len(asks) > 10


def test_a_campaign_without_a_fault_names_it() -> None:
    """Whatever was not gone through is told by name."""
    total = Sum()
    for seed in range(20):
        total.note(run_trial(generate(seed)))
    total.counters["faults: reboot"] = 0
    missing = reach.unreached(total.counters, Counter({**total.asked, reach.rules()[0]: 0}))
    assert "faults: reboot" in missing
    assert f"the rule {reach.rules()[0]}" in missing
    assert "outcome succeeded" not in missing


def test_a_kept_trial_of_an_unknown_form_is_refused(tmp_path: Path) -> None:
    """A file that no longer means anything must not pass as a trial without faults."""
    path = tmp_path / "trial.json"
    path.write_text('{"why": "x", "spec": {"seed": "many"}}')
    with pytest.raises(msgspec.ValidationError):
        load(path)
