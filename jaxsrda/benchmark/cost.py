"""What a cycle costs: two methods timed in turn, in one process, compiling apart."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from jaxsrda.benchmark.entrant import Entrant
from jaxsrda.cycling.assimilator import Setup
from jaxsrda.observing.observations import Observations

ROUNDS = 5
"""Cycles of each method that are timed, after one that is not."""


def measure(
    given: Entrant, reference: Entrant | None, setup: Setup, observed: Observations, seed: int
) -> dict[str, Any]:
    """Seconds of a cycle, `step` alone without scores, on observations (cycles, p): the median of `ROUNDS`.

    The method and the reference take turns, so that a load on the machine meets both; ratio: the median of the rounds'
    ratios.  Without a reference, or if the method is the reference, the ratio is None.
    """
    methods = [given] if reference is None else [given, reference]
    runs = [_Stepping(each, setup, observed, seed) for each in methods]
    cycles = observed.values.shape[0]
    seconds = [[run(number % cycles) for run in runs] for number in range(ROUNDS + 1)][1:]
    own = [each[0] for each in seconds]
    return {
        "reference": methods[-1].spec,
        "reference_hash": None if reference is None else reference.identity,
        "compile_seconds": runs[0].compiling,
        "cycle_seconds": statistics.median(own),
        "reference_seconds": None if reference is None else statistics.median(each[1] for each in seconds),
        "ratio": None if reference is None else statistics.median(each[0] / each[1] for each in seconds),
        "rounds": seconds,
    }


class _Stepping:
    """A method's step, compiled, and its state from cycle to cycle."""

    def __init__(self, given: Entrant, setup: Setup, observed: Observations, seed: int):
        self.observed, self.key = observed, jax.random.key(seed)
        made = given.make(setup)
        self.state = jax.jit(made.init)(self.key)
        began = time.perf_counter()
        step: Callable[..., Any] = made.step
        self.step = jax.jit(step).lower(self.key, self.state, self._at(0)).compile()
        self.compiling = time.perf_counter() - began

    def _at(self, number: int) -> Observations:
        return jax.tree.map(lambda a: a[number], self.observed)

    def __call__(self, number: int) -> float:
        """Seconds of the next cycle."""
        inputs = jax.random.fold_in(self.key, number), self.state, self._at(number)
        jax.block_until_ready(inputs)
        began = time.perf_counter()
        self.state, _ = jax.block_until_ready(self.step(*inputs))
        return time.perf_counter() - began
