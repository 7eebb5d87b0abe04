"""How a service is run on a target: as a process of ours, by commands of the user's, by systemd."""

from __future__ import annotations

from fraisier.config.schema import Service
from fraisier.errors import ProviderConfigurationError
from fraisier.providers.services.base import ServiceManager
from fraisier.providers.services.commanded import CommandedService
from fraisier.providers.services.process import ProcessService
from fraisier.providers.services.systemd import SystemdService


def manager_of(service: Service) -> ServiceManager:
    """Return the manager that a service's settings ask for. Raises ProviderConfigurationError when they ask for none."""
    if service.process:
        return ProcessService(service)
    if service.systemd:
        return SystemdService(service)
    if service.start:
        return CommandedService(service)
    raise ProviderConfigurationError(
        "service needs `process`, `systemd`, or `start` with `stop` and `status`"
    )
