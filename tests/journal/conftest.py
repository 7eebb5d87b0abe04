"""Every test of the port runs over both journals."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fraisier.events import Record
from tests.journal.world import make, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store goes; nothing is there yet."""
    return tmp_path / "state" / "fraisier.db"


@pytest.fixture
def seen() -> list[Record]:
    """What `on_commit` was given, in order."""
    return []


@pytest.fixture(params=["sqlite", "memory"])
async def journal(request: pytest.FixtureRequest, path: Path, seen: list[Record]) -> AsyncIterator[Any]:
    """An open journal of each kind."""
    async with opened(make(request.param, path), seen) as found:
        yield found
