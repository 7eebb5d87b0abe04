"""`audit`: list, verify and export the audit trail."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fraisier.audit import AuditReport, EventFilter, Found, newest_events
from fraisier.audit import export as export_lines
from fraisier.audit import verify as verify_trail
from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.lines import format_line
from fraisier.cli.listening import run_async
from fraisier.cli.params import Moment
from fraisier.cli.render import one_line
from fraisier.cli.run.filters import check_types
from fraisier.cli.run.output import Output
from fraisier.cli.run.reading import reading
from fraisier.cli.run.signing import known_keys
from fraisier.clock import SystemClock
from fraisier.errors import UsageError
from fraisier.events import to_public

_BATCH = 500
_SECOND_US = 1_000_000
_DAY_US = 86_400 * _SECOND_US
_NAME_THE_KEY = (
    "the chain holds; if the key was changed, name the former one in `audit.former_keys`, "
    "else keep a copy of the store"
)


def _filter(
    *,
    fraise: str,
    environment: str,
    type: str,
    actor: str,
    days: int | None,
    since: Moment | None,
    until: Moment | None,
) -> EventFilter:
    if type:
        check_types("--type", type)
    now_us = SystemClock().now_us()
    if days and since:
        raise UsageError("--days and --since both say where to begin", hint="leave one of them out")
    begin_us = now_us - days * _DAY_US if days else since.at_us(now_us) if since else 0
    end_us = until.at_us(now_us) if until else 0
    if end_us and begin_us >= end_us:
        raise UsageError("--until is not after --since, so nothing lies between them")
    return EventFilter(
        fraise=fraise, environment=environment, type=type, actor=actor, since_us=begin_us, until_us=end_us
    )


def list_events(call: Call, *, limit: int, **filters: Any) -> int:
    """Print the last matching events, oldest first; with JSON as one document."""
    where = _filter(**filters)

    async def read() -> list[Found]:
        async with reading(call) as journal:
            return await newest_events(journal, where, limit=limit)

    found = run_async(read)
    if call.json:
        call.data(msgspec.json.encode({"events": [one.to_dict() for one in found]}).decode())
        return exits.OK
    if not found:
        call.note("no event matches")
    for one in found:
        call.data(_line(one))
    return exits.OK


def _line(found: Found) -> str:
    """Return when it was, who asked for it, and what it was; nothing is left out of an audit trail."""
    told = format_line(found.record, with_date=True) or _bare(to_public(found.record))
    moment, _, what = told.partition(" ")
    who = one_line(f"{found.actor.user}@{found.actor.host}") if found.actor is not None else "-"
    return f"{moment} {who} {what}"


def _bare(public: dict[str, object]) -> str:
    """Return the line of an event that has no sentence of its own."""
    place = "/".join(str(public[key]) for key in ("fraise", "environment") if public[key])
    where = " ".join(str(part) for part in (place, public["target"]) if part)
    return f"{str(public['time'])[:19]}Z {where + ': ' if where else ''}{public['type']}"


def export(call: Call, *, format: Literal["jsonl", "csv"], **filters: Any) -> int:
    """Write the matching events to stdout, a line each."""
    where = _filter(**filters)

    async def write() -> None:
        output, batch = Output(call, call.stdout), list[str]()
        async with reading(call) as journal:
            async for line in export_lines(journal, where, format=format):
                batch.append(line)
                if len(batch) == _BATCH:
                    await output.write("\n".join(batch))
                    batch.clear()
        if batch:
            await output.write("\n".join(batch))

    run_async(write)
    return exits.OK


def verify(call: Call, *, head: str | None) -> int:
    """Print whether the trail holds; exit with 7 when it does not."""

    async def check() -> AuditReport:
        keys = known_keys(call)
        async with reading(call) as journal:
            return await verify_trail(journal, keys.current, head or "", former=keys.former)

    report = run_async(check)
    if call.json:
        call.document(report.to_dict())
    elif report.ok:
        signed = (
            f"; {report.checkpoints} signatures hold, up to row {report.signed_seq}"
            if report.checkpoints
            else ""
        )
        call.data(
            f"{call.painter().paint('ok', 'green')}: {report.rows} rows{signed}\nhead {report.head or '-'}"
        )
    else:
        at = f" at row {report.first_bad_seq}" if report.first_bad_seq else ""
        # Who holds a key that nobody gave us is not known; that is no proof of tampering, and none against it.
        word, way_on = (
            ("NOT VERIFIED", _NAME_THE_KEY)
            if report.unknown_keys
            else ("NOT OK", "keep a copy of the store, then compare it with a backup")
        )
        call.data(
            f"{call.painter().paint(word, 'red', 'bold')}{at}: {report.problem}\nhead {report.head or '-'}"
        )
        call.say(f"  try: {way_on}")
    return exits.OK if report.ok else exits.AUDIT
