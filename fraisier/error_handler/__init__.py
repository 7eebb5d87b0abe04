"""From a failure to what is done about it: ordered recovery strategies, and the answer to the runner's
question."""

from fraisier.error_handler.contextual import ContextualErrorHandler
from fraisier.error_handler.handler import ErrorHandler
from fraisier.error_handler.responder import RecoveryResponder

__all__ = ["ContextualErrorHandler", "ErrorHandler", "RecoveryResponder"]
