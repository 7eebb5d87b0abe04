"""What embedders and other parts of Fraisier put on record: one method for each kind of fact, all into the
journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fraisier.errors import FraisierError, ValidationError
from fraisier.events import Actor, Event, Holder, Record
from fraisier.events import types as ev
from fraisier.redaction import Redactor

Publish = Callable[[Event], Awaitable[Record]]
"""Makes an event durable and hands it to the subscribers: `bus.publish`, or `journal.append`."""

_SEVERITIES = ("low", "medium", "high", "critical")


class AuditLogger:
    """Records what was done and by whom. Free text is redacted first; every method returns the durable
    record.

    The facts of a deployment, a lease or a health verdict are the same ones that an Orchestrator writes
    itself, and they change what `status` and `history` show: note them only for work that is done outside of
    one.
    """

    def __init__(
        self, publish: Publish, *, actor: Actor | None = None, redactor: Redactor | None = None
    ) -> None:
        self._publish = publish
        self._actor = actor or Actor()
        self._redactor = redactor or Redactor()

    # deployments

    async def log_deployment_start(
        self,
        deployment_id: str,
        fraise: str,
        environment: str,
        version: str,
        *,
        provider: str = "",
        fraise_type: str = "",
        targets: int = 0,
        actor: Actor | None = None,
    ) -> Record:
        """Record who asked for a deployment, then that it began."""
        place: dict[str, Any] = {"deployment_id": deployment_id, "fraise": fraise, "environment": environment}
        asked_by = actor or self._actor
        await self._publish(
            ev.DeploymentRequested(**place, provider=provider, fraise_type=fraise_type, actor=asked_by)
        )
        return await self._publish(ev.DeploymentStarted(**place, version=version, targets=targets))

    async def log_deployment_complete(
        self,
        deployment_id: str,
        fraise: str,
        environment: str,
        *,
        outcome: str = "succeeded",
        reason: str = "",
        detail: str = "",
        duration_s: float = 0.0,
    ) -> Record:
        """Record how a deployment ended. Raises ValidationError for an outcome that does not exist."""
        ending = _ENDINGS.get(outcome)
        if ending is None:
            raise ValidationError(
                f"{outcome!r} is not the outcome of a deployment",
                context={"outcome": outcome},
                hint=f"use one of {', '.join(sorted(_ENDINGS))}",
            )
        facts: dict[str, Any] = {"deployment_id": deployment_id, "fraise": fraise, "environment": environment}
        facts |= {"reason": reason, "detail": self._redactor.scrub(detail), "duration_s": duration_s}
        if ending in (ev.DeploymentSucceeded, ev.DeploymentFailed):
            facts["outcome"] = outcome
        return await self._publish(ending(**facts))

    async def log_deployment_rollback(
        self,
        deployment_id: str,
        fraise: str,
        environment: str,
        *,
        success: bool = True,
        child_id: str = "",
        provider: str = "",
        reason: str = "",
        failed: Sequence[str] = (),
        duration_s: float = 0.0,
    ) -> Record:
        """Record that the changed targets of a deployment are back, or that those in `failed` are not."""
        facts: dict[str, Any] = {"deployment_id": deployment_id, "fraise": fraise, "environment": environment}
        facts |= {"child_id": child_id, "provider": provider, "reason": reason, "duration_s": duration_s}
        if success:
            return await self._publish(ev.RollbackSucceeded(**facts))
        return await self._publish(ev.RollbackFailed(**facts, failed=tuple(failed)))

    # targets and providers

    async def log_health_check(
        self,
        fraise: str,
        environment: str,
        target: str,
        *,
        success: bool,
        check_type: str = "",
        provider: str = "",
        purpose: str = "check",
        duration_s: float = 0.0,
        message: str = "",
        deployment_id: str = "",
    ) -> Record:
        """Record a verdict on a target's health."""
        verdict = ev.HealthPassed if success else ev.HealthFailed
        return await self._publish(
            verdict(
                deployment_id=deployment_id,
                fraise=fraise,
                environment=environment,
                target=target,
                provider=provider,
                purpose=purpose,
                check_type=check_type,
                duration_s=duration_s,
                message=self._redactor.scrub(message),
            )
        )

    async def log_provider_error(
        self,
        provider: str,
        error: BaseException,
        *,
        fraise: str = "",
        environment: str = "",
        target: str = "",
    ) -> Record:
        """Record that a provider could not be used."""
        ours = error if isinstance(error, FraisierError) else None
        return await self._publish(
            ev.ProviderUnavailable(
                fraise=fraise,
                environment=environment,
                target=target,
                provider=provider,
                code=ours.code if ours else "PROVIDER_ERROR",
                error_type=type(error).__name__,
                message=self._redactor.scrub(ours.message if ours else str(error)),
                recoverable=bool(ours and ours.recoverable),
            )
        )

    # locks

    async def log_lock_acquired(
        self,
        fraise: str,
        environment: str,
        *,
        epoch: int,
        holder: Holder,
        deployment_id: str = "",
        expires_at_us: int = 0,
    ) -> Record:
        """Record that a lease was taken. `epoch` must be higher than that of any lease before it."""
        return await self._publish(
            ev.LeaseAcquired(
                deployment_id=deployment_id,
                fraise=fraise,
                environment=environment,
                epoch=epoch,
                holder=holder,
                expires_at=expires_at_us,
            )
        )

    async def log_lock_timeout(
        self,
        fraise: str,
        environment: str,
        *,
        holder: Holder | None = None,
        epoch: int = 0,
        waited_s: float = 0.0,
        deployment_id: str = "",
    ) -> Record:
        """Record that somebody gave up waiting for the holder of a lease."""
        return await self._publish(
            ev.LeaseRefused(
                deployment_id=deployment_id,
                fraise=fraise,
                environment=environment,
                epoch=epoch,
                holder=holder or Holder(),
                waited_s=waited_s,
            )
        )

    # requests from outside

    async def log_webhook_received(
        self,
        provider: str,
        event: str,
        *,
        delivery: str = "",
        branch: str = "",
        version: str = "",
        source: str = "",
    ) -> Record:
        """Record that a webhook came in, before anything is done about it."""
        return await self._publish(
            ev.WebhookReceived(
                provider=provider,
                event=event,
                delivery=delivery,
                branch=self._redactor.scrub(branch),
                version=version,
                source=source,
            )
        )

    async def log_webhook_deployment(
        self,
        provider: str,
        deployment_id: str,
        fraise: str,
        environment: str,
        *,
        delivery: str = "",
        branch: str = "",
        version: str = "",
    ) -> Record:
        """Record which deployment a webhook led to."""
        return await self._publish(
            ev.WebhookAccepted(
                deployment_id=deployment_id,
                fraise=fraise,
                environment=environment,
                provider=provider,
                delivery=delivery,
                branch=self._redactor.scrub(branch),
                version=version,
            )
        )

    # Fraisier itself

    async def log_configuration_change(
        self, path: str, changes: Sequence[str] = (), *, detail: str = "", actor: Actor | None = None
    ) -> Record:
        """Record that a configuration changed. `changes` are key paths; values do not belong into the
        record."""
        return await self._publish(
            ev.ConfigChanged(
                path=path,
                changes=tuple(self._redactor.scrub(change) for change in changes),
                detail=self._redactor.scrub(detail),
                actor=actor or self._actor,
            )
        )

    async def log_security_event(
        self,
        kind: str,
        detail: str = "",
        *,
        severity: str = "medium",
        source: str = "",
        data: Mapping[str, Any] | None = None,
        actor: Actor | None = None,
        **place: str,
    ) -> Record:
        """Record a matter of security. `place` may name fraise, environment, target and deployment_id.

        Raises ValidationError for a severity that does not exist.
        """
        if severity not in _SEVERITIES:
            raise ValidationError(
                f"{severity!r} is not a severity", hint=f"use one of {', '.join(_SEVERITIES)}"
            )
        return await self._publish(
            ev.SecurityReported(
                kind=kind,
                severity=severity,
                detail=self._redactor.scrub(detail),
                source=source,
                actor=actor or self._actor,
                data=self._clean(data),
                **place,
            )
        )

    async def log_performance_event(
        self,
        operation: str,
        duration_s: float,
        *,
        threshold_s: float = 0.0,
        data: Mapping[str, Any] | None = None,
        **place: str,
    ) -> Record:
        """Record that something took too long. `place` as in `log_security_event`."""
        return await self._publish(
            ev.PerformanceSlow(
                operation=operation,
                duration_s=duration_s,
                threshold_s=threshold_s,
                data=self._clean(data),
                **place,
            )
        )

    async def log_system_event(
        self,
        kind: str,
        detail: str = "",
        *,
        data: Mapping[str, Any] | None = None,
        actor: Actor | None = None,
    ) -> Record:
        """Record something about Fraisier itself: a start, a stop, a restored backup."""
        return await self._publish(
            ev.SystemNoted(
                kind=kind,
                detail=self._redactor.scrub(detail),
                actor=actor or self._actor,
                data=self._clean(data),
            )
        )

    def _clean(self, data: Mapping[str, Any] | None) -> dict[str, Any]:
        cleaned: dict[str, Any] = self._redactor.scrub_object(dict(data or {}))
        return cleaned


_ENDINGS: dict[str, type[Any]] = {
    "succeeded": ev.DeploymentSucceeded,
    "unchanged": ev.DeploymentSucceeded,
    "failed": ev.DeploymentFailed,
    "locked": ev.DeploymentFailed,
    "unreachable": ev.DeploymentFailed,
    "skipped": ev.DeploymentFailed,
    "rolled_back": ev.DeploymentRolledBack,
    "needs_attention": ev.DeploymentNeedsAttention,
    "interrupted": ev.DeploymentInterrupted,
}
