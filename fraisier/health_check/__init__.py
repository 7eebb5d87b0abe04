"""Is it healthy? Checkers for embedders, and the responder that gives the rollout its verdicts."""

from fraisier.health_check.base import HealthChecker, HealthCheckResult
from fraisier.health_check.command import ExecHealthChecker
from fraisier.health_check.composite import CompositeHealthChecker
from fraisier.health_check.http import HTTPHealthChecker
from fraisier.health_check.manager import HealthCheckManager
from fraisier.health_check.responder import HealthResponder
from fraisier.health_check.subject import HealthSubject
from fraisier.health_check.tcp import TCPHealthChecker

__all__ = [
    "CompositeHealthChecker",
    "ExecHealthChecker",
    "HTTPHealthChecker",
    "HealthCheckManager",
    "HealthCheckResult",
    "HealthChecker",
    "HealthResponder",
    "HealthSubject",
    "TCPHealthChecker",
]
