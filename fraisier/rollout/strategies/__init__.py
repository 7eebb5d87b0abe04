"""Shapes of a rollout: how targets are divided into waves. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fraisier.config.schema import Rollout
from fraisier.rollout.strategies.all_at_once import all_at_once
from fraisier.rollout.strategies.rolling import rolling

Shape = Callable[[Sequence[str], Rollout], tuple[tuple[str, ...], ...]]

STRATEGIES: dict[str, Shape] = {"all_at_once": all_at_once, "rolling": rolling}
"""Every strategy by the name that the configuration uses."""
