"""Somebody who follows a page of the documentation in a directory of their own, on ports that are free here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import Command

ENDS_WITHIN_S = 100
_PORT = re.compile(r"\b8\d0\d\b")

# The newest deployment that somebody asked for, as a person reads it off `fraisier history`.
_ID = """
import sqlite3, sys
rows = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True).execute(
    "select id from deployments where json_extract(body, '$.rollback_of') is null "
    "or json_extract(body, '$.rollback_of') = '' order by first_seq desc")
print(rows.fetchone()[0])
"""


@dataclass(frozen=True)
class Typed:
    """What a line did."""

    command: Command
    code: int
    out: str
    err: str


class Walk:
    """A directory, a `fraisier` on the PATH, a store, and a person who types lines of a page into one shell."""

    def __init__(self, place: Path, ports: dict[str, int]) -> None:
        self.place = place
        self.ports = ports
        self.store = place / "state" / "fraisier.db"
        self._programs = place / "bin"
        self._programs.mkdir(parents=True)
        self._program("fraisier", '-m fraisier "$@"')
        self._program("python3", '-I -S "$@"')
        self.directory = place / "deploy"
        self.directory.mkdir()
        self.environ = {
            **os.environ,
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "HOME": str(place),
            "FRAISIER_STORE": f"sqlite:///{self.store}",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "A reader",
            "GIT_AUTHOR_EMAIL": "reader@localhost",
            "GIT_COMMITTER_NAME": "A reader",
            "GIT_COMMITTER_EMAIL": "reader@localhost",
        }

    def _program(self, name: str, arguments: str) -> None:
        path = self._programs / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}\n', encoding="utf-8")
        path.chmod(0o755)

    def here(self, text: str) -> str:
        """Return a text with the ports of the page replaced by those that are free here."""
        return _PORT.sub(lambda found: str(self.ports.get(found.group(), found.group())), text)

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """Type one line of the page."""
        return subprocess.run(
            ["sh", "-c", self.here(line)],
            cwd=self.directory,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN_S,
            stdin=subprocess.DEVNULL,
        )

    def type_in_one_shell(self, steps: Sequence[Command | Path]) -> list[Typed]:
        """Type lines one after the other into one shell, up to the first that does not end as it should. A file among
        them becomes the configuration at that point. `$ID` is the newest deployment by then."""
        made = self.place / "typed"
        made.mkdir()
        script = [f"cd '{self.directory}'"]
        lines = [step for step in steps if isinstance(step, Command)]
        number = 0
        for step in steps:
            if isinstance(step, Path):
                script.append(f"cp '{step}' fraises.yaml")
                continue
            if "$ID" in step.text:
                script.append(f"ID=$('{self._programs}/python3' '{made}/id.py' '{self.store}')")
            script += [
                "{",
                self.here(step.text),
                f"}} >'{made}/{number}.out' 2>'{made}/{number}.err' </dev/null",
                f"code=$?; echo $code >>'{made}/codes'; test $code -eq {step.code} || exit 0",
            ]
            number += 1
        (made / "codes").touch()
        (made / "id.py").write_text(_ID, encoding="utf-8")
        (made / "script.sh").write_text("\n".join(script) + "\n", encoding="utf-8")
        subprocess.run(
            ["sh", str(made / "script.sh")],
            env=self.environ,
            timeout=ENDS_WITHIN_S,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        codes = (made / "codes").read_text().split()
        return [
            Typed(
                command,
                int(code),
                (made / f"{at}.out").read_text(errors="replace"),
                (made / f"{at}.err").read_text(errors="replace"),
            )
            for at, (command, code) in enumerate(zip(lines, codes, strict=False))
        ]
