"""The cycle: the contract that every method keeps, the one scan that runs them all, and sweeps over settings.

An `Assimilator` is a pair of pure functions; `run_cycles` runs and scores it.
"""

from jaxsrda.cycling.assimilator import Assimilator, Diagnostics, Setup, Window
from jaxsrda.cycling.background_check import background_checked, far_off
from jaxsrda.cycling.cycle import Carry, Fields, History, run_cycles, start

__all__ = [
    "Assimilator",
    "Carry",
    "Diagnostics",
    "Fields",
    "History",
    "Setup",
    "Window",
    "background_checked",
    "far_off",
    "run_cycles",
    "start",
]
