"""How many targets may be away at once, counted over the whole fleet, forward and back under one lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import anyio


class Capacity:
    """Hands out permits to take a target away.

    A target that is `away` already needs none, and counts against the others; one of `unserved` (it never served yet) needs
    none and counts for nothing until it serves.
    """

    def __init__(self, limit: int, away: Iterable[str] = (), unserved: Iterable[str] = ()) -> None:
        self.limit = limit
        self._away = set(away)
        self._unserved = set(unserved)
        self._changed = anyio.Event()

    @property
    def away(self) -> frozenset[str]:
        """The targets that served and do not now, as far as we know."""
        return frozenset(self._away)

    def allows(self, name: str) -> bool:
        """Whether `name` may go away now."""
        return name in self._unserved or name in self._away or len(self._away) < self.limit

    async def room(self, name: str, *, unless: Callable[[], bool]) -> None:
        """Wait until `name` may go away, or until `unless()` holds (look again by `wake`); the caller's scope bounds the
        wait. Nothing is taken: when the caller has all else that it needs, it asks again."""
        while not self.allows(name) and not unless():
            await self._changed.wait()

    def take(self, name: str) -> bool:
        """Let `name`, which is allowed to, go away; return whether a permit was taken for it."""
        used = name not in self._unserved and name not in self._away
        if used:
            self._away.add(name)
        return used

    def lost(self, name: str) -> None:
        """Note that a target stopped serving by itself."""
        if name not in self._unserved:
            self._away.add(name)

    def back(self, name: str) -> None:
        """Note that a target serves again, and wake who waits."""
        self._unserved.discard(name)
        self._away.discard(name)
        self.wake()

    def wake(self) -> None:
        """Let every waiter look again."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
