"""Go to another provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fraisier.errors import FraisierError, ProviderConfigurationError, ProviderError
from fraisier.recovery.base import RecoveryStrategy


class FallbackStrategy(RecoveryStrategy):
    """Switch to `fallback_provider` when the provider in use fails; a wrong configuration is not cured by
    that."""

    name = "fallback"

    def __init__(self, fallback_provider: Any) -> None:
        self.fallback_provider = fallback_provider

    def can_recover(self, error: BaseException) -> bool:
        """Return True for provider errors other than configuration errors."""
        return isinstance(error, ProviderError) and not isinstance(error, ProviderConfigurationError)

    async def execute_recovery(self, context: Mapping[str, Any]) -> bool:
        """Await `context["switch_provider"](fallback_provider)`; False when there is none, it returns False
        or fails."""
        switch = context.get("switch_provider")
        if switch is None:
            return False
        try:
            return await switch(self.fallback_provider) is not False
        except Exception as failure:  # noqa: BLE001 - it is the caller's function, which raises what it likes
            note_failure(context.get("error"), "the fallback", failure)
            return False


def note_failure(error: object, what: str, failure: Exception) -> None:
    """Put what went wrong during the recovery on the error that was to be recovered from, so that neither is lost."""
    if isinstance(error, BaseException):
        said = str(failure) if isinstance(failure, FraisierError) else repr(failure)
        error.add_note(f"{what} failed too: {said}")
