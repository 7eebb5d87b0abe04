"""`health`, and the live part of `status`: what the targets answer now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.listening import run_async
from fraisier.cli.render import one_line, table, took
from fraisier.cli.run.opening import opened
from fraisier.cli.run.status import check_names
from fraisier.config.schema import Config


async def live_status(call: Call, config: Config, fraise: str, env: str) -> dict[str, Any]:
    """Return the document of `status --live`."""
    async with opened(call, config) as orchestrator:
        return await orchestrator.status(fraise, env, live=True)


def health(call: Call, *, fraise: str, env: str) -> int:
    """Run the checks and print the answers; exit with 1 when a target is not healthy, else with 6 when one could not be
    asked."""
    config = call.load()
    check_names(config, fraise, env)

    async def ask() -> dict[str, Any]:
        async with opened(call, config) as orchestrator:
            return await orchestrator.health(fraise, env)

    found = run_async(ask)
    if call.json:
        call.document(found)
    else:
        heads = ("FRAISE", "ENV", "TARGET", "HEALTH", "CHECK", "TOOK", "SAYS")
        cells = [line for row in found["targets"] for line in _lines(row)]
        call.data(table(heads, cells, call.painter(), states=(3,)))
    statuses = {row["status"] for row in found["targets"]}
    if "fail" in statuses:
        return exits.FAILED
    return exits.UNREACHABLE if "error" in statuses else exits.OK


_HEALTH = {"pass": "healthy", "fail": "unhealthy", "error": "unknown"}


def _lines(row: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the line of a target, and one for each part of its check."""
    told = [row["message"] or row["reason"] or "", *(f"warning: {text}" for text in row["warnings"])]
    yield (
        row["fraise"],
        row["environment"],
        row["target"],
        _HEALTH[row["status"]],
        row["check_type"] or "-",
        took(row["duration_s"]),
        one_line("; ".join(filter(None, told))),
    )
    for part in row["parts"]:
        spent, said = took(part.get("duration_s")), one_line(part.get("message", ""))
        yield "", "", f"  {part['name']}", part["status"], part["check_type"], spent, said
