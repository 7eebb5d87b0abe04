"""Fraisier: an asyncio-native, event-driven deployment orchestrator.

The names below are loaded when they are first used, so that a command pays only for what it needs.
"""

from __future__ import annotations

import importlib

from fraisier._version import __version__

TYPE_CHECKING = (
    False  # as type checkers understand it; importing `typing` would double the time of `fraisier --version`
)
if TYPE_CHECKING:
    from typing import Any

    from fraisier.config.loader import load_config
    from fraisier.orchestrator import Orchestrator
    from fraisier.rollout.result import DeploymentResult, TargetResult

_HOMES = {
    "DeploymentResult": "fraisier.rollout.result",
    "Orchestrator": "fraisier.orchestrator",
    "TargetResult": "fraisier.rollout.result",
    "load_config": "fraisier.config.loader",
}

__all__ = ["DeploymentResult", "Orchestrator", "TargetResult", "__version__", "load_config"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
