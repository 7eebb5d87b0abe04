"""The ports that tests give their services."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
CHILD = (
    "import sys; from tests.ports import free_ports; print(*free_ports(150), flush=True); sys.stdin.read()"
)


def test_processes_that_run_at_the_same_time_get_different_ports() -> None:
    """What one was given, bound or not, no other gets while the first one runs."""
    given = set(free_ports(150))
    assert len(given) == 150
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            ports = {int(word) for word in child.stdout.readline().split()}
            assert len(ports) == 150 and not ports & given
            given |= ports
    finally:
        for child in children:
            child.communicate(timeout=30)
