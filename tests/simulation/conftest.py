"""Thousands of lives would fill the captured log with their warnings."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Let nothing be logged: a failure prints its own trace."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
