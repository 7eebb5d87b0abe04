"""Reading the trail: pages in, matching events out, so that a journal of any length fits into memory."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

import msgspec

from fraisier.events import EVENT_TYPES, TYPE_OF, Actor, Record, to_public
from fraisier.journal.base import Journal

_PAGE = 1024
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
    "actor",
    "data",
)

ExportFormat = Literal["jsonl", "csv"]


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are wanted; what is empty or 0 matches all.

    Times are microseconds since the epoch, `since_us` included and `until_us` excluded. `type` is an event
    type with `*`. `actor` is who asked for the deployment, or for the event itself: `user` or `user@host`.
    """

    since_us: int = 0
    until_us: int = 0
    fraise: str = ""
    environment: str = ""
    target: str = ""
    deployment_id: str = ""
    type: str = ""
    actor: str = ""


class Found(NamedTuple):
    """A matching event, with whoever asked for it or for its deployment (None where nobody did)."""

    record: Record
    actor: Actor | None

    def to_dict(self) -> dict[str, Any]:
        """Return the public form of the event, and `actor` (null without one)."""
        actor = None if self.actor is None else msgspec.structs.asdict(self.actor)
        return {**to_public(self.record), "actor": actor}


async def find_events(
    journal: Journal, where: EventFilter | None = None, *, after: int = 0
) -> AsyncIterator[Found]:
    """Yield the matching events with a seq above `after`, oldest first."""
    wanted = where or EventFilter()
    actors = _Actors(journal)
    while page := await _page(journal, wanted, after, None):
        for record in page:
            if (found := await _found(record, wanted, actors)) is not None:
                yield found
        after = page[-1].seq


async def list_events(
    journal: Journal, where: EventFilter | None = None, *, after: int = 0
) -> AsyncIterator[Record]:
    """Yield the matching records with a seq above `after`, oldest first."""
    async for found in find_events(journal, where, after=after):
        yield found.record


async def newest_events(
    journal: Journal, where: EventFilter | None = None, *, limit: int = 100
) -> list[Found]:
    """Return the last `limit` matching events, oldest first. Only as much of the log is read as they take."""
    wanted = where or EventFilter()
    actors = _Actors(journal)
    kept: list[Found] = []
    upto = journal.head
    while upto > 0 and len(kept) < limit:
        after = max(0, upto - _PAGE)
        for record in reversed(await _page(journal, wanted, after, upto)):
            found = await _found(record, wanted, actors)
            if found is not None and len(kept) < limit:
                kept.append(found)
        upto = after
    return kept[::-1]


async def export(
    journal: Journal, where: EventFilter | None = None, *, format: ExportFormat = "jsonl"
) -> AsyncIterator[str]:
    """Yield the matching events as lines without their ends: JSON Lines of the public form with `actor`, or CSV with a
    header."""
    if format == "csv":
        yield ",".join(_COLUMNS)
    render = _csv_line if format == "csv" else _json_line
    async for found in find_events(journal, where):
        yield render(found.to_dict())


async def _page(journal: Journal, wanted: EventFilter, after: int, upto: int | None) -> list[Record]:
    exact = (wanted.type,) if wanted.type in EVENT_TYPES else ()
    return await journal.read(after, upto, deployment_id=wanted.deployment_id, types=exact, limit=_PAGE)


async def _found(record: Record, wanted: EventFilter, actors: _Actors) -> Found | None:
    if not _matches(record, wanted):
        return None
    actor = await actors.of(record)
    if wanted.actor and (actor is None or wanted.actor not in (actor.user, f"{actor.user}@{actor.host}")):
        return None
    return Found(record, actor)


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
        self._known: dict[str, Actor | None] = {}

    async def of(self, record: Record) -> Actor | None:
        """Return who is behind an event."""
        own = getattr(record.event, "actor", None)
        if isinstance(own, Actor) and own.user:
            return own
        deployment_id = record.event.deployment_id
        if not deployment_id:
            return None
        if deployment_id not in self._known:
            if len(self._known) >= _ACTORS_REMEMBERED:
                self._known.clear()
            state = await self._journal.deployment(deployment_id)
            self._known[deployment_id] = state.actor if state is not None and state.actor.user else None
        return self._known[deployment_id]


def _json_line(public: dict[str, Any]) -> str:
    return msgspec.json.encode(public).decode()


def _csv_line(public: dict[str, Any]) -> str:
    row = ["" if public.get(column) is None else public[column] for column in _COLUMNS[:-2]]
    actor = public["actor"]
    who = "" if actor is None else f"{actor['user']}@{actor['host']} ({actor['trigger']})"
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([*row, who, _json_line(public["data"])])
    return line.getvalue()
