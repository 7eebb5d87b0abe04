"""The operator's pages show nothing that no test runs, and say nothing of commands that no block of theirs types."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.docs import test_deployment_patterns, test_operator_guide
from tests.docs.pages import Block, Section, prose, sections, text_of
from tests.docs.yard import Yards

PAGES = {"OPERATOR_GUIDE.md": test_operator_guide, "DEPLOYMENT_PATTERNS.md": test_deployment_patterns}
GROUPS = {"audit", "db", "lock"}


def shape(line: str) -> tuple[str, frozenset[str]]:
    """Return which command of `fraisier` a line calls, and with which options."""
    words = list(shlex.shlex(line, posix=True, punctuation_chars=True))
    words = words[next(at for at, word in enumerate(words) if word.endswith("fraisier")) + 1 :]
    names = [word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)]
    name = " ".join(names[: 2 if names and names[0] in GROUPS else 1])
    return name, frozenset(word for word in words if re.fullmatch(r"--?[a-z-]+", word))


def lines_of(page: str) -> list[str]:
    """Return each line of the page's blocks of commands, found without the parser that runs them."""
    found, language = [], ""
    for line in text_of(page).splitlines():
        if line.startswith("```"):
            language = "" if language else line[3:] or "none"
        elif language == "sh" and line.strip():
            found.append(line)
        elif language == "cron":
            found.append(line.partition("  ")[2].strip())
    return found


@pytest.mark.parametrize("page", PAGES)
def test_no_line_is_left_unexecuted(page: str) -> None:
    """What is run is what is written: each line, each block, and no block in a language that nobody runs."""
    run = [command.text for section in sections(page) for command in section.commands]
    written = lines_of(page)
    assert len(written) > 40
    assert [
        line.removeprefix("(cd && ").removesuffix(")") if "(cd &&" in line else line for line in run
    ] == written
    blocks = re.findall(r"^\s*(?:```|~~~)(.*)$", text_of(page), re.MULTILINE)
    assert set(blocks) == {"", "yaml", "sh", "text", *(["cron"] if "cron" in blocks else [])}
    assert len(blocks) == 2 * sum(len(section.blocks) for section in sections(page))


@pytest.mark.parametrize("page", PAGES)
def test_no_section_is_skipped(page: str) -> None:
    """No mark and no condition stands between a section and its test."""
    (runs,) = (found for found in vars(PAGES[page]).values() if hasattr(found, "pytestmark"))
    assert {mark.name for mark in runs.pytestmark} == {"once", "parametrize"}


@pytest.mark.once
@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        ([("sh", "true\nfalse\n")], "text='false'"),
        ([("sh", "true   # exit 3\n")], "text='true"),
        ([("sh", "kill -9 $$\ntrue\n")], "left out"),
        ([("sh", "echo one\n"), ("text", "two\n")], "'two' was not said"),
        ([("text", "two\n"), ("sh", "echo two\n")], "'two' was not said"),
    ],
    ids=["fails", "does not fail", "ends the shell", "is not said", "is said too late"],
)
def test_a_page_that_promises_too_much_is_found(
    yards: Yards, blocks: list[tuple[str, str]], says: str
) -> None:
    """A command that ends otherwise, or is never run, and a message that does not come."""
    with yards.lend(fresh=True) as yard, pytest.raises(AssertionError, match=re.escape(says)):
        yard.follow(Section("A promise", tuple(Block(*block) for block in blocks)))


def test_what_is_said_of_a_command_in_passing_is_run_too() -> None:
    """A command in the text, with its options, is typed in a block of one of the two pages."""
    typed = [shape(line) for page in PAGES for line in lines_of(page) if "fraisier " in line]
    said = {
        f"{page}: {code}": shape(code)
        for page in PAGES
        for code in prose(page)
        if code.startswith("fraisier ")
    }
    missing = [
        code
        for code, (name, options) in said.items()
        if not any(name == run and options <= given for run, given in typed)
    ]
    assert len(said) > 30
    assert missing == []
