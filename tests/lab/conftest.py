"""Fixtures of the lab: one host for the session, and projects on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab.kit import Host, booted, missing
from tests.lab.units import Site, UnitProject

Make = Callable[..., UnitProject]


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with systemd, from the first test that wants it until the end of the session."""
    lacks = missing()
    if lacks:
        pytest.skip(lacks)
    with booted(tmp_path_factory.mktemp("lab")) as found:
        yield found


@pytest.fixture
def project(host: Host, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Make projects on the host; their units are gone after the test."""
    made: list[UnitProject] = []

    def make(*, unit_text: str = "", name: str = "", settings: str = "", **options: Any) -> UnitProject:
        root = host.base / "projects" / f"{request.node.name[:40]}-{len(made)}"
        given = {"unit_text": unit_text, "settings": settings}
        site = Site(host, name or f"web-{abs(hash(root)) % 10**8}", **{k: v for k, v in given.items() if v})
        found = UnitProject(root, site, **options)
        made.append(found)
        return found

    yield make
    for one in made:
        one.end()
