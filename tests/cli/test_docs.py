"""docs/CLI.md and the commands say the same."""

from __future__ import annotations

import re
from pathlib import Path

import asyncclick as click
import pytest

from fraisier.cli import exits
from fraisier.cli.command import Leaf, Tree
from fraisier.cli.params import global_options, is_global
from fraisier.cli.tree import make_tree

DOCS = (Path(__file__).parents[2] / "docs" / "CLI.md").read_text(encoding="utf-8")


def leaves(command: click.Command | None = None, path: str = "") -> list[tuple[str, Leaf]]:
    """Return every command that is not hidden, with its path."""
    command = command or make_tree()
    if isinstance(command, Leaf):
        return [] if command.hidden else [(path, command)]
    assert isinstance(command, Tree)
    found: list[tuple[str, Leaf]] = []
    ctx = click.Context(command)
    for name in command.list_commands(ctx):
        found += leaves(command.get_command(ctx, name), f"{path} {name}".strip())
    return found


def section(path: str) -> str:
    """Return what the documentation says of a command."""
    match = re.search(rf"^#+ fraisier {re.escape(path)}\n(.*?)(?=^#+ |\Z)", DOCS, re.S | re.M)
    assert match is not None, f"{path} is not documented"
    return match[1]


@pytest.mark.parametrize(
    ("path", "command"), leaves(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_is_documented_with_all_its_options_and_examples(path: str, command: Leaf) -> None:
    told = section(path)
    ctx = click.Context(command, info_name=path)
    for param in command.params:
        if isinstance(param, click.Option) and not is_global(param):
            record = param.get_help_record(ctx)
            assert record is not None
            names, meaning = (text.replace("|", "\\|") for text in record)
            assert f"| `{names}` | {meaning} |" in told
    assert " ".join(command.collect_usage_pieces(ctx)) in told
    assert command.examples
    assert all(example in told for example in command.examples)


def test_nothing_is_documented_that_does_not_exist() -> None:
    documented = set(re.findall(r"^#+ fraisier (.+)$", DOCS, re.M))
    assert documented == {path for path, _ in leaves()} | {"audit", "db", "lock"}


def test_every_exit_code_is_documented_with_its_meaning() -> None:
    table = DOCS.partition("### Exit codes")[2].partition("##")[0]
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", table, re.M))
    assert {int(code): meaning for code, meaning in rows.items()} == dict(exits.MEANINGS)


def test_every_global_option_is_documented() -> None:
    table = DOCS.partition("### Global options")[2].partition("###")[0]
    for option in global_options():
        assert all(f"{name}" in table for name in option.opts)


def test_the_worst_of_several_outcomes_decides_the_exit_code() -> None:
    order = [130, 4, 1, 3, 6, 5, 0]
    for at, code in enumerate(order):
        assert exits.worst(order[at:]) == code
    assert exits.worst([]) == 0
