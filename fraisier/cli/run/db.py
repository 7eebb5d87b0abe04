"""`db`: upgrade, check, back up and restore the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.listening import run_async
from fraisier.cli.run.reading import reading
from fraisier.cli.run.upkeep import note
from fraisier.clock import SystemClock
from fraisier.errors import DatabaseConnectionError, UsageError
from fraisier.ids import SystemIds
from fraisier.journal import maintenance
from fraisier.journal.store import store_path

T = TypeVar("T")


def _store(call: Call, *, must_exist: bool) -> Path:
    path = store_path(call.store_url())
    if path is None:
        raise UsageError("a store in memory has no file", hint="name a store with --store sqlite:///PATH")
    if must_exist and not path.exists():
        raise DatabaseConnectionError(
            f"there is no store {path}", context={"path": str(path)}, recoverable=False
        )
    return path


def _run(work: Callable[[], Awaitable[T]]) -> T:
    """Do the work. Raises DatabaseConnectionError when a file or directory does not let us."""
    try:
        return run_async(work)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise DatabaseConnectionError(f"{where}{error.strerror}", recoverable=False, cause=error) from error


def upgrade(call: Call) -> int:
    """Apply the missing migrations."""
    path = _store(call, must_exist=False)
    ids = SystemIds(SystemClock())

    async def work() -> tuple[int, int]:
        before, after = await maintenance.upgrade_store(path, ids=ids)
        if 0 < before < after:
            await note(path, "store.upgraded", f"from schema {before} to {after}", before=before, after=after)
        return before, after

    before, after = _run(work)
    if call.json:
        call.document({"path": str(path), "before": before, "after": after})
    else:
        call.data(
            f"{path}: schema {before} -> {after}"
            if before != after
            else f"{path}: schema {after}, nothing to do"
        )
    return exits.OK


def check(call: Call) -> int:
    """Print every fault; exit with 1 when there are any."""
    path = _store(call, must_exist=True)

    async def work() -> list[str]:
        async with reading(call) as journal:
            return await journal.check()

    faults = _run(work)
    if call.json:
        call.document({"ok": not faults, "path": str(path), "problems": faults})
    else:
        for fault in faults:
            call.data(fault)
        call.note(f"{path}: {len(faults)} faults" if faults else f"{path} is sound")
    return exits.FAILED if faults else exits.OK


def backup(call: Call, *, file: str) -> int:
    """Copy the store into a new file."""
    path, destination = _store(call, must_exist=True), Path(file).absolute()

    async def work() -> tuple[int, str]:
        verified = await maintenance.backup(path, destination)
        return verified.rows, verified.head

    rows, head = _run(work)
    if call.json:
        call.document({"path": str(path), "backup": str(destination), "rows": rows, "head": head})
    else:
        call.data(f"{destination}: {rows} rows, verified, head {head or '-'}")
    return exits.OK


def restore(call: Call, *, file: str, force: bool, yes: bool) -> int:
    """Put a backup in the place of the store."""
    path, source = _store(call, must_exist=False), Path(file).absolute()
    if not source.exists():
        raise UsageError(f"there is no file {source}", hint="name a file that `fraisier db backup` made")
    if call.interactive and not yes and not call.confirm(f"replace the store {path} by {source}?"):
        call.say("nothing was done")
        return exits.OK

    async def work() -> Path | None:
        clock = SystemClock()
        kept = await maintenance.restore(path, source, clock=clock, ids=SystemIds(clock), force=force)
        if kept is not None:  # a copy put elsewhere is nobody's store yet, and stays as it is
            await note(path, "store.restored", f"from {source}", replaced=str(kept), forced=force)
        return kept

    replaced = _run(work)
    if call.json:
        call.document(
            {"path": str(path), "source": str(source), "replaced": str(replaced) if replaced else None}
        )
    else:
        kept = f"; the replaced store is {replaced}" if replaced else ""
        call.data(f"{path} is now a copy of {source}{kept}")
    return exits.OK
