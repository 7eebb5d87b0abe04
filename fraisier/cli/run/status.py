"""`status` and `status-all`: the targets as recorded, and, when asked for, as they answer now."""

from __future__ import annotations

from typing import Any

from fraisier import reports
from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.ending import load_module
from fraisier.cli.listening import run_async
from fraisier.cli.render import Painter, age, one_line, short, table
from fraisier.cli.run.reading import reading
from fraisier.config.schema import Config
from fraisier.errors import UsageError
from fraisier.rollout.request import find_environment, suggestion


def status_all(call: Call, *, live: bool) -> int:
    """Print the state of every target."""
    return status(call, fraise="", env="", live=live)


def status(call: Call, *, fraise: str, env: str, live: bool) -> int:
    """Print the state of the targets; exit with 0 whatever it is."""
    config = call.load()

    if live:
        check_names(config, fraise, env)
        # Asking the targets needs the whole orchestrator; what was recorded does not.
        asking = load_module("fraisier.cli.run.asking")
        found: dict[str, Any] = run_async(asking.live_status, call, config, fraise, env)
    else:
        found = run_async(_recorded, call, config, fraise, env)
    if call.json:
        call.document(found)
    else:
        call.data(_text(found["fraises"], call.painter(), live=live))
    return exits.OK


async def _recorded(call: Call, config: Config, fraise: str, env: str) -> dict[str, Any]:
    async with reading(call, config) as journal:
        found = await reports.status(journal, config, fraise=fraise, environment=env)
    if not found["fraises"]:
        check_names(config, fraise, env)
    return found


def check_names(config: Config, fraise: str, env: str) -> None:
    """Raise UsageError, with the nearest name, for a fraise or environment that is not configured."""
    if fraise and env:
        find_environment(config, fraise, env)
    elif fraise and fraise not in config.fraises:
        raise UsageError(
            f"there is no fraise {fraise!r}{suggestion(fraise, list(config.fraises))}", code="NOT_FOUND"
        )


def _text(rows: list[dict[str, Any]], painter: Painter, *, live: bool) -> str:
    heads = ["FRAISE", "ENV", "TARGET", "VERSION", "HEALTH", "SINCE", "DEPLOYMENT"]
    if live:
        heads += ["LIVE VERSION", "RUNNING", "ANSWERS"]
    cells = []
    for row in rows:
        deployment = row["deployment"]
        state = f"{deployment['state']} {deployment['id'][:13]}" if deployment else "-"
        for target in row["targets"]:
            health = "orphaned" if target["orphaned"] else target["health"]
            cell = [row["fraise"], row["environment"], target["name"], short(target["version"]), health]
            cells.append([*cell, age(target["since"]), state, *(_live(target.get("live")) if live else ())])
    return table(heads, cells, painter, states=(4, 8, 9))


def _live(found: dict[str, Any] | None) -> tuple[str, str, str]:
    if found is None:
        return "-", "-", "-"
    if found["unreachable"]:
        return "-", "unreachable", one_line(found["unreachable"])
    return short(found["version"] or found["release"]), _yes_no(found["running"]), _yes_no(found["healthy"])


def _yes_no(answer: bool | None) -> str:
    return "-" if answer is None else "yes" if answer else "no"
