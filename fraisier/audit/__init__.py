"""The audit trail: what is noted beside deployments, the signed checkpoints of the journal, and how both are
checked."""

from fraisier.audit.checkpoint import AuditSubscriber, sign
from fraisier.audit.keys import AuditKey, load_or_make_key
from fraisier.audit.logger import AuditLogger, Publish
from fraisier.audit.query import EventFilter, Found, export, find_events, list_events, newest_events
from fraisier.audit.retention import PruneReport, prune, sign_pruned
from fraisier.audit.verify import AuditReport, verify

__all__ = [
    "AuditKey",
    "AuditLogger",
    "AuditReport",
    "AuditSubscriber",
    "EventFilter",
    "Found",
    "PruneReport",
    "Publish",
    "export",
    "find_events",
    "list_events",
    "load_or_make_key",
    "newest_events",
    "prune",
    "sign",
    "sign_pruned",
    "verify",
]
