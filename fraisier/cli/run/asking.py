"""`health`, and the live part of `status`: what the targets answer now."""

from __future__ import annotations

from typing import Any

import anyio

from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.render import one_line, table, took
from fraisier.cli.run.opening import opened
from fraisier.cli.run.status import check_names
from fraisier.config.schema import Config


async def live_status(call: Call, config: Config, fraise: str, env: str) -> dict[str, Any]:
    """Return the document of `status --live`."""
    async with opened(call, config) as orchestrator:
        return await orchestrator.status(fraise, env, live=True)


def health(call: Call, *, fraise: str, env: str) -> int:
    """Run the checks and print the answers; exit with 1 when a target is not healthy."""
    config = call.load()
    check_names(config, fraise, env)

    async def ask() -> dict[str, Any]:
        async with opened(call, config) as orchestrator:
            return await orchestrator.health(fraise, env)

    found = anyio.run(ask)
    if call.json:
        call.document(found)
    else:
        heads = ("FRAISE", "ENV", "TARGET", "HEALTH", "CHECK", "TOOK", "SAYS")
        cells = [
            (
                row["fraise"],
                row["environment"],
                row["target"],
                "healthy" if row["healthy"] else "unhealthy",
                row["check_type"] or "-",
                took(row["duration_s"]),
                one_line(row["message"] or row["reason"] or ""),
            )
            for row in found["targets"]
        ]
        call.data(table(heads, cells, call.painter(), states=(3,)))
    return exits.OK if found["healthy"] else exits.FAILED
