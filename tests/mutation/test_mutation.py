"""Tests that notice nothing prove nothing: small faults in the recovery strategies and the hash chain are noticed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutation.execution import survives
from tests.mutation.groups import GROUPS, explained, measure, mutants_of
from tests.mutation.mutate import mutants

NOTICED_MIN = 0.85
WORDS_MIN = 4


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", sorted(GROUPS))
def test_most_faults_are_noticed_and_every_other_one_is_explained(name: str) -> None:
    found = measure(name)
    assert found.share >= NOTICED_MIN, f"{found.killed} of {found.total}"
    listed = {survivor for survivor in explained() if survivor.split(" ", 1)[0] in GROUPS[name].modules}
    assert set(found.survivors) - listed == set(), "these are noticed by no test, and explained by nobody"
    assert listed - set(found.survivors) == set(), "these are noticed by now"


def test_every_explained_fault_is_one_that_can_be_made() -> None:
    made = {mutant.name for group in GROUPS.values() for mutant in mutants_of(group)}
    assert set(explained()) - made == set()
    assert [name for name, why in explained().items() if len(why.split()) < WORDS_MIN] == []


def test_no_more_are_explained_than_may_survive() -> None:
    for name, group in GROUPS.items():
        made = mutants_of(group)
        listed = [one for one in made if one.name in explained()]
        assert len(listed) <= len(made) * (1 - NOTICED_MIN), name


def test_names_tell_mutants_apart() -> None:
    names = [mutant.name for group in GROUPS.values() for mutant in mutants_of(group)]
    assert len(names) == len(set(names)) > 400


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("x = a < b", ["a < b -> a <= b", "x = a < b -> pass"]),
        ("x = a is not b", ["a is not b -> a is b", "x = a is not b -> pass"]),
        ("x = a and b", ["a and b -> a or b", "x = a and b -> pass"]),
        ("x = not a", ["not a -> a", "x = not a -> pass"]),
        ("x = a + b", ["a + b -> a - b", "x = a + b -> pass"]),
        ("call(True)", ["True -> False", "call(True) -> pass"]),
        ("call(3)", ["3 -> 4", "call(3) -> pass"]),
        ("call('word')", ["'word' -> ''", "call('word') -> pass"]),
        ("if a:\n    call()", ["a -> not a", "call() -> pass"]),
        ("def f() -> int:\n    return a", ["return a -> return None"]),
        ("raise Oops", ["raise Oops -> pass"]),
        ("del a", ["del a -> pass"]),
        ('"""A docstring."""', []),
        ("import a", []),
    ],
)
def test_each_kind_of_fault_is_made(text: str, made: list[str], tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text(text)
    found = mutants(file, "m")
    assert sorted(one.name.partition(": ")[2] for one in found) == sorted(made)
    assert all(ast.unparse(one.tree) != ast.unparse(ast.parse(text)) for one in found)


def test_one_fault_is_really_carried_out() -> None:
    group = GROUPS["chain"]
    fault = next(one for one in mutants_of(group) if "len(raw) != 16 -> len(raw) == 16" in one.name)
    assert survives(None, group.tests)
    assert not survives(fault, group.tests)
