"""The key of the audit trail, as the commands over a store find it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fraisier.audit import AuditKey, load_or_make_key
from fraisier.audit.keys import KEY_FILE
from fraisier.cli.context import Call
from fraisier.config.resolve import Resolver
from fraisier.config.schema import AuditSettings
from fraisier.errors import ConfigurationError
from fraisier.journal.store import store_path
from fraisier.redaction import Redactor


class KnownKeys(NamedTuple):
    """The key that signs the trail, or None when there is none yet, and those that signed it before."""

    current: AuditKey | None
    former: tuple[AuditKey, ...]


def known_keys(call: Call) -> KnownKeys:
    """Return the keys to check the trail with: a check never makes one.

    The key in the store's directory is a former one once a configured key has taken over; a check by somebody who may not
    read it goes on without it.
    """
    settings, resolve = _settings(call)
    former = [
        _former(resolve(text, f"audit.former_keys[{at}]"), at) for at, text in enumerate(settings.former_keys)
    ]
    store = store_path(call.store_url())
    beside = store.parent if store is not None and (store.parent / KEY_FILE).exists() else None
    if settings.key:
        with suppress(ConfigurationError):
            former += [load_or_make_key("", beside)] if beside is not None else []
        return KnownKeys(load_or_make_key(resolve(settings.key, "audit.key"), None), tuple(former))
    return KnownKeys(load_or_make_key("", beside) if beside is not None else None, tuple(former))


def _former(secret: str, at: int) -> AuditKey:
    if not secret.strip():
        raise ConfigurationError(
            f"audit.former_keys[{at}] is empty",
            hint="give the key that signed earlier, or take the entry out",
        )
    return load_or_make_key(secret, None)


def signing_key(call: Call) -> AuditKey:
    """Return the key to sign with; one is made when there is none yet."""
    settings, resolve = _settings(call)
    store = store_path(call.store_url())
    return load_or_make_key(resolve(settings.key, "audit.key"), store.parent if store is not None else None)


def _settings(call: Call) -> tuple[AuditSettings, Callable[[str, str], str]]:
    """Return what the configuration says of the audit (without one, nothing), and what resolves a text of it."""
    try:
        call.config_path()
    except ConfigurationError:
        return AuditSettings(), lambda text, where: text
    config = call.load()
    resolver = Resolver(call.environ, Redactor(), Path(config.path).parent)
    return config.audit, lambda text, where: resolver.text(text, {}, where=where)
