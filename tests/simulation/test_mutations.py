"""A simulation that finds nothing proves nothing: deliberate faults in production code are found."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.simulation.mutations.check import PACKAGE, Edit, Mutation, apply, look_for, mutations

FEWEST = 14
SEEDS = 2000


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", sorted(mutations()))
def test_every_deliberate_fault_is_found(name: str) -> None:
    """Within as many seeds as CI runs."""
    assert look_for(mutations()[name], seeds=SEEDS, jobs=os.cpu_count() or 1) is not None


@pytest.mark.parametrize("name", sorted(mutations()))
def test_every_deliberate_fault_fits_the_code_as_it_is(name: str, tmp_path: Path) -> None:
    """What it replaces is there exactly once, and what comes of it can still be compiled."""
    mutation = mutations()[name]
    assert mutation.says.endswith(".")
    for edit in mutation.edits:
        (tmp_path / edit.file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE / edit.file, tmp_path / edit.file)
    apply(mutation, tmp_path)
    for edit in mutation.edits:
        changed = (tmp_path / edit.file).read_text(encoding="utf-8")
        assert changed != (PACKAGE / edit.file).read_text(encoding="utf-8")
        compile(changed, edit.file, "exec")


def test_there_are_enough_of_them() -> None:
    """One for each kind of promise, and more."""
    assert len(mutations()) >= FEWEST


def test_a_fault_that_does_not_fit_any_more_is_told(tmp_path: Path) -> None:
    """It would else change nothing, and be called found or not found for no reason."""
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    for old, times in (("x = 1\n", 2), ("y = 1\n", 0)):
        with pytest.raises(ValueError, match=f"found {times} times"):
            apply(Mutation("It is one.", (Edit("a.py", old, "x = 2\n"),)), tmp_path)
