"""Puts one deliberate fault after the other into a copy of the package, and looks whether the simulation finds it.

    python tests/simulation/mutations/check.py [--only NAME] [--seeds 2000] [--jobs J]

Prints which seed found each, and what was said. Exits 1 when one is not found within so many seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import msgspec

HERE = Path(__file__).parent
PACKAGE = HERE.parents[2] / "fraisier"
LIMIT_S = 1800.0


class Edit(msgspec.Struct, frozen=True):
    """`old` becomes `new` in a file of the package."""

    file: str
    old: str
    new: str


class Mutation(msgspec.Struct, frozen=True):
    """One deliberate fault: a sentence, and what it takes."""

    says: str
    edits: tuple[Edit, ...]


class Caught(msgspec.Struct, frozen=True):
    """The seed that found a fault, and what it said."""

    seed: int
    finding: str


def mutations() -> dict[str, Mutation]:
    """Return every mutation by name."""
    found = tomllib.loads((HERE / "mutations.toml").read_text(encoding="utf-8"))
    return msgspec.convert(found, dict[str, Mutation])


def apply(mutation: Mutation, package: Path) -> None:
    """Change a copy of the package. Raises ValueError when a text is not found exactly once."""
    for edit in mutation.edits:
        path = package / edit.file
        text = path.read_text(encoding="utf-8")
        if text.count(edit.old) != 1:
            raise ValueError(f"found {text.count(edit.old)} times in {edit.file}, not once:\n{edit.old}")
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")


def look_for(mutation: Mutation, *, seeds: int, jobs: int) -> Caught | None:
    """Return what the simulation finds in a mutated copy, or None when it finds nothing."""
    with tempfile.TemporaryDirectory(prefix="fraisier-mutation-") as name:
        root = Path(name)
        shutil.copytree(PACKAGE, root / "fraisier", ignore=shutil.ignore_patterns("__pycache__"))
        apply(mutation, root / "fraisier")
        words = ["--seeds", str(seeds), "--jobs", str(jobs), "--first", "--out", str(root / "out.json")]
        done = subprocess.run(
            [sys.executable, "-m", "fraisier.simulation", *words],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        if not (root / "out.json").exists():
            raise RuntimeError(f"the campaign itself failed:\n{done.stderr[-2000:]}")
        findings = json.loads((root / "out.json").read_text(encoding="utf-8"))["findings"]
    if not findings:
        return None
    seed = min(findings, key=int)
    return Caught(int(seed), findings[seed][0].splitlines()[0])


def check(names: list[str], *, seeds: int, jobs: int) -> list[str]:
    """Try the mutations, print what came of each, and return the names of those that were not found."""
    known, survivors = mutations(), []
    for name in names or known:
        caught = look_for(known[name], seeds=seeds, jobs=jobs)
        if caught is None:
            survivors.append(name)
        told = f"seed {caught.seed}: {caught.finding}" if caught else f"NOT FOUND within {seeds} seeds"
        print(f"{name}: {told}", flush=True)
    return survivors


def main() -> int:
    """Try what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", choices=sorted(mutations()))
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    survivors = check(options.only, seeds=options.seeds, jobs=options.jobs)
    print(f"not found: {', '.join(survivors)}" if survivors else "every fault was found")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
