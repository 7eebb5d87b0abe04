"""A deployment whose provider fails goes through another place: through the command line, with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.kit import Project, Run, free_ports, outcomes

pytestmark = pytest.mark.once


class Standby(Project):
    """A project whose targets may also be served from a second set of directories and ports."""

    def __post_init__(self) -> None:
        self.spare = free_ports(self.count)
        targets = ", ".join(f"{{name: t{n}, vars: {{port: {port}}}}}" for n, port in enumerate(self.spare, 1))
        self.rollout = (
            "{strategy: all_at_once}\n"
            "        recovery:\n"
            "          retry: {max_attempts: 1}\n"
            f"          fallback: [{{name: standby, targets: [{targets}], "
            f'app_path: "{self.root}/standby/{{{{ target.name }}}}"}}]'
        )
        super().__post_init__()

    def write(self) -> None:
        super().write()
        path = self.root / "fraises.yaml"
        path.write_text(
            path.read_text().replace("        recovery: {retry: {max_attempts: 2, base_delay: 50ms}}\n", "")
        )

    def block(self) -> None:
        """Lead the targets' directories to where nothing can be made."""
        (self.root / "srv").symlink_to("/proc")

    def unblock(self) -> None:
        (self.root / "srv").unlink()

    def at_standby(self) -> list[str]:
        return [self.ask(port).split()[0] for port in self.spare]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Standby]:
    made = Standby(tmp_path, count=2)
    made.commit("v1")
    yield made
    made.end()


def facts(run: Run, prefix: str) -> list[dict[str, Any]]:
    return [line for line in run.lines if line["type"].startswith(prefix)]


def test_it_deploys_through_the_fallback_and_says_so_everywhere(project: Standby) -> None:
    project.block()
    run = project.deploy("v1")
    assert (run.code, run.result["outcome"]) == (0, "succeeded")
    assert (run.result["provider"], run.result["fallback"]) == ("local", "standby")
    assert {n: o for n, o in outcomes(run.result).items() if "~" in n} == {
        "t1~standby": "updated",
        "t2~standby": "updated",
    }
    assert project.at_standby() == ["v1", "v1"]
