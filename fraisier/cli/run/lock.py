"""`lock`: who deploys now, and what is frozen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.listening import run_async
from fraisier.cli.render import age, one_line, table, took
from fraisier.cli.run.opening import opened
from fraisier.cli.run.status import check_names
from fraisier.errors import UsageError
from fraisier.orchestrator import Orchestrator

Work = Callable[[Orchestrator], Awaitable[dict[str, Any]]]


def status(call: Call, *, fraise: str, env: str) -> int:
    """Print every lock; exit with 0 whether there are any or not."""
    if not env:
        check_names(call.load(), fraise, "")
    found = _ask(call, lambda orchestrator: orchestrator.lock_status(fraise, env))
    if call.json:
        call.document(found)
        return exits.OK
    parts = [part for part in (_leases(found["leases"], call), _freezes(found["freezes"], call)) if part]
    call.data("\n\n".join(parts) or "nothing is locked")
    return exits.OK


def acquire(call: Call, *, fraise: str, env: str, message: str, for_s: float) -> int:
    """Freeze a fraise in an environment."""
    if not message:
        raise UsageError("a freeze needs a message that says why", hint="add -m 'why nobody may deploy now'")
    found = _ask(call, lambda orchestrator: orchestrator.freeze(fraise, env, message, for_s=for_s))
    if call.json:
        call.document(found)
        return exits.OK
    until = f"until {found['until']}" if found["until"] else "until it is released"
    call.data(f"{fraise} in {env} is frozen {until}: {one_line(found['message'])}")
    _tell_running(call, found["running"])
    return exits.OK


def release(call: Call, *, fraise: str, env: str, force: bool) -> int:
    """End a freeze, or break a lease."""
    found = _ask(call, lambda orchestrator: orchestrator.thaw(fraise, env, force=force))
    if call.json:
        call.document(found)
        return exits.OK
    for row in found["released"]:
        if row["kind"] == "freeze":
            what = f"the freeze of {row['owner']} ({one_line(row['message'])})"
        else:
            what = f"the lock of {row['owner']} (host {row['host']}, pid {row['pid']}, {row['state']})"
        call.data(f"{fraise} in {env}: released {what}")
    if not found["released"]:
        call.data(f"{fraise} in {env} is not locked: there was nothing to release")
    _tell_running(call, found["running"])
    return exits.OK


def _ask(call: Call, work: Work) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        async with opened(call) as orchestrator:
            return await work(orchestrator)

    return run_async(ask)


def _tell_running(call: Call, running: dict[str, Any] | None) -> None:
    if running is not None:
        call.say(
            f"deployment {running['deployment_id']} of {running['owner']} runs since {running['since']} and goes on; "
            f"`fraisier abort {running['deployment_id']}` would end it"
        )


def _leases(rows: list[dict[str, Any]], call: Call) -> str:
    heads = (
        "FRAISE",
        "ENV",
        "HOLDER",
        "HOST",
        "PID",
        "PROCESS",
        "SINCE",
        "EXPIRES IN",
        "EPOCH",
        "DEPLOYMENT",
        "VERSION",
    )
    cells = [
        (
            row["fraise"],
            row["environment"],
            row["owner"],
            row["host"] or "-",
            str(row["pid"] or "-"),
            row["state"],
            age(row["since"]),
            took(row["expires_in_s"]) if row["expires_in_s"] else "expired",
            str(row["epoch"]),
            row["deployment_id"] or "-",
            row["version"] or "-",
        )
        for row in rows
    ]
    return table(heads, cells, call.painter()) if cells else ""


def _freezes(rows: list[dict[str, Any]], call: Call) -> str:
    heads = ("FRAISE", "ENV", "FROZEN BY", "SINCE", "UNTIL", "MESSAGE")
    cells = [
        (
            row["fraise"],
            row["environment"],
            row["owner"],
            row["since"],
            row["until"] or "released",
            row["message"],
        )
        for row in rows
    ]
    return table(heads, cells, call.painter()) if cells else ""
