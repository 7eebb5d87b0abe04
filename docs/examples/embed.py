"""Deploy from a program of your own: print each target's news as it comes, then the result.

Usage: python embed.py fraises.yaml FRAISE ENVIRONMENT
"""

from __future__ import annotations

import sys

import anyio
from anyio.abc import TaskStatus

from fraisier import Orchestrator, load_config
from fraisier.events import to_public


async def tell(orchestrator: Orchestrator, *, task_status: TaskStatus[None]) -> None:
    """Print what happens to the targets, from now on."""
    async with orchestrator.subscribe("target.*", "deployment.*") as records:
        task_status.started()
        async for record in records:
            news = to_public(record)
            print(news["type"], news["target"] or "-", flush=True)


async def main(path: str, fraise: str, environment: str) -> int:
    """Deploy the head of the configured branch. Return 0 when every target has it."""
    async with Orchestrator(load_config(path)) as orchestrator, anyio.create_task_group() as tasks:
        await tasks.start(tell, orchestrator)
        result = await orchestrator.deploy(fraise, environment)
        tasks.cancel_scope.cancel()
    print(result.outcome, result.version, *(f"{target.name}={target.outcome}" for target in result.targets))
    return 0 if result.outcome in ("succeeded", "unchanged") else 1


if __name__ == "__main__":
    config, fraise, environment = sys.argv[1:4]
    sys.exit(anyio.run(main, config, fraise, environment))
