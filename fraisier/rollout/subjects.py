"""Which live objects a request event is about: events carry names, responders need the target behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from fraisier.errors import NotFoundError
from fraisier.providers.base import Provider, TargetContext


class Subject(msgspec.Struct, frozen=True):
    """A target in its environment, and the provider that reaches it."""

    context: TargetContext
    provider: Provider


class Subjects:
    """The targets of the deployments that run in this orchestrator, by deployment and name."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Subject] = {}

    @contextmanager
    def known(
        self, deployment_id: str, provider: Provider, contexts: Sequence[TargetContext]
    ) -> Iterator[None]:
        """Make the targets known inside the block. An inner block for the same targets hides the outer one."""
        keys = [(deployment_id, context.target.name) for context in contexts]
        hidden = {key: self._known[key] for key in keys if key in self._known}
        self._known.update(
            {key: Subject(context, provider) for key, context in zip(keys, contexts, strict=True)}
        )
        try:
            yield
        finally:
            for key in keys:
                self._known.pop(key, None)
            self._known.update(hidden)

    def find(self, deployment_id: str, target: str) -> Subject:
        """Return the target behind a request. Raises NotFoundError."""
        found = self._known.get((deployment_id, target))
        if found is None:
            raise NotFoundError(f"deployment {deployment_id} has no target {target!r} here")
        return found
