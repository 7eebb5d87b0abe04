"""The broken configurations of tests/cases/config, each with what must be reported."""

from __future__ import annotations

from pathlib import Path

CASES = Path(__file__).parent.parent / "cases" / "config"


def case_files() -> list[Path]:
    """Return every broken configuration."""
    return sorted(CASES.glob("*.yaml"))


def expected(file: Path) -> list[tuple[int, int, str, str]]:
    """Return (line, column, code, key path) of every problem, from the file's first comments or from FILE.expect."""
    beside = file.with_name(f"{file.name}.expect")
    lines = (beside if beside.exists() else file).read_text(encoding="utf-8").splitlines()
    found = []
    for line in lines:
        if line.startswith("# expect: "):
            place, code, path = [*line.removeprefix("# expect: ").split(" ", 2), ""][:3]
            row, _, column = place.partition(":")
            found.append((int(row), int(column), code, path))
    return found
