"""What is done and noted beside deployments: services, the audit trail, webhooks, security."""

from __future__ import annotations

from typing import Any

from fraisier.events.base import Actor, Event


class ServiceRequested(Event, frozen=True, tag="service.requested"):
    """The intent to start, stop, restart or remove the service of a target outside a deployment."""

    action: str = ""
    actor: Actor = Actor()


class ServiceSucceeded(Event, frozen=True, tag="service.succeeded"):
    """The action is done."""

    action: str = ""
    duration_s: float = 0.0


class ServiceFailed(Event, frozen=True, tag="service.failed"):
    """The action failed."""

    action: str = ""
    code: str = ""
    message: str = ""
    duration_s: float = 0.0


class AuditCheckpointed(Event, frozen=True, tag="audit.checkpointed"):
    """The head of the chain was signed: HMAC-SHA-256 of log id, `head_seq` and `head_hash` under the key `key_id`."""

    head_seq: int = 0
    head_hash: str = ""
    key_id: str = ""
    signature: str = ""


class AuditPruned(Event, frozen=True, tag="audit.pruned"):
    """The bodies of old rows were removed; their hashes stay. `ranges` are the first and last seq of each run of rows.

    HMAC-SHA-256 of the log id and of all fields but `key_id` and `signature`, under the key `key_id`.
    """

    ranges: tuple[tuple[int, int], ...] = ()
    rows: int = 0
    before_at: int = 0
    kept: tuple[str, ...] = ()
    columns_hash: str = ""
    message: str = ""
    actor: Actor = Actor()
    key_id: str = ""
    signature: str = ""


class WebhookReceived(Event, frozen=True, tag="webhook.received"):
    """A request came from a git host; `source` is the address that it came from."""

    provider: str = ""
    event: str = ""
    delivery: str = ""
    branch: str = ""
    version: str = ""
    source: str = ""


class WebhookAccepted(Event, frozen=True, tag="webhook.accepted"):
    """A webhook asked for a deployment and got one: the deployment that this event names."""

    provider: str = ""
    delivery: str = ""
    branch: str = ""
    version: str = ""


class ConfigChanged(Event, frozen=True, tag="config.changed"):
    """The configuration is no longer what it was; `changes` are key paths, never values."""

    path: str = ""
    changes: tuple[str, ...] = ()
    detail: str = ""
    actor: Actor = Actor()


class ProviderUnavailable(Event, frozen=True, tag="provider.unavailable"):
    """A provider could not be used, outside the steps of a deployment."""

    provider: str = ""
    code: str = ""
    error_type: str = ""
    message: str = ""
    recoverable: bool = False


class SecurityReported(Event, frozen=True, tag="security.reported"):
    """Something happened that a person in charge of security wants to know. `severity` is low, medium, high or critical."""

    kind: str = ""
    severity: str = "medium"
    detail: str = ""
    source: str = ""
    actor: Actor = Actor()
    data: dict[str, Any] = {}


class PerformanceSlow(Event, frozen=True, tag="performance.slow"):
    """An operation took longer than it should; `threshold_s` is how long it may take."""

    operation: str = ""
    duration_s: float = 0.0
    threshold_s: float = 0.0
    data: dict[str, Any] = {}


class SystemNoted(Event, frozen=True, tag="system.noted"):
    """Something happened to Fraisier itself that belongs into the record."""

    kind: str = ""
    detail: str = ""
    actor: Actor = Actor()
    data: dict[str, Any] = {}
