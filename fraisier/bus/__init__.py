"""The event bus: publish, subscribe, request and reply."""

from fraisier.bus.core import Bus
from fraisier.bus.requests import Responder
from fraisier.bus.statistics import BusStatistics, SubscriberStatistics
from fraisier.bus.subscription import Handler, Postponed, Subscription

__all__ = [
    "Bus",
    "BusStatistics",
    "Handler",
    "Postponed",
    "Responder",
    "SubscriberStatistics",
    "Subscription",
]
