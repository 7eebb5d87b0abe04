"""The journal's port: what the rest of Fraisier may ask of the append-only log and of the tables folded from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from fraisier.events import Event, Record
from fraisier.journal.expiry import Columns, Range
from fraisier.journal.fold import DeploymentState, LeaseState, Placement, Release, Tables
from fraisier.journal.tally import Slots, Tally

Guard = Callable[[Tables], str]
"""A condition on an append, checked in the same transaction: returns why it is refused, or an empty string."""

OnCommit = Callable[[Sequence[Record]], None]
"""Called on the event loop with committed records in `seq` order, those of other processes included, before any of the
publishers that appended them goes on."""


class JournalStatistics(msgspec.Struct, frozen=True):
    """What the journal did so far in this process. Times in seconds."""

    head: int
    appended: int
    commits: int
    commit_s: float
    foreign: int
    pending: int
    largest_batch: int


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that a subscriber could not handle."""

    subscriber: str
    seq: int
    at_us: int
    error: str


class Follower(msgspec.Struct, frozen=True):
    """A durable subscriber as the store knows it: the `seq` that it has handled everything up to (None: no position is
    stored), and how many events are parked for it."""

    subscriber: str
    position: int | None
    dead_letters: int


class Verification(msgspec.Struct, frozen=True):
    """The result of walking the chain. `first_bad_seq` is 0 and `problem` empty when it holds."""

    ok: bool
    rows: int
    head: str
    first_bad_seq: int = 0
    problem: str = ""


class Journal(Protocol):
    """An append-only, durable, hash-chained log, and the tables folded from it in the same transaction."""

    @property
    def log_id(self) -> str:
        """32 hex digits that name this log; part of every hash."""
        ...

    @property
    def fence_id(self) -> str:
        """32 hex digits that name the tokens of this log at the targets. Other than `log_id` once the log was restored from
        a backup: it counts on from an earlier place, and targets would refuse what they have seen greater numbers of."""
        ...

    @property
    def head(self) -> int:
        """The seq of the newest record that was fanned out here (0: none)."""
        ...

    @property
    def head_hash(self) -> str:
        """The chain hash of the newest record that this process knows, in hex."""
        ...

    async def open(self, on_commit: OnCommit) -> None:
        """Open or create the log. Raises DatabaseConnectionError."""
        ...

    async def close(self) -> None:
        """Write what is pending, then close."""
        ...

    async def append(self, event: Event, guard: Guard | None = None) -> Record:
        """Return the record once it is durable. Its outcome is always known: a cancelled caller waits for the commit
        first. Raises ValidationError (not encodable), GuardRefusedError, DatabaseTransactionError."""
        ...

    async def append_all(self, events: Sequence[Event], guard: Guard | None = None) -> list[Record]:
        """Return the records of events that became durable together, next to each other in one commit: all of them or none.
        The guard is asked once, before the first. Otherwise like `append`."""
        ...

    async def read(
        self,
        after: int,
        upto: int | None = None,
        *,
        deployment_id: str = "",
        types: Sequence[str] = (),
        limit: int = 512,
    ) -> list[Record]:
        """Return at most `limit` records with `after < seq <= upto`, in order; of one deployment when named, of these types
        only when there are any. Those whose body was pruned are passed over."""
        ...

    async def hash_at(self, seq: int) -> str:
        """Return the chain hash of one row, in hex. Raises NotFoundError when there is none."""
        ...

    async def hashes_at(self, seqs: Sequence[int]) -> dict[int, str]:
        """Return the chain hashes of rows by seq, in hex; rows that do not exist are left out."""
        ...

    async def old_rows(self, before_us: int, after: int, *, limit: int) -> list[Columns]:
        """Return at most `limit` rows with a higher seq that were written before a time and have a body, in order."""
        ...

    async def expire(self, ranges: Sequence[Range]) -> int:
        """Remove the bodies of rows, for good; return how many had one. Their hashes stay, and so do the tables.

        Whoever calls this has recorded it first (`audit.pruned`), or `verify` reports it. Raises DatabaseTransactionError."""
        ...

    async def deployment(self, deployment_id: str) -> DeploymentState | None:
        """Return the deployment whose id is, or uniquely begins with, `deployment_id`. Raises NotFoundError when
        several begin so."""
        ...

    async def deployments(
        self,
        *,
        fraise: str = "",
        environment: str = "",
        state: str = "",
        since_us: int = 0,
        limit: int = 50,
    ) -> list[DeploymentState]:
        """Return deployments, newest first. An empty argument means any."""
        ...

    async def tally(self, slots: Slots, *, fraise: str = "") -> Tally:
        """Return the numbers of the slots' time, of one fraise when named. Rows whose body has expired are not counted."""
        ...

    async def placements(self, fraise: str = "", environment: str = "") -> list[Placement]:
        """Return the recorded state of targets, sorted by fraise, environment and name."""
        ...

    async def releases(self, fraise: str, environment: str, target: str = "") -> list[Release]:
        """Return the releases known on the targets, newest first."""
        ...

    async def lease(self, fraise: str, environment: str) -> LeaseState | None:
        """Return the newest lease of the fraise in the environment, whether held or not."""
        ...

    async def leases(self, fraise: str = "", environment: str = "") -> list[LeaseState]:
        """Return the newest leases, held or not, with their freezes, sorted by fraise and environment."""
        ...

    async def position(self, subscriber: str) -> int | None:
        """Return the stored position of a durable subscriber."""
        ...

    def save_position(self, subscriber: str, seq: int) -> None:
        """Note a position; it is written with the next commit, or by `flush_positions`."""
        ...

    async def flush_positions(self) -> None:
        """Write the noted positions now."""
        ...

    async def dead_letter(self, subscriber: str, seq: int, error: str) -> None:
        """Park an event that a subscriber could not handle."""
        ...

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """Return parked events, newest first."""
        ...

    async def followers(self) -> list[Follower]:
        """Return the subscribers that have a stored position or parked events, by name."""
        ...

    async def forget(self, subscriber: str) -> None:
        """Remove the position and the parked events of a durable subscriber. One that comes again begins anew."""
        ...

    async def verify(self, head: str = "") -> Verification:
        """Walk the whole chain, compare columns with bodies, and look for `head` (a hash a person kept)."""
        ...

    async def check(self) -> list[str]:
        """Return every fault found in the store: file integrity, chain, and tables that differ from the fold."""
        ...

    def statistics(self) -> JournalStatistics:
        """Return counters of this process."""
        ...
