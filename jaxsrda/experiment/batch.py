"""Settings × truths in one compiled call: the scan of `cycling.run_cycles`, its traced numbers a leading axis.

On a CPU settings go one after the other inside the call, which keeps what they compute in the cache; on an accelerator
side by side.  Several devices share the settings, or the truths where there are fewer settings than devices
(`settings_mesh`).
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

from jaxsrda.core.devices import Devices, chosen, divided, mesh_of, placed, shared, whole
from jaxsrda.cycling.assimilator import Setup
from jaxsrda.cycling.background_check import background_checked
from jaxsrda.cycling.cycle import Carry, History, run_cycles, start
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.experiment.options import Numbers
from jaxsrda.experiment.result import summarized
from jaxsrda.experiment.scan import CASES, WHOLE, Inputs, Program, Recipe, program_of
from jaxsrda.filters.analysis import AT_ONCE
from jaxsrda.flow.grid import ChannelGrid

CPU_BUDGET = 2**30
"""Bytes that the settings of one call may take on a CPU; on an accelerator half of its memory."""

COPIES, NETWORK_COPIES = 10, 100
"""About how many copies of a window's ensemble a cycle holds at once: a filter, and a network with its channels."""

SETTINGS, BOTH = PartitionSpec("setting"), PartitionSpec("setting", "case")
"""What is divided by settings, and by settings and truths."""

MOST_AT_ONCE = 64
"""Settings a call, unless more are asked for: what was done is written after each call."""


def settings_at_once(config: Any, inputs: Inputs, devices: int = 1) -> int:
    """How many settings of a configuration go into one call within the memory of so many devices."""
    testbed = inputs.setup.testbed
    truths, _, sensors = inputs.observed.values.shape
    points, itemsize = math.prod(testbed.grid.shape), inputs.observed.values.dtype.itemsize
    # Covariances between sensors, and what of those to the grid an analysis holds at once.
    covariances = sensors * sensors + min(points * sensors, AT_ONCE)
    window = getattr(config, "members", 1) * testbed.window * points + covariances
    copies = NETWORK_COPIES if isinstance(config, DiffSRDAConfig) else COPIES
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    budget = stats["bytes_limit"] / 2 * devices if stats and "bytes_limit" in stats else CPU_BUDGET
    return int(min(max(budget / (copies * truths * window * itemsize), 1), MOST_AT_ONCE))


def batch_program(recipe: Recipe, inputs: Inputs, mesh: Mesh | None = None) -> Program:
    """The program that the calls of equal recipes share; it counts the seconds spent on compiling."""
    return program_of(recipe, inputs.setup, mesh=mesh)


def run_batch(
    recipe: Recipe,
    inputs: Inputs,
    numbers: Numbers,
    active: Array,
    carry: Carry | None = None,
    mesh: Mesh | None = None,
) -> tuple[Carry, History]:
    """Carries and histories (settings, truths, …) of all settings on all truths, compiled once for equal shapes.

    numbers: traced options, each (settings,); active: (settings,), False for one that only fills the call up and gives
    zeros; carry: where to go on from, (settings, truths, …), which is donated; mesh: of `settings_mesh`, by default one
    device.  The same keys, observations and truths as `run` has, so the same scores to rounding.
    """
    compiled = batch_program(recipe, inputs, mesh)

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

    each = shared(block, mesh, (WHOLE, WHOLE, CASES, SETTINGS, SETTINGS, BOTH, WHOLE), BOTH)

    def every_setting(*inputs: Any) -> tuple[Carry, History]:
        carry, history = each(*inputs)
        return divided(carry, mesh, "setting", "case"), history

    truth = None if inputs.truth is None else jnp.asarray(inputs.truth) if mesh is None else inputs.truth
    reject = None if recipe.reject is None else jnp.asarray(recipe.reject, inputs.setup.dtype)
    testbed, climatology, reject = placed((inputs.setup.testbed, inputs.setup.climatology, reject), mesh)
    by_truth = placed((inputs.keys, inputs.observed, truth), mesh, "case")
    numbers, active = placed((numbers, active), mesh, "setting")
    carry = placed(carry, mesh, "setting", "case")
    arguments = testbed, climatology, by_truth, numbers, active, carry, reject
    return compiled.call(("settings",), every_setting, *arguments, donate=5)


def side_by_side(settings: int) -> int | None:
    """How many of a device's settings go side by side: on a CPU, None, they go one after the other."""
    return settings if jax.devices()[0].platform != "cpu" else None


def settings_mesh(devices: Devices, settings: int, truths: int) -> Mesh | None:
    """The devices by settings and truths (`core.devices.mesh_of`).

    Not by members: devices that fill a call up do nothing, and those that share an ensemble would wait for them.
    """
    return mesh_of(devices, setting=settings, case=truths)


def settings_parts(devices: Devices) -> int:
    """Into how many parts settings go if there are enough."""
    return devices.shape.get("setting", 1) if isinstance(devices, Mesh) else len(chosen(devices))


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
        return whole(leaf).reshape(-1, *np.shape(leaf)[2:])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of runs that were not finite
        _, summary, _ = summarized(jax.tree.map(flat, history), jax.tree.map(flat, carry.tally), grid)
    scores = {name: np.where(finite, values.reshape(finite.shape), np.nan) for name, values in summary.items()}
    return scores, finite
