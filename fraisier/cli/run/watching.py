"""A deployment under way: its events are told as they happen, and signals stop it in an orderly way."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack

import anyio

from fraisier.cli.context import Call
from fraisier.cli.ending import INSISTS_S, ending
from fraisier.cli.listening import run_async, signals_go_to
from fraisier.cli.run.opening import opened
from fraisier.cli.run.tellers import Teller, make_teller
from fraisier.clock import SystemClock
from fraisier.config.schema import Config
from fraisier.errors import FraisierError
from fraisier.events import Record
from fraisier.events import types as ev
from fraisier.ids import Ids, SystemIds
from fraisier.orchestrator import Orchestrator
from fraisier.rollout.result import DeploymentResult, result_of

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
_LAST_LINES_S = 10.0

Work = Callable[[Orchestrator], Awaitable[list[DeploymentResult]]]


class NotedIds:
    """Makes identifiers and remembers those of our own deployments, to tell them from those of other processes."""

    def __init__(self, inner: Ids | None = None) -> None:
        self._inner = inner or SystemIds(SystemClock())
        self.made: dict[str, None] = {}

    def deployment(self) -> str:
        """Return a new identifier and remember it."""
        made = self._inner.deployment()
        self.note(made)
        return made

    def note(self, *known: str) -> None:
        """Remember deployments that another process made, and that this one goes on with."""
        self.made |= dict.fromkeys(one for one in known if one)

    def event(self) -> str:
        """Return a new identifier of an event."""
        return self._inner.event()


def watched(
    call: Call, config: Config, work: Work, *, ids: NotedIds | None = None, teller: Teller | None = None
) -> list[DeploymentResult]:
    """Do the work while its events are told; return the results, those of interrupted deployments too.

    `ids` knows the deployments whose events are told; `teller` takes the place of the one that fits the terminal. The
    first signal asks for an orderly stop, the second cancels. Raises what the work raises.
    """
    return run_async(_watched, call, config, work, ids or NotedIds(), teller)


async def _watched(
    call: Call, config: Config, work: Work, ids: NotedIds, teller: Teller | None
) -> list[DeploymentResult]:
    with ExitStack() as listening:  # until everything is closed: the result is still to be printed
        async with AsyncExitStack() as stack:
            orchestrator = await stack.enter_async_context(opened(call, config, ids=ids))
            if teller is None:
                teller = await stack.enter_async_context(make_teller(call))
            watch = _Watch(orchestrator, teller, ids)
            listening.enter_context(signals_go_to(watch.heed))
            results = await watch.run(work)
        ending.hold()  # it has come to its end, and is told what that is
    watch.raise_failure()
    return results


class _Watch:
    def __init__(self, orchestrator: Orchestrator, teller: Teller, ids: NotedIds) -> None:
        self._orchestrator = orchestrator
        self._teller = teller
        self._ids = ids
        self._position = orchestrator.journal.head
        self._progress = anyio.Event()
        self._scope = anyio.CancelScope()
        self._stopped_s: float | None = None
        self._failure: FraisierError | BaseExceptionGroup | None = None

    async def run(self, work: Work) -> list[DeploymentResult]:
        results: list[DeploymentResult] = []
        async with anyio.create_task_group() as group, self._orchestrator.subscribe() as records:
            group.start_soon(self._tell, records, name="cli:tell")
            with self._scope:
                results = await self._attempt(work)
            await self._told()
            group.cancel_scope.cancel()
        if self._scope.cancelled_caught and self._failure is None:
            results = await self._from_journal()
        return results

    def raise_failure(self) -> None:
        """Raise what the work raised, if it did."""
        if self._failure is not None:
            raise self._failure

    async def _attempt(self, work: Work) -> list[DeploymentResult]:
        try:
            return await work(self._orchestrator)
        except (FraisierError, ExceptionGroup) as failure:
            # Kept for later: what happened up to here is told first.
            self._failure = failure
            return []

    # events

    async def _tell(self, records: AsyncIterator[Record]) -> None:
        async for record in records:
            event = record.event
            if event.deployment_id in self._ids.made:
                if isinstance(event, ev.RollbackStarted):
                    self._ids.note(event.child_id)
                if isinstance(event, ev.DeploymentResumed):
                    await self._recall(record)
                await self._teller.tell(record)
            if record.seq:
                self._position = record.seq
                self._progress.set()

    async def _recall(self, resumed: Record) -> None:
        """Let the teller know what happened before it was there."""
        after, of = 0, resumed.event.deployment_id
        while page := await self._orchestrator.journal.read(after, resumed.seq - 1, deployment_id=of):
            for record in page:
                self._teller.recall(record)
            after = page[-1].seq

    async def _told(self) -> None:
        """Wait until everything that was journalled is told; who reads our output may be slow, but not for ever."""
        head = self._orchestrator.journal.head
        with anyio.move_on_after(_LAST_LINES_S, shield=True):
            while self._position < head and not self._teller.deaf:
                self._progress = anyio.Event()
                await self._progress.wait()

    # signals

    def heed(self, number: signal.Signals) -> None:
        """Ask for an orderly stop at the first signal, and cancel the work at the second.

        What service managers and shells send in one moment is one wish; a person's second Ctrl-C is a second one.
        """
        name = _NAMES[number]
        now_s = anyio.current_time()
        if self._stopped_s is None:
            self._stopped_s = now_s
            self._orchestrator.stop(f"interrupted by {name}")
            self._teller.say(f"{name}: finishing the running step of each target; once more to stop now")
        elif number == signal.SIGINT or now_s - self._stopped_s >= INSISTS_S:
            self._teller.say(f"{name}: stopping now")
            self._scope.cancel()

    # the end of a cancelled run

    async def _from_journal(self) -> list[DeploymentResult]:
        journal = self._orchestrator.journal
        states = [found for made in self._ids.made if (found := await journal.deployment(made)) is not None]
        linked = {child for state in states for child in (state.child_id, *state.children.values())}
        return [result_of(state, journal.head_hash) for state in states if state.id not in linked]
