"""However a file is damaged, it gives problems and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraisier.config.loader import load_config, validate_file
from fraisier.config.problems import Problem
from fraisier.errors import ConfigurationError
from tests.config.test_good_files import FULL

TOKENS = [
    *(
        "{",
        "}",
        "[",
        "]",
        ":",
        "\n",
        "  ",
        "\t",
        "- ",
        "&a",
        "*a",
        "<<: ",
        "? ",
        "|\n",
        "'",
        '"',
        "{{ ",
        " }}",
        "${",
    ),
    *(
        "!!int ",
        "!x ",
        "null",
        "yes",
        "1",
        "-1",
        "0%",
        "%",
        "#",
        "---\n",
        "\x00",
        "é",
        "{}",
        "[]",
        "x-y: ",
        "{a: 1}: 2",
    ),
]
EDITS = st.lists(
    st.tuples(
        st.integers(min_value=0, max_value=len(FULL)),
        st.integers(min_value=0, max_value=25),
        st.sampled_from(["", *TOKENS]),
    ),
    min_size=1,
    max_size=4,
)
BOUNDED = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def check_outcome(file: Path) -> None:
    problems = validate_file(file, environ={})
    assert all(
        isinstance(problem, Problem) and problem.line >= 1 and problem.column >= 1 for problem in problems
    )
    try:
        config = load_config(file, environ={})
    except ConfigurationError as error:
        assert error.context["problems"]
    else:
        assert isinstance(config.fraises, dict)


@given(EDITS)
@BOUNDED
def test_an_edited_file_gives_a_configuration_or_problems(
    tmp_path: Path, edits: list[tuple[int, int, str]]
) -> None:
    """Cutting and inserting anywhere never ends in another exception."""
    text = FULL
    for at, cut, token in edits:
        text = text[:at] + token + text[at + cut :]
    file = tmp_path / "fuzzed.yaml"
    file.write_text(text, encoding="utf-8")
    check_outcome(file)


@given(st.binary(max_size=60))
@BOUNDED
def test_any_bytes_give_problems(tmp_path: Path, raw: bytes) -> None:
    """A file of anything is no configuration, and says so."""
    file = tmp_path / "fuzzed.yaml"
    file.write_bytes(raw)
    check_outcome(file)


LEAVES = st.sampled_from(
    [None, True, 1, -1, 2.5, "", "x", "{{ x }}", "${X}", "local", "1%", "api", "production", "5s"]
)
WORDS = st.sampled_from(
    [
        *(
            "fraises",
            "defaults",
            "api",
            "environments",
            "production",
            "targets",
            "name",
            "source",
            "git",
            "git_repo",
        ),
        *(
            "path",
            "app_path",
            "service",
            "process",
            "start",
            "health_check",
            "type",
            "checks",
            "rollout",
            "batch",
        ),
        *("recovery", "retry", "env", "depends_on", "vars", "lease", "ttl", "migrate", "command", "x-a"),
    ]
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=25,
)


@given(st.dictionaries(WORDS, TREES, max_size=5), st.dictionaries(WORDS, TREES, max_size=6))
@BOUNDED
def test_any_shape_of_known_words_gives_problems(
    tmp_path: Path, top: dict[str, object], environment: dict[str, object]
) -> None:
    """Values of every type at every key are read or refused."""
    top["fraises"] = {"api": {"environments": {"production": environment}}, "etl": top.get("api")}
    file = tmp_path / "fuzzed.yaml"
    file.write_text(json.dumps(top), encoding="utf-8")
    check_outcome(file)
