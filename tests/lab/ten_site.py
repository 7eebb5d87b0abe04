"""A project with a fraise for each kind of trouble, on which ten deployments are carried out."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from tests.acceptance.killing import Watched
from tests.acceptance.kit import Project, Run
from tests.lab.ten import LOCK_WAIT_S, TEN, Row
from tests.ports import free_ports

_LOGGED = ("-v", "-v", "--log-format", "json")

# Fails the first time, as on a disk that is full for a moment.
_TAR = """\
#!/bin/sh
[ -e "$0.ran" ] && exec {tar} "$@"
: >"$0.ran"
exit 1
"""


class Site:
    """A project with a fraise for each kind of trouble, and the ten deployments on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        check = "interval: 50ms, timeout: 2s, rise: 1, fall: 2, deadline: 3s"
        others = "".join(f"  {name}: {json.dumps(found)}\n" for name, found in self._fraises().items())
        self.project = Project(root, count=2, check=check, extra=others)
        (root / "job").mkdir()
        (root / "job" / "job.txt").write_text("work")
        (root / "nowhere").symlink_to("/proc")  # where nothing can be made
        (root / "bin").mkdir()
        (root / "bin" / "tar").write_text(_TAR.format(tar=shutil.which("tar")))
        (root / "bin" / "tar").chmod(0o755)
        self._holder: Watched | None = None

    def _fraises(self) -> dict[str, Any]:
        (port,) = free_ports(1)
        env = {"TOKEN": "${TOKEN}"}
        hook = {"name": "backup", "command": "echo no room for $TOKEN; exit 3"}
        standby = {"name": "standby", "app_path": f"{self.root}/standby"}
        never = {"type": "tcp", "port": port, "interval": "50ms", "deadline": "60s"}
        by_name: dict[str, dict[str, Any]] = {
            "flaky": {"recovery": {"retry": {"max_attempts": 2, "base_delay": "50ms"}}},
            "blocked": {"app_path": f"{self.root}/nowhere/blocked", "recovery": {"fallback": [standby]}},
            "hooked": {"env": env, "hooks": {"before_deploy": [hook]}},
            "broken": {"env": env, "build": ["echo no compiler for $TOKEN >&2; exit 4"]},
            "hanging": {"timeout": "5s", "service": {"process": "sleep 3600"}, "health_check": never},
            "held": {"targets": ["t1", "t2"], "rollout": {"batch": ["1", "100%"], "pause": "100s"}},
        }
        kinds = {row.fraise: row.kind for row in TEN}
        return {
            name: {"type": kinds[name], "environments": {"staging": {**self._place(name), **settings}}}
            for name, settings in by_name.items()
        }

    def _place(self, name: str) -> dict[str, Any]:
        app_path = f"{self.root}/srv/{name}/{{{{ target.name }}}}"
        return {
            "provider": "local",
            "targets": ["t1"],
            "source": {"path": f"{self.root}/job"},
            "app_path": app_path,
        }

    def carry_out(self, row: Row) -> Run:
        """Have the deployment of a row from its request to its end."""
        if row.name == "aborted":
            assert self._holder is not None
            asked = self.project.run("abort", self._holder.deployment_id, "--json")
            assert (asked.code, asked.document["effect"]) == (0, "done")
            return self._holder.end()
        if row.name == "locked":
            self._holder = Watched(self.project, *self._words(row))
            self._holder.wait_for("wave.succeeded")  # and now it waits for the second wave
            return self.project.run(*self._words(row), "--lock-wait", f"{LOCK_WAIT_S}")
        if row.name == "success":
            self.project.commit("v1")
        if row.name == "health failure with rollback":
            self.project.commit("v2", "sick")
        path = f"{self.root}/bin:{os.environ['PATH']}" if row.fraise == "flaky" else os.environ["PATH"]
        return self.project.run(*self._words(row), env={"PATH": path})

    def _words(self, row: Row) -> list[str]:
        version = {"health failure with rollback": "v2"}.get(row.name, "v1")
        return [*_LOGGED, "deploy", row.fraise, row.environment, "--version", version, "--json"]

    def end(self) -> None:
        """End what still runs."""
        if self._holder is not None:
            self._holder.kill()
        self.project.end()
