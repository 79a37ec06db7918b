"""Sensors: where they are, what they measure, how precisely; and the observations that they make of a truth.

A `Sensors` is one set of them with its role; `Observations` are what all sets measured at one time.
"""

from jaxsrda.observing.layouts import LAYOUTS, Layout, at_positions, parse_layout
from jaxsrda.observing.observations import Observations, extended, join, observe, observe_run, pack, padded, stack
from jaxsrda.observing.operators import OPERATORS, Operator, block_mean, is_linear, operator
from jaxsrda.observing.sensors import Sensors, observe_truths, predict, with_role

__all__ = [
    "LAYOUTS",
    "OPERATORS",
    "Layout",
    "Observations",
    "Operator",
    "Sensors",
    "at_positions",
    "block_mean",
    "extended",
    "is_linear",
    "join",
    "observe",
    "observe_run",
    "observe_truths",
    "operator",
    "pack",
    "padded",
    "parse_layout",
    "predict",
    "stack",
    "with_role",
]
