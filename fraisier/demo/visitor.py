"""A visitor of the demonstration's service: asks all targets again and again, and notes who answered what."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskStatus

ROUND_S = 0.025
ANSWER_S = 2.0


async def ask(port: int, path: str = "/") -> tuple[int, str]:
    """Return status and body of a GET on 127.0.0.1; the status is 0 when nobody answered, within two seconds."""
    answer = b""
    try:
        with anyio.fail_after(ANSWER_S):
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
                async for piece in stream:
                    answer += piece
    except (OSError, TimeoutError, anyio.BrokenResourceError):
        return 0, ""
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    if len(words) < 2 or not words[1].isdigit():
        return 0, ""
    return int(words[1]), body.decode(errors="replace").strip()


@dataclass
class Visits:
    """What a visitor saw. `rounds` is how often all targets were asked; `dark` how often none of them answered;
    `most_away` the most targets that were away in one round; `greetings` counts the answers by their text."""

    rounds: int = 0
    answered: int = 0
    refused: int = 0
    dark: int = 0
    most_away: int = 0
    greetings: Counter[str] = field(default_factory=Counter)

    def note(self, answers: Mapping[str, tuple[int, str]]) -> None:
        """Count one round: status and body by target."""
        away = [name for name, (status, _) in answers.items() if status != 200]
        self.rounds += 1
        self.answered += len(answers) - len(away)
        self.refused += len(away)
        self.dark += len(away) == len(answers)
        self.most_away = max(self.most_away, len(away))
        self.greetings.update(body for status, body in answers.values() if status == 200)


async def ask_all(ports: Mapping[str, int], path: str = "/") -> dict[str, tuple[int, str]]:
    """Ask all targets at the same time; return status and body by target."""
    answers: dict[str, tuple[int, str]] = {}

    async def one(name: str, port: int) -> None:
        answers[name] = await ask(port, path)

    async with anyio.create_task_group() as tasks:
        for name, port in ports.items():
            tasks.start_soon(one, name, port, name=f"visit:{name}")
    return {name: answers[name] for name in ports}


@asynccontextmanager
async def visiting(ports: Mapping[str, int]) -> AsyncIterator[Visits]:
    """Keep asking all targets until the block is left."""
    visits = Visits()

    async def keep_asking(*, task_status: TaskStatus[None]) -> None:
        visits.note(await ask_all(ports))
        task_status.started()
        while True:
            await anyio.sleep(ROUND_S)
            visits.note(await ask_all(ports))

    async with anyio.create_task_group() as tasks:
        await tasks.start(keep_asking, name="visitor")
        yield visits
        tasks.cancel_scope.cancel()
