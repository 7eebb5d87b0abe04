"""The hash chain: what makes an edited, removed or moved row of the journal show."""

from __future__ import annotations

import struct
from hashlib import sha256

from fraisier.errors import ValidationError

GENESIS = bytes(32)
"""The hash before the first row."""

_DOMAIN = b"fraisier.journal.v1\0"
_pack_seq = struct.Struct(">Q").pack


def hash_body(body: bytes) -> bytes:
    """Return the 32 bytes that stand for a stored body, also after retention has removed it."""
    return sha256(body).digest()


class Chain:
    """Links the rows of one log. `log_id` is 32 hex digits and part of every hash, so rows cannot move between logs."""

    def __init__(self, log_id: str) -> None:
        try:
            raw = bytes.fromhex(log_id)
        except ValueError as error:
            raise ValidationError(f"the log id {log_id!r} is not 32 hex digits", cause=error) from error
        if len(raw) != 16:
            raise ValidationError(f"the log id {log_id!r} is not 32 hex digits")
        self.log_id = log_id
        self._prefix = _DOMAIN + raw

    def link(self, seq: int, previous: bytes, body_hash: bytes) -> bytes:
        """Return SHA-256(domain, log id, seq as 8 bytes, previous hash, body hash)."""
        return sha256(self._prefix + _pack_seq(seq) + previous + body_hash).digest()
