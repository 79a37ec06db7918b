"""Observations: what was measured where, and how precisely.

`Observations` has a fixed capacity: unused slots are masked, so layouts that change from time to
time share one compiled program.  What is observed depends only on (key, truth seed, time), never on
the method or on the order of evaluation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core import draws
from jaxsrda.core.checks import check_finite, check_positive, check_shape
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.observing.layouts import Layout, check_positions
from jaxsrda.observing.operators import Operator, vorticity

NOISE_STD = 0.1
"""Standard deviation of the observation noise unless another is given."""


class Observations(NamedTuple):
    """Measurements at one time (or, with leading axes, at many).

    values: (p,); positions: (p, 2) as (x, y); mask: (p,) True where there is a measurement; variance: (p,) of the
    noise.  sets: (p,) integers, which set of sensors a slot belongs to (its number in `Experiment.sensors`, which says
    what the set measures and what it is for); None if there is one set.
    """

    values: Array
    positions: Array
    mask: Array
    variance: Array
    sets: Array | None = None

    @property
    def capacity(self) -> int:
        """Number of slots p."""
        return self.values.shape[-1]


def pack(values: Any, positions: Any, variance: Any, capacity: int | None = None) -> Observations:
    """Observations from the user's own arrays: values (p,), positions (p, 2), variance (p,) or a number.

    Slots up to `capacity` are masked.  Raises ValueError for more observations than the capacity,
    positions outside the channel, variances that are not positive, or numbers that are not finite.
    """
    values, positions = np.asarray(values, float), np.asarray(positions, float)
    check_shape("observation values", values, (None,))
    check_shape("observation positions", positions, (len(values), 2))
    variance = np.asarray(variance, float)
    variance = variance if variance.ndim else np.full(values.shape, variance)
    check_shape("observation variance", variance, (len(values),))
    capacity = len(values) if capacity is None else capacity
    if len(values) > capacity:
        raise ValueError(f"observations: {len(values)} do not fit a capacity of {capacity}; raise the capacity or thin")
    for name, array in (("values", values), ("positions", positions), ("variance", variance)):
        check_finite(f"observation {name}", array)
    check_positions(positions)
    if (variance <= 0).any():
        raise ValueError(f"observation variance: expected numbers above 0, got {variance.min():.4g}")
    spare = capacity - len(values)

    def fill(array, value, dtype=float):
        padded = np.pad(array, ((0, spare),) + ((0, 0),) * (array.ndim - 1), constant_values=value)
        return jnp.asarray(padded, jnp.zeros((), dtype).dtype)

    mask = fill(np.ones(len(values), bool), False, bool)
    return Observations(fill(values, 0), fill(positions, 1), mask, fill(variance, 1))


def check_observations(observations: Observations) -> Observations:
    """The user's observations, stacked over times (cycles, p), in JAX's default float; zeros where silent.

    Raises ValueError for other shapes, and for sensors with the faults that `pack` refuses.
    """
    shape = np.shape(observations.values)
    check_shape("observations.values", observations.values, (None, None), "; stack them over the assimilation times")
    sets = observations.sets
    for name in ("positions", "mask", "variance", *(() if sets is None else ("sets",))):
        check_shape(f"observations.{name}", getattr(observations, name), (*shape, 2) if name == "positions" else shape)
    values, positions, variance = (np.asarray(a, float) for a in (observations[0], observations[1], observations[3]))
    mask = np.asarray(observations.mask, bool)
    for name, array in (("values", values), ("positions", positions), ("variance", variance)):
        on = mask if array.ndim == 2 else mask[..., None]
        check_finite(f"observations.{name}", np.where(on, array, 0))
    check_positions(positions[mask])
    if (variance[mask] <= 0).any():
        raise ValueError(f"observations.variance: expected numbers above 0, got {variance[mask].min():.4g}")
    dtype = jnp.zeros(()).dtype
    values, variance = np.where(mask, values, 0), np.where(mask, variance, 1)
    positions = np.where(mask[..., None], positions, 1)
    return Observations(
        jnp.asarray(values, dtype),
        jnp.asarray(positions, dtype),
        jnp.asarray(mask),
        jnp.asarray(variance, dtype),
        None if sets is None else jnp.asarray(sets, jnp.int32),
    )


def join(*sets: Observations) -> Observations:
    """Several sets of sensors as one, each slot with the number of its set; leading axes are those of all.

    One set alone stays as it is.
    """
    if len(sets) == 1:
        return sets[0]

    def together(name: str, axis: int = -1) -> Array:
        return jnp.concatenate([getattr(part, name) for part in sets], axis=axis)

    numbers = [jnp.full(part.mask.shape, number, jnp.int32) for number, part in enumerate(sets)]
    return Observations(
        together("values"),
        together("positions", -2),
        together("mask"),
        together("variance"),
        jnp.concatenate(numbers, axis=-1),
    )


# Observing ------------------------------------------------------------------------------------


def observation_key(seed: int | Array, truth_seed: int | Array) -> Array:
    """The key that all observations of one truth come from."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(0x6F62), seed), truth_seed)


def observe(
    key: Array,
    grid: ChannelGrid,
    layout: Layout,
    omega: Array,
    time: int | Array,
    noise_std: float | Array = NOISE_STD,
    operator: Operator = vorticity,
) -> Observations:
    """Observe a truth ω[nx, ny] at an assimilation time (an integer): values + N(0, noise_std²).

    key: `observation_key` of the truth; the layout's offsets and the noise come from it and `time` alone.
    """
    here = jax.random.fold_in(key, 0)
    place_key, noise_key = jax.random.split(jax.random.fold_in(key, 1 + jnp.asarray(time, jnp.uint32)))
    positions, mask = layout.place(here, place_key, time)
    positions = positions.astype(omega.dtype)
    noise = draws.normal(noise_key, mask.shape, omega.dtype)
    values = operator(grid, omega, positions) + jnp.asarray(noise_std, omega.dtype) * noise
    variance = jnp.full(mask.shape, jnp.asarray(noise_std, omega.dtype) ** 2)
    return Observations(jnp.where(mask, values, 0), positions, mask, variance)


def observe_run(
    key: Array,
    grid: ChannelGrid,
    layout: Layout,
    truth: Array,
    every: int,
    noise_std: float | Array = NOISE_STD,
    operator: Operator = vorticity,
    first: int = 0,
) -> Observations:
    """Observations of every `every`-th frame of a truth [frames, nx, ny], times leading.

    first: the number of the first time.
    """
    check_shape("truth", truth, (None, *grid.shape))
    if isinstance(noise_std, int | float):
        check_positive("noise_std", noise_std)
    times = first + jnp.arange((truth.shape[0] + every - 1) // every)

    def one(time: Array, omega: Array) -> Observations:
        return observe(key, grid, layout, omega, time, noise_std, operator)

    return jax.vmap(one)(times, truth[::every])
