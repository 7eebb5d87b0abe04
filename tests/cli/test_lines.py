"""Lines for pipes: events in, lines out."""

from __future__ import annotations

import pytest

from fraisier.cli.lines import format_line, seconds, short
from fraisier.events import EVENT_TYPES, Actor, Event, Holder, Record
from fraisier.events import types as ev

AT_US = 1_700_000_047_123_456  # 2023-11-14 22:14:07 UTC
V1 = "1" * 40
V2 = "abcdef0123456789abcdef0123456789abcdef01"
OF = {"deployment_id": "d1", "fraise": "api", "environment": "production"}
ON = {**OF, "target": "web-1"}
STEP = {**ON, "step": "restart"}
ALICE = Actor(user="alice", host="laptop", trigger="cli")

CASES: list[tuple[Event, str]] = [
    (
        ev.DeploymentRequested(**OF, actor=ALICE),
        "api/production: deployment d1 requested by alice@laptop (cli)",
    ),
    (
        ev.DeploymentRequested(**OF, kind="rollback", rollback_of="d0", actor=Actor(trigger="schedule")),
        "api/production: rollback d1 of d0 requested by schedule",
    ),
    (
        ev.DeploymentPlanned(**OF, version=V2, previous_version=V1, strategy="all_at_once"),
        "api/production: planned 111111111111 -> abcdef012345, all at once",
    ),
    (ev.DeploymentPlanned(**OF, version="2024.1"), "api/production: planned 2024.1"),
    (ev.DeploymentQueued(**OF, holder="d0"), "api/production: waiting for the lock of d0"),
    (
        ev.DeploymentStarted(**OF, version=V2, targets=3),
        "api/production: deployment of abcdef012345 started on 3 targets",
    ),
    (
        ev.DeploymentStarted(**OF, version="v2", targets=1),
        "api/production: deployment of v2 started on 1 target",
    ),
    (
        ev.DeploymentPaused(**OF, reason="on_failure_hold", detail="web-1 failed"),
        "api/production: PAUSED: on failure hold; web-1 failed",
    ),
    (ev.PauseRequested(**OF, actor=ALICE), "api/production: pause asked for by alice@laptop (cli)"),
    (ev.AbortRequested(**OF, actor=ALICE), "api/production: abort asked for by alice@laptop (cli)"),
    (ev.PromoteRequested(**OF, actor=ALICE), "api/production: promotion asked for by alice@laptop (cli)"),
    (ev.ResumeRequested(**OF, actor=ALICE), "api/production: resumption asked for by alice@laptop (cli)"),
    (
        ev.DeploymentAcknowledged(**OF, action="promote", effect="refused", detail="it does not wait"),
        "api/production: promote refused: it does not wait",
    ),
    (
        ev.DeploymentResumed(**OF, actor=ALICE, detail="was interrupted"),
        "api/production: RESUMED by alice@laptop (cli): was interrupted",
    ),
    (
        ev.DeploymentPromoted(**OF, actor=ALICE, detail="ended a pause"),
        "api/production: PROMOTED by alice@laptop (cli): ended a pause",
    ),
    (
        ev.DeploymentAborted(**OF, reason="aborted", detail="by alice", duration_s=3),
        "api/production: ABORTED after 3.0s: aborted; by alice",
    ),
    (ev.DeploymentSucceeded(**OF, duration_s=75.2), "api/production: SUCCEEDED after 1m15s"),
    (ev.DeploymentSucceeded(**OF, outcome="unchanged"), "api/production: UNCHANGED: nothing to do"),
    (
        ev.DeploymentFailed(**OF, reason="prepare_failed", detail="no space\nleft", duration_s=3.04),
        "api/production: FAILED after 3.0s: prepare failed; no space left",
    ),
    (
        ev.DeploymentFailed(**OF, outcome="locked", reason="locked", detail="held by bob"),
        "api/production: LOCKED: locked; held by bob",
    ),
    (
        ev.DeploymentRolledBack(**OF, reason="health_check_failed", duration_s=12),
        "api/production: ROLLED BACK after 12s: health check failed",
    ),
    (
        ev.DeploymentNeedsAttention(**OF, reason="in_doubt", detail="migrate"),
        "api/production: NEEDS ATTENTION: in doubt; migrate",
    ),
    (
        ev.DeploymentInterrupted(**OF, reason="signal", duration_s=1),
        "api/production: INTERRUPTED after 1.0s: signal",
    ),
    (ev.DeploymentSuperseded(**OF, by="d2"), "api/production: SUPERSEDED by d2"),
    (
        ev.WaveStarted(**OF, wave=2, targets=("a", "b", "c", "d", "e", "f", "g")),
        "api/production wave 2: started on 7 targets: a, b, c, d, e and 2 more",
    ),
    (ev.WaveSucceeded(**OF, wave=1), "api/production wave 1: all healthy"),
    (ev.WaveSucceeded(**OF, wave=1, pause_s=60), "api/production wave 1: all healthy, pausing for 1m00s"),
    (
        ev.WaveFailed(**OF, wave=1, failed=("web-1",)),
        "api/production wave 1: FAILED on web-1; no further target is changed",
    ),
    (ev.TargetStarted(**ON, wave=1), "api/production web-1 wave 1: started"),
    (
        ev.TargetUpdated(**ON, version=V2, previous_version=V1, duration_s=4.26),
        "api/production web-1: updated, 111111111111 -> abcdef012345 in 4.3s",
    ),
    (ev.TargetUnchanged(**ON, version=V1), "api/production web-1: unchanged, already on 111111111111"),
    (
        ev.TargetFailed(**ON, step="verify", reason="deadline", detail="no answer"),
        "api/production web-1: FAILED at verify: deadline; no answer",
    ),
    (
        ev.TargetUnreachable(**ON, reason="host_key", detail="the key is unknown"),
        "api/production web-1: UNREACHABLE: host key; the key is unknown",
    ),
    (
        ev.TargetRolledBack(**ON, release="r1", version=V1),
        "api/production web-1: rolled back to 111111111111",
    ),
    (ev.TargetRolledBack(**ON), "api/production web-1: stopped: there is no release to go back to"),
    (
        ev.TargetInDoubt(**ON, step="migrate", detail="the link was lost"),
        "api/production web-1: IN DOUBT at migrate, a person must look: the link was lost",
    ),
    (ev.StepStarted(**STEP, attempt=1), "api/production web-1: restart ..."),
    (ev.StepStarted(**STEP, attempt=2), "api/production web-1: restart ... (try 2)"),
    (ev.StepSucceeded(**STEP, attempt=1, duration_s=0.42), "api/production web-1: restart done in 0.4s"),
    (
        ev.StepFailed(**STEP, attempt=3, duration_s=1.2, message="exit status 1"),
        "api/production web-1: restart failed after 1.2s (try 3): exit status 1",
    ),
    (
        ev.StepFailed(**STEP, attempt=1, known=False, message="the link was lost"),
        "api/production web-1: restart ended in doubt: the link was lost",
    ),
    (
        ev.HealthPassed(**ON, counts={"pass": 2, "fail": 3}, duration_s=5),
        "api/production web-1: healthy after 5.0s (2 of 5 probes passed)",
    ),
    (
        ev.HealthFailed(**ON, counts={"fail": 1}, duration_s=5, reason="exited", message="exit status 3"),
        "api/production web-1: NOT HEALTHY after 5.0s (0 of 1 probe passed): exited; exit status 3",
    ),
    (
        ev.RecoveryDecided(**STEP, action="retry", delay_s=1.5, reason="recoverable"),
        "api/production web-1: restart will be tried again in 1.5s: recoverable",
    ),
    (
        ev.RecoveryDecided(**OF, action="rollback"),
        "api/production: decided to roll back",
    ),
    (ev.RecoveryDecided(**OF, action="hold"), "api/production: decided to hold here"),
    (ev.RecoverySucceeded(**STEP, attempt=2), "api/production web-1: restart recovered (try 2)"),
    (
        ev.RecoveryFailed(**STEP, message="still down"),
        "api/production web-1: restart could not be recovered: still down",
    ),
    (
        ev.RollbackStarted(**OF, targets=("web-1",), reason="health_check_failed"),
        "api/production: rolling back web-1: health check failed",
    ),
    (ev.RollbackSucceeded(**OF, duration_s=3661), "api/production: rollback done in 1h01m"),
    (
        ev.RollbackFailed(**OF, failed=("web-2",), duration_s=9.99),
        "api/production: ROLLBACK FAILED after 10s on web-2",
    ),
    (ev.LeaseAcquired(**OF, epoch=4), "api/production: lock taken (epoch 4)"),
    (
        ev.LeaseAcquired(**OF, epoch=5, took_over="pid 7 is gone"),
        "api/production: lock taken (epoch 5), taken over: pid 7 is gone",
    ),
    (
        ev.LeaseWaiting(**OF, holder=Holder(owner="bob", host="ci", pid=7)),
        "api/production: waiting for the lock of bob on ci (pid 7)",
    ),
    (
        ev.LeaseRefused(**OF, waited_s=30),
        "api/production: gave up waiting for the lock of another process after 30s",
    ),
    (
        ev.LeaseAcquired(**OF, epoch=5, overrode="ann@desk: moving house"),
        "api/production: lock taken (epoch 5), OVERRIDING THE FREEZE of ann@desk: moving house",
    ),
    (
        ev.LeaseWaiting(**OF, detail="held by bob since noon"),
        "api/production: waiting: held by bob since noon",
    ),
    (
        ev.LeaseRefused(**OF, waited_s=30, detail="held by bob"),
        "api/production: gave up waiting after 30s: held by bob",
    ),
    (
        ev.LeaseReleased(**OF, broken_by="ann@desk", holder=Holder(owner="bob", host="ci", pid=7)),
        "api/production: LOCK BROKEN by ann@desk: it was held by bob on ci (pid 7)",
    ),
    (
        ev.LeaseFrozen(**OF, owner="ann@desk", message="moving\nhouse"),
        "api/production: frozen by ann@desk: moving house",
    ),
    (
        ev.LeaseThawed(**OF, owner="ann@desk", message="moving", actor=Actor("bob", "ci", "cli")),
        "api/production: freeze of ann@desk released by bob@ci (cli): moving",
    ),
    (
        ev.LeaseLost(**OF, detail="epoch 5 was seen"),
        "api/production: LOCK LOST to another process: epoch 5 was seen",
    ),
    (ev.ServiceRequested(**ON, action="stop"), "api/production web-1: stop ..."),
    (ev.ServiceSucceeded(**ON, action="stop", duration_s=1), "api/production web-1: stop done in 1.0s"),
    (ev.ServiceFailed(**ON, action="stop", message="no pid"), "api/production web-1: stop failed: no pid"),
    (
        ev.WebhookReceived(provider="github", event="push", branch="main"),
        "webhook from github: push for main",
    ),
    (
        ev.WebhookAccepted(**OF, provider="github"),
        "api/production: webhook from github accepted as deployment d1",
    ),
    (
        ev.ConfigChanged(path="fraises.yaml", changes=("fraises.api",), actor=ALICE),
        "configuration changed by alice@laptop (cli): fraises.yaml; fraises.api",
    ),
    (
        ev.ProviderUnavailable(provider="local", message="no git"),
        "provider local UNAVAILABLE: no git",
    ),
    (
        ev.SecurityReported(kind="host_key_changed", severity="high", detail="web-1"),
        "SECURITY (high): host key changed: web-1",
    ),
    (
        ev.PerformanceSlow(operation="journal commit", duration_s=2, threshold_s=0.5),
        "slow: journal commit took 2.0s, more than 0.5s",
    ),
    (ev.SystemNoted(kind="store_restored", detail="from a backup"), "store restored: from a backup"),
]

SILENT = {
    "health.requested",
    "health.sampled",
    "recovery.requested",
    "lease.renewed",
    "lease.released",
    "audit.checkpointed",
}


@pytest.mark.parametrize(
    ("event", "said"), CASES, ids=[f"{type(e).__name__}-{n}" for n, (e, _) in enumerate(CASES)]
)
def test_an_event_is_one_line_in_plain_words(event: Event, said: str) -> None:
    """Each line begins with the time in UTC and says where and what."""
    assert format_line(Record(1, "id", AT_US, event)) == f"22:14:07Z {said}"


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_every_event_type_has_a_line_or_is_meant_for_programs(name: str) -> None:
    """A new event type must be given words, or be put among the silent ones."""
    line = format_line(Record(1, "id", AT_US, EVENT_TYPES[name]()))
    assert (line is None) == (name in SILENT)


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("compiling", "web-1 | compiling"),
        ("", "web-1 | "),
        ("\tindented", "web-1 | \tindented"),
        ("\x1b[31mred\x1b[0m", "web-1 | red"),
        ("\x1b]0;title\x07done", "web-1 | done"),
        ("50%\r100%\n", "web-1 | 50%100%"),
        ("bell\x07", "web-1 | bell"),
        ("\x9b2Jcleared", "web-1 | 2Jcleared"),
    ],
)
def test_output_is_prefixed_with_its_target_and_cannot_steer_a_terminal(printed: str, shown: str) -> None:
    """What a step printed keeps its text and loses escapes and control characters."""
    assert format_line(Record(0, "id", AT_US, ev.StepOutput(**STEP, line=printed))) == shown


def test_a_message_of_many_lines_stays_on_one() -> None:
    """Nothing from outside can forge a line of its own."""
    line = format_line(
        Record(1, "id", AT_US, ev.StepFailed(**STEP, attempt=1, message="a\n12:00:00Z api: SUCCEEDED\x1b[2J"))
    )
    assert line == "22:14:07Z api/production web-1: restart failed: a 12:00:00Z api: SUCCEEDED"


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (0, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (3599.7, "1h00m"),
        (7260, "2h01m"),
    ],
)
def test_durations_read_like_spoken_ones(duration_s: float, text: str) -> None:
    """Rounding never shows sixty seconds or sixty minutes."""
    assert seconds(duration_s) == text


def test_events_of_other_days_can_show_their_date() -> None:
    """The line is the same after it."""
    record = Record(1, "id", AT_US, ev.SystemNoted(kind="started"))
    assert format_line(record, with_date=True) == "2023-11-14T22:14:07Z started"


def test_only_ids_are_shortened() -> None:
    """A name of a version stays whole, however long."""
    assert short("release-2024-01-15-hotfix-3") == "release-2024-01-15-hotfix-3"
    assert short("a" * 64) == "a" * 12
