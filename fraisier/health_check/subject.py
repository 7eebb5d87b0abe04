"""Whom a verdict is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fraisier.config.resolve import Resolver
    from fraisier.providers.base import Provider, TargetContext


@dataclass(frozen=True)
class HealthSubject:
    """A target, how to look at it, and how to resolve the references in its settings."""

    context: TargetContext
    provider: Provider
    resolver: Resolver
    provider_type: str = ""

    @property
    def is_here(self) -> bool:
        """Whether the target is this machine, so that probes need no transport."""
        return bool(getattr(self.provider, "is_here", self.provider_type == "local"))


Lookup = Callable[[str, str], HealthSubject]
"""Finds the subject by deployment id and target name; raises NotFoundError."""
