"""This machine as the host of every target."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import anyio.to_thread

from fraisier.providers.base import Artifact, ProviderServices, StepCall, TargetContext
from fraisier.providers.host import HostProvider
from fraisier.providers.place import Place
from fraisier.transports.base import Transport
from fraisier.transports.lanes import Lanes
from fraisier.transports.local import GRACE_S, LocalTransport

_OWN_PREFIX = "FRAISIER_"


class LocalProvider(HostProvider):
    """Every target is a directory of this machine; what is run there inherits our environment, less our own variables."""

    type: ClassVar[str] = "local"
    summary: ClassVar[str] = "This machine: releases in a directory, each target a directory of its own."
    is_here: ClassVar[bool] = True

    def __init__(self, services: ProviderServices) -> None:
        super().__init__(services)
        self._asking = anyio.Lock(fast_acquire=True)
        self._free: dict[str, int | None] = {}
        self._base_env = {
            key: value for key, value in services.environ.items() if not key.startswith(_OWN_PREFIX)
        }
        self._lanes = Lanes(self._base_env, grace_s=GRACE_S)

    async def _open(self, context: TargetContext) -> Transport:
        return LocalTransport(self._base_env, lanes=self._lanes)

    async def aclose(self) -> None:
        """Close every connection, and bound the cache."""
        await super().aclose()
        await self._lanes.aclose()

    def _host(self, context: TargetContext) -> str:
        return ""

    async def _free_kb(self, place: Place) -> int | None:
        # In a thread, because a network file system may take its time; once for all targets that lie side by side.
        beside = str(Path(place.app).parent)
        async with self._asking:
            if beside not in self._free:
                self._free[beside] = await anyio.to_thread.run_sync(
                    _free_kb, place.app, abandon_on_cancel=True
                )
        return self._free[beside]

    async def _bring(self, call: StepCall, place: Place, artifact: Artifact) -> str:
        # The cache is on the same machine: nothing needs to be carried.
        return artifact.file


def _free_kb(app: str) -> int | None:
    """Return the free space, in kB, where `app` is or would be made."""
    for place in (Path(app), *Path(app).parents):
        try:
            found = os.statvfs(place)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return found.f_bavail * found.f_frsize // 1024
    return None
