"""Runs one trial: the production code in processes of its own, in a world that breaks, until it is calm again.

First everything may go wrong and only safety is asked for; then the faults end, and everything must come to an end, too.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter

import msgspec

from fraisier.config.schema import Config, Fraise, LeaseSettings, Target
from fraisier.rollout.fallback import is_beside
from fraisier.simulation.cast import ENDS_WITHIN_S, ENVIRONMENT, FRAISE, Cast
from fraisier.simulation.census import census
from fraisier.simulation.ending import at_once, repeated, repeated_hooks, told_line
from fraisier.simulation.evidence import Evidence
from fraisier.simulation.faults import Faults
from fraisier.simulation.generator import SECRET
from fraisier.simulation.hosts import SimulatedHost
from fraisier.simulation.judge import Judge
from fraisier.simulation.life import unwind
from fraisier.simulation.loop import VirtualLoop
from fraisier.simulation.ordered import ordered_cancellation
from fraisier.simulation.spec import Act, Spec
from fraisier.simulation.store import SharedStore
from fraisier.simulation.time import SeededIds, VirtualClock
from fraisier.simulation.world import World, commit

_LIMIT_S = 7 * 24 * 3600.0
_LOOK_S = 60.0
_REPAIRS = 4


class Verdict(msgspec.Struct):
    """What a trial came to. `findings` are broken promises; `counters` say what happened, `asked` which rules were looked
    at; `trace` tells the story, a line each."""

    seed: int
    findings: list[str]
    counters: Counter[str]
    asked: Counter[str]
    deployments: int
    took_s: float
    trace: str = ""


def run_trial(spec: Spec, *, trace: bool = False, fifo: bool = False) -> Verdict:
    """Run a trial to its end and judge it."""
    loop = VirtualLoop(seed=None if fifo else spec.seed, limit_s=_LIMIT_S, keeps_tasks=True)
    trial = Trial(spec)
    with ordered_cancellation():
        try:
            loop.run_until_complete(trial.main())
        except Exception as error:  # noqa: BLE001 - a world that cannot go on is a finding of its own
            trial.judge.findings.append(f"P3: the world stopped: {type(error).__name__}: {error}")
        finally:
            took_s = loop.time()
            for process in trial.cast.processes:
                process.kill()
            unwind(loop)
    return trial.verdict(took_s, trace=trace)


class Trial:
    """One world with its store, its processes and its judge."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        rng = random.Random(spec.seed + 1)  # noqa: S311 - a trial is no secret
        clock = VirtualClock()
        ids = SeededIds(spec.seed, clock)
        self.store = SharedStore(clock=clock, ids=ids, rng=rng)
        self.world = _world(spec, rng)
        self.judge = Judge(self.store, self.world)
        self.evidence = Evidence(self.judge)
        self.cast = Cast(
            self._config(spec.settings.timeout_s),
            store=self.store,
            world=self.world,
            judge=self.judge,
            clock=clock,
            ids=ids,
            seed=spec.seed,
        )
        self.faults = Faults(self.cast)

    # the story

    async def main(self) -> None:
        """Live through the trial."""
        if self.spec.settled:
            await self.cast.must(self.cast.start(Act(at_s=0, kind="deploy", version="v1")), "succeeded")
        if self.spec.impatient_s:
            self.cast.config = self._config(self.spec.impatient_s)
        begun_s = self.world.now_s()
        self.faults.schedule(self.spec.faults)
        for act in self.spec.acts:
            await self._until(begun_s + act.at_s)
            self.cast.act(act)
        await self._until(begun_s + self.spec.calm_at_s)
        self._calm()
        await self._until(
            max((one.at_s + one.for_s for one in self.spec.faults), default=0.0) + begun_s + 1.0
        )
        await self._all_end()
        if any(lease.frozen_by for lease in self.store._tables.leases.values()):
            await self.cast.must(self.cast.start(Act(at_s=0, kind="thaw")))
        await self._repair()
        self._look_at_the_end()

    def _config(self, timeout_s: float) -> Config:
        settings = msgspec.structs.replace(self.spec.settings, timeout_s=timeout_s)
        return Config(
            fraises={FRAISE: Fraise(name=FRAISE, environments={ENVIRONMENT: settings})},
            lease=LeaseSettings(ttl_s=self.spec.lease_ttl_s, heartbeat_s=self.spec.heartbeat_s),
        )

    async def _until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - self.world.now_s()))

    # afterwards

    def _calm(self) -> None:
        self.cast.tell("calm")
        self.cast.config = self._config(self.spec.settings.timeout_s)
        self.world.calm()
        self.faults.idle_store()
        self.cast.go_on(self.cast.processes)

    async def _all_end(self) -> None:
        """Let every process that still lives come to its end; what a person paused is gone on with."""
        until_s = self.world.now_s() + ENDS_WITHIN_S
        while living := [self.cast.tasks[one] for one in self.cast.processes if not one.gone]:
            if self.world.now_s() > until_s:
                names = ", ".join(process.name for process in self.cast.processes if not process.gone)
                self.judge.findings.append(f"P3: {names} did not end within {ENDS_WITHIN_S:g} s")
                for process in self.cast.processes:
                    process.kill()
                return
            await asyncio.wait(set(living), timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            paused = [d for d in await self.store.deployments() if d.state == "paused"]
            if paused and any(not process.gone for process in self.cast.processes):
                await self.cast.must(self.cast.start(Act(at_s=0, kind="resume", machine="c")))

    async def _repair(self) -> None:
        """Resume what is unfinished, then deploy a version that is good everywhere: it must come through."""
        for number in range(_REPAIRS):
            if not await self._unfinished():
                break
            # Of a holder that is dead elsewhere nothing is known before its lease has expired, and after the clock was set
            # back, before it was silent for as long.
            wait_s = self.spec.lease_ttl_s * 1.5 if number else 0.0
            await self.cast.must(self.cast.start(Act(at_s=0, kind="resume", lock_wait_s=wait_s)))
        self._look_at_repaired()
        lost = not self.judge.trusts_tokens
        for last in range(3 + 2 * len(self.world.hosts)):
            act = Act(at_s=0, kind="deploy", version="v9", force=True, lock_wait_s=4000.0)
            ended = await self.cast.must(self.cast.start(act))
            if ended in ("succeeded", "unchanged"):
                return
            if down := self._named_by_hint():  # what is down is repaired first, as the refusal says
                await self.cast.must(self.cast.start(msgspec.structs.replace(act, limit=down)))
                continue
            if ended == "failed" and self.cast.reason == "partial":
                continue  # what came and went at the first look kept others from their turn
            if not (lost and last == 0):
                break
        self.judge.findings.append(f"P6: after everything the next deployment ended as {ended}")

    def _named_by_hint(self) -> tuple[str, ...]:
        found = re.search(r"--limit ([^ ,]+(?:,[^ ,]+)*)", self.cast.hint)
        return tuple(found[1].split(",")) if found else ()

    async def _unfinished(self) -> bool:
        states = await self.store.deployments(limit=200)
        return any(
            not d.is_terminal
            and d.state != "needs_attention"
            and not d.rollback_of
            and (d.version or d.started_us)
            for d in states
        )

    def _look_at_repaired(self) -> None:
        for d in self.store._tables.deployments.values():
            if d.is_terminal or d.rollback_of:
                continue
            if d.state in ("needs_attention", "paused") or not (d.version or d.started_us):
                continue
            self.judge.findings.append(f"P6: {d.kind} {d.id[-6:]} is left {d.state} after {_REPAIRS} repairs")

    def _look_at_the_end(self) -> None:
        findings = self.judge.findings
        serving = {version for name, version in self.world.serving().items() if not is_beside(name)}
        if not any(one.startswith("P6: after everything") for one in findings) and serving != {commit("v9")}:
            findings.append(f"P5: after the last deployment the hosts serve {serving}")
        for lease in self.store._tables.leases.values():
            if lease.held:
                findings.append(f"P7: the lease is still held by {lease.holder.owner} ({lease.holder.pid})")
        if any(SECRET.encode() in body for body in self.store.bodies):
            findings.append("P11: the secret stands in the journal")

    def verdict(self, took_s: float, *, trace: bool) -> Verdict:
        """Return what it came to, with what can only be asked at the end."""
        findings = list(dict.fromkeys(self.judge.findings))
        findings += at_once(self._store_faults())
        findings += repeated(self.world.migrations, self.spec, is_forgetful=not self.judge.trusts_tokens)
        findings += repeated_hooks(self.world.hooks, self.spec)
        for d in self.store._tables.deployments.values():
            self.cast.outcomes[
                f"{d.kind} is {d.outcome or d.state}{f' ({d.reason})' if d.reason else ''}"
            ] += 1
        counters = self.cast.outcomes + self.world.counters + census(self.store.records, self.cast.processes)
        told = self._trace() if trace or findings else ""
        asked = self.judge.asked
        return Verdict(
            self.spec.seed, findings, counters, asked, len(self.store._tables.deployments), took_s, told
        )

    async def _store_faults(self) -> list[str]:
        verified = await self.store.verify()
        faults = [] if verified.ok else [f"P8: {verified.problem}"]
        return faults + [f"P8: {fault}" for fault in await self.store.check()]

    def _trace(self) -> str:
        lines = [*self.cast.told, "", *map(told_line, self.store.records)]
        lines.append(f"serving: {self.world.serving()}")
        return "\n".join(lines)


def _beside(spec: Spec) -> list[Target]:
    """Return the targets of the fallbacks."""
    return [target for place in spec.settings.recovery.fallback for target in place.settings.targets]


def _world(spec: Spec, rng: random.Random) -> World:
    targets = (*spec.settings.targets, *_beside(spec))
    world = World(
        rng, {target.name: SimulatedHost(target.name, supervised=spec.supervised) for target in targets}
    )
    world.durations_s = dict(spec.durations_s)
    for version, host, behaviour in spec.behaviours:
        world.behaviours[commit(version), host] = behaviour
    if spec.failing_migrations:
        world.failing_migrations.add(commit("v2"))
    world.failing_hooks.update((name, commit("v2")) for name in spec.failing_hooks)
    return world
