"""Events in the real journal of systemd."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fraisier.audit.forward import JournaldSink
from fraisier.events import Record
from fraisier.events import types as ev
from tests.lab.kit import Host

pytestmark = pytest.mark.lab
SOCKET = "run/systemd/journal/socket"


async def test_journald_keeps_events_with_their_fields(host: Host) -> None:
    """Found by deployment, with the event whole; also one that is too long for a datagram."""
    sink = JournaldSink(str(Path(f"/proc/{host.leader}/root") / SOCKET))
    place = {"deployment_id": "d-journald", "fraise": "api", "environment": "production"}
    long = "first line\n" + "x" * 500_000
    try:
        await sink.send(
            Record(7, "id-7", 1_700_000_000_000_000, ev.StepFailed(**place, target="web-1", step="stage"))
        )
        await sink.send(Record(8, "id-8", 1_700_000_000_000_001, ev.DeploymentFailed(**place, detail=long)))
    finally:
        sink.close()
    assert host.run("journalctl", "--sync").code == 0
    found = host.run(
        "journalctl", "-t", "fraisier", "-o", "json", "--all", "FRAISIER_DEPLOYMENT_ID=d-journald"
    )
    short, whole = (json.loads(line) for line in found.out.splitlines())
    assert (short["MESSAGE"], short["PRIORITY"]) == ("step.failed api production web-1 stage", "3")
    assert (short["FRAISIER_SEQ"], short["SYSLOG_FACILITY"], short["FRAISIER_TARGET"]) == ("7", "13", "web-1")
    assert json.loads(whole["FRAISIER_EVENT"])["data"]["detail"] == long
