"""Draws docs/images/stats.svg: `fraisier stats` over an invented month. Run it from the root: `python docs/images/stats.py`.

Everything in it comes from one seed, so the picture changes only when `stats` does.
"""

from __future__ import annotations

import io
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from fraisier import figures
from fraisier.cli.run.panels import draw
from fraisier.events import Event, Record
from fraisier.events import types as ev
from fraisier.testing import MemoryJournal, SeededIds

PICTURE = Path(__file__).with_name("stats.svg")
COLUMNS = 110
DAYS = 30
DAY_US = 86_400_000_000
NOW_US = 1_782_820_800_000_000  # 2026-06-30 12:00 UTC
PLACES = (("shop", "production"), ("shop", "staging"), ("orders", "production"), ("mail", "production"))
ENDINGS = {"succeeded": 80, "unchanged": 8, "rolled_back": 8, "failed": 3, "aborted": 1}
BOUNDS = ((0.1, "0.1"), (0.5, "0.5"), (1.0, "1"), (2.0, "2"), (5.0, "5"), (10.0, "10"))


class Calendar:
    """A clock that stands where it is put."""

    at_us = 0

    def now_us(self) -> int:
        """Return the time it was put to."""
        return self.at_us


class Month:
    """An invented month, event by event."""

    def __init__(self) -> None:
        self.clock = Calendar()
        self.ids = SeededIds(11, self.clock)
        self.journal = MemoryJournal(clock=self.clock, ids=self.ids)
        self.random = random.Random(2)  # noqa: S311 - the same ones are the point

    async def tell(self, event: Event) -> None:
        """Append an event now."""
        await self.journal.append(event)

    async def live(self) -> MemoryJournal:
        """Fill the journal, and return it."""
        await self.journal.open(ignore)
        for day in range(DAYS):
            begin_us = NOW_US - (DAYS - day) * DAY_US
            busy = 1.2 if day % 7 in (5, 6) else 6.5
            moments = sorted(self.random.random() for _ in range(round(self.random.gauss(busy, busy / 3))))
            for moment in moments:
                self.clock.at_us = begin_us + int(moment * DAY_US * 0.9)
                await self.deploy(*self.random.choices(PLACES, (5, 9, 4, 2))[0])
        self.clock.at_us = NOW_US - 60_000_000
        await self.begin("orders", "production")
        return self.journal

    async def begin(self, fraise: str, environment: str) -> dict[str, str]:
        """Ask for a deployment and start it; return what its events are about."""
        about = {"deployment_id": self.ids.deployment(), "fraise": fraise, "environment": environment}
        await self.tell(ev.DeploymentRequested(**about, provider="local", fraise_type="api"))
        await self.tell(ev.DeploymentStarted(**about))
        return about

    async def deploy(self, fraise: str, environment: str) -> None:
        """Let a deployment happen."""
        about = await self.begin(fraise, environment)
        spent_s = self.random.lognormvariate(3.6, 0.7)
        self.clock.at_us += int(spent_s * 1e6)
        ending = self.random.choices(list(ENDINGS), list(ENDINGS.values()))[0]
        await self.probe(about, ending)
        if ending in ("rolled_back", "failed") or self.random.random() < 0.05:
            error = self.random.choices(
                ["HealthCheckError", "ProviderConnectionError", "DeploymentTimeoutError", "HookError"],
                (8, 4, 2, 1),
            )[0]
            await self.tell(ev.StepFailed(**about, step="verify", error_type=error))
        if ending == "rolled_back":
            await self.go_back(about)
        endings: dict[str, Any] = {"duration_s": spent_s}
        kinds = {
            "rolled_back": ev.DeploymentRolledBack,
            "failed": ev.DeploymentFailed,
            "aborted": ev.DeploymentAborted,
        }
        if ending in ("succeeded", "unchanged"):
            endings = {"duration_s": spent_s if ending == "succeeded" else 2.0, "outcome": ending}
        await self.tell(kinds.get(ending, ev.DeploymentSucceeded)(**about, **endings))

    async def go_back(self, about: dict[str, str]) -> None:
        """Let the linked rollback happen."""
        reason = self.random.choices(["health_check_failed", "deployment_timeout", "hook_failed"], (6, 2, 1))[
            0
        ]
        child = {**about, "deployment_id": self.ids.deployment()}
        parent = about["deployment_id"]
        await self.tell(
            ev.DeploymentRequested(**child, provider="local", kind="rollback", rollback_of=parent)
        )
        await self.tell(ev.RollbackStarted(**about, child_id=child["deployment_id"], whole=True))
        self.clock.at_us += 9_000_000
        await self.tell(ev.DeploymentSucceeded(**child, duration_s=9.0))
        await self.tell(ev.RollbackSucceeded(**about, reason=reason, duration_s=9.0))

    async def probe(self, about: dict[str, str], ending: str) -> None:
        """Let the targets be probed."""
        bad = ending == "rolled_back"
        kind = self.random.choices(["http", "composite", "tcp", "exec"], (10, 4, 3, 1))[0]
        times = [self.random.lognormvariate(-2.2, 0.9) for _ in range(self.random.randint(4, 12))]
        buckets: dict[str, int] = {}
        for spent_s in times:
            bound = next((text for bound, text in BOUNDS if spent_s <= bound), "+Inf")
            buckets[bound] = buckets.get(bound, 0) + 1
        failed = min(len(times), 3 if bad else self.random.choices((0, 1), (4, 1))[0])
        counts = {
            "pass": len(times) - failed,
            "fail": failed,
            "error": 1 if self.random.random() < 0.08 else 0,
        }
        told = {"check_type": kind, "counts": counts, "buckets": buckets, "probes_s": sum(times)}
        await self.tell((ev.HealthFailed if bad else ev.HealthPassed)(**about, **told, target="t1"))


def ignore(records: Sequence[Record]) -> None:
    """Tell nobody."""


async def invent() -> dict[str, Any]:
    """Return the figures of the invented month."""
    journal = await Month().live()
    return await figures.stats(journal, days=DAYS, now_us=NOW_US)


def render(found: dict[str, Any]) -> str:
    """Return the screen as an SVG that loads nothing from elsewhere."""
    console = Console(
        file=io.StringIO(),
        record=True,
        width=COLUMNS,
        height=60,
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(draw(found, COLUMNS))
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    form = form.replace("Fira Code", "DejaVu Sans Mono")
    return console.export_svg(title="fraisier stats", code_format=form, unique_id="stats") + "\n"


if __name__ == "__main__":
    PICTURE.write_text(render(anyio.run(invent)), encoding="utf-8")
