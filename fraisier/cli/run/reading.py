"""The store as the commands read it that change nothing: only the journal, read-only, without an orchestrator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fraisier.cli.context import Call
from fraisier.clock import SystemClock
from fraisier.config.schema import Config
from fraisier.errors import DatabaseConnectionError, NotFoundError
from fraisier.events import Record
from fraisier.ids import SystemIds
from fraisier.journal.base import Journal, OnCommit
from fraisier.journal.fold import DeploymentState
from fraisier.journal.store import open_journal, store_path


def ignore(records: Sequence[Record]) -> None:
    """Take no notice of what other processes write meanwhile."""


@asynccontextmanager
async def reading(
    call: Call, config: Config | None = None, *, on_commit: OnCommit = ignore
) -> AsyncIterator[Journal]:
    """Give the journal of the store, or an empty one where there is no store yet. Raises DatabaseConnectionError."""
    url = call.store_url(config)
    path = store_path(url)
    if path is not None and not _is_there(path):
        call.note(f"there is no store at {path} yet: nothing was recorded there")
        url = "memory:"
    elif path is not None and path.is_dir():
        message, hint = (
            f"the store {path} is a directory, not a file",
            "name a file in it: --store sqlite:///PATH",
        )
        raise DatabaseConnectionError(message, hint=hint, context={"path": str(path)}, recoverable=False)
    clock = SystemClock()
    journal = open_journal(url, clock=clock, ids=SystemIds(clock), read_only=True)
    await journal.open(on_commit)
    try:
        yield journal
    finally:
        await journal.close()


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise DatabaseConnectionError(
            f"the store {path} cannot be opened: {error.strerror}", context={"path": str(path)}, cause=error
        ) from error


async def one_deployment(journal: Journal, deployment_id: str) -> DeploymentState:
    """Return the deployment with this id, or whose id alone begins so. Raises NotFoundError."""
    found = await journal.deployment(deployment_id)
    if found is None:
        raise NotFoundError(
            f"there is no deployment {deployment_id!r} in this store",
            hint="run `fraisier history` to see their ids",
        )
    return found
