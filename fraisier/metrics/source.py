"""The store that metrics are read from: it may be made, replaced or restored while somebody reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fraisier.clock import Clock
from fraisier.errors import DatabaseConnectionError
from fraisier.events import Record
from fraisier.ids import Ids
from fraisier.journal.base import Journal
from fraisier.journal.store import open_journal, store_path
from fraisier.metrics.exporter import Exporter
from fraisier.metrics.standing import IsDead

_Identity = tuple[int, int]


def _ignore(records: Sequence[Record]) -> None:
    """The log is read when somebody asks, not when it grows."""


class Source:
    """Gives the exporter over the file that is at the store's place now, opened read-only.

    Where there is no file yet, it is the exporter over an empty log; another file in the place of the one that was read
    (a restored backup) begins anew, with counters that begin at 0 as after a restart.
    """

    def __init__(self, url: str, *, clock: Clock, ids: Ids, is_dead: IsDead) -> None:
        self._url = url
        self.path: Path | None = store_path(url)
        self._clock = clock
        self._ids = ids
        self._is_dead = is_dead
        self._identity: _Identity | None = None
        self._exporter: Exporter | None = None

    async def exporter(self) -> Exporter:
        """Return the exporter over the store as it is. Raises DatabaseConnectionError."""
        identity = self._look()
        if self._exporter is None or identity != self._identity:
            await self.close()
            journal = self._journal(identity)
            try:
                await journal.open(_ignore)
            except DatabaseConnectionError as error:
                if error.context.get("version") != 0:
                    raise
                # Somebody is making it at this moment: it is looked at again when somebody asks again.
                identity, journal = None, self._journal(None)
                await journal.open(_ignore)
            self._identity = identity
            self._exporter = Exporter(
                journal, clock=self._clock, is_dead=self._is_dead, store_bytes=self._bytes
            )
        return self._exporter

    async def close(self) -> None:
        """Close what is open; the next call of `exporter` opens anew."""
        exporter, self._exporter = self._exporter, None
        if exporter is not None:
            await exporter.journal.close()

    def _journal(self, identity: _Identity | None) -> Journal:
        url = self._url if identity else "memory:"
        return open_journal(url, clock=self._clock, ids=self._ids, read_only=True)

    def _look(self) -> _Identity | None:
        if self.path is None:
            return None
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DatabaseConnectionError(
                f"the store {self.path} cannot be looked at: {error.strerror}", cause=error
            ) from error
        if self.path.is_dir():
            raise DatabaseConnectionError(
                f"the store {self.path} is a directory, not a file",
                hint="name a file in it: --store sqlite:///PATH",
                recoverable=False,
            )
        return found.st_dev, found.st_ino

    def _bytes(self) -> int:
        """Return the size of the file and of the log that SQLite writes ahead of it."""
        total = 0
        for suffix in ("", "-wal"):
            if self.path is not None:
                try:
                    total += Path(f"{self.path}{suffix}").stat().st_size
                except OSError:
                    continue
        return total
