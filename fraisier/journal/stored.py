"""The fold's working set over the query tables of a store."""

from __future__ import annotations

import sqlite3
from typing import Any

from fraisier.journal import rows
from fraisier.journal.fold import (
    DeploymentState,
    LeaseKey,
    LeaseState,
    PlaceKey,
    Placement,
    Release,
    ReleaseKey,
    Tables,
)

_PLACEMENT = "select * from placements where fraise = ? and environment = ? and target = ?"
_RELEASE = "select * from releases where fraise = ? and environment = ? and target = ? and release = ?"
_LEASE = "select * from leases where fraise = ? and environment = ?"


class StoredTables(Tables):
    """Loads rows when an event first touches them, and keeps them while they may change.

    `keep` bounds the placements and the releases that stay in memory between transactions; of deployments, which
    are larger, a sixteenth of that stays. Used in the connection's thread only.
    """

    def __init__(self, connection: sqlite3.Connection, *, keep: int = 4096) -> None:
        super().__init__()
        self._connection = connection
        self._keep = keep
        self._keep_deployments = max(1, keep // 16)

    def load_deployment(self, deployment_id: str) -> DeploymentState | None:
        """Return a deployment from its tables."""
        return rows.load_deployment(self._connection, deployment_id)

    def load_placement(self, key: PlaceKey) -> Placement | None:
        """Return a placement from its table."""
        return next(iter(rows.load_placements(self._connection, _PLACEMENT, key)), None)

    def load_release(self, key: ReleaseKey) -> Release | None:
        """Return a release from its table."""
        return next(iter(rows.load_releases(self._connection, _RELEASE, key)), None)

    def load_lease(self, key: LeaseKey) -> LeaseState | None:
        """Return a lease from its table."""
        return next(iter(rows.load_leases(self._connection, _LEASE, key)), None)

    def trim(self) -> None:
        """Forget rows beyond the bounds, deployments that have ended first; only after everything was written."""
        if len(self.deployments) > self._keep_deployments // 4:
            for ended in [key for key, found in self.deployments.items() if found.is_terminal]:
                del self.deployments[ended]
            self._empty(self.deployments, self._keep_deployments)
        self._empty(self.placements, self._keep)
        self._empty(self.release_rows, self._keep)
        self._empty(self.leases, self._keep)

    def _empty(self, cached: dict[Any, Any], bound: int) -> None:
        if len(cached) > bound:
            cached.clear()
