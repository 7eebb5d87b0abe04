"""A process that races for a lease: `python -m tests.rollout.race_process STORE NAME`. It prints READY; at each line on
stdin it tries to take the lease once, prints `won EPOCH` or `lost`, holds what it won until the next line, gives it back and
prints `free`. An empty stdin ends it."""

from __future__ import annotations

import sys

import anyio
import anyio.to_thread

from fraisier import Orchestrator
from fraisier.errors import DeploymentLockError
from fraisier.events import Actor
from tests.rollout.kit import config, environment


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def heard() -> bool:
    return bool(await anyio.to_thread.run_sync(sys.stdin.readline))


async def main(store: str, name: str) -> None:
    async with Orchestrator(config(environment(1)), store, actor=Actor(name, "here", "test")) as o:
        say("READY")
        number = 0
        while await heard():
            number += 1
            try:
                async with o._world.leases.hold("api", "production", f"{name}-{number}") as lease:
                    say(f"won {lease.epoch}")
                    await heard()
            except DeploymentLockError:
                say("lost")
                await heard()
            say("free")


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
