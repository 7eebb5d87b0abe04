"""The key that signs checkpoints: configured, or made once beside the store."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from fraisier.errors import ConfigurationError
from fraisier.redaction import Secret

KEY_FILE = "audit.key"
_KEY_BYTES = 32


class AuditKey:
    """A signing key. `id` names it in checkpoints without telling anything about it."""

    __slots__ = ("_secret", "id")

    def __init__(self, secret: bytes, id: str) -> None:
        self._secret = Secret(secret)
        self.id = id

    @property
    def secret(self) -> bytes:
        """The bytes to sign with."""
        return self._secret.reveal()

    def __eq__(self, other: object) -> bool:
        """Whether it is the same key."""
        return isinstance(other, AuditKey) and (self.id, self._secret) == (other.id, other._secret)

    def __hash__(self) -> int:
        """Return the hash of the name."""
        return hash(self.id)

    def __repr__(self) -> str:
        """Show the name only."""
        return f"AuditKey(id={self.id!r})"


def audit_key(secret: bytes) -> AuditKey:
    """Return the key made of `secret`. Raises ConfigurationError when it is empty."""
    if not secret:
        raise ConfigurationError(
            "the audit key is empty",
            hint="remove `audit.key` to have one made, or give at least 32 random bytes",
        )
    return AuditKey(secret, hmac.new(secret, b"fraisier audit key id", hashlib.sha256).hexdigest()[:16])


def load_or_make_key(configured: str, store_directory: Path | None) -> AuditKey:
    """Return the configured key; without one, that of `audit.key` in the store's directory, made when it is
    missing.

    `store_directory` is None for a store that is not kept: then the key is not kept either. The file has mode
    0600. Raises ConfigurationError when the file cannot be read or made, or is empty.
    """
    if configured:
        return audit_key(configured.strip().encode())
    if store_directory is None:
        return audit_key(secrets.token_bytes(_KEY_BYTES))
    path = store_directory / KEY_FILE
    try:
        if not path.exists():
            _make(path)
        return audit_key(path.read_bytes().strip())
    except OSError as error:
        raise ConfigurationError(
            f"the audit key {path} cannot be read or made: {error.strerror}",
            context={"path": str(path)},
            hint="make the file readable for this user, or set `audit.key`",
            cause=error,
        ) from error


def _make(path: Path) -> None:
    """Put a new key in place in one step, so that of two processes that start together both read the same
    one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
