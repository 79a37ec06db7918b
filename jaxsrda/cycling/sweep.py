"""Many hyperparameters in one compiled run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxsrda.core.checks import check_shape
from jaxsrda.cycling.assimilator import Assimilator
from jaxsrda.cycling.cycle import run_cycles
from jaxsrda.flow.testbed import Testbed
from jaxsrda.observing.observations import Observations

Score = dict[str, Array]


def sweep(
    make: Callable[[Any], Assimilator],
    params: Any,
    key: Array,
    observations: Observations,
    truth: Array,
    batch_size: int = 1,
    testbed: Testbed | None = None,
) -> Score:
    """Mean scores (settings, truths) of every setting on every truth, compiled once.

    make: traced parameters → Assimilator; params: a named tuple, such as `FilterParams` or one of the strength of a
    guidance, each entry (settings,); testbed: by default `jet`; observations, truth: truths leading,
    (truths, frames, nx, ny).  All settings see the same truths, observations and keys.  Settings run
    `batch_size` at a time, truths side by side.  The first cycle is left out of the means; a run that was
    not finite has NaN scores, so that it cannot win.  Raises ValueError if the entries' lengths differ.
    """
    for name, values in zip(params._fields, params):
        check_shape(f"params.{name}", values, (params[0].shape[0],))

    def one(setting: Any) -> Score:
        def run(observations: Observations, truth: Array) -> Score:
            _, history = run_cycles(make(setting), key, observations, truth, testbed=testbed)
            if history.scores is None:
                raise ValueError("sweep: expected a truth to score against, got None")
            healthy = history.finite.all()
            return {name: jnp.where(healthy, s[1:].mean(), jnp.nan) for name, s in history.scores.items()}

        return jax.vmap(run)(observations, truth)

    return jax.jit(lambda params: jax.lax.map(one, params, batch_size=batch_size))(params)
