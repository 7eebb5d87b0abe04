"""Ten deployments through the command line, each found again in every sink: the exit code, the JSON result, `history` and
`show`, the audit trail, the log, `stats`, and `fraisier metrics` as a real Prometheus scrapes it."""

from __future__ import annotations

import getpass
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.kit import run_all
from tests.lab.monitoring import TOOLS, Prometheus, exporter, lacking, prometheus
from tests.lab.ten import LOCK_WAIT_S, SECRET, TEN, Row
from tests.lab.ten_site import Site
from tests.lab.ten_told import Done, check_events, check_log, check_result, missing, words_of

pytestmark = [
    pytest.mark.lab,
    pytest.mark.once,
    pytest.mark.skipif(bool(lacking(TOOLS)), reason=lacking(TOOLS)),
]
ME = {"user": getpass.getuser(), "host": socket.gethostname(), "trigger": "cli"}
COUNTED = (
    "deployments_total|fraise_deployments_total|deployment_errors_total|deployment_failures_total|rollbacks_total"
    "|step_retries_total|recovery_decisions_total|recoveries_total|circuit_transitions_total|dead_letters_total"
    "|deployment_duration_seconds_count|rollback_duration_seconds_count|hook_duration_seconds_count"
    "|step_duration_seconds_count"
)
WITHIN_S = 20.0


@dataclass
class Ten:
    """All of them, with the Prometheus that looked on."""

    site: Site
    server: Prometheus
    done: list[Done]

    def of(self, fraise: str) -> list[Done]:
        return [one for one in self.done if one.row.fraise == fraise]


@pytest.fixture
def ten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ten]:
    """Prometheus looks on from before the first one; the counters are compared after each."""
    monkeypatch.setenv("TOKEN", SECRET)
    site = Site(tmp_path / "site")
    argv = site.project.argv()
    try:
        with (
            exporter(argv, tmp_path / "exporter") as target,
            prometheus(tmp_path / "prometheus", target, interval="300ms") as server,
        ):
            server.until("fraisier_build_info")
            yield Ten(site, server, [])
    finally:
        site.end()


@pytest.mark.timeout(240)
def test_each_of_ten_deployments_is_found_in_every_sink(ten: Ten) -> None:
    for row in TEN:
        before = series(ten.server)
        run = ten.site.carry_out(row)
        assert run.code == row.code, (row.name, run.out[-3000:], run.err[-1000:])
        ten.done.append(Done(row, run))
        check_growth(ten.server, row, before)
        if row.name == "locked":
            check_the_waiting(ten.server)
    assert ten.site.project.answers() == {"t1": "v1", "t2": "v1"}
    for one in ten.done:
        check_result(one)
        check_events(one)
        check_log(one)
    check_history(ten)
    check_shown(ten)
    trail = check_trail(ten)
    check_totals(ten, trail)
    check_secret(ten)


# Prometheus


def series(server: Prometheus) -> dict[str, float]:
    """The counters that are not 0: without what all share, and without the steps that went well."""
    found = {}
    for labels, value in server.query(f'{{__name__=~"fraisier_({COUNTED})"}} > 0'):
        name = labels["__name__"].removeprefix("fraisier_").removesuffix("_total")
        assert labels.get("provider", "local") == "local", labels
        shared = {"__name__", "provider", "instance", "job"}
        rest = ",".join(f"{key}={labels[key]}" for key in sorted(labels.keys() - shared))
        if not (name == "step_duration_seconds_count" and labels["status"] == "success"):
            found[f"{name}{{{rest}}}"] = value
    return found


def check_growth(server: Prometheus, row: Row, before: dict[str, float]) -> None:
    """What the deployment adds is all that it adds."""
    wanted = {name: float(number) for name, number in row.growth().items()}
    deadline = time.monotonic() + WITHIN_S
    while True:
        now = series(server)
        grown = {name: value - before.get(name, 0) for name, value in now.items()}
        moved = {name: value for name, value in grown.items() if value}
        if moved == wanted or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert moved == wanted, row.name


def check_the_waiting(server: Prometheus) -> None:
    """While one deployment waits between its waves, and another one gave up waiting for it."""
    assert server.value("sum(fraisier_active_deployments)") == 1
    assert server.value('fraisier_lease_held{fraise="held",environment="staging"}') == 1
    assert server.value('fraisier_unfinished_deployments{fraise="held",state="running"}') == 1
    waited = server.query("fraisier_deployment_lock_wait_seconds > 0")
    assert [(labels["service"], labels["provider"], value) for labels, value in waited] == [
        ("held", "local", LOCK_WAIT_S)
    ]


# what the store tells later


def check_history(ten: Ten) -> None:
    """Each is a row; the rollbacks that belong to one are rows of their own, linked to it."""
    rows = {row["deployment_id"]: row for row in document(ten, "history", "--limit", "100")["deployments"]}
    for one in ten.done:
        row = rows.pop(one.id)
        for key in ("fraise", "environment", "version", "previous_version", "provider", "duration_s"):
            assert row[key] == one.run.result[key], (one.row.name, key)
        told = (row["kind"], row["outcome"], row["reason"], row["fallback"], row["rollback_of"])
        assert told == ("deploy", one.row.outcome, one.row.reason, one.row.fallback, None)
        assert (row["trigger"], row["actor"]) == ("cli", f"{ME['user']}@{ME['host']}")
    linked = {row["rollback_of"]: (row["kind"], row["outcome"], row["trigger"]) for row in rows.values()}
    assert linked == {one.id: ("rollback", "succeeded", "recovery") for one in ten.done if one.row.back_for}
    for outcome in ("rolled_back", "locked", "aborted"):
        found = document(ten, "history", "--status", outcome)["deployments"]
        assert [row["deployment_id"] for row in found] == [
            one.id for one in ten.done if one.row.outcome == outcome
        ]


def check_shown(ten: Ten) -> None:
    commands = [ten.site.project.argv("show", one.id, "--json") for one in ten.done]
    for one, run in zip(ten.done, run_all(commands, 60), strict=True):
        row, shown = one.row, run.document
        assert (run.code, shown["outcome"], shown["reason"]) == (0, row.outcome, row.reason)
        assert shown["detail"] == one.run.result["detail"]
        assert bool(shown["child_id"]) == bool(row.back_for)
        assert {target["name"]: target["outcome"] for target in shown["targets"]} == row.outcomes
        steps = {
            f"{target['name']} {step['step']} {step['status']} {step['attempt']}"
            for target in shown["targets"]
            for step in target["steps"]
        }
        assert set(row.steps) <= steps, (row.name, steps)
        assert any(step["error"] for target in shown["targets"] for step in target["steps"]) == any(
            step.split()[2] in ("failed", "unknown") for step in row.steps
        )


def check_trail(ten: Ten) -> list[dict[str, Any]]:
    """The facts are there, under the person who asked, and found by every filter; return the whole trail."""
    rows: list[dict[str, Any]] = document(ten, "audit", "list", "--limit", "10000")["events"]
    for one in ten.done:
        own = [row for row in rows if row["deployment_id"] == one.id]
        assert missing(one.row.facts, [words_of(row, row["data"]) for row in own], levels=False) == []
        assert all(row["actor"] == ME for row in own)
    last = ten.of("web")[-1]
    begun = next(row["time"] for row in rows if row["deployment_id"] == last.id)
    filters: dict[str, tuple[tuple[str, ...], set[str]]] = {
        "fraise": (("--fraise", "held"), {one.id for one in ten.of("held")}),
        "environment": (("--environment", "production"), {one.id for one in ten.of("web")}),
        "type": (("--type", "hook.*"), {one.id for one in ten.of("hooked")}),
        "actor": (("--actor", f"{ME['user']}@{ME['host']}"), {one.id for one in ten.done}),
        "nobody": (("--actor", "nobody-else"), set()),
        "since": (("--fraise", "web", "--since", begun), {last.id}),
        "until": (("--until", begun), {one.id for one in ten.of("web")[:-1]}),
    }
    argvs = [
        ten.site.project.argv("audit", "list", *words, "--limit", "10000", "--json")
        for words, _ in filters.values()
    ]
    ours = {one.id for one in ten.done}
    for (name, (_, wanted)), run in zip(filters.items(), run_all(argvs, 60), strict=True):
        found = {row["deployment_id"] for row in run.document["events"]} & ours
        assert found == wanted, name
    for one in (ten.done[0], ten.done[-1]):
        verified = ten.site.project.run("audit", "verify", "--head", one.run.result["audit_head"], "--json")
        assert (verified.code, verified.document["ok"], verified.document["rows"]) == (0, True, len(rows))
    return rows


# all of them together


def check_totals(ten: Ten, trail: list[dict[str, Any]]) -> None:
    """Prometheus, `stats` and the trail agree; a linked rollback is a rollback and no deployment."""
    ask, told = ten.server, document(ten, "stats")
    ask.until("fraisier_journal_events_total", lambda found: found[0][1] >= len(trail))
    rows = [row for row in TEN if row.back_for]
    assert ask.value("sum(fraisier_deployments_total)") == told["deployments"] == len(TEN)
    assert ask.value("sum(fraisier_rollbacks_total)") == told["rollbacks"] == len(rows) == 3
    assert by(ask, "fraisier_rollbacks_total", "reason") == told["rollbacks_by_reason"]
    assert by(ask, "fraisier_deployment_errors_total", "error_type") == told["errors"]
    by_status = by(ask, "fraisier_deployments_total", "status")
    by_status["succeeded"] = by_status.pop("success")
    assert by_status == told["outcomes"] == Counter(row.outcome for row in TEN)
    spent: Counter[str] = Counter()
    for one in ten.done:
        spent[one.row.status] += one.run.result["duration_s"]
    assert by(ask, "fraisier_deployment_duration_seconds_sum", "status") == pytest.approx(
        dict(spent), abs=0.01
    )

    probes: Counter[str] = Counter()
    for row in trail:
        if row["type"] in ("health.passed", "health.failed"):
            probes.update({(row["data"]["check_type"], key): n for key, n in row["data"]["counts"].items()})
    counted = ask.query("sum by (check_type, status) (fraisier_health_checks_total) > 0")
    assert {(labels["check_type"], labels["status"]): value for labels, value in counted} == probes
    kinds = {kind: sum(n for (one, _), n in probes.items() if one == kind) for kind, _ in probes}
    assert by(ask, "fraisier_health_check_duration_seconds_count", "check_type") == kinds
    stated = {row["check_type"]: row["pass"] + row["fail"] + row["error"] for row in told["health_checks"]}
    assert stated == kinds
    went_well = sum(1 for row in trail if row["type"] == "step.succeeded")
    assert ask.value('sum(fraisier_step_duration_seconds_count{status="success"})') == went_well

    assert told["active"] == ask.value("sum(fraisier_active_deployments)") == 0
    assert by(ask, "fraisier_unfinished_deployments", "state") == {}
    assert by(ask, "fraisier_targets", "fraise") == {"web": 2, "flaky": 1, "blocked": 1}
    assert by(ask, "fraisier_targets", "health") == {"healthy": 4}


def by(server: Prometheus, name: str, label: str) -> dict[str, float]:
    """The sums of a metric by a label that are not 0."""
    return {labels[label]: value for labels, value in server.query(f"sum by ({label}) ({name}) > 0")}


def check_secret(ten: Ten) -> None:
    """What the hook and the build printed is masked wherever it was told, and the store has never seen it."""
    shown = [one.run.out + one.run.err for one in ten.done]
    shown.append(str(ten.server.query('{__name__=~"fraisier_.+"}')))
    state = ten.site.root / "state"
    kept = [path.read_bytes() for path in state.rglob("*") if path.is_file()]
    assert len(kept) > 1
    assert not [text for text in shown if SECRET in text]
    assert not [data for data in kept if SECRET.encode() in data]
    for fraise in ("hooked", "broken"):
        (one,) = ten.of(fraise)
        assert "for ***" in one.run.out
        assert "for ***" in one.run.err


def document(ten: Ten, *words: str) -> dict[str, Any]:
    run = ten.site.project.run(*words, "--json")
    assert (run.code, run.err) == (0, "")
    return run.document
