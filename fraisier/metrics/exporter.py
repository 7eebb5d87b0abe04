"""The metrics of everything that a store holds: its log is read from the first row on, and goes on being read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread

from fraisier.clock import Clock
from fraisier.journal.base import Journal
from fraisier.metrics.deployment import DeploymentMetrics
from fraisier.metrics.recorder import MetricsRecorder
from fraisier.metrics.runtime import RuntimeMetrics, render_for
from fraisier.metrics.standing import IsDead, StandingMetrics, look
from fraisier.metrics.subscriber import MetricsSubscriber

PAGE = 1000


class Exporter:
    """Reads an open journal into a registry of its own. What is remembered is bounded, however long the log is.

    `is_dead` tells of a lease's holder that it is gone, `store_bytes` how large the store is.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        clock: Clock,
        is_dead: IsDead,
        store_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        self.journal = journal
        self.position = 0
        self._clock = clock
        self._is_dead = is_dead
        self._store_bytes = store_bytes
        metrics = DeploymentMetrics()
        self.registry: Any = metrics.registry
        self._recorder = MetricsRecorder(metrics)
        self._subscriber = MetricsSubscriber(self._recorder, find=journal.deployment)
        self._standing = StandingMetrics(self.registry)
        self.runtime = RuntimeMetrics(self.registry)

    async def refresh(self) -> None:
        """Read what is new in the log, and look how things stand. Cancelled, it goes on the next time where it was.

        Raises DatabaseError."""
        await self._read_on(self.journal.head)
        now_us = self._clock.now_us()
        found = await look(
            self.journal, now_us=now_us, is_dead=self._is_dead, store_bytes=self._store_bytes()
        )
        self._subscriber.settle(now_us)
        # Read from the log alone, a deployment whose process died would act for ever.
        self._recorder.set_active(found.active)
        self._standing.found = found

    async def _read_on(self, head: int) -> None:
        observe, knows = self._subscriber.observe, self._subscriber.knows
        while self.position < head:
            page = await self.journal.read(self.position, head, types=MetricsSubscriber.patterns, limit=PAGE)
            for record in page:
                if knows(record):
                    observe(record)
                else:
                    await self._subscriber(record)
                self.position = record.seq
            if len(page) < PAGE:
                self.position = head

    async def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the exposition as an Accept header asks for it, and its content type. Rendered in a thread."""
        return await anyio.to_thread.run_sync(render_for, self.registry, accept)
