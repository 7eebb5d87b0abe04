"""The reading half of the embedded journal: a second connection, so that no query waits for a commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from fraisier.errors import DatabaseConnectionError, ValidationError
from fraisier.events import Record
from fraisier.journal import queries
from fraisier.journal.base import DeadLetter, Follower, Verification
from fraisier.journal.check import check
from fraisier.journal.connection import Database, run_once
from fraisier.journal.expiry import Columns
from fraisier.journal.faults import reading_error
from fraisier.journal.fold import DeploymentState, LeaseState, Placement, Release
from fraisier.journal.tally import Slots, Tally
from fraisier.journal.verify import verify

T = TypeVar("T")


class SqliteReads:
    """Questions to the tables and the log. One thread answers them one after the other, each whole, so that no cursor
    stays open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader: Database | None = None

    async def _read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        if self._reader is None:
            raise DatabaseConnectionError(f"the journal {self.path} is closed", recoverable=False)
        try:
            return await self._reader.run(job)
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise reading_error(self.path, error) from error
        except UnicodeEncodeError as error:
            # What a command line holds need not be text, and nothing in the store is called so.
            raise ValidationError(f"{error.object!r} is not UTF-8 text", cause=error) from error

    async def read(
        self,
        after: int,
        upto: int | None = None,
        *,
        deployment_id: str = "",
        types: Sequence[str] = (),
        limit: int = 512,
    ) -> list[Record]:
        """Return at most `limit` records with `after < seq <= upto`; those whose body has expired are passed over."""
        return await self._read(
            lambda connection: queries.read(connection, after, upto, deployment_id, types, limit)
        )

    async def hashes_at(self, seqs: Sequence[int]) -> dict[int, str]:
        """Return the chain hashes of rows by seq, in hex."""
        return await self._read(lambda connection: queries.hashes_at(connection, seqs))

    async def old_rows(self, before_us: int, after: int, *, limit: int) -> list[Columns]:
        """Return rows that were written before a time and have a body."""
        return await self._read(lambda connection: queries.old_rows(connection, before_us, after, limit))

    async def hash_at(self, seq: int) -> str:
        """Return the chain hash of one row, in hex. Raises NotFoundError."""
        return await self._read(lambda connection: queries.hash_at(connection, seq))

    async def deployment(self, deployment_id: str) -> DeploymentState | None:
        """Return a deployment with plan, targets and steps by its id or the beginning of it. Raises NotFoundError."""
        return await self._read(lambda connection: queries.deployment(connection, deployment_id))

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
        return await self._read(
            lambda connection: queries.deployments(connection, fraise, environment, state, since_us, limit)
        )

    async def tally(self, slots: Slots, *, fraise: str = "") -> Tally:
        """Return the numbers of the slots' time, of one fraise when named. Rows whose body has expired are not counted."""
        return await self._read(lambda connection: queries.tally(connection, slots, fraise))

    async def placements(self, fraise: str = "", environment: str = "") -> list[Placement]:
        """Return the recorded state of targets."""
        return await self._read(lambda connection: queries.placements(connection, fraise, environment))

    async def releases(self, fraise: str, environment: str, target: str = "") -> list[Release]:
        """Return the releases known on the targets, newest first."""
        return await self._read(lambda connection: queries.releases(connection, fraise, environment, target))

    async def lease(self, fraise: str, environment: str) -> LeaseState | None:
        """Return the newest lease, whether held or not."""
        return await self._read(lambda connection: queries.lease(connection, fraise, environment))

    async def leases(self, fraise: str = "", environment: str = "") -> list[LeaseState]:
        """Return the newest leases, sorted by fraise and environment."""
        return await self._read(lambda connection: queries.leases(connection, fraise, environment))

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """Return parked events, newest first."""
        return await self._read(lambda connection: queries.dead_letters(connection, limit))

    async def followers(self) -> list[Follower]:
        """Return the subscribers that have a stored position or parked events, by name."""
        return await self._read(queries.followers)

    async def verify(self, head: str = "") -> Verification:
        """Walk the chain on a connection of its own; memory stays flat."""
        try:
            return await run_once(self.path, lambda connection: verify(connection, head))
        except sqlite3.Error as error:
            raise reading_error(self.path, error) from error

    async def check(self) -> list[str]:
        """Return every fault found in the store, as sentences."""
        try:
            return await run_once(self.path, check)
        except sqlite3.Error as error:
            raise reading_error(self.path, error) from error
