"""The states that a reader's deployments are in before a section begins, and what must be so when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.docs.pages import Section
from tests.docs.walk import Typed
from tests.docs.yard import TARGETS, Yard, Yards

Act = Callable[[Yard], None]


@dataclass(frozen=True)
class Stage:
    """What is done before a section, and what is asked after it. `fresh`: nothing was deployed there before."""

    before: Act
    after: Act
    fresh: bool = False


def play(yards: Yards, section: Section, stage: Stage) -> list[Typed]:
    """Set the stage, follow the section, look at what came of it, and return what was typed."""
    with yards.lend(fresh=stage.fresh) as yard:
        stage.before(yard)
        yard.follow(section)
        stage.after(yard)
        return yard.typed


# Before ------------------------------------------------------------------------------------------------------


def served(mode: str = "ok") -> Act:
    """v1 serves everywhere, and v2, which behaves like this, is at the head of the branch."""

    def before(yard: Yard) -> None:
        yard.bring("v1")
        yard.commit("v2", mode)

    return before


def two_versions(yard: Yard) -> None:
    """v1 was deployed, then v2."""
    yard.bring("v1")
    yard.commit("v2")
    yard.bring("v2")


def with_backup(*acts: Act) -> Act:
    """v1 serves, there is a `backup.db`, v2 is at the head, and then something happens."""

    def before(yard: Yard) -> None:
        yard.bring("v1")
        yard.fraisier("db", "backup", "backup.db")
        yard.commit("v2")
        for act in acts:
            act(yard)

    return before


def events(yard: Yard, type: str, says: str = "") -> int:
    """How many events of a type there are, with this word in them."""
    sql = f"select count(*) from journal where type = '{type}' and cast(body as text) like '%{says}%'"
    return int(yard.query(sql)[0][0])


def under_way(yard: Yard) -> None:
    """v2 is being deployed at another terminal; one target has it, and the next wave waits."""
    yard.bring("v1")
    yard.commit("v2")
    yard.use(yard.base, rollout={"batch": [1, "100%"], "pause": "10m", "max_unavailable": "50%"})
    before = events(yard, "wave.succeeded")
    yard.begin("-q", "deploy", "api", "production", "-y")
    yard.until(lambda: events(yard, "wave.succeeded") > before)
    yard.use(yard.base)


def baking(yard: Yard) -> None:
    """v2 is being deployed at another terminal; one target has it, and must stay healthy for two seconds."""
    yard.bring("v1")
    yard.commit("v2")
    yard.use(
        yard.base,
        rollout={"batch": [1, "100%"], "min_healthy_time": "2s", "max_unavailable": "50%"},
    )
    before = events(yard, "step.started", '"bake"')
    yard.begin("-q", "deploy", "api", "production", "-y")
    yard.until(lambda: events(yard, "step.started", '"bake"') > before)
    yard.use(yard.base)


def dead(yard: Yard) -> None:
    """The process that deployed v2 was killed in the middle; v3 is at the head."""
    baking(yard)
    yard.background[-1].kill()
    yard.background[-1].wait(30)
    yard.commit("v3")


def in_doubt(yard: Yard) -> None:
    """The migration of v2 was ended at its timeout; v3 is at the head."""
    yard.bring("v1")
    yard.commit("v2")
    yard.use(yard.base, migrate={"command": "sleep 60", "timeout": "500ms"})
    yard.fraisier("-q", "deploy", "api", "production", "-y", code=4)
    yard.use(yard.base)
    yard.commit("v3")


# After -------------------------------------------------------------------------------------------------------


def serves(version: str, *more: Act, targets: Iterable[str] = TARGETS) -> Act:
    """These targets serve this version, every deployment has ended, and more is so."""

    def after(yard: Yard) -> None:
        answers = yard.answers()
        assert {name: answers[name] for name in targets} == dict.fromkeys(targets, yard.names[version])
        assert yard.open() == []
        for act in more:
            act(yard)

    return after


def file_says(name: str, *lines: str) -> Act:
    """A file in the directory of the configuration holds these lines."""

    def after(yard: Yard) -> None:
        assert (yard.walk.directory / name).read_text().splitlines() == list(lines)

    return after


def outcomes(*wanted: str) -> Act:
    """The newest deployments ended so, newest first."""

    def after(yard: Yard) -> None:
        rows = yard.query("select json_extract(body, '$.outcome') from deployments order by first_seq desc")
        assert [outcome for (outcome,) in rows][: len(wanted)] == list(wanted)

    return after
