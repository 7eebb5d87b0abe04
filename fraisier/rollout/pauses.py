"""While a deployment is paused: its deadlines stand still, and health is still acted on."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio

from fraisier.errors import FraisierError
from fraisier.events import types as ev
from fraisier.rollout.crew import Crew
from fraisier.rollout.verdict import Halt

LIMIT_S = 24 * 3600.0
"""How long a pause lasts at most; then the deployment is interrupted, and can be resumed."""
_LOOK_EVERY_S = 15.0


class Pauses:
    """Keeps a walk waiting while a person wants it. `look` asks every updated target for its health and raises Halt when
    too many of them failed."""

    def __init__(self, crew: Crew, look: Callable[[], Awaitable[None]]) -> None:
        self._crew = crew
        self._stop = crew.steps.stop
        self._look = look
        self._scopes: list[anyio.CancelScope] = []
        self._left: list[tuple[anyio.CancelScope, float]] | None = None
        """The scopes whose deadlines stand still now, with the seconds that each has left; None without a pause."""
        self._halt: Halt | None = None
        self._failure: FraisierError | None = None

    def holds_still(self, scope: anyio.CancelScope) -> None:
        """Let the scope's deadline stand still during every pause, also during one that has begun already."""
        self._scopes.append(scope)
        if self._left is not None:
            self._stop_clock(self._left, scope)

    @staticmethod
    def _stop_clock(left: list[tuple[anyio.CancelScope, float]], scope: anyio.CancelScope) -> None:
        left.append((scope, scope.deadline - anyio.current_time()))
        scope.deadline = math.inf

    async def gate(self) -> None:
        """Wait while paused. Raises Halt when a target turned sick meanwhile."""
        crew = self._crew
        while self._stop.paused and not crew.halted and not crew.is_rollback:
            if crew.steps.state.state != "paused":
                await crew.scribe.say(ev.DeploymentPaused(**crew.about(), reason="requested"))
            await self._stop.change()
        self._raise()

    async def attend(self) -> None:
        """Stop the deadlines and look at what serves, for as long as each pause lasts. Runs beside the walk."""
        while True:
            while not self._stop.paused:
                await self._stop.change()
            left = self._left = []
            for scope in self._scopes:
                self._stop_clock(left, scope)
            with anyio.move_on_after(LIMIT_S) as limit:
                await self._watch()
            if limit.cancelled_caught:
                self._stop.request(f"paused for {LIMIT_S / 3600:g} hours")
                self._stop.go_on()
            self._left = None
            for scope, seconds in left:
                scope.deadline = anyio.current_time() + seconds

    async def _watch(self) -> None:
        while self._stop.paused:
            with anyio.move_on_after(_LOOK_EVERY_S):
                await self._stop.change()
                continue
            try:
                await self._look()
            except Halt as halt:
                self._halt = halt
            except FraisierError as error:
                self._failure = error
            if self._halt or self._failure:
                self._stop.go_on()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._halt is not None:
            raise self._halt
