"""A process that appends: `python -m tests.journal.writer_process STORE NAME COUNT` prints READY, waits for a line on
stdin, appends COUNT events (0: until it is killed), printing the seq of each once it is durable."""

import asyncio
import sys
from pathlib import Path

import anyio

from tests.journal.world import step, store


def say(word: object) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def main(path: Path, name: str, count: int) -> None:
    async with store(path) as journal:
        say("READY")
        sys.stdin.readline()
        done = 0

        async def lane(target: str) -> None:
            nonlocal done
            while not count or done < count:
                done += 1
                record = await journal.append(step(done, deployment_id=name, target=target))
                say(record.seq)

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(lane, f"{name}-{number}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
