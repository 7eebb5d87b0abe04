"""What is done to a store while it goes on: pruning, and notes in its own log of what else a person did to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fraisier.audit import AuditLogger, PruneReport
from fraisier.audit import prune as prune_journal
from fraisier.audit.forward import subscriber_name
from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.listening import run_async
from fraisier.cli.run.filters import check_types
from fraisier.cli.run.reading import ignore
from fraisier.cli.run.signing import signing_key
from fraisier.clock import SystemClock, rfc3339
from fraisier.config.durations import format_duration
from fraisier.errors import ConfigurationError, DatabaseConnectionError, UsageError
from fraisier.ids import SystemIds
from fraisier.journal.base import Journal
from fraisier.journal.store import open_journal, store_path
from fraisier.orchestrator import local_actor
from fraisier.redaction import Redactor

_SECOND_US = 1_000_000


@asynccontextmanager
async def writing(url: str) -> AsyncIterator[Journal]:
    """Give the journal of a store, to be written to. Raises DatabaseConnectionError."""
    clock = SystemClock()
    journal = open_journal(url, clock=clock, ids=SystemIds(clock))
    await journal.open(ignore)
    try:
        yield journal
    finally:
        await journal.close()


async def note(path: Path, kind: str, detail: str, **data: Any) -> None:
    """Put on record what a person did to a store."""
    async with writing(f"sqlite:///{path}") as journal:
        await AuditLogger(journal.append, actor=local_actor("cli")).log_system_event(kind, detail, data=data)


def prune(
    call: Call,
    *,
    older_than: float | None,
    keep: Sequence[str],
    message: str,
    force: bool,
    forget: Sequence[str],
    dry_run: bool,
    yes: bool,
) -> int:
    """Remove the bodies of old events, and what is known of forwards that are to be forgotten. Raises UsageError,
    NotFoundError, DatabaseConnectionError."""
    url = call.store_url()
    path = store_path(url)
    if path is None or not path.exists():
        raise DatabaseConnectionError(f"there is no store {path or url}", recoverable=False)
    if older_than is None and not forget:
        raise UsageError("--older-than is missing", hint="for example --older-than 90d")
    if older_than is not None and older_than <= 0:
        raise UsageError("--older-than must be more than nothing", hint="for example --older-than 90d")
    check_types("--keep", *keep)
    if call.interactive and not yes and not dry_run and not call.confirm(_question(path, older_than, forget)):
        call.say("nothing was done")
        return exits.OK
    redactor = Redactor()
    redactor.register_named(call.environ)
    reason = f"older than {format_duration(older_than)}" if older_than is not None else ""
    work = partial(
        _prune,
        url,
        key=signing_key(call),
        # Nothing is older than the first of all times.
        before_us=SystemClock().now_us() - int(older_than * _SECOND_US) if older_than is not None else 0,
        keep=keep,
        message=redactor.scrub(message) or reason,
        actor=local_actor("cli"),
        dry_run=dry_run,
        wait_for_subscribers=not force,
        forget=forget,
    )
    report, known = run_async(work)
    _tell(call, path, report, sorted(_unconfigured(call, known) - {*report.forgotten}), dry_run=dry_run)
    return exits.OK


def _question(path: Path, older_than: float | None, forget: Sequence[str]) -> str:
    parts = []
    if older_than is not None:
        parts.append(f"remove what {path} says about events older than {format_duration(older_than)}")
    if forget:
        parts.append(f"forget what was forwarded to {', '.join(forget)}")
    return f"{' and '.join(parts)}, for good?"


async def _prune(url: str, **options: Any) -> tuple[PruneReport, set[str]]:
    async with writing(url) as journal:
        report = await prune_journal(journal, journal.append, **options)
        return report, {one.subscriber for one in await journal.followers()}


def _unconfigured(call: Call, known: set[str]) -> set[str]:
    """Return those of the forwards that the configuration does not have; none without a configuration."""
    forwards = {name for name in known if name.startswith("forward:")}
    try:
        call.config_path()
    except ConfigurationError:
        return set()
    return forwards - {subscriber_name(entry) for entry in call.load().audit.forward}


def _tell(call: Call, path: Path, report: PruneReport, unconfigured: list[str], *, dry_run: bool) -> None:
    if call.json:
        call.document(
            {
                "path": str(path),
                "dry_run": dry_run,
                "rows": report.rows,
                "before": rfc3339(report.before_at) if report.before_at else None,
                "held_back": report.held_back,
                "forgotten": list(report.forgotten),
                "unconfigured": unconfigured,
                "head": report.head,
            }
        )
        return
    for name in report.forgotten:
        call.data(f"{path}: {name} {'would be' if dry_run else 'is'} forgotten")
    if report.before_at:
        verb = "would lose" if dry_run else "lost"
        call.data(f"{path}: {report.rows} events of before {rfc3339(report.before_at)} {verb} their bodies")
    for name, seq in sorted(report.held_back.items()):
        call.say(
            f"  {name} has received the events up to {seq} only; what comes after that was left (--force)"
        )
    for name in unconfigured:
        call.say(f"  {name} is configured no more: --forget '{name}'")
