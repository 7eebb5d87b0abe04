"""Every broken configuration is reported completely and at the right places."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraisier.config.loader import load_config, validate_file
from fraisier.errors import ConfigurationError
from tests.config.broken_cases import case_files, expected

SECRETS_ONLY = {"unset-secret.yaml", "unset-in-command.yaml", "missing-secret-file.yaml"}


@pytest.mark.parametrize("file", case_files(), ids=lambda file: file.stem)
def test_each_problem_has_its_place_code_and_key_path(file: Path) -> None:
    """A broken file gives exactly the expected problems, with a message each."""
    problems = validate_file(file, environ={})
    found = [(problem.line, problem.column, problem.code, problem.path) for problem in problems]
    assert sorted(found) == sorted(expected(file))
    assert all(problem.message and problem.file == str(file) for problem in problems)


@pytest.mark.parametrize("file", case_files(), ids=lambda file: file.stem)
def test_loading_a_broken_file_raises_with_all_its_problems(file: Path) -> None:
    """What `validate_file` finds is in the context of the error, but for secrets, which need not be there yet."""
    if file.name in SECRETS_ONLY:
        assert load_config(file, environ={}).fraises
        return
    with pytest.raises(ConfigurationError) as caught:
        load_config(file, environ={})
    assert caught.value.context["problems"] == [
        problem.to_dict() for problem in validate_file(file, environ={})
    ]
    assert str(file) in caught.value.message


def test_there_are_enough_cases_of_every_category() -> None:
    """The cases cover every way in which a file can be wrong."""
    codes = {code for file in case_files() for _, _, code, _ in expected(file)}
    assert len(case_files()) >= 100
    assert codes >= {
        "unknown_key", "wrong_type", "bad_choice", "bad_duration", "bad_percentage", "bad_template", "duplicate_key",
        "duplicate_target", "yaml_syntax", "tab", "encoding", "empty", "top_level", "unset_variable", "missing_secret",
        "conflict", "dependency_circle", "several_documents", "too_large", "too_deep",
    }  # fmt: skip
