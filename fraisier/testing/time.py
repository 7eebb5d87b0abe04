"""A wall clock and identifiers that are the same in every run; they live with the simulation."""

from fraisier.simulation.time import START_US, SeededIds, VirtualClock

__all__ = ["START_US", "SeededIds", "VirtualClock"]
