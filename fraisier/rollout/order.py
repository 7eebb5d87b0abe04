"""Several fraises at once: each after those it depends on, side by side where they may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio

from fraisier.config.schema import Config
from fraisier.errors import FraisierError
from fraisier.rollout.request import DeployRequest
from fraisier.rollout.result import DeploymentResult

Run = Callable[[DeployRequest], Awaitable[DeploymentResult]]
Skip = Callable[[DeployRequest, str], Awaitable[DeploymentResult]]

GOOD = frozenset({"succeeded", "unchanged"})


def needed(config: Config, fraise: str, among: Sequence[str]) -> set[str]:
    """Return which of `among` must have succeeded before `fraise`, through any number of fraises in between."""
    found: set[str] = set()
    waiting = list(config.fraises[fraise].depends_on)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in among:
            found.add(name)
        if name in config.fraises:
            waiting.extend(config.fraises[name].depends_on)
    return found


async def deploy_in_order(
    config: Config, requests: Sequence[DeployRequest], *, run: Run, skip: Skip
) -> list[DeploymentResult]:
    """Run the requests and return the results in the order in which they ended. An error that leaves no result (a lost
    lease) is raised once the others have ended."""
    names = [request.fraise for request in requests]
    ended = {name: anyio.Event() for name in names}
    outcomes: dict[str, str] = {}
    results: list[DeploymentResult] = []
    errors: list[FraisierError] = []

    async def one(request: DeployRequest) -> None:
        try:
            before = needed(config, request.fraise, names)
            for name in sorted(before):
                await ended[name].wait()
            failed = [name for name in sorted(before) if outcomes.get(name) not in GOOD]
            if failed:
                result = await skip(request, f"{', '.join(failed)}, which it depends on, did not succeed")
            else:
                result = await run(request)
            outcomes[request.fraise] = result.outcome
            results.append(result)
        except FraisierError as error:
            errors.append(error)
        finally:
            ended[request.fraise].set()

    async with anyio.create_task_group() as group:
        for request in requests:
            group.start_soon(one, request, name=f"deploy:{request.fraise}@{request.environment}")
    if errors:
        raise errors[0]
    return results
