"""How many whole deployments of 3 targets one core simulates in a second, on processor time.

Each is the production code from the request to the terminal row: look, plan, lease, preparation, two waves with health checks
over simulated HTTP, confirmation, every event journalled, chained and folded, with the judge looking on.

    python benchmarks/simulation.py [--rounds N] [--deployments N]

Prints the rate of the rounds as min, median, max. Exits 1 when the median is below the limit.
"""

from __future__ import annotations

import argparse
import gc
import logging
import random
import statistics
import time

from fraisier import Orchestrator
from fraisier.config.schema import Config, Environment, Fraise, HealthCheck, Rollout, Service, Source, Target
from fraisier.events import Actor
from fraisier.simulation.hosts import SimulatedHost
from fraisier.simulation.judge import Judge
from fraisier.simulation.life import unwind
from fraisier.simulation.loop import VirtualLoop
from fraisier.simulation.ordered import ordered_cancellation
from fraisier.simulation.process import Process
from fraisier.simulation.processes import SimulatedTable
from fraisier.simulation.provider import SimulatedProvider
from fraisier.simulation.store import SharedStore
from fraisier.simulation.time import SeededIds, VirtualClock
from fraisier.simulation.world import World

LIMIT = 100.0
TARGETS = ("t1", "t2", "t3")
SETTINGS = Environment(
    provider="local",
    targets=tuple(Target(name=name) for name in TARGETS),
    source=Source(git="https://git.example.com/app.git"),
    app_path="/srv/{{ target.name }}",
    service=Service(process="./serve"),
    health_check=HealthCheck(type="http", url="http://127.0.0.1:8000/health", rise=2),
    rollout=Rollout(batch=("1", "100%"), max_unavailable="2"),
)
CONFIG = Config(fraises={"api": Fraise(name="api", environments={"production": SETTINGS})})


async def deploy(store: SharedStore, world: World, process: Process, count: int) -> None:
    """Deploy `count` versions, one after the other."""
    door = store.door(process)
    o = Orchestrator(
        CONFIG,
        door,
        clock=store._clock,
        ids=store._ids,
        rng=random.Random(1),
        processes=SimulatedTable(process, "a", {process.pid: process}),
        environ={},
        providers={"local": SimulatedProvider.of(world, process)},
        actor=Actor(user="ada", host="a", trigger="benchmark"),
    )
    async with o:
        for number in range(count):
            result = await o.deploy("api", "production", version=f"v{number}")
            if result.outcome != "succeeded":
                raise RuntimeError(f"{result.outcome}: {result.detail}")


def run_round(seed: int, count: int) -> tuple[float, int]:
    """Return how many deployments a second one world came to, and how many events each took."""
    loop = VirtualLoop(seed=seed, keeps_tasks=True)
    clock = VirtualClock()
    rng = random.Random(seed)
    store = SharedStore(clock=clock, ids=SeededIds(seed, clock), rng=rng)
    world = World(rng, {name: SimulatedHost(name) for name in TARGETS})
    world.durations_s = {"stage": 1.0, "switch": 0.05, "restart": 0.5}
    judge = Judge(store, world)
    process = Process("deploy", pid=1)
    with ordered_cancellation():
        begun = time.process_time()
        loop.run_until_complete(loop.spawn(process, deploy(store, world, process, count)))
        took = time.process_time() - begun
        unwind(loop)
    if judge.findings:
        raise RuntimeError(judge.findings[0])
    return count / took, len(store.records) // count


def main() -> int:
    """Run the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--deployments", type=int, default=40)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    run_round(0, 5)
    gc.collect()
    gc.freeze()
    gc.disable()  # between rounds only, as in a campaign
    rates = []
    events = 0
    for number in range(options.rounds):
        rate, events = run_round(number, options.deployments)
        rates.append(rate)
        gc.collect()
    median = statistics.median(rates)
    print(
        f"deployments of {len(TARGETS)} targets a second a core ({events} events each): "
        f"min {min(rates):.0f}, median {median:.0f}, max {max(rates):.0f}; at least {LIMIT:g}"
    )
    return 0 if median >= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
