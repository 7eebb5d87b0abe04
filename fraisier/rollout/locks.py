"""What people do with locks: look at them, forbid changes for a time, and take a lease from a holder that is gone."""

from __future__ import annotations

from typing import Any

from fraisier.clock import rfc3339
from fraisier.config.schema import Config
from fraisier.errors import GuardRefusedError, UsageError
from fraisier.events import Actor
from fraisier.events import types as ev
from fraisier.journal.base import Guard
from fraisier.journal.fold import LeaseState, Tables
from fraisier.rollout.lease import Leases, frozen, held
from fraisier.rollout.request import find_environment

MESSAGE_CHARS_MAX = 1000
FREEZE_S_MAX = 3650 * 86_400.0

_TRIES = 20


class Locks:
    """Leases and freezes, as a person sees them. `actor` is who asks."""

    def __init__(self, leases: Leases, config: Config, actor: Actor) -> None:
        self._leases = leases
        self._config = config
        self._actor = actor
        self._me = leases.me.owner

    async def status(self, fraise: str = "", environment: str = "") -> dict[str, Any]:
        """Return `{"leases": […], "freezes": […]}`: what is held now, and what is frozen now."""
        if fraise and environment:
            await self._check_names(fraise, environment)
        found = await self._leases.journal.leases(fraise, environment)
        now_us = self._leases.clock.now_us()
        return {
            "leases": [self._lease(lease, now_us) for lease in found if lease.held],
            "freezes": [_freeze(lease) for lease in found if lease.is_frozen(now_us)],
        }

    async def freeze(
        self, fraise: str, environment: str, message: str, *, for_s: float = 0.0
    ) -> dict[str, Any]:
        """Forbid deployments, rollbacks and work on services for `for_s` seconds (0: until it is released).

        Return the freeze, with `running`: the lease of a deployment that goes on undisturbed, or None. The same owner
        renews a freeze; raises DeploymentLockError when another's is there, UsageError for an empty message."""
        find_environment(self._config, fraise, environment)
        said = " ".join(message.split())
        if not said:
            raise UsageError(
                "a freeze needs a message that says why", hint="add -m 'why nobody may deploy now'"
            )
        if len(said) > MESSAGE_CHARS_MAX:
            raise UsageError(
                f"the message is longer than {MESSAGE_CHARS_MAX} characters", hint="say it shorter"
            )
        if not 0 <= for_s <= FREEZE_S_MAX:
            raise UsageError("a freeze lasts between 0 seconds and ten years", hint="leave the duration out")
        now_us = self._leases.clock.now_us()

        def check(tables: Tables) -> str:
            found = tables.find_lease(fraise, environment)
            anothers = found is not None and found.is_frozen(now_us) and found.frozen_by != self._me
            return "somebody else froze it" if anothers else ""

        event = ev.LeaseFrozen(
            fraise=fraise,
            environment=environment,
            owner=self._me,
            message=said,
            until_at=now_us + int(for_s * 1_000_000) if for_s else 0,
            actor=self._actor,
        )
        try:
            await self._leases.bus.publish(event, guard=check)
        except GuardRefusedError:
            raise frozen(await self._found(fraise, environment)) from None
        lease = await self._found(fraise, environment)
        return {**_freeze(lease), "running": self._running(lease)}

    async def thaw(self, fraise: str, environment: str, *, force: bool = False) -> dict[str, Any]:
        """Release the freeze, and a lease whose holder is dead or has let it expire; with `force` any lease.

        Return `{"fraise", "environment", "released": […], "running"}`; nothing to release is no error. Raises
        DeploymentLockError when all there is is the lease of a holder that may live."""
        await self._check_names(fraise, environment)
        released: list[dict[str, Any]] = []
        for _ in range(_TRIES):
            lease = await self._found(fraise, environment)
            now_us = self._leases.clock.now_us()
            try:
                if lease.is_frozen(now_us):
                    await self._end_freeze(lease)
                    released.append({"kind": "freeze", **_freeze(lease)})
                if lease.held and (force or self._leases.is_free(lease, now_us)):
                    await self._break(lease, force=force)
                    released.append({"kind": "lease", **self._lease(lease, now_us)})
            except GuardRefusedError:
                continue  # it changed since we looked
            break
        left = await self._found(fraise, environment)
        running = self._running(left)
        if running is not None and not released:
            error = held(left)
            error.hint = f"{error.hint}; --force takes the lock from a holder that lives"
            raise error
        return {"fraise": fraise, "environment": environment, "released": released, "running": running}

    async def _end_freeze(self, lease: LeaseState) -> None:
        def check(tables: Tables) -> str:
            found = tables.find_lease(lease.fraise, lease.environment)
            seen = (lease.frozen_by, lease.frozen_us)
            same = found is not None and (found.frozen_by, found.frozen_us) == seen
            return "" if same else "the freeze changed"

        event = ev.LeaseThawed(
            fraise=lease.fraise,
            environment=lease.environment,
            owner=lease.frozen_by,
            message=lease.frozen_message,
            actor=self._actor,
        )
        await self._leases.bus.publish(event, guard=check)

    async def _break(self, lease: LeaseState, *, force: bool) -> None:
        event = ev.LeaseReleased(
            deployment_id=lease.deployment_id,
            fraise=lease.fraise,
            environment=lease.environment,
            epoch=lease.epoch,
            holder=lease.holder,
            broken_by=self._me,
        )
        await self._leases.bus.publish(event, guard=self._still(lease, force=force))

    def _still(self, lease: LeaseState, *, force: bool) -> Guard:
        def check(tables: Tables) -> str:
            found = tables.find_lease(lease.fraise, lease.environment)
            if found is None or not found.held or found.epoch != lease.epoch:
                return "the lease changed"
            free = self._leases.is_free(found, self._leases.clock.now_us())
            return "" if force or free else "the holder gave a sign of life"

        return check

    async def _found(self, fraise: str, environment: str) -> LeaseState:
        found = await self._leases.journal.lease(fraise, environment)
        return found if found is not None else LeaseState(fraise, environment)

    async def _check_names(self, fraise: str, environment: str) -> None:
        """Raise UsageError for what is neither configured nor on record: a fraise that is no longer configured may still
        be locked."""
        if await self._leases.journal.lease(fraise, environment) is None:
            find_environment(self._config, fraise, environment)

    def _running(self, lease: LeaseState) -> dict[str, Any] | None:
        now_us = self._leases.clock.now_us()
        running = lease.held and not self._leases.is_free(lease, now_us)
        return self._lease(lease, now_us) if running else None

    def _lease(self, lease: LeaseState, now_us: int) -> dict[str, Any]:
        who = lease.holder
        return {
            "fraise": lease.fraise,
            "environment": lease.environment,
            "owner": who.owner,
            "host": who.host,
            "pid": who.pid,
            "version": who.version,
            "state": self._state(lease),
            "deployment_id": lease.deployment_id,
            "epoch": lease.epoch,
            "since": rfc3339(lease.acquired_us),
            "expires_at": rfc3339(lease.expires_us),
            "expires_in_s": round(max(0, lease.expires_us - now_us) / 1_000_000, 3),
        }

    def _state(self, lease: LeaseState) -> str:
        processes = self._leases.processes
        if processes.is_dead(lease.holder):
            return "dead"
        return "alive" if processes.is_alive(lease.holder) else "unknown"


def _freeze(lease: LeaseState) -> dict[str, Any]:
    return {
        "fraise": lease.fraise,
        "environment": lease.environment,
        "owner": lease.frozen_by,
        "message": lease.frozen_message,
        "since": rfc3339(lease.frozen_us),
        "until": rfc3339(lease.frozen_until_us) if lease.frozen_until_us else None,
    }
