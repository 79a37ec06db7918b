"""Settings × truths in one compiled call: the scan of `cycling.run_cycles`, its traced numbers a leading axis.

On a CPU settings go one after the other inside the call, which keeps what they compute in the cache; on an accelerator
side by side.  Several devices share the settings, or the truths where there are fewer settings than devices.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, PartitionSpec

from jaxsrda.cycling.assimilator import Setup
from jaxsrda.cycling.background_check import background_checked
from jaxsrda.cycling.cycle import Carry, History, run_cycles, start
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.experiment.options import Numbers
from jaxsrda.experiment.result import summarized
from jaxsrda.experiment.run import Inputs
from jaxsrda.experiment.scan import Program, Recipe, program_of
from jaxsrda.filters.analysis import AT_ONCE
from jaxsrda.flow.grid import ChannelGrid

CPU_BUDGET = 2**30
"""Bytes that the settings of one call may take on a CPU; on an accelerator half of its memory."""

COPIES, NETWORK_COPIES = 10, 100
"""About how many copies of a window's ensemble a cycle holds at once: a filter, and a network with its channels."""

MOST_AT_ONCE = 64
"""Settings a call, unless more are asked for: what was done is written after each call."""


def settings_at_once(config: Any, inputs: Inputs) -> int:
    """How many settings of a configuration go into one call within the budget of memory."""
    testbed = inputs.setup.testbed
    truths, _, sensors = inputs.observed.values.shape
    points, itemsize = math.prod(testbed.grid.shape), inputs.observed.values.dtype.itemsize
    # Covariances between sensors, and what of those to the grid an analysis holds at once.
    covariances = sensors * sensors + min(points * sensors, AT_ONCE)
    window = getattr(config, "members", 1) * testbed.window * points + covariances
    copies = NETWORK_COPIES if isinstance(config, DiffSRDAConfig) else COPIES
    device = jax.devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    budget = stats["bytes_limit"] / 2 * len(jax.devices()) if stats and "bytes_limit" in stats else CPU_BUDGET
    return int(min(max(budget / (copies * truths * window * itemsize), 1), MOST_AT_ONCE))


def batch_program(recipe: Recipe, inputs: Inputs) -> Program:
    """The program that the calls of equal recipes share; it counts the seconds spent on compiling."""
    return program_of(recipe, inputs.setup)


def run_batch(
    recipe: Recipe, inputs: Inputs, numbers: Numbers, active: Array, carry: Carry | None = None
) -> tuple[Carry, History]:
    """Carries and histories (settings, truths, …) of all settings on all truths, compiled once for equal shapes.

    numbers: traced options, each (settings,); active: (settings,), False for one that only fills the call up and gives
    zeros; carry: where to go on from, (settings, truths, …), which is donated.  The same keys, observations and truths
    as `run` has, so the same scores to rounding.
    """
    compiled, mesh = batch_program(recipe, inputs), device_mesh(len(active), len(inputs.keys))

    def block(testbed, climatology, by_truth, numbers, active, carry, reject):
        def every_truth(numbers: Numbers, carry: Carry | None) -> tuple[Carry, History]:
            assimilator = recipe(Setup(testbed, climatology, compiled.sensors, compiled.first), numbers)
            if reject is not None:
                assimilator = background_checked(assimilator, reject)

            def one(key, observed, truth, carry):
                if carry is None:
                    grid = None if truth is None else testbed.grid
                    carry = start(assimilator, key, grid, observed.values.dtype, compiled.first)
                return run_cycles(assimilator, key, observed, truth, carry, "scores", testbed, recipe.joint)

            keys, observed, truth = by_truth
            return jax.vmap(one)(keys, observed, truth, carry)

        run = jax.jit(every_truth)  # traced once, for its shapes and for its numbers
        first = jax.tree.map(lambda a: a[0], (numbers, carry))
        shapes = jax.eval_shape(run, *first)

        def if_active(item: tuple[Array, Numbers, Carry | None]) -> tuple[Carry, History]:
            active, *rest = item

            def nothing(*_: Any) -> tuple[Carry, History]:
                return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

            return jax.lax.cond(active, run, nothing, *rest)

        return jax.lax.map(if_active, (active, numbers, carry), batch_size=side_by_side(len(active)))

    if mesh.size > 1:
        both, whole = PartitionSpec("settings", "truths"), PartitionSpec()
        specs = whole, whole, PartitionSpec("truths"), PartitionSpec("settings"), PartitionSpec("settings"), both, whole
        block = jax.shard_map(block, mesh=mesh, in_specs=specs, out_specs=both, check_vma=False)
    by_truth = inputs.keys, inputs.observed, None if inputs.truth is None else jnp.asarray(inputs.truth)
    arguments = inputs.setup.testbed, inputs.setup.climatology, by_truth, numbers, active, carry
    arguments += (None if recipe.reject is None else jnp.asarray(recipe.reject, inputs.setup.dtype),)
    return compiled.call(("settings", mesh.devices.shape), block, *arguments, donate=5)


def side_by_side(settings: int) -> int | None:
    """How many of a device's settings go side by side: on a CPU, None, they go one after the other."""
    return settings if jax.devices()[0].platform != "cpu" else None


def device_mesh(settings: int, truths: int) -> Mesh:
    """The devices by settings, as many as divide them, and those left by truths."""
    devices = jax.devices()
    by_setting = max(n for n in range(1, len(devices) + 1) if settings % n == 0)
    by_truth = max(n for n in range(1, len(devices) // by_setting + 1) if truths % n == 0)
    chosen = np.array(devices[: by_setting * by_truth]).reshape(by_setting, by_truth)
    return Mesh(chosen, ("settings", "truths"))


def cycles_of(inputs: Inputs, first: int, last: int) -> Inputs:
    """The inputs of the cycles from `first` to before `last`."""
    every = inputs.setup.testbed.frames_per_cycle
    observed = jax.tree.map(lambda a: a[:, first:last], inputs.observed)
    truth = None if inputs.truth is None else inputs.truth[:, first * every : last * every]
    return inputs._replace(observed=observed, truth=truth)


def joined_histories(*parts: History) -> History:
    """Histories (settings, truths, cycles, …) of following cycles as one, on the host."""
    return jax.tree.map(lambda *a: np.concatenate([np.asarray(each) for each in a], axis=2), *parts)


def scores_of(carry: Carry, history: History, grid: ChannelGrid) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The scores (settings, truths) that a `Result` has by truth, NaN where a run was not finite; and which were."""
    finite = np.asarray(np.asarray(history.finite).all(-1))

    def flat(leaf: Any) -> Any:
        return np.asarray(leaf).reshape(-1, *np.shape(leaf)[2:])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of runs that were not finite
        _, summary, _ = summarized(jax.tree.map(flat, history), jax.tree.map(flat, carry.tally), grid)
    scores = {name: np.where(finite, values.reshape(finite.shape), np.nan) for name, values in summary.items()}
    return scores, finite
