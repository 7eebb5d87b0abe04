"""`audit`: list, verify and export the audit trail."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import anyio
import msgspec

from fraisier.audit import AuditKey, AuditReport, EventFilter, load_or_make_key, newest_events
from fraisier.audit import export as export_lines
from fraisier.audit import verify as verify_trail
from fraisier.audit.keys import KEY_FILE
from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.lines import format_line
from fraisier.cli.run.reading import reading
from fraisier.clock import SystemClock
from fraisier.config.resolve import Resolver
from fraisier.errors import ConfigurationError
from fraisier.events import to_public
from fraisier.journal.store import store_path
from fraisier.redaction import Redactor

_DAY_US = 86_400_000_000


def _filter(fraise: str, environment: str, type: str, actor: str, days: int | None) -> EventFilter:
    since_us = SystemClock().now_us() - days * _DAY_US if days else 0
    return EventFilter(fraise=fraise, environment=environment, type=type, actor=actor, since_us=since_us)


def list_events(
    call: Call, *, fraise: str, environment: str, type: str, actor: str, days: int | None, limit: int
) -> int:
    """Print the last matching events, oldest first; with JSON as one document."""
    where = _filter(fraise, environment, type, actor, days)

    async def read() -> None:
        async with reading(call) as journal:
            found = await newest_events(journal, where, limit=limit)
        if call.json:
            call.data(msgspec.json.encode({"events": [to_public(record) for record in found]}).decode())
            return
        for record in found:
            call.data(format_line(record) or _bare(to_public(record)))

    anyio.run(read)
    return exits.OK


def _bare(public: dict[str, object]) -> str:
    """Return the line of an event that has no sentence of its own: nothing is left out of an audit trail."""
    place = "/".join(str(public[key]) for key in ("fraise", "environment") if public[key])
    target = f" {public['target']}" if public["target"] else ""
    return f"{str(public['time'])[11:19]}Z {place}{target}: {public['type']}"


def export(
    call: Call,
    *,
    fraise: str,
    environment: str,
    type: str,
    actor: str,
    days: int | None,
    format: Literal["jsonl", "csv"],
) -> int:
    """Write the matching events to stdout, a line each."""
    where = _filter(fraise, environment, type, actor, days)

    async def write() -> None:
        async with reading(call) as journal:
            async for line in export_lines(journal, where, format=format):
                call.stdout.write(line + "\n")
        call.stdout.flush()

    anyio.run(write)
    return exits.OK


def verify(call: Call, *, head: str) -> int:
    """Print whether the trail holds; exit with 7 when it does not."""

    async def check() -> AuditReport:
        key = _key(call)
        async with reading(call) as journal:
            return await verify_trail(journal, key, head)

    report = anyio.run(check)
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
        call.data(
            f"{call.painter().paint('NOT OK', 'red', 'bold')}{at}: {report.problem}\nhead {report.head or '-'}"
        )
        call.say("  try: keep a copy of the store, then compare it with a backup")
    return exits.OK if report.ok else exits.AUDIT


def _key(call: Call) -> AuditKey | None:
    """Return the key that signed the trail, or None when there is none: a check never makes one."""
    configured = ""
    try:
        call.config_path()
    except ConfigurationError:
        pass
    else:
        config = call.load()
        if config.audit.key:
            resolver = Resolver(call.environ, Redactor(), Path(config.path).parent)
            configured = resolver.text(config.audit.key, {}, where="audit.key")
    store = store_path(call.store_url())
    if not configured and (store is None or not (store.parent / KEY_FILE).exists()):
        return None
    return load_or_make_key(configured, store.parent if store is not None else None)
