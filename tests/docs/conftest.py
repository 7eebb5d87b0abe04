"""Fixtures of the tests that follow the pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docs.pages import sections
from tests.docs.yard import Yards


@pytest.fixture(scope="session")
def yards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yards]:
    """Yards with the example of the pages; no process of theirs is left at the end."""
    made = Yards(lambda: tmp_path_factory.mktemp("yard"), sections("DEPLOYMENT_PATTERNS.md")[0].blocks[0])
    yield made
    made.end()
