"""Retention: old bodies go, hashes stay, and who took them away is on record before they are gone."""

from __future__ import annotations

import difflib
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from fraisier.audit.checkpoint import AuditSubscriber
from fraisier.audit.keys import AuditKey
from fraisier.audit.logger import Publish
from fraisier.errors import NotFoundError
from fraisier.events import Actor, Record
from fraisier.events import types as ev
from fraisier.journal.base import Follower, Journal
from fraisier.journal.expiry import NEVER_EXPIRE, Columns, ColumnsDigest, Range, as_ranges
from fraisier.journal.state import OPEN_STATES

_DOMAIN = b"fraisier audit pruned 1"
_PAGE = 2048
_ROWS_MAX = 50_000
"""How many rows one record names, so that it stays small and a prune that is cut off loses little."""

_OPEN_MAX = 10_000


class PruneReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a prune did, or would do: `rows` bodies in `records` records. `held_back` names the durable subscribers that
    have not handled everything that is old enough, with the seq that each is at; nothing behind the lowest is removed.
    `forgotten` are those that it was told to forget."""

    rows: int
    records: int
    before_at: int
    head: str
    held_back: dict[str, int]
    forgotten: tuple[str, ...] = ()


def sign_pruned(key: bytes, log_id: str, event: ev.AuditPruned) -> str:
    """Return the HMAC-SHA-256, in hex, over all that the record says."""
    said = msgspec.json.encode(msgspec.structs.replace(event, key_id="", signature=""))
    return hmac.new(key, b"\0".join((_DOMAIN, log_id.encode(), said)), hashlib.sha256).hexdigest()


async def prune(
    journal: Journal,
    publish: Publish,
    key: AuditKey,
    *,
    before_us: int,
    keep: Sequence[str] = (),
    message: str = "",
    actor: Actor | None = None,
    dry_run: bool = False,
    wait_for_subscribers: bool = True,
    forget: Sequence[str] = (),
) -> PruneReport:
    """Remove the bodies of rows that were written before a time. Checkpoints, records of earlier prunes, types that match
    `keep` (`deployment.*`), deployments that have no end, and what a durable subscriber has not handled yet all stay.

    Each record is signed and durable before the first body of its rows goes; what a crash left standing goes the next
    time. The durable subscribers named in `forget` are forgotten first, and nothing waits for them. Raises NotFoundError
    when there is none of a name, DatabaseTransactionError.
    """
    # The next ending that the audit signs covers what it has not seen.
    followers = {
        one.subscriber: one for one in await journal.followers() if one.subscriber != AuditSubscriber.name
    }
    forgotten = [_named(name, followers) for name in dict.fromkeys(forget)]
    for follower in forgotten:
        del followers[follower.subscriber]
        if not dry_run:
            await publish(_note_of(follower, message, actor or Actor()))
            await journal.forget(follower.subscriber)
    positions = {
        name: one.position
        for name, one in followers.items()
        if wait_for_subscribers and one.position is not None
    }
    limit = min(positions.values(), default=journal.head)
    await _finish(journal, dry_run=dry_run)
    rows = records = 0
    async for portion in _portions(journal, before_us, limit, (*NEVER_EXPIRE, *keep)):
        rows, records = rows + len(portion), records + 1
        if dry_run:
            continue
        event = _described(portion, before_us, keep, message, actor or Actor())
        signature = sign_pruned(key.secret, journal.log_id, event)
        await publish(msgspec.structs.replace(event, key_id=key.id, signature=signature))
        await journal.expire(event.ranges)
    behind = {name: seq for name, seq in positions.items() if seq < journal.head}
    held_back = behind if await journal.old_rows(before_us, limit, limit=1) else {}
    return PruneReport(
        rows=rows,
        records=records,
        before_at=before_us,
        head=journal.head_hash,
        held_back=held_back,
        forgotten=tuple(one.subscriber for one in forgotten),
    )


def _named(name: str, followers: Mapping[str, Follower]) -> Follower:
    """Return the follower of a name. Raises NotFoundError, with the nearest name that there is."""
    if name in followers:
        return followers[name]
    near = difflib.get_close_matches(name, followers, n=1)
    raise NotFoundError(
        f"the store knows no subscriber {name!r}{f'; did you mean {near[0]!r}?' if near else ''}",
        context={"subscriber": name, "known": sorted(followers)},
        hint=f"known: {', '.join(sorted(followers)) or 'none'}",
    )


def _note_of(follower: Follower, message: str, actor: Actor) -> ev.SystemNoted:
    """Return what is put on record before a subscriber is forgotten: what it had not received is told to nobody."""
    data = {"position": follower.position, "dead_letters": follower.dead_letters, "message": message}
    return ev.SystemNoted(kind="subscriber.forgotten", detail=follower.subscriber, actor=actor, data=data)


async def _finish(journal: Journal, *, dry_run: bool) -> None:
    """Remove what an earlier prune recorded and was cut off before it did."""
    async for record in records_of(journal):
        if not dry_run:
            await journal.expire([span for span in record[1].ranges if span[1] < record[0].seq])


async def records_of(journal: Journal) -> AsyncIterator[tuple[Record, ev.AuditPruned]]:
    """Yield every record of a prune."""
    after = 0
    while page := await journal.read(after, types=("audit.pruned",)):
        for record in page:
            if isinstance(record.event, ev.AuditPruned):
                yield record, record.event
        after = page[-1].seq


async def _portions(
    journal: Journal, before_us: int, limit: int, keep: Sequence[str]
) -> AsyncIterator[list[Columns]]:
    unfinished = set()
    for state in OPEN_STATES:
        unfinished |= {found.id for found in await journal.deployments(state=state, limit=_OPEN_MAX)}
    portion: list[Columns] = []
    after = 0
    while page := await journal.old_rows(before_us, after, limit=_PAGE):
        for row in page:
            kept = row.deployment_id in unfinished or any(fnmatchcase(row.type, glob) for glob in keep)
            if row.seq <= limit and not kept:
                portion.append(row)
        if len(portion) >= _ROWS_MAX:
            yield portion
            portion = []
        after = page[-1].seq
    if portion:
        yield portion


def _described(
    rows: Sequence[Columns], before_us: int, keep: Sequence[str], message: str, actor: Actor
) -> ev.AuditPruned:
    digest = ColumnsDigest()
    for row in rows:
        digest.add(row)
    ranges: tuple[Range, ...] = tuple(as_ranges(row.seq for row in rows))
    return ev.AuditPruned(
        ranges=ranges,
        rows=len(rows),
        before_at=before_us,
        kept=tuple(keep),
        columns_hash=digest.hex(),
        message=message,
        actor=actor,
    )
