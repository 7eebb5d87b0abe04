"""How a command gets its orchestrator, and what is logged meanwhile."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from fraisier.cli.context import Call
from fraisier.config.schema import Config
from fraisier.ids import Ids
from fraisier.logging import ConsoleFormatter, setup_structured_logging
from fraisier.orchestrator import Orchestrator, local_actor
from fraisier.redaction import Redactor

EVENTS_LOGGER = "fraisier.events"


@asynccontextmanager
async def opened(
    call: Call, config: Config | None = None, *, ids: Ids | None = None
) -> AsyncIterator[Orchestrator]:
    """Give an orchestrator over the configured store. Raises ConfigurationError, DatabaseConnectionError."""
    config = config or call.load()
    redactor = Redactor()
    call.scrubs.append(redactor.scrub_object)
    set_up_logging(call, config, redactor)
    orchestrator = Orchestrator(
        config, call.store_url(config), ids=ids, actor=local_actor("cli"), redactor=redactor
    )
    async with orchestrator:
        yield orchestrator


def set_up_logging(call: Call, config: Config, redactor: Redactor) -> None:
    """Log to stderr as the options say. Without -v or --log-format events are shown by the command itself, and only
    warnings of what is below it are logged."""
    options = call.options
    # What these say at debug level tells nothing about a deployment.
    for noisy in ("asyncio", "aiosqlite"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if not (options.verbose or options.log_format):
        logging.getLogger(EVENTS_LOGGER).disabled = True
        # The same look without structlog, which takes longer to load than most commands run.
        handler = logging.StreamHandler(call.stderr)
        handler.setFormatter(ConsoleFormatter(redactor))
        logging.basicConfig(level=logging.WARNING, handlers=[handler])
        return
    level = {0: config.logging.level, 1: "info"}.get(options.verbose, "debug")
    chosen = options.log_format or config.logging.format
    form: Literal["console", "json"] = "json" if chosen == "json" else "console"
    setup_structured_logging(level, form, stream=call.stderr, redactor=redactor)
