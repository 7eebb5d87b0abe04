"""How a command gets its orchestrator, and what is logged meanwhile."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fraisier.cli.context import Call
from fraisier.config.schema import Config
from fraisier.ids import Ids
from fraisier.logging import ConsoleFormatter, choose_logging, setup_structured_logging
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
    """Log to stderr as options, environment and configuration say. Where none of them asks for it, events are shown by the
    command itself, and only warnings of what is below it are logged. Raises ConfigurationError."""
    options = call.options
    choice = choose_logging(
        verbose=options.verbose,
        format_option=options.log_format,
        environ=call.environ,
        configured_level=config.logging.level,
        configured_format=config.logging.format,
        terminal=call.stderr.isatty(),
    )
    # What these say at debug level tells nothing about a deployment.
    for noisy in ("asyncio", "aiosqlite"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    call.is_logged = choice.wanted
    if choice.wanted:
        setup_structured_logging(choice.level, choice.format, stream=call.stderr, redactor=redactor)
        return
    logging.getLogger(EVENTS_LOGGER).disabled = True
    # The same look without structlog, which takes longer to load than most commands run.
    handler = logging.StreamHandler(call.stderr)
    handler.setFormatter(ConsoleFormatter(redactor))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
