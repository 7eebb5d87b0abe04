"""Structured logging: set-up, formatters, context of a task, and the subscriber that logs every event.

Importing this configures nothing and does not load structlog.
"""

from fraisier.logging.choice import LogChoice, choose_logging
from fraisier.logging.context import ContextualLogger, current_context, log_context
from fraisier.logging.formatters import ConsoleFormatter, JSONFormatter
from fraisier.logging.setup import setup_structured_logging
from fraisier.logging.subscriber import LoggingSubscriber

__all__ = [
    "ConsoleFormatter",
    "ContextualLogger",
    "JSONFormatter",
    "LogChoice",
    "LoggingSubscriber",
    "choose_logging",
    "current_context",
    "log_context",
    "setup_structured_logging",
]
