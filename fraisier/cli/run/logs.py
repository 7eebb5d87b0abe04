"""`logs`: what the service writes on its targets."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.listening import run_async
from fraisier.cli.run.opening import opened
from fraisier.cli.run.output import Output


def logs(call: Call, *, fraise: str, env: str, target: Sequence[str], follow: bool, lines: int) -> int:
    """Print the last lines of every target, then, when following, what comes."""
    run_async(_logs, call, fraise, env, tuple(target), follow, lines)
    return exits.OK


async def _logs(call: Call, fraise: str, env: str, target: Sequence[str], follow: bool, lines: int) -> None:
    output = Output(call, call.stdout)
    async with (
        opened(call) as orchestrator,
        orchestrator.logs(fraise, env, limit=target, lines=lines, follow=follow) as stream,
    ):
        async for name, line in stream:
            text = (
                json.dumps({"target": name, "line": line}, ensure_ascii=False)
                if call.json
                else f"{name} | {line}"
            )
            await output.write(text)
