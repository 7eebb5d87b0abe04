"""docs/DEPLOYMENT_PATTERNS.md: every configuration loads, every command runs as written, every exit code and state is so."""

from __future__ import annotations

import pytest

from tests.docs import staging
from tests.docs.pages import Section, sections
from tests.docs.staging import Stage, file_says, outcomes, served, serves
from tests.docs.yard import Yard, Yards

PAGE = "DEPLOYMENT_PATTERNS.md"
_EXAMPLE, *SECTIONS = sections(PAGE)


def no_place(yard: Yard) -> None:
    """Nothing was deployed yet, and the disk of the targets' directories takes nothing."""
    (yard.walk.directory / "servers").symlink_to("/proc")


def several(yard: Yard) -> None:
    """Two repositories, and nothing was deployed yet."""
    yard.repository("front")
    yard.commit("v1")


def migrating(yard: Yard) -> None:
    """v2 was being deployed; it was killed with its migration, which may be repeated."""
    yard.bring("v1")
    yard.commit("v2")
    slow = (
        "test -e ../../../../again || { touch ../../../../again; sleep 60; }; echo up >> ../../../../schema"
    )
    yard.use(yard.base, migrate={"command": slow, "resume": "rerun"})
    deploy = yard.begin("-q", "deploy", "api", "production", "-y")
    yard.until(lambda: yard.sleeps() != [])
    deploy.kill()
    deploy.wait(30)
    yard.end_job()


def stopped_standby(yard: Yard) -> None:
    """Neither place serves any more."""
    assert set(yard.answers().values()) == {"URLError"}
    assert yard.ask(yard.walk.ports["8201"]) == yard.ask(yard.walk.ports["8202"]) == "URLError"


def all_fraises(yard: Yard) -> None:
    """The three of the page are there."""
    answers = yard.answers()
    assert [answers[name].split(".")[0] for name in ("web-1", "web-2", "web-3")] == ["v1", "v1", "v1"]
    assert len(list(yard.walk.directory.glob("servers/report-batch-1/current/VERSION"))) == 1


STAGES = {
    "All at once": Stage(served(), serves("v2")),
    "Rolling": Stage(served(), serves("v2")),
    "With a pause between the waves": Stage(served(), serves("v2")),
    "Where some targets may fail": Stage(
        served("exit:web-3"),
        serves("v2", outcomes("succeeded", "failed"), targets=["web-1", "web-2", "web-4"]),
    ),
    "Back when it is not healthy": Stage(served("exit"), serves("v1")),
    "A port that answers": Stage(served(), serves("v2")),
    "A command that knows": Stage(served(), serves("v2")),
    "Several checks as one": Stage(served(), serves("v2")),
    "Versions that die later": Stage(served("dies"), serves("v1")),
    "Stay where it is": Stage(served("exit"), serves("v1", outcomes("succeeded", "aborted"))),
    "Database migrations": Stage(served(), serves("v2", file_says("schema", "up"))),
    "The way back": Stage(served("exit"), serves("v1", file_says("schema", "up", "down"))),
    "A migration that fails": Stage(served(), serves("v1", outcomes("failed"))),
    "When nobody knows whether it ran": Stage(migrating, serves("v2", file_says("schema", "up"))),
    "A second place": Stage(no_place, stopped_standby, fresh=True),
    "Hooks": Stage(served(), serves("v2", file_says("hooks.log", "backup of production", "succeeded"))),
    "Several fraises at once": Stage(several, all_fraises, fresh=True),
    "On a schedule": Stage(served(), serves("v2")),
    "Rehearse it": Stage(served(), serves("v1")),
    "Back to the version before": Stage(staging.two_versions, serves("v1")),
    "Back to a version that you name": Stage(staging.two_versions, serves("v1")),
    "Stop a deployment that runs": Stage(staging.under_way, serves("v1", outcomes("succeeded", "aborted"))),
    "Nobody deploys now": Stage(served(), serves("v2")),
    "Deploy over a dead one": Stage(staging.dead, serves("v3", outcomes("succeeded", "superseded"))),
    "Go on after one that needed attention": Stage(staging.in_doubt, serves("v3")),
    "Only one target": Stage(staging.two_versions, serves("v2")),
}


@pytest.mark.once
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.heading)
def test_a_pattern_works_as_it_is_written(yards: Yards, section: Section) -> None:
    """From the state that it is meant for, with the exit codes and messages that it names, to the state that it promises."""
    typed = staging.play(yards, section, STAGES[section.heading])
    assert [one.code for one in typed] == [command.code for command in section.commands]


def test_every_section_is_staged() -> None:
    assert [section.heading for section in SECTIONS] == list(STAGES)
