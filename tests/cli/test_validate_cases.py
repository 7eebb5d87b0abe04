"""`fraisier validate` as a process, over every broken configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.config.broken_cases import case_files, expected

KEYS = {"file", "line", "column", "path", "code", "message", "suggestion"}


def _validate(file: Path, state: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fraisier", "-c", str(file), "validate", "--json"]
    environ = {**os.environ, "XDG_STATE_HOME": str(state), "HOME": str(state), "FRAISIER_STORE": ""}
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)


def test_each_broken_file_ends_with_exit_code_2_and_its_problems_as_json(tmp_path: Path) -> None:
    """Exit 2, one JSON document on stdout with every problem at its place, and no traceback."""
    files = case_files()
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = list(pool.map(lambda file: _validate(file, tmp_path), files))
    for file, result in zip(files, results, strict=True):
        assert result.returncode == 2, file.name
        assert "Traceback" not in result.stdout + result.stderr, file.name
        document = json.loads(result.stdout)
        assert document["ok"] is False
        assert all(set(problem) == KEYS for problem in document["problems"])
        found = [
            (problem["line"], problem["column"], problem["code"], problem["path"])
            for problem in document["problems"]
        ]
        assert sorted(found) == sorted(expected(file)), file.name


def test_a_missing_file_is_a_problem_like_any_other(tmp_path: Path) -> None:
    """A file that is named but not there is reported with exit 2."""
    result = _validate(tmp_path / "none.yaml", tmp_path)
    assert result.returncode == 2
    assert [problem["code"] for problem in json.loads(result.stdout)["problems"]] == ["file_missing"]
