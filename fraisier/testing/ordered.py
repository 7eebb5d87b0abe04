"""The order of cancellation under virtual time; it lives with the simulation."""

from fraisier.simulation.ordered import ordered_cancellation

__all__ = ["ordered_cancellation"]
