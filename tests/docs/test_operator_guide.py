"""docs/OPERATOR_GUIDE.md: every procedure mends the state that it is for, and every table names what there is."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs import staging
from tests.docs.pages import Section, sections, text_of
from tests.docs.staging import Stage, file_says, outcomes, served, serves, with_backup
from tests.docs.yard import Yard, Yards

PAGE = "OPERATOR_GUIDE.md"
SECTIONS = sections(PAGE)
RULES = Path(__file__).parents[2] / "monitoring" / "alert-rules.yml"


def someone_deploys(yard: Yard) -> None:
    """Somebody deploys v2, waits between two waves, and goes on when we wait for the lock."""
    staging.under_way(yard)
    before = staging.events(yard, "deployment.queued")
    first = yard.query("select id from deployments order by first_seq desc")[0][0]

    def go_on() -> None:
        yard.until(lambda: staging.events(yard, "deployment.queued") > before)
        yard.fraisier("promote", first)

    threading.Thread(target=go_on, daemon=True).start()


def hangs(yard: Yard) -> None:
    """The process that deploys v2 was stopped in the middle, and does not hold the store."""
    staging.baking(yard)
    process = yard.background[-1]
    while True:
        process.send_signal(signal.SIGSTOP)
        with closing(sqlite3.connect(yard.walk.store, timeout=0.2)) as store:
            try:
                store.execute("begin immediate")
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
                continue
            store.rollback()
            return


def wakes_up_and_ends(yard: Yard) -> None:
    """The process that was stopped finds its lock lost."""
    process = yard.background[-1]
    process.send_signal(signal.SIGCONT)
    assert process.wait(60) == 5


def one_is_sick(yard: Yard) -> None:
    """v1 serves, and the process of web-2 was killed."""
    yard.bring("v1")
    os.kill(int(yard.ask(yard.ports[1]).split()[-1]), signal.SIGKILL)
    yard.until(lambda: yard.answers()["web-2"] == "URLError")


def no_way_back(yard: Yard) -> None:
    """v1 serves, its release on web-1 is damaged on the disk, and v2 does not run."""
    served("exit")(yard)
    (yard.walk.directory / "servers" / "web-1" / "current" / "MODE").write_text("exit")


def tampered(yard: Yard) -> None:
    """Somebody changed a row of the journal past its guards."""
    with closing(sqlite3.connect(yard.walk.store)) as store:
        ((guard,),) = store.execute("select sql from sqlite_master where name = 'journal_update'")
        store.execute("drop trigger journal_update")
        store.execute("update journal set environment = 'staging' where seq = 2")
        store.execute(guard)
        store.commit()


def damaged(yard: Yard) -> None:
    """The file of the store is no database any more."""
    yard.walk.store.write_bytes(b"this is not what it was\n" * 4096)


STAGES: dict[str, Stage] = {
    "What to look at first": Stage(served(), serves("v1")),
    "Monitoring and alerting": Stage(served(), serves("v1"), fresh=True),
    "Logs, and a copy of every event": Stage(served(), serves("v2")),
    "A deployment passed a deadline": Stage(served(), serves("v2", outcomes("succeeded", "failed"))),
    "The repository or a target cannot be reached": Stage(
        served(), serves("v2", outcomes("succeeded", "failed"))
    ),
    "The lock is held": Stage(someone_deploys, serves("v2", outcomes("unchanged", "locked", "succeeded"))),
    "The holder of the lock hangs": Stage(hangs, serves("v2", wakes_up_and_ends, outcomes("succeeded"))),
    "The process of a deployment is gone": Stage(staging.dead, serves("v2", outcomes("succeeded"))),
    "The new version is not healthy": Stage(served("exit"), serves("v1", outcomes("succeeded"))),
    "A service is sick without a deployment": Stage(one_is_sick, serves("v1")),
    "A step is in doubt": Stage(
        served(), serves("v1", file_says("migrated", "begun"), outcomes("succeeded", "aborted"))
    ),
    "A rollback failed": Stage(no_way_back, serves("v1", outcomes("succeeded", "rolled_back"))),
    "A rollback failed, and the old release cannot be repaired": Stage(
        no_way_back, serves("v1", outcomes("succeeded"))
    ),
    "The audit trail does not verify": Stage(with_backup(tampered), serves("v2"), fresh=True),
    "The store cannot be opened": Stage(with_backup(damaged), serves("v2"), fresh=True),
    "A secret is missing": Stage(served(), serves("v2")),
    "Backup, check and restore": Stage(served(), serves("v2")),
    "Prune": Stage(staging.two_versions, serves("v2")),
    "Performance tuning": Stage(served(), serves("v2")),
    "Every day": Stage(served(), serves("v2")),
    "Every week": Stage(staging.two_versions, serves("v2")),
    "Every month": Stage(served(), serves("v1")),
    "Upgrading Fraisier": Stage(served(), serves("v1")),
}


@pytest.mark.once
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.heading)
def test_a_procedure_mends_what_it_is_for(yards: Yards, section: Section) -> None:
    """From the broken state, with the exit codes and messages that it names, to the state that it promises."""
    typed = staging.play(yards, section, STAGES[section.heading])
    assert [one.code for one in typed] == [command.code for command in section.commands]


def test_every_section_is_staged() -> None:
    assert [section.heading for section in SECTIONS] == list(STAGES)


def part(heading: str) -> str:
    """Return the text under a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text_of(PAGE), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_every_alert_has_its_row() -> None:
    """In the order of the rules, each with what is so and what to do."""
    rules = [
        rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", part("What each alert means"), re.MULTILINE)
    assert [name for name, _, _ in rows] == rules


def test_exactly_the_tables_of_the_store_are_described(yards: Yards) -> None:
    rows = re.findall(r"^\| (`.+`) \|", part("What is in it"), re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    with yards.lend(fresh=True) as yard:
        yard.fraisier("db", "upgrade")
        assert told == {name for (name,) in yard.query("select name from sqlite_master where type = 'table'")}


def test_what_is_said_of_tuning_is_in_the_file_beside_it() -> None:
    """Each key of the table stands in the configuration that was run."""
    (tuned,) = (section for section in SECTIONS if section.heading == "Performance tuning")
    settings: dict[str, Any] = yaml.safe_load(tuned.blocks[0].text)
    for row in re.findall(r"^\| [^|`]+ \| (`[^|]+) \|", part("Performance tuning"), re.MULTILINE):
        for key in re.findall(r"`([\w.]+)[`:]", row):
            found: Any = settings
            for word in key.split("."):
                assert word in found, key
                found = found[word]
