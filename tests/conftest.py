"""What holds for all tests: they see none of the person's own settings for Fraisier and git."""

from __future__ import annotations

import os
import signal

import pytest


def pytest_configure() -> None:
    """Let signals reach the processes that tests start, also where the tests themselves run as a shell's background job or
    under nohup: those ignore Ctrl-C and the end of a terminal, and so would all that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the variables that would steer Fraisier or git from outside."""
    for name in list(os.environ):
        if name.startswith("FRAISIER_") or name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
            monkeypatch.delenv(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start whole processes take long and say the same on every Python: one Python is enough for them."""
    for item in items:
        folder = item.path.parent.name
        if folder in ("acceptance", "lab") or (
            folder == "cli" and item.path.name not in ("test_basics.py", "test_lines.py")
        ):
            item.add_marker(pytest.mark.once)
