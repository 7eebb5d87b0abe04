"""How a command gets its orchestrator, and what is logged meanwhile."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from fraisier.cli.context import Call
from fraisier.config.schema import Config
from fraisier.ids import Ids
from fraisier.logging import setup_structured_logging
from fraisier.orchestrator import Orchestrator, local_actor
from fraisier.redaction import Redactor

_EVENTS_LOGGER = "fraisier.events"


@asynccontextmanager
async def opened(
    call: Call, config: Config | None = None, *, ids: Ids | None = None
) -> AsyncIterator[Orchestrator]:
    """Give an orchestrator over the configured store. Raises ConfigurationError, DatabaseConnectionError."""
    config = config or call.load()
    redactor = Redactor()
    set_up_logging(call, config, redactor)
    orchestrator = Orchestrator(
        config, call.store_url(config), ids=ids, actor=local_actor("cli"), redactor=redactor
    )
    async with orchestrator:
        yield orchestrator


def set_up_logging(call: Call, config: Config, redactor: Redactor) -> None:
    """Log to stderr as the options say. Without -v or --log-format events are shown by the command itself, not logged."""
    options = call.options
    asked = bool(options.verbose or options.log_format)
    level = {0: config.logging.level, 1: "info"}.get(options.verbose, "debug") if asked else "warning"
    form: Literal["console", "json"] = (
        "json" if (options.log_format or config.logging.format) == "json" else "console"
    )
    setup_structured_logging(level, form, redactor=redactor)
    logging.getLogger(_EVENTS_LOGGER).disabled = not asked
    # What these say at debug level tells nothing about a deployment.
    for noisy in ("asyncio", "aiosqlite"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
