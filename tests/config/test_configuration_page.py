"""docs/CONFIGURATION.md describes exactly the keys and problems that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fraisier.config import hints, schema
from fraisier.config.durations import format_duration
from fraisier.config.loader import validate_file
from tests.config.broken_cases import case_files, expected

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "CONFIGURATION.md").read_text(encoding="utf-8")
SECTIONS: dict[type[schema.Settings], str] = {
    schema.Config: "",
    schema.StoreSettings: "store.",
    schema.LeaseSettings: "lease.",
    schema.AuditSettings: "audit.",
    schema.Forward: "audit.forward[].",
    schema.LoggingSettings: "logging.",
    schema.Fraise: "",
    schema.Environment: "",
    schema.Target: "targets[].",
    schema.Source: "source.",
    schema.Migrate: "migrate.",
    schema.Service: "service.",
    schema.HealthCheck: "health_check.",
    schema.Rollout: "rollout.",
    schema.Recovery: "recovery.",
    schema.Retry: "recovery.retry.",
    schema.Fallback: "recovery.fallback[].",
    schema.CircuitBreaker: "recovery.circuit_breaker.",
    schema.Hooks: "hooks.",
    schema.Hook: "hooks.….",
}
NOT_IN_THE_FILE = {(schema.Config, "path"), (schema.Fraise, "name"), (schema.Fallback, "settings")}
ROWS = {match[1]: match[0] for match in re.finditer(r"^\| `([^`]+)` \|.*$", PAGE, re.MULTILINE)}


def _keys() -> list[tuple[str, hints.Key]]:
    return [
        (f"{prefix}{word}", key)
        for cls, prefix in SECTIONS.items()
        for word, key in hints.keys_of(cls).items()
        if (cls, word) not in NOT_IN_THE_FILE
    ]


def test_every_class_of_the_schema_has_a_section() -> None:
    """No class is forgotten in this test."""
    assert set(schema.Settings.__subclasses__()) == set(SECTIONS)


@pytest.mark.parametrize(("word", "key"), _keys(), ids=lambda value: value if isinstance(value, str) else "")
def test_each_key_has_a_row_with_its_default(word: str, key: hints.Key) -> None:
    """A key is described, and a simple default is the one of the schema."""
    assert word in ROWS
    default = ROWS[word].split(" | ")[2]
    if key.required:
        assert "required" in default
    elif isinstance(key.default, bool):
        assert default == f"`{str(key.default).lower()}`"
    elif isinstance(key.default, (int, float)):
        shown = format_duration(key.default) if key.attribute.endswith("_s") else str(key.default)
        assert default == f"`{shown}`"
    elif isinstance(key.default, str) and key.default:
        assert default == f"`{key.default}`"


def test_no_row_describes_a_key_that_does_not_exist() -> None:
    """Every row of a table of keys is a key."""
    known = {word for word, _ in _keys()} | {"defaults", "git_repo"}
    others = re.compile(
        r"(fraise$|target\.|version|release_path|file_|yaml_|unknown_|wrong_|bad_|unset_|duplicate_)"
    )
    described = {word for word in ROWS if not others.match(word)}
    assert described - known == set()


def test_words_that_are_reserved_are_named() -> None:
    """What this version does not support is said."""
    assert [word for words in schema.RESERVED.values() for word in words if f"`{word}`" not in PAGE] == []


def test_every_code_of_a_problem_is_named() -> None:
    """A program finds each code of the broken files, and of refused values, in the table."""
    found = {code for file in case_files() for _, _, code, _ in expected(file)}
    for file in (ROOT / "fraisier" / "config").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        found |= set(re.findall(r"Refused\(\s*\"(\w+)\"", text))
    named = set(re.findall(r"`([a-z_0-9]+)`", PAGE.partition("## Problems")[2]))
    assert found - named == set()


def test_the_example_of_the_page_is_correct(tmp_path: Path) -> None:
    """The first example can be copied."""
    file = tmp_path / "fraises.yaml"
    file.write_text(PAGE.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    assert validate_file(file, environ={"API_TOKEN": "x"}) == []
