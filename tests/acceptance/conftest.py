"""Fixtures of the acceptance tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.kit import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Make projects; their processes are gone after the test."""
    made: list[Project] = []

    def make(**options: Any) -> Project:
        found = Project(tmp_path / f"p{len(made)}", **options)
        made.append(found)
        return found

    yield make
    for one in made:
        one.end()
