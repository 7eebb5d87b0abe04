"""What is mutated, and which tests must notice."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.execution import preload, survives
from tests.mutation.mutate import Mutant, mutants

ROOT = Path(__file__).parent.parent.parent
EXPLAINED = Path(__file__).with_name("survivors.toml")


_TOLD_EVERY = 50


@dataclass(frozen=True)
class Group:
    """Modules, and the tests that are about them."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


GROUPS = {
    "recovery": Group(
        tuple(
            f"fraisier.recovery.{name}"
            for name in (
                "base",
                "circuit",
                "circuit_state",
                "fallback",
                "operation",
                "retry",
                "retry_after",
                "rollback",
            )
        ),
        ("tests/test_recovery.py",),
    ),
    "chain": Group(("fraisier.journal.chain",), ("tests/journal/test_chain.py",)),
}


@dataclass(frozen=True)
class Measured:
    """How many mutants there were, and which no test noticed."""

    total: int
    survivors: tuple[str, ...]

    @property
    def killed(self) -> int:
        """How many were noticed."""
        return self.total - len(self.survivors)

    @property
    def share(self) -> float:
        """The share that was noticed, from 0 to 1."""
        return self.killed / self.total


def mutants_of(group: Group) -> list[Mutant]:
    """Return every mutant of a group."""
    found = []
    for module in group.modules:
        found += mutants((ROOT / module.replace(".", "/")).with_suffix(".py"), module)
    return found


def measure(name: str, *, tell: Callable[[str], object] = str) -> Measured:
    """Run the tests of a group against each of its mutants."""
    group = GROUPS[name]
    preload(group.tests)
    assert survives(None, group.tests), "the tests fail without a mutant"
    found = mutants_of(group)
    left = []
    for number, mutant in enumerate(found, 1):
        if survives(mutant, group.tests):
            left.append(mutant.name)
            tell(f"[{number}/{len(found)}] line {mutant.line}: {mutant.name}")
        elif number % _TOLD_EVERY == 0:
            tell(f"[{number}/{len(found)}]")
    return Measured(len(found), tuple(left))


def explained() -> dict[str, str]:
    """Return why each known survivor does no harm."""
    listed: dict[str, str] = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["survivors"]
    return listed
