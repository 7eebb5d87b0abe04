"""`events`: the journal, as it was and as it grows."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence

import anyio
import msgspec

from fraisier.cli.context import Call
from fraisier.cli.lines import format_line
from fraisier.cli.listening import run_async
from fraisier.cli.run.output import Output
from fraisier.cli.run.reading import one_deployment, reading
from fraisier.events import Record, to_public
from fraisier.journal.base import Journal

_PAGE = 512
_NOTICED_AGAIN_S = 0.5


def events(call: Call, *, deployment: str, follow: bool, lines: int | None) -> int:
    """Print the journal of all or one deployment; with `follow`, go on with what comes."""
    run_async(_events, call, deployment, follow, lines)
    return 0


class _Tail:
    """Reads the journal page by page and waits at its end. The pages are the buffer, so a slow reader loses nothing."""

    def __init__(self) -> None:
        self._news = anyio.Event()

    def notice(self, records: Sequence[Record]) -> None:
        """Called by the journal when there is more."""
        self._news.set()

    async def read(self, journal: Journal, deployment_id: str, *, follow: bool) -> AsyncIterator[Record]:
        """Yield records in order; when following, for ever."""
        after = 0
        while True:
            self._news = anyio.Event()
            while page := await journal.read(after, deployment_id=deployment_id, limit=_PAGE):
                for record in page:
                    yield record
                after = page[-1].seq
            if not follow:
                return
            # What comes between the read and the wait sets the new event; the deadline is a second net.
            with anyio.move_on_after(_NOTICED_AGAIN_S):
                await self._news.wait()


async def _events(call: Call, deployment: str, follow: bool, lines: int | None) -> None:
    tail = _Tail()
    output = Output(call, call.stdout)
    async with reading(call, on_commit=tail.notice) as journal:
        wanted = (await one_deployment(journal, deployment)).id if deployment else ""
        if lines is not None:
            past: deque[Record] = deque(maxlen=lines)
            async for record in tail.read(journal, wanted, follow=False):
                past.append(record)
            for record in past:
                await _print(call, output, record)
            if not follow:
                return
        after = journal.head if lines is not None else 0
        async for record in tail.read(journal, wanted, follow=follow):
            if record.seq > after:
                await _print(call, output, record)
            if wanted and follow and await _is_over(journal, wanted, record):
                return


async def _is_over(journal: Journal, deployment_id: str, record: Record) -> bool:
    """Whether this was the last event of a deployment that has ended."""
    found = await journal.deployment(deployment_id)
    return found is not None and found.is_terminal and record.seq >= found.last_seq


async def _print(call: Call, output: Output, record: Record) -> None:
    line = msgspec.json.encode(to_public(record)).decode() if call.json else format_line(record)
    if line is not None:
        await output.write(line)
