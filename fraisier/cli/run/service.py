"""`start`, `stop`, `restart` and `remove`: the service outside a deployment."""

from __future__ import annotations

from collections.abc import Sequence

from fraisier.cli import exits
from fraisier.cli.context import Call
from fraisier.cli.listening import run_async
from fraisier.cli.run.opening import opened
from fraisier.errors import FraisierError
from fraisier.providers.base import Action
from fraisier.rollout.request import find_environment

_DONE: dict[Action, str] = {
    "start": "started",
    "stop": "stopped",
    "restart": "restarted",
    "remove": "removed",
}


def start(call: Call, *, fraise: str, env: str, limit: Sequence[str], yes: bool) -> int:
    """Start the service."""
    return _control(call, "start", fraise, env, limit, yes=yes)


def stop(call: Call, *, fraise: str, env: str, limit: Sequence[str], yes: bool) -> int:
    """Stop the service."""
    return _control(call, "stop", fraise, env, limit, yes=yes)


def restart(call: Call, *, fraise: str, env: str, limit: Sequence[str], yes: bool) -> int:
    """Restart the service."""
    return _control(call, "restart", fraise, env, limit, yes=yes)


def remove(call: Call, *, fraise: str, env: str, limit: Sequence[str], yes: bool) -> int:
    """Take the service off its targets."""
    return _control(call, "remove", fraise, env, limit, yes=yes)


def _control(call: Call, action: Action, fraise: str, env: str, limit: Sequence[str], *, yes: bool) -> int:
    config = call.load()
    _, settings = find_environment(config, fraise, env)
    # What the globs mean may also be recorded only: a target of a fallback, or one that is no longer configured.
    names = list(limit) or [target.name for target in settings.targets]
    if call.interactive and not yes:
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        if not call.confirm(f"{action} {fraise} in {env} on {shown}?"):
            call.say("nothing was done")
            return exits.OK

    async def act() -> dict[str, FraisierError | None]:
        async with opened(call, config) as orchestrator:
            return await orchestrator.control(action, fraise, env, limit=limit)

    outcome = run_async(act)
    _tell(call, action, outcome)
    return exits.FAILED if any(outcome.values()) else exits.OK


def _tell(call: Call, action: Action, outcome: dict[str, FraisierError | None]) -> None:
    if call.json:
        rows = [
            {
                "name": name,
                "ok": error is None,
                "error": None
                if error is None
                else {"code": error.code, "message": error.message, "hint": error.hint},
            }
            for name, error in outcome.items()
        ]
        call.document({"action": action, "targets": rows})
        return
    painter = call.painter()
    for name, error in outcome.items():
        if error is None:
            call.data(f"{name}: {painter.paint(_DONE[action], 'green')}")
        else:
            call.data(f"{name}: {painter.paint('failed', 'red')}: {error.message}\n  try: {error.hint}")
