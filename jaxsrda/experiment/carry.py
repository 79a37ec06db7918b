"""Going on: what a run hands to the next one, in a process or between processes."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxsrda.core.trees import flatten
from jaxsrda.cycling.cycle import Carry
from jaxsrda.flow.testbed import Testbed


def interval(testbed: Testbed) -> float:
    """The time from one analysis to the next."""
    return testbed.frame * testbed.frames_per_cycle


def next_time(carry: Carry) -> int:
    """The number of the assimilation time that comes after a carry of several truths, counted from time zero."""
    return int(np.ravel(carry.first)[0]) + int(np.ravel(carry.index)[0])


def start_time(start: float | None, testbed: Testbed, carry: Carry | None, told: float | None = None) -> float:
    """The time of an experiment's first frame: as given, or as the truth's own times have it (`told`), or where the
    carry ended, or zero.

    Raises ValueError for a time without an analysis, and for times that do not agree.
    """
    step, ended = interval(testbed), None if carry is None else next_time(carry)
    if start is not None and told is not None and abs(start - told) > 1e-3 * step:
        raise ValueError(f"start: the truth's own times begin at {told:g}, got {start:g}; leave it out")
    if told is not None and abs(told / step - round(told / step)) < 1e-3:  # files round
        told = step * round(told / step)
    start = told if start is None else start
    if start is None:
        return step * (ended or 0)
    if not np.isfinite(start) or start < 0 or abs(start / step - round(start / step)) > 1e-6:
        raise ValueError(f"start: expected a time of an analysis, 0 or a multiple of {step:g}, got {start!r}")
    if ended is not None and round(start / step) != ended:
        raise ValueError(f"start: the carry goes on at {step * ended:g}, got {start:g}; leave it out")
    return step * round(start / step)


def check_scored(carry: Carry, truths: int, scored: bool) -> None:
    """ValueError for a carry of another number of truths, or without the sums of scores that are to go on."""
    if np.shape(carry.index) != (truths,):
        raise ValueError(f"carry: expected that of {truths} truth(s), got {np.size(carry.index)}; give as many truths")
    if scored and carry.tally is None:
        raise ValueError("carry: it is of a run without a truth and has no scores; leave the truth out, or start anew")


def check_carry(carry: Carry, expected: Any) -> None:
    """ValueError unless a carry has the structure, shapes and types of the one expected."""
    wanted, got = ({name: _kind(leaf) for name, leaf in flatten(each._asdict()).items()} for each in (expected, carry))
    for name in [*wanted, *got]:
        if wanted.get(name) != got.get(name):
            raise ValueError(
                f"carry: expected {name} to be {wanted.get(name, 'absent')}, got {got.get(name, 'none')}; it goes on "
                "with the method, settings, testbed and precision that it comes from"
            )
    if jax.tree.structure(carry) != jax.tree.structure(expected):
        raise ValueError("carry: it is that of another method; go on with the method that it comes from")


def _kind(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype)} {tuple(leaf.shape)}" if hasattr(leaf, "dtype") else type(leaf).__name__
