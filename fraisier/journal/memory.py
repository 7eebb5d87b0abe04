"""The journal without a file: the same chain, fold, guards and positions, synchronous, for simulations and embedders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import copy
from itertools import islice

import msgspec
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled

from fraisier.clock import Clock
from fraisier.errors import DatabaseConnectionError, DatabaseTransactionError, GuardRefusedError
from fraisier.events import TYPE_OF, Event, Record, encode_body
from fraisier.events.codec import decode_event
from fraisier.ids import Ids
from fraisier.journal.base import DeadLetter, Follower, Guard, JournalStatistics, OnCommit, Verification
from fraisier.journal.chain import GENESIS, Chain, hash_body
from fraisier.journal.expiry import Columns, Range
from fraisier.journal.fold import (
    DeploymentState,
    LeaseState,
    Placement,
    Release,
    Tables,
    apply,
    outline,
    snapshot,
)
from fraisier.journal.reading import ambiguous, fold_error, no_such_row
from fraisier.journal.tally import COUNTED_TYPES, Outcome, Slots, Tally
from fraisier.journal.walk import ChainRow, Link, walk

replace = msgspec.structs.replace


class MemoryJournal:
    """Holds the log in lists. No thread and no timer, so it runs under a loop whose clock is made up.

    What it holds survives `close`, so that the next `open` finds what a crashed owner left.
    """

    def __init__(self, *, clock: Clock, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids
        self._chain = Chain(ids.deployment().replace("-", ""))
        self._rows: list[ChainRow] = []
        self._records: list[Record] = []
        self._tables = Tables()
        self._positions: dict[str, int] = {}
        self._noted: dict[str, int] = {}
        self._dead: list[DeadLetter] = []
        self._expired: set[int] = set()
        self._on_commit: OnCommit | None = None
        self._commits = 0

    @property
    def log_id(self) -> str:
        """32 hex digits that name this log."""
        return self._chain.log_id

    @property
    def fence_id(self) -> str:
        """The same: this log is never restored."""
        return self._chain.log_id

    @property
    def head(self) -> int:
        """The seq of the newest record."""
        return len(self._rows)

    @property
    def head_hash(self) -> str:
        """The chain hash of the newest record, in hex; empty for an empty log."""
        return self._rows[-1].hash.hex() if self._rows else ""

    async def open(self, on_commit: OnCommit) -> None:
        """Begin to take appends. Raises DatabaseConnectionError when it is open already."""
        if self._on_commit is not None:
            raise DatabaseConnectionError("the memory journal is open already", recoverable=False)
        self._on_commit = on_commit

    async def close(self) -> None:
        """Take no more appends."""
        if self._on_commit is not None:
            self._keep_positions()
        self._on_commit = None

    async def append(self, event: Event, guard: Guard | None = None) -> Record:
        """Return the record, which was fanned out by then. Raises ValidationError, GuardRefusedError."""
        on_commit = self._writable()
        record = self._admit(event, guard)
        self._keep_positions()
        on_commit([record])
        # Others get their turn, as they would while a disk works; then a cancelled caller learns of its cancellation.
        await cancel_shielded_checkpoint()
        await checkpoint_if_cancelled()
        return record

    async def append_all(self, events: Sequence[Event], guard: Guard | None = None) -> list[Record]:
        """Return the records of events that became known together. Raises what `append` raises, and then none of them is."""
        on_commit = self._writable()
        records = self._admit_all(events, guard)
        self._keep_positions()
        on_commit(records)
        await cancel_shielded_checkpoint()
        await checkpoint_if_cancelled()
        return records

    def _writable(self) -> OnCommit:
        if self._on_commit is None:
            raise DatabaseTransactionError("the memory journal is closed", recoverable=False)
        return self._on_commit

    def _admit_all(self, events: Sequence[Event], guard: Guard | None) -> list[Record]:
        """Make events the newest records, or none of them. Raises ValidationError, GuardRefusedError."""
        before, records = len(self._rows), list[Record]()
        try:
            for event in events:
                records.append(self._admit(event, None if records else guard))
        except BaseException:
            if len(self._rows) > before:
                self._commits -= len(self._rows) - before
                self._take_back(before)
            raise
        return records

    def _take_back(self, length: int) -> None:
        del self._rows[length:]
        del self._records[length:]
        self._fold_again()

    def _admit(self, event: Event, guard: Guard | None) -> Record:
        """Make an event the newest record, as it reads when it is read back. Raises ValidationError, GuardRefusedError."""
        event_id, at_us = self._ids.event(), self._clock.now_us()
        body = encode_body(event_id, at_us, event)
        event = decode_event(body)
        refusal = guard(self._tables) if guard is not None else ""
        if refusal:
            context = {"type": TYPE_OF[event.__class__], "deployment_id": event.deployment_id}
            raise GuardRefusedError(refusal, context=context)
        return self._enter(Record(len(self._rows) + 1, event_id, at_us, event), body)

    def _enter(self, record: Record, body: bytes) -> Record:
        self._fold(record)
        event, digest = record.event, hash_body(body)
        previous = self._rows[-1].hash if self._rows else GENESIS
        link = self._chain.link(record.seq, previous, digest)
        name = TYPE_OF[event.__class__]
        self._rows.append(
            ChainRow(
                record.seq, body, digest, link, name, record.at_us,
                event.deployment_id, event.fraise, event.environment, event.target,
            )
        )  # fmt: skip
        self._records.append(record)
        self._commits += 1
        return record

    def _fold(self, record: Record) -> None:
        folded = False
        try:
            apply(self._tables, record)
            folded = True
        except msgspec.MsgspecError as error:
            raise fold_error(error) from error
        finally:
            if not folded:
                self._fold_again()

    def _fold_again(self) -> None:
        # A fold that failed half-way left its traces in the tables.
        self._tables.forget()
        for record in self._records:
            apply(self._tables, record)

    async def read(
        self,
        after: int,
        upto: int | None = None,
        *,
        deployment_id: str = "",
        types: Sequence[str] = (),
        limit: int = 512,
    ) -> list[Record]:
        """Return at most `limit` records with `after < seq <= upto`, in order; of one deployment when named."""
        chosen = self._records[max(after, 0) : upto]
        if deployment_id:
            chosen = [record for record in chosen if record.event.deployment_id == deployment_id]
        if types:
            chosen = [record for record in chosen if TYPE_OF[record.event.__class__] in types]
        if self._expired:
            chosen = [record for record in chosen if record.seq not in self._expired]
        return chosen[:limit]

    async def hashes_at(self, seqs: Sequence[int]) -> dict[int, str]:
        """Return the chain hashes of rows by seq, in hex."""
        return {seq: self._rows[seq - 1].hash.hex() for seq in seqs if 0 < seq <= len(self._rows)}

    async def old_rows(self, before_us: int, after: int, *, limit: int) -> list[Columns]:
        """Return rows that were written before a time and have a body."""
        rows = (row for row in self._rows[max(after, 0) :] if row.at < before_us and row.body is not None)
        return [row.columns() for row in islice(rows, limit)]

    async def expire(self, ranges: Sequence[Range]) -> int:
        """Remove the bodies of rows; the records are kept for the fold, but given to nobody."""
        self._writable()
        before = len(self._expired)
        for first, last in ranges:
            for seq in range(first, last + 1):
                self._rows[seq - 1] = self._rows[seq - 1]._replace(body=None)
                self._expired.add(seq)
        return len(self._expired) - before

    async def hash_at(self, seq: int) -> str:
        """Return the chain hash of one row, in hex. Raises NotFoundError."""
        if not 0 < seq <= len(self._rows):
            raise no_such_row(seq)
        return self._rows[seq - 1].hash.hex()

    async def deployment(self, deployment_id: str) -> DeploymentState | None:
        """Return a deployment by its id or the beginning of it. Raises NotFoundError when several begin so."""
        if not deployment_id:
            return None
        known = self._tables.deployments
        found = (
            [deployment_id]
            if deployment_id in known
            else [key for key in known if key.startswith(deployment_id)]
        )
        if len(found) > 1:
            raise ambiguous(deployment_id)
        return snapshot(known[found[0]]) if found else None

    async def deployments(
        self,
        *,
        fraise: str = "",
        environment: str = "",
        state: str = "",
        since_us: int = 0,
        limit: int = 50,
    ) -> list[DeploymentState]:
        """Return deployments with their targets, newest first; plans and steps are left out."""
        chosen = [
            found
            for found in self._tables.deployments.values()
            if fraise in ("", found.fraise)
            and environment in ("", found.environment)
            and state in ("", found.state)
            and found.requested_us >= since_us
        ]
        chosen.sort(key=lambda found: found.first_seq, reverse=True)
        return [outline(found) for found in chosen[:limit]]

    async def tally(self, slots: Slots, *, fraise: str = "") -> Tally:
        """Return the numbers of the slots' time, of one fraise when named."""
        found = Tally(slots)
        for state in self._tables.deployments.values():
            if fraise in ("", state.fraise) and state.requested_us >= slots.since_us:
                fields = {name: getattr(state, name) for name in Outcome.__struct_fields__}
                found.outcomes.append(Outcome(**fields))
        found.count(
            (row.type, row.at, row.body)
            for row in self._rows
            if row.body is not None
            and row.type in COUNTED_TYPES
            and row.at >= slots.since_us
            and fraise in ("", row.fraise)
            and (row.type != "lease.refused" or row.deployment_id in self._tables.deployments)
        )
        return found

    async def placements(self, fraise: str = "", environment: str = "") -> list[Placement]:
        """Return the recorded state of targets, sorted by fraise, environment and name."""
        return [
            replace(found)
            for _, found in sorted(self._tables.placements.items())
            if fraise in ("", found.fraise) and environment in ("", found.environment)
        ]

    async def releases(self, fraise: str, environment: str, target: str = "") -> list[Release]:
        """Return the releases known on the targets, newest first."""
        chosen = [
            copy(found)
            for found in self._tables.release_rows.values()
            if found.fraise == fraise and found.environment == environment and target in ("", found.target)
        ]
        return sorted(chosen, key=lambda found: (-found.seq, found.target, found.release))

    async def lease(self, fraise: str, environment: str) -> LeaseState | None:
        """Return the newest lease, whether held or not."""
        found = self._tables.find_lease(fraise, environment)
        return None if found is None else replace(found)

    async def leases(self, fraise: str = "", environment: str = "") -> list[LeaseState]:
        """Return the newest leases, sorted by fraise and environment."""
        return [
            replace(found)
            for _, found in sorted(self._tables.leases.items())
            if fraise in ("", found.fraise) and environment in ("", found.environment)
        ]

    async def position(self, subscriber: str) -> int | None:
        """Return the position of a durable subscriber."""
        return self._noted.get(subscriber, self._positions.get(subscriber))

    def save_position(self, subscriber: str, seq: int) -> None:
        """Note a position; the next append or `flush_positions` keeps it."""
        self._noted[subscriber] = seq

    async def flush_positions(self) -> None:
        """Keep the noted positions now."""
        self._writable()
        self._keep_positions()

    def _keep_positions(self) -> None:
        self._positions.update(self._noted)
        self._noted.clear()

    async def dead_letter(self, subscriber: str, seq: int, error: str) -> None:
        """Park an event that a subscriber could not handle."""
        self._writable()
        self._keep_positions()
        self._dead = [letter for letter in self._dead if (letter.subscriber, letter.seq) != (subscriber, seq)]
        self._dead.append(DeadLetter(subscriber, seq, self._clock.now_us(), error))

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """Return parked events, newest first."""
        return sorted(self._dead, key=lambda dead: (-dead.at_us, -dead.seq, dead.subscriber))[:limit]

    async def followers(self) -> list[Follower]:
        """Return the subscribers that have a stored position or parked events, by name."""
        positions = {**self._positions, **self._noted}
        parked = Counter(dead.subscriber for dead in self._dead)
        return [Follower(name, positions.get(name), parked[name]) for name in sorted({*positions, *parked})]

    async def forget(self, subscriber: str) -> None:
        """Remove the position and the parked events of a durable subscriber."""
        self._writable()
        self._noted.pop(subscriber, None)
        self._positions.pop(subscriber, None)
        self._dead[:] = [letter for letter in self._dead if letter.subscriber != subscriber]

    async def verify(self, head: str = "") -> Verification:
        """Walk the chain from its beginning."""
        return walk(self._chain, self._rows, self._links, head, read=self._columns)

    def _links(self, after: int) -> list[Link]:
        return [(row.seq, row.body_hash, row.hash) for row in self._rows[after:]]

    def _columns(self, first: int, last: int) -> list[Columns]:
        return [row.columns() for row in self._rows[first - 1 : last]]

    async def check(self) -> list[str]:
        """Return what is wrong with the chain, and where the tables differ from the fold of the log."""
        verification = walk(self._chain, self._rows, self._links, read=self._columns)
        faults = [] if verification.ok else [f"the chain is broken: {verification.problem}"]
        folded = Tables()
        for record in self._records:
            apply(folded, record)
        kept = self._tables
        pairs = (
            ("deployments", kept.deployments, folded.deployments),
            ("placements", kept.placements, folded.placements),
            ("releases", kept.release_rows, folded.release_rows),
            ("leases", kept.leases, folded.leases),
        )
        faults.extend(f"the table {name} differs from what the log gives" for name, a, b in pairs if a != b)
        return faults

    def statistics(self) -> JournalStatistics:
        """Return counters of this journal."""
        return JournalStatistics(
            head=self.head,
            appended=self._commits,
            commits=self._commits,
            commit_s=0.0,
            foreign=0,
            pending=0,
            largest_batch=min(self._commits, 1),
        )
