"""Hooks of the orchestrator in memory: they take no time unless told to, and break on command."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel

from fraisier.errors import HookError, InDoubtError
from fraisier.providers.base import StepCall


class ScriptedHooks:
    """Implements `HookRunner`. `calls` lists (phase, name, target, outcome) in the order in which hooks began, `done` those
    that came to their end.

    `exit_codes` are by name; one in `hanging` never ends, `delays_s` slows one down, `prints` are lines that one prints.
    Receipts are kept as a machine would: what began and has no exit code is in doubt for whoever asks again.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str, str]] = []
        self.done: list[tuple[str, str, str, str]] = []
        self.forgotten: list[str] = []
        self.exit_codes: dict[str, int] = {}
        self.hanging: set[str] = set()
        self.delays_s: dict[str, float] = {}
        self.prints: dict[str, list[str]] = {}
        self._receipts: dict[tuple[str, str, int, str, int], int | None] = {}

    async def run(self, call: StepCall) -> dict[str, Any]:
        """Run a hook, or take the receipt of an earlier attempt."""
        assert call.hook is not None
        hook, target = call.hook, call.context.target.name
        key = (call.deployment_id, hook.phase, hook.number, target)
        earlier = [
            self._receipts[(*key, n)] for n in range(call.attempt - 1, 0, -1) if (*key, n) in self._receipts
        ]
        if call.resumes and earlier:
            if earlier[0] is not None:
                return self._ended(call, earlier[0])
            if not hook.may_repeat:
                raise InDoubtError(f"the hook {hook.name} was begun, and has ended without an exit code")
        told = (hook.phase, hook.name, target, hook.outcome)
        self.calls.append(told)
        self._receipts[(*key, call.attempt)] = None
        for line in self.prints.get(hook.name, ()):
            if call.on_output is not None:
                call.on_output("stdout", line)
        await anyio.lowlevel.checkpoint()
        if hook.name in self.hanging:
            await anyio.sleep_forever()
        await anyio.sleep(self.delays_s.get(hook.name, 0.0))
        code = self._receipts[(*key, call.attempt)] = self.exit_codes.get(hook.name, 0)
        self.done.append(told)
        return self._ended(call, code)

    async def forget(self, deployment_id: str) -> None:
        """Note that a deployment has ended."""
        self.forgotten.append(deployment_id)

    def _ended(self, call: StepCall, code: int) -> dict[str, Any]:
        if code:
            raise HookError(f"{call.step} failed, exit code {code}", context={"exit_code": code})
        return {"exit_code": code}
