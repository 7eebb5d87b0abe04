"""The orchestrator's own hooks in memory: they run nothing, take no time unless told to, and break on command."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel

from fraisier.errors import HookError, InDoubtError
from fraisier.providers.base import StepCall

Told = tuple[str, str, str, str]
"""Phase, name, target (empty: the deployment as a whole) and outcome so far."""


class ScriptedHooks:
    """A `HookRunner` without processes. `calls` lists hooks in the order in which they began, `done` those that came to their
    end, `forgotten` the deployments that were over.

    `exit_codes` are by name; one in `hanging` never ends, `delays_s` slows one down, `prints` are lines that one prints.
    Receipts are kept as a machine would: what began and has no exit code is in doubt for whoever asks again.
    """

    def __init__(self) -> None:
        self.calls: list[Told] = []
        self.done: list[Told] = []
        self.forgotten: list[str] = []
        self.exit_codes: dict[str, int] = {}
        self.hanging: set[str] = set()
        self.delays_s: dict[str, float] = {}
        self.prints: dict[str, list[str]] = {}
        self._receipts: dict[tuple[str, str, str, str, int], int | None] = {}

    async def run(self, call: StepCall) -> dict[str, Any]:
        """Run a hook, or take the receipt of an earlier attempt."""
        assert call.hook is not None
        hook, target = call.hook, call.context.target.name
        await anyio.lowlevel.checkpoint()
        key = (call.deployment_id, hook.phase, hook.name, target)
        attempts = [(*key, number) for number in range(call.attempt - 1, 0, -1)]
        earlier = [self._receipts[attempt] for attempt in attempts if attempt in self._receipts]
        if call.resumes and earlier:
            if earlier[0] is not None:
                return _ended(call, earlier[0])
            if not hook.may_repeat:
                raise InDoubtError(f"the hook {hook.name} was begun, and has ended without an exit code")
        told = (hook.phase, hook.name, target, hook.outcome)
        self.calls.append(told)
        self._receipts[(*key, call.attempt)] = None
        for line in self.prints.get(hook.name, ()):
            if call.on_output is not None:
                call.on_output("stdout", line)
        if hook.name in self.hanging:
            await anyio.sleep_forever()
        await anyio.sleep(self.delays_s.get(hook.name, 0.0))
        code = self._receipts[(*key, call.attempt)] = self.exit_codes.get(hook.name, 0)
        self.done.append(told)
        await anyio.lowlevel.checkpoint()
        return _ended(call, code)

    def land(self) -> None:
        """Let every hook that is under way end: what began goes on when whoever began it is gone."""
        for key, code in self._receipts.items():
            self._receipts[key] = self.exit_codes.get(key[2], 0) if code is None else code

    @property
    def in_doubt(self) -> set[str]:
        """The names of hooks that began and have no end."""
        return {key[2] for key, code in self._receipts.items() if code is None}

    async def forget(self, deployment_id: str) -> None:
        """Note that a deployment is over."""
        self.forgotten.append(deployment_id)


def _ended(call: StepCall, code: int) -> dict[str, Any]:
    if code:
        raise HookError(f"{call.step} failed, exit code {code}", context={"exit_code": code})
    return {"exit_code": code}
