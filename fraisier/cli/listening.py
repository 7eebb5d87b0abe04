"""Being asked to end while an event loop runs: what runs in it is cancelled, unless it listens for itself."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import anyio
import anyio.lowlevel

from fraisier.cli.ending import SIGNALS, ending, held, is_ours_to_heed
from fraisier.cli.exits import INTERRUPTED

T = TypeVar("T")

Listener = Callable[[signal.Signals], None]

_TURNS = 4
"""As many turns of the event loop take a signal from the interpreter to us; one that came at the end is not lost."""

_LISTENERS: ContextVar[list[Listener] | None] = ContextVar("listeners", default=None)


@contextmanager
def signals_go_to(listener: Listener) -> Iterator[None]:
    """Within `run_async`, call `listener` with each signal instead of cancelling what runs."""
    listeners = _LISTENERS.get()
    if listeners is None:  # the signals are another's
        yield
        return
    listeners.append(listener)
    try:
        yield
    finally:
        listeners.remove(listener)


def run_async(function: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """Run a coroutine function in an event loop that heeds signals from its first moment to its last.

    They cancel the function; one more, a second later, ends the process without waiting for what it clears away. Raises
    what the function raises, and KeyboardInterrupt when it was cancelled so.
    """
    if threading.current_thread() is not threading.main_thread():
        return anyio.run(function, *arguments)  # an application that embeds us has the signals
    heeded = {number: signal.getsignal(number) for number in SIGNALS if is_ours_to_heed(number)}
    with held():
        try:
            return anyio.run(_run, function, arguments, list(heeded))
        finally:
            for number, handler in heeded.items():
                signal.signal(number, handler)


async def _run(
    function: Callable[..., Awaitable[T]], arguments: Sequence[object], heeded: Sequence[signal.Signals]
) -> T:
    scope = anyio.CancelScope()
    listeners: list[Listener] = []
    _LISTENERS.set(listeners)
    failure: Exception | None = None
    with anyio.open_signal_receiver(*heeded) as signals:
        if ending.is_noted:
            scope.cancel()
        async with anyio.create_task_group() as group:
            group.start_soon(_listen, signals, scope, listeners, name="cli:signals")
            with scope:
                try:
                    result = await function(*arguments)
                except Exception as error:  # noqa: BLE001 - told as it is, and not as one of a group
                    failure = error
            for _ in range(_TURNS):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    for number in heeded:
        signal.signal(number, ending)  # what listened has left the defaults behind
    if failure is not None:
        raise failure
    if scope.cancelled_caught:
        raise KeyboardInterrupt
    return result


async def _listen(
    signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope, listeners: Sequence[Listener]
) -> None:
    async for number in signals:
        if listeners:
            listeners[-1](number)
        elif not ending.is_noted:
            ending.note()
            scope.cancel()
        elif ending.is_insisted_on:
            os._exit(INTERRUPTED)
