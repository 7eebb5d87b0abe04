"""Everything in one wave."""

from __future__ import annotations

from collections.abc import Sequence

from fraisier.config.schema import Rollout


def all_at_once(targets: Sequence[str], rollout: Rollout) -> tuple[tuple[str, ...], ...]:
    """Return one wave that holds all targets, or none."""
    return (tuple(targets),) if targets else ()
