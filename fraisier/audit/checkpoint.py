"""Signed checkpoints: at the end of each deployment the head of the chain is signed, and so is everything
before it."""

from __future__ import annotations

import hashlib
import hmac

from fraisier.audit.keys import AuditKey
from fraisier.audit.logger import Publish
from fraisier.events import Record
from fraisier.events import types as ev
from fraisier.journal.base import Journal

_DOMAIN = b"fraisier audit checkpoint 1"

ENDINGS = (
    "deployment.succeeded",
    "deployment.failed",
    "deployment.rolled_back",
    "deployment.needs_attention",
    "deployment.interrupted",
    "deployment.superseded",
    "deployment.aborted",
    "deployment.paused",
)
"""The events at which a deployment stops, for good or for now; each is followed by a checkpoint."""


def sign(key: bytes, log_id: str, seq: int, head_hash: str) -> str:
    """Return the HMAC-SHA-256, in hex, over the name of the log and one place in its chain."""
    message = b"\0".join((_DOMAIN, log_id.encode(), str(seq).encode(), head_hash.encode()))
    return hmac.new(key, message, hashlib.sha256).hexdigest()


class AuditSubscriber:
    """Signs the chain at the end of every deployment. Subscribe it to `patterns`, durably.

    A checkpoint covers the ending's own row and all before it. After a crash the same ending may be signed
    twice; both signatures hold.
    """

    name = "audit"
    patterns = ENDINGS

    def __init__(self, journal: Journal, publish: Publish, key: bytes, key_id: str) -> None:
        self._journal = journal
        self._publish = publish
        self._key = AuditKey(key, key_id)

    async def __call__(self, record: Record) -> None:
        """Publish an AuditCheckpointed for an ending."""
        event = record.event
        head_hash = await self._journal.hash_at(record.seq)
        await self._publish(
            ev.AuditCheckpointed(
                deployment_id=event.deployment_id,
                fraise=event.fraise,
                environment=event.environment,
                head_seq=record.seq,
                head_hash=head_hash,
                key_id=self._key.id,
                signature=sign(self._key.secret, self._journal.log_id, record.seq, head_hash),
            )
        )
