"""Reading the trail: pages in, matching events out, so that a journal of any length fits into memory."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import AsyncIterator
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from fraisier.events import TYPE_OF, Record, to_public
from fraisier.journal.base import Journal

_PAGE = 512
_ACTORS_REMEMBERED = 1024
_COLUMNS = (
    "seq",
    "time",
    "type",
    "deployment_id",
    "fraise",
    "environment",
    "target",
    "step",
    "attempt",
    "id",
    "data",
)

ExportFormat = Literal["jsonl", "csv"]


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are wanted; what is empty or 0 matches all.

    Times are microseconds since the epoch, `since_us` included and `until_us` excluded. `type` is an event
    type with `*`. `actor` is the user who asked for the deployment, or for the event itself.
    """

    since_us: int = 0
    until_us: int = 0
    fraise: str = ""
    environment: str = ""
    target: str = ""
    deployment_id: str = ""
    type: str = ""
    actor: str = ""


async def list_events(
    journal: Journal, where: EventFilter | None = None, *, after: int = 0
) -> AsyncIterator[Record]:
    """Yield the matching events with a seq above `after`, oldest first."""
    wanted = where or EventFilter()
    actors = _Actors(journal)
    while page := await journal.read(after, deployment_id=wanted.deployment_id, limit=_PAGE):
        for record in page:
            if _matches(record, wanted) and (not wanted.actor or await actors.of(record) == wanted.actor):
                yield record
        after = page[-1].seq


async def newest_events(
    journal: Journal, where: EventFilter | None = None, *, limit: int = 100
) -> list[Record]:
    """Return the last `limit` matching events, oldest first."""
    kept: deque[Record] = deque(maxlen=limit)
    async for record in list_events(journal, where):
        kept.append(record)
    return list(kept)


async def export(
    journal: Journal, where: EventFilter | None = None, *, format: ExportFormat = "jsonl"
) -> AsyncIterator[str]:
    """Yield the matching events as lines without their ends: JSON Lines of the public form, or CSV with a
    header."""
    if format == "csv":
        yield ",".join(_COLUMNS)
    render = _csv_line if format == "csv" else _json_line
    async for record in list_events(journal, where):
        yield render(to_public(record))


def _matches(record: Record, wanted: EventFilter) -> bool:
    event = record.event
    return (
        record.at_us >= wanted.since_us
        and (not wanted.until_us or record.at_us < wanted.until_us)
        and wanted.fraise in ("", event.fraise)
        and wanted.environment in ("", event.environment)
        and wanted.target in ("", event.target)
        and wanted.deployment_id in ("", event.deployment_id)
        and (not wanted.type or fnmatchcase(TYPE_OF[event.__class__], wanted.type))
    )


class _Actors:
    """Who asked for what, remembered for a bounded number of deployments."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._users: dict[str, str] = {}

    async def of(self, record: Record) -> str:
        """Return the user behind an event, or an empty string."""
        own = getattr(record.event, "actor", None)
        deployment_id = record.event.deployment_id
        if own is not None and own.user:
            return str(own.user)
        if not deployment_id:
            return ""
        if deployment_id not in self._users:
            if len(self._users) >= _ACTORS_REMEMBERED:
                self._users.clear()
            found = await self._journal.deployment(deployment_id)
            self._users[deployment_id] = found.actor.user if found else ""
        return self._users[deployment_id]


def _json_line(public: dict[str, Any]) -> str:
    return msgspec.json.encode(public).decode()


def _csv_line(public: dict[str, Any]) -> str:
    row = ["" if public.get(column) is None else public[column] for column in _COLUMNS[:-1]]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([*row, _json_line(public["data"])])
    return line.getvalue()
