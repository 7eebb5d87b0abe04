"""The lab leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lab.kit import booted, missing

pytestmark = [pytest.mark.lab, pytest.mark.once, pytest.mark.skipif(bool(missing()), reason=missing())]


def test_after_a_failure_no_process_mount_or_control_group_is_left(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), booted(tmp_path) as host:
        host.unit("idle.service", "[Service]\nExecStart=sleep 1000\n")
        host.check("systemctl", "start", "idle")
        assert all(group.is_dir() for group in host.groups) and host.groups
        raise ZeroDivisionError
    with pytest.raises(ProcessLookupError):
        os.kill(host.leader, 0)
    assert not any(group.exists() for group in host.groups)
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert os.listdir(tmp_path / "overlay") == []
