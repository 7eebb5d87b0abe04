"""Many trials in many processes: each seed is a world of its own, so they share nothing but the sum that is kept of them."""

from __future__ import annotations

import gc
import hashlib
import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from fraisier.simulation.generator import generate
from fraisier.simulation.trial import Verdict, run_trial

_CHUNK = 10
"""Seeds that a worker takes at a time: few enough for steady progress, enough to be worth the way."""

_COLLECT = 5
"""After so many trials a worker's garbage is collected."""


class Sum(msgspec.Struct):
    """What a campaign came to so far. `counters` and `asked` are those of its trials added up, `cpu_s` the seconds of
    processor time that they took, `failed` the seeds whose trials broke a promise."""

    seeds: int = 0
    deployments: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    counters: Counter[str] = msgspec.field(default_factory=Counter)
    asked: Counter[str] = msgspec.field(default_factory=Counter)
    failed: list[int] = msgspec.field(default_factory=list)

    def add(self, other: Sum) -> None:
        """Take another sum in."""
        self.seeds += other.seeds
        self.deployments += other.deployments
        self.virtual_s += other.virtual_s
        self.cpu_s += other.cpu_s
        self.counters.update(other.counters)
        self.asked.update(other.asked)
        self.failed += other.failed

    def note(self, verdict: Verdict) -> None:
        """Take one trial in."""
        self.seeds += 1
        self.deployments += verdict.deployments
        self.virtual_s += verdict.took_s
        self.counters.update(verdict.counters)
        self.asked.update(verdict.asked)
        if verdict.findings:
            self.failed.append(verdict.seed)


class Work(msgspec.Struct, frozen=True):
    """What a worker is given. `prints` asks for the digest of every trial's trace, `fifo` for the order of a real loop."""

    seeds: tuple[int, ...]
    fifo: bool = False
    prints: bool = False


class Done(msgspec.Struct):
    """What a worker gives back: the sum of its trials, what the failed ones said, and the digests of their traces."""

    sum: Sum
    failures: list[Verdict] = msgspec.field(default_factory=list)
    digests: list[str] = msgspec.field(default_factory=list)


def trials(
    seeds: Sequence[int], *, jobs: int, fifo: bool = False, prints: bool = False, stops: bool = False
) -> Iterator[Done]:
    """Run the trials of the seeds in `jobs` processes and yield what each chunk came to, in the order of the seeds.

    With `stops` nothing more is begun once a trial has failed."""
    chunks = [
        Work(tuple(seeds[begin : begin + _CHUNK]), fifo=fifo, prints=prints)
        for begin in range(0, len(seeds), _CHUNK)
    ]
    with _workers(jobs) as go:
        results = go(chunks)
        yield from until_failed(results) if stops else results


@contextmanager
def _workers(jobs: int) -> Iterator[Callable[[Iterable[Work]], Iterator[Done]]]:
    """Yield what runs chunks, in other processes when there is to be more than one."""
    if jobs > 1:
        # A worker begins from nothing: what its parent has loaded or changed has no part in its trials.
        with multiprocessing.get_context("spawn").Pool(jobs, initializer=_make_ready) as pool:
            yield lambda chunks: pool.imap(run_chunk, chunks)
        return
    logged = logging.root.manager.disable
    _make_ready()
    try:
        yield lambda chunks: map(run_chunk, chunks)
    finally:
        gc.unfreeze()
        gc.enable()
        logging.disable(logged)


def until_failed(results: Iterable[Done]) -> Iterator[Done]:
    """Yield the results up to the first one with a failure."""
    for done in results:
        yield done
        if done.failures:
            return


def run_chunk(work: Work) -> Done:
    """Run the trials of one chunk, one after the other."""
    done = Done(Sum())
    begun = time.process_time()
    for number, seed in enumerate(work.seeds, 1):
        verdict = run_trial(generate(seed), trace=work.prints, fifo=work.fifo)
        done.sum.note(verdict)
        if work.prints:
            done.digests.append(hashlib.sha256(verdict.trace.encode()).hexdigest())
        if verdict.findings:
            done.failures.append(verdict)
        if number % _COLLECT == 0:
            gc.collect()
    done.sum.cpu_s = time.process_time() - begun
    return done


def _make_ready() -> None:
    """Prepare this process for many trials.

    Nothing is logged: a failed trial has its trace. What is loaded already stays for ever, so the collector need not look
    at it, and it works between two trials only: that is faster, and the memory of one trial is all there ever is."""
    logging.disable(logging.CRITICAL)
    run_trial(generate(0))
    gc.collect()
    gc.freeze()
    gc.disable()


def run(
    seeds: Sequence[int],
    *,
    jobs: int,
    fifo: bool = False,
    stops: bool = False,
    on_progress: Callable[[Sum, list[Verdict]], None],
) -> Sum:
    """Run a whole campaign and return its sum; `on_progress` is told the sum so far and the failures that are new."""
    total = Sum()
    for done in trials(seeds, jobs=jobs, fifo=fifo, stops=stops):
        total.add(done.sum)
        on_progress(total, done.failures)
    return total


def fingerprint(seeds: Sequence[int], *, jobs: int, fifo: bool = False) -> str:
    """Return the SHA-256, in hex, over the traces of all trials: the same wherever and whenever they run."""
    total = hashlib.sha256()
    for done in trials(seeds, jobs=jobs, fifo=fifo, prints=True):
        for digest in done.digests:
            total.update(digest.encode())
    return total.hexdigest()
