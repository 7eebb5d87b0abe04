"""Waves from a number, a percentage or a cumulative ramp."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fraisier.config.schema import Rollout


def share(value: str, total: int) -> int:
    """Return how many of `total` targets a number or percentage of `batch` means: rounded up, at least 1."""
    if value.endswith("%"):
        return max(1, math.ceil(total * float(value[:-1]) / 100))
    return max(1, int(value))


def sizes(total: int, batch: Sequence[str]) -> list[int]:
    """Return the sizes of the waves. One value repeats; several are cumulative, and what they leave is a last wave."""
    if total == 0:
        return []
    if len(batch) == 1:
        step = share(batch[0], total)
        return [min(step, total - done) for done in range(0, total, step)]
    waves: list[int] = []
    done = 0
    for value in batch:
        reach = min(share(value, total), total)
        if reach > done:
            waves.append(reach - done)
            done = reach
    if done < total:
        waves.append(total - done)
    return waves


def rolling(targets: Sequence[str], rollout: Rollout) -> tuple[tuple[str, ...], ...]:
    """Return the waves, in the order of the targets."""
    waves: list[tuple[str, ...]] = []
    done = 0
    for size in sizes(len(targets), rollout.batch):
        waves.append(tuple(targets[done : done + size]))
        done += size
    return tuple(waves)
