"""`fraisier demo`: a whole rollout, its upgrade and its failure, on this machine, with nothing left behind."""

from fraisier.demo.show import run_demo

__all__ = ["run_demo"]
