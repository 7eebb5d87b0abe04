"""The reference pages describe exactly what there is: no event, field, metric or error code is missing or made up."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from fraisier import errors
from fraisier.cli import exits
from fraisier.errors import FraisierError
from fraisier.events import EVENT_TYPES
from fraisier.metrics import METRICS, MetricSpec

DOCS = Path(__file__).parents[2] / "docs"
ENVELOPE = {"deployment_id", "fraise", "environment", "target", "step", "attempt"}
ERRORS = [
    found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, FraisierError)
]


def sections(page: str) -> dict[str, str]:
    """Return the text under each heading that is one code word."""
    text = (DOCS / page).read_text(encoding="utf-8")
    parts = re.split(r"^#{2,3} (.*)$", text, flags=re.MULTILINE)[1:]
    return {
        heading.strip("`"): body
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
        if heading.startswith("`")
    }


def first_cells(text: str) -> list[list[str]]:
    """Return the cells of each row of the tables whose first cell is a code word."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if re.match(r"\| \[?`", line)]
    return [[cell.strip() for cell in row] for row in rows]


def word(cell: str) -> str:
    found = re.search(r"`([^`]+)`", cell)
    return found[1] if found else ""


def test_exactly_the_registered_event_types_are_documented() -> None:
    """One heading each."""
    assert set(sections("EVENTS.md")) == set(EVENT_TYPES)


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_an_event_is_described_with_all_its_fields(name: str) -> None:
    """With a sentence, when it happens, whether it is durable, and a row for each field of `data`."""
    text = sections("EVENTS.md")[name]
    fields = [field for field in EVENT_TYPES[name].__struct_fields__ if field not in ENVELOPE]
    rows = first_cells(text)
    assert sorted(word(row[0]) for row in rows) == sorted(fields)
    assert all(len(row[1]) > 3 for row in rows)
    assert re.search(r"^\w.*\.$", text, flags=re.MULTILINE)
    assert "**When:** " in text
    assert ("**Ephemeral.**" in text, "**Durable.**" in text) == (
        EVENT_TYPES[name].ephemeral,
        not EVENT_TYPES[name].ephemeral,
    )


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_the_unit_of_a_duration_or_time_is_named(name: str) -> None:
    """Seconds for what ends in `_s`, microseconds for what ends in `_at`."""
    units = {"_s": "seconds", "_at": "microseconds"}
    for row in first_cells(sections("EVENTS.md")[name]):
        for ending, unit in units.items():
            if word(row[0]).endswith(ending):
                assert unit in row[1], row


def test_exactly_the_metrics_of_the_catalogue_are_documented() -> None:
    """In the table and with a section each."""
    page = (DOCS / "METRICS.md").read_text(encoding="utf-8")
    names = [spec.name for spec in METRICS]
    assert list(sections("METRICS.md")) == names
    assert [word(row[0]) for row in first_cells(page)] == names


@pytest.mark.parametrize("spec", METRICS, ids=lambda spec: spec.name)
def test_a_metric_is_described_as_it_is(spec: MetricSpec) -> None:
    """With type, labels, source, buckets, its meaning and a query that uses it."""
    page = (DOCS / "METRICS.md").read_text(encoding="utf-8")
    (row,) = (row for row in first_cells(page) if word(row[0]) == spec.name)
    text = sections("METRICS.md")[spec.name]
    assert (row[1], row[3]) == (spec.kind, spec.source)
    assert re.findall(r"`(\w+)`", row[2]) == list(spec.labels)
    assert spec.help in text
    buckets = re.search(r"\*\*Buckets:\*\* (.*) seconds", text)
    bounds = [float(bound) for bound in buckets[1].split(", ")] if buckets else []
    assert bounds == list(spec.buckets)
    assert spec.name in text.split("```promql")[1]


def test_exactly_the_codes_of_the_errors_are_documented() -> None:
    """In the table and with a section each; no two classes share a code."""
    page = (DOCS / "ERRORS.md").read_text(encoding="utf-8").partition("## Codes of special cases")[0]
    codes = [error.default_code for error in ERRORS]
    assert len(codes) == len(set(codes))
    assert list(sections("ERRORS.md")) == codes
    assert [word(row[0]) for row in first_cells(page)] == codes


def special_codes() -> dict[str, set[str]]:
    """Return the codes that are written where an error is made, beside those of the classes, with these classes."""
    found: dict[str, set[str]] = {}
    for path in Path(errors.__file__).parent.rglob("*.py"):
        if {"simulation", "testing"} & set(path.parts):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            given = {word.arg: word.value for word in node.keywords} if isinstance(node, ast.Call) else {}
            code = given.get("code")
            if hasattr(errors, name) and isinstance(code, ast.Constant):
                found.setdefault(code.value, set()).add(name)
    return {code: names for code, names in found.items() if errors.class_of_code(code) is None}


def test_exactly_the_codes_of_special_cases_are_documented() -> None:
    """With the classes that carry them, when, and what to try."""
    page = (DOCS / "ERRORS.md").read_text(encoding="utf-8").partition("## Codes of special cases")[2]
    rows = first_cells(page)
    assert {word(row[0]): set(re.findall(r"`(\w+Error)`", row[1])) for row in rows} == special_codes()
    assert all(len(cell) > 5 for row in rows for cell in row[2:])


def test_exactly_the_exit_codes_are_documented() -> None:
    """With the meanings that the program gives them."""
    page = (DOCS / "ERRORS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", page, flags=re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == dict(exits.MEANINGS)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.default_code)
def test_an_error_is_described_as_it_is(error: type[FraisierError]) -> None:
    """With class, whether it is recoverable, an exit code that exists, when it is raised, and its hint."""
    page = (DOCS / "ERRORS.md").read_text(encoding="utf-8")
    (row,) = (row for row in first_cells(page) if word(row[0]) == error.default_code)
    text = sections("ERRORS.md")[error.default_code]
    documented = set(re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE))
    assert word(row[1]) == error.__name__
    assert row[2] == ("yes" if error.default_recoverable else "no")
    assert set(re.findall(r"\d+", row[3])) <= documented
    assert str(exits.of_code(error.default_code)) in re.findall(r"\d+", row[3])
    assert "Raised when" in text
    assert error.default_hint.lower() in text.lower()
