"""The project keeps its own promises: one version, commands that are the real ones, links that lead somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fraisier import __version__

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fraisier"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "monitoring").glob("*.md")])
OURS = {".ci", ".gitignore", ".importlinter"}
MADE_BY_TOOLS = {"build", "dist", "__pycache__"}


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )


def own_files() -> list[Path]:
    """Return the text files of the project, without what tools made."""
    suffixes = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".sql", ".sh", ".txt", ".cfg", ".ini", ""}
    return [
        path
        for path in sorted(ROOT.rglob("*"))
        if path.is_file()
        and path.suffix in suffixes
        and not any(
            part in MADE_BY_TOOLS or (part.startswith(".") and part not in OURS)
            for part in path.relative_to(ROOT).parts
        )
    ]


def test_the_changelog_begins_with_this_version() -> None:
    """The newest entry of the changelog is the version that the package has."""
    entries = re.findall(
        r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert entries[0] == __version__


def test_continuous_integration_runs_the_command_of_the_readme() -> None:
    """`.ci/run` ends with the very line that README.md gives to a person."""
    commands = [one.strip() for one in blocks(ROOT / "README.md", "sh")]
    last = (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().splitlines()[-1]
    assert last == commands[-1]
    assert last.endswith(".venv/bin/nox")


def test_the_first_command_of_the_readme_is_the_demonstration() -> None:
    """What a stranger runs first installs the package from the checkout and shows what it does."""
    first = blocks(ROOT / "README.md", "sh")[0].strip()
    assert first == "python3 -m venv .venv && .venv/bin/pip install -q '.[all]' && .venv/bin/fraisier demo"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    """A link to a file of the repository names a file that is there, and an anchor a heading of it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name) if name else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor and there.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{page.name} links to {target}"


def slug(heading: str) -> str:
    """Return the anchor that a forge makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_nothing_tells_where_or_how_it_was_written() -> None:
    """No file names a path of a machine, a package registry, or a number in an issue tracker."""
    paths = ["/" + "work/", "/opt/" + "fv", "/opt/" + "wheels", "/opt/" + "pypi", "/root/" + ".pyenv"]
    registries = ["files.python" + "hosted.org", "index" + "-url", "registry." + "npmjs"]
    forbidden = re.compile("|".join(re.escape(word) for word in [*paths, *registries]))
    issue = re.compile("(?:issue|fixes|closes|see|gh) ?" + r"#\d+|/issues/\d+", re.IGNORECASE)
    found = []
    for path in own_files():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if forbidden.search(line) or issue.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_every_module_is_reached_from_the_command_line() -> None:
    """From `fraisier.__main__`, through imports and through dotted names that are imported late, one comes everywhere."""
    modules = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    data = {name for name in modules if name.startswith("fraisier.demo.service.")}
    doubles = {name for name in modules if name.startswith(("fraisier.testing", "fraisier.simulation"))}
    reached: set[str] = set()
    waiting = {"fraisier.__main__"}
    while waiting:
        name = waiting.pop()
        if name in reached or name not in modules:
            continue
        reached.add(name)
        waiting |= parents(name) | mentions(modules[name])
    assert sorted(set(modules) - reached - data - doubles) == []


def module_name(path: Path) -> str:
    """Return the dotted name of a module's file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parents(name: str) -> set[str]:
    """Return the packages that a module is in; importing it imports them."""
    parts = name.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))}


def mentions(path: Path) -> set[str]:
    """Return every dotted name under the package that a module imports or holds as text, with f-strings of constants."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value.partition(":")[0])
        elif isinstance(node, ast.JoinedStr):
            found.add("".join(piece(part, constants) for part in node.values).partition(":")[0])
    return {name for name in found if re.fullmatch(r"fraisier(\.\w+)*", name)}


def piece(part: ast.expr, constants: dict[str, str]) -> str:
    """Return the text of a part of an f-string, where it is a constant."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name):
        return constants.get(part.value.id, "?")
    return "?"


def test_the_layers_hold() -> None:
    """import-linter finds no import that points up."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout


def test_the_scripts_are_executable_and_read_no_input() -> None:
    """`.ci/run` can be run as it is, and never waits for somebody to type."""
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    text = script.read_text(encoding="utf-8")
    assert "</dev/null" in text
    assert "set -euo pipefail" in text
