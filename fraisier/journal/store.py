"""Which store is meant, and the journal over it. Importing this loads no database."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from fraisier.clock import Clock
from fraisier.errors import ConfigurationError
from fraisier.ids import Ids
from fraisier.journal.base import Journal

STORE_VARIABLE = "FRAISIER_STORE"
_SQLITE = "sqlite:///"
_MEMORY = "memory:"


def default_state_dir(environ: Mapping[str, str], uid: int) -> Path:
    """Return the directory for what must survive: `/var/lib/fraisier` for root, the user's state directory otherwise."""
    if uid == 0:
        return Path("/var/lib/fraisier")
    state = environ.get("XDG_STATE_HOME", "")
    # The XDG specification says that a relative path there is to be ignored.
    base = (
        Path(state)
        if state.startswith("/")
        else Path(environ.get("HOME") or "~").expanduser() / ".local/state"
    )
    return base / "fraisier"


def default_store_url(environ: Mapping[str, str], uid: int) -> str:
    """Return the store's URL when neither an option, the environment nor the configuration names one."""
    return f"{_SQLITE}{default_state_dir(environ, uid)}/fraisier.db"


def choose_store_url(*, option: str, environ: Mapping[str, str], configured: str, uid: int) -> str:
    """Return the store's URL: the option, else $FRAISIER_STORE, else the configuration's, else the default."""
    return option or environ.get(STORE_VARIABLE, "") or configured or default_store_url(environ, uid)


def store_path(url: str) -> Path | None:
    """Return the file of a `sqlite:///PATH` store, None for `memory:`. Raises ConfigurationError."""
    if url == _MEMORY:
        return None
    if url.startswith(_SQLITE) and url[len(_SQLITE) :].strip("/"):
        return Path(url[len(_SQLITE) :])
    raise ConfigurationError(
        # A URL may hold a password, so only its beginning is shown.
        f"the store {url.partition(':')[0]!r}:… is not a URL that Fraisier knows",
        hint="write sqlite:///PATH (an absolute path gives four slashes) or memory:",
    )


def open_journal(url: str, *, clock: Clock, ids: Ids, read_only: bool = False) -> Journal:
    """Return the journal over a store, to be opened with `await journal.open(on_commit)`. Raises ConfigurationError."""
    path = store_path(url)
    if path is None:
        memory = importlib.import_module("fraisier.journal.memory")
        journal: Journal = memory.MemoryJournal(clock=clock, ids=ids)
        return journal
    sqlite = importlib.import_module("fraisier.journal.sqlite")
    stored: Journal = sqlite.SqliteJournal(path, clock=clock, ids=ids, read_only=read_only)
    return stored
