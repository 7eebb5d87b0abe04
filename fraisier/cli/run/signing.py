"""The key of the audit trail, as the commands over a store find it."""

from __future__ import annotations

from pathlib import Path

from fraisier.audit import AuditKey, load_or_make_key
from fraisier.audit.keys import KEY_FILE
from fraisier.cli.context import Call
from fraisier.config.resolve import Resolver
from fraisier.errors import ConfigurationError
from fraisier.journal.store import store_path
from fraisier.redaction import Redactor


def known_key(call: Call) -> AuditKey | None:
    """Return the key that signed the trail, or None when there is none: a check never makes one."""
    configured = _configured(call)
    store = store_path(call.store_url())
    if not configured and (store is None or not (store.parent / KEY_FILE).exists()):
        return None
    return load_or_make_key(configured, store.parent if store is not None else None)


def signing_key(call: Call) -> AuditKey:
    """Return the key to sign with; one is made when there is none yet."""
    store = store_path(call.store_url())
    return load_or_make_key(_configured(call), store.parent if store is not None else None)


def _configured(call: Call) -> str:
    try:
        call.config_path()
    except ConfigurationError:
        return ""
    config = call.load()
    if not config.audit.key:
        return ""
    resolver = Resolver(call.environ, Redactor(), Path(config.path).parent)
    return resolver.text(config.audit.key, {}, where="audit.key")
