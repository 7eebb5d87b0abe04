"""`deploy`, `rollback` and `retry`: show the plan and ask, then do it under everybody's eyes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.listening import run_async
from fraisier.cli.run.opening import opened
from fraisier.cli.run.plan import plan_document, plan_text
from fraisier.cli.run.summary import print_results
from fraisier.cli.run.watching import watched
from fraisier.config.schema import Config
from fraisier.orchestrator import Orchestrator
from fraisier.rollout.plan import Plan
from fraisier.rollout.result import DeploymentResult

Preview = Callable[[Orchestrator], Awaitable[list[Plan]]]
Work = Callable[[Orchestrator], Awaitable[list[DeploymentResult]]]

_PLAN_ROWS = 40


def deploy(
    call: Call,
    *,
    fraises: Sequence[str],
    env: str,
    version: str,
    limit: Sequence[str],
    exclude: Sequence[str],
    strategy: str,
    dry_run: bool,
    force: bool,
    skip_hooks: bool,
    yes: bool,
    lock_wait: float,
) -> int:
    """Deploy one or several fraises."""
    options: dict[str, Any] = {"limit": limit, "exclude": exclude, "strategy": strategy, "force": force}
    options["skip_hooks"] = skip_hooks
    versions = dict.fromkeys(fraises, version)

    async def preview(orchestrator: Orchestrator) -> list[Plan]:
        return [await orchestrator.plan(name, env, version=version, **options) for name in fraises]

    async def work(orchestrator: Orchestrator) -> list[DeploymentResult]:
        if len(fraises) > 1:
            return await orchestrator.deploy_many(
                fraises, env, version=version, lock_wait_s=lock_wait, **options
            )
        name = fraises[0]
        return [
            await orchestrator.deploy(name, env, version=versions[name], lock_wait_s=lock_wait, **options)
        ]

    def agreed(plans: Sequence[Plan]) -> None:
        """Deploy what was shown, even if the branch moves on while the person reads."""
        for plan in plans:
            if plan.artifact is not None and plan.artifact.kind == "git":
                versions[plan.fraise] = plan.version

    return _carry_out(call, preview, work, dry_run=dry_run, ask=not yes, agreed=agreed)


def rollback(
    call: Call,
    *,
    fraise: str,
    env: str,
    to: str,
    limit: Sequence[str],
    force: bool,
    dry_run: bool,
    yes: bool,
    lock_wait: float,
) -> int:
    """Undo the latest deployment, or bring back a named release."""
    options: dict[str, Any] = {"to": to, "limit": limit, "force": force}

    async def preview(orchestrator: Orchestrator) -> list[Plan]:
        return [await orchestrator.plan_rollback(fraise, env, **options)]

    async def work(orchestrator: Orchestrator) -> list[DeploymentResult]:
        return [await orchestrator.rollback(fraise, env, lock_wait_s=lock_wait, **options)]

    return _carry_out(call, preview, work, dry_run=dry_run, ask=not yes)


def retry(call: Call, *, deployment: str, force: bool, yes: bool, lock_wait: float) -> int:
    """Deploy the version of a deployment to the targets that it did not reach."""

    async def preview(orchestrator: Orchestrator) -> list[Plan]:
        return [await orchestrator.plan_retry(deployment, force=force)]

    async def work(orchestrator: Orchestrator) -> list[DeploymentResult]:
        return [await orchestrator.retry(deployment, force=force, lock_wait_s=lock_wait)]

    return _carry_out(call, preview, work, dry_run=False, ask=not yes)


def _carry_out(
    call: Call,
    preview: Preview,
    work: Work,
    *,
    dry_run: bool,
    ask: bool,
    agreed: Callable[[Sequence[Plan]], None] | None = None,
) -> int:
    config = call.load()
    if dry_run or (ask and call.interactive):
        plans = run_async(_preview, call, config, preview)
        if dry_run:
            _print_plans(call, plans)
            return exits.OK
        if not _ask(call, plans):
            call.say("nothing was done")
            return exits.OK
        if agreed is not None:
            agreed(plans)
    # Asking is done outside of an event loop: a thread that waits for a key cannot be cancelled.
    results = watched(call, config, work)
    print_results(call, results)
    return exits.worst(exits.of_outcome(result.outcome) for result in results)


async def _preview(call: Call, config: Config, preview: Preview) -> list[Plan]:
    async with opened(call, config) as orchestrator:
        return await preview(orchestrator)


def _print_plans(call: Call, plans: Sequence[Plan]) -> None:
    if call.json:
        documents = [plan_document(plan) for plan in plans]
        call.document(documents[0] if len(documents) == 1 else {"plans": documents})
    else:
        call.data("\n\n".join(plan_text(plan, call.painter()) for plan in plans))


def _ask(call: Call, plans: Sequence[Plan]) -> bool:
    painter = call.painter(call.stderr)
    for plan in plans:
        call.say(plan_text(plan, painter, most=_PLAN_ROWS) + "\n")
    changes = sum(len(plan.changes) for plan in plans)
    if not changes:
        return True  # it will find that there is nothing to do, and record that
    return call.confirm(f"change {changes} target{'s' if changes > 1 else ''}?")
