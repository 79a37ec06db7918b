"""Observations: what was measured where, sensor layouts, and observation operators.

`Observations` has a fixed capacity: unused slots are masked, so layouts that change from time to
time share one compiled program.  What is observed depends only on (key, truth seed, time), never on
the method or on the order of evaluation.  An operator is a function (grid, ω[nx, ny],
positions[p, 2]) → values[p]; any differentiable function of that form will do.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core.checks import check_finite, check_positive, check_shape
from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.observing.layouts import Layout, check_positions
from jaxsrda.observing.operators import Operator, vorticity, vorticity_spectral

OBSERVATION_STD = 0.1
"""Standard deviation of the observation noise."""


class Observations(NamedTuple):
    """Sensors at one time (or, with leading axes, at many).

    values: (p,); positions: (p, 2) as (x, y); mask: (p,) True where there is a sensor; variance: (p,) of the noise.
    guides: (p,) True where a slot holds a sensor of a second set, which may measure by an operator of its own; it
    guides samples, its mask False, or is assimilated as well, its mask True.  None if there is no such set.
    """

    values: Array
    positions: Array
    mask: Array
    variance: Array
    guides: Array | None = None

    @property
    def capacity(self) -> int:
        """Number of slots p."""
        return self.values.shape[-1]


def pack(values, positions, variance, capacity: int | None = None) -> Observations:
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
    for name, wanted in (("positions", (*shape, 2)), ("mask", shape), ("variance", shape)):
        check_shape(f"observations.{name}", getattr(observations, name), wanted)
    values, positions, variance = (np.asarray(a, float) for a in (observations[0], observations[1], observations[3]))
    mask = np.asarray(observations.mask, bool)
    if observations.guides is not None:
        check_shape("observations.guides", observations.guides, shape)
        mask = mask | np.asarray(observations.guides, bool)
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
        jnp.asarray(observations.mask, bool),
        jnp.asarray(variance, dtype),
        None if observations.guides is None else jnp.asarray(observations.guides, bool),
    )


def with_guides(observations: Observations, guides: Observations) -> Observations:
    """Both sets in one, the second as `guides`; leading axes (times, truths) are those of both."""

    def both(a: Array, b: Array, axis: int = -1) -> Array:
        return jnp.concatenate([a, b], axis=axis)

    return Observations(
        both(observations.values, guides.values),
        both(observations.positions, guides.positions, -2),
        both(observations.mask, jnp.zeros_like(guides.mask)),
        both(observations.variance, guides.variance),
        both(jnp.zeros_like(observations.mask), guides.mask),
    )


def predict(
    grid: ChannelGrid, omega: Array, observations: Observations, operator: Operator, guide_operator: Operator | None
) -> Array:
    """What the sensors would measure of ω[nx, ny], (p,), those of `guides` by their own operator if it is another."""
    guides, positions = observations.guides, observations.positions
    if guides is None or guide_operator in (None, operator):
        return operator(grid, omega, positions)
    # Each sees its own sensors alone: where the other's are it may have no derivative.
    second, first = (jnp.where(own[:, None], positions, positions[jnp.argmax(own)]) for own in (guides, ~guides))
    return jnp.where(guides, guide_operator(grid, omega, second), operator(grid, omega, first))


def sees_vorticity(observations: Observations, operator: Operator, guide_operator: Operator | None) -> Array:
    """Which slots (p,) hold vorticity itself, whose departures can be mapped as vorticity."""
    first, second = (given in (vorticity, vorticity_spectral) for given in (operator, guide_operator or operator))
    if observations.guides is None:
        return jnp.full(observations.mask.shape, first)
    return jnp.where(observations.guides, second, first)


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
    std: float | Array = OBSERVATION_STD,
    measure: Operator = vorticity,
) -> Observations:
    """Observe a truth ω[nx, ny] at an assimilation time (an integer): values + N(0, std²).

    key: `observation_key` of the truth; the layout's offsets and the noise come from it and `time` alone.
    """
    here = jax.random.fold_in(key, 0)
    place_key, noise_key = jax.random.split(jax.random.fold_in(key, 1 + jnp.asarray(time, jnp.uint32)))
    positions, mask = layout.place(here, place_key, time)
    positions = positions.astype(omega.dtype)
    noise = jax.random.normal(noise_key, mask.shape, omega.dtype)
    values = measure(grid, omega, positions) + jnp.asarray(std, omega.dtype) * noise
    variance = jnp.full(mask.shape, jnp.asarray(std, omega.dtype) ** 2)
    return Observations(jnp.where(mask, values, 0), positions, mask, variance)


def observe_run(
    key: Array,
    grid: ChannelGrid,
    layout: Layout,
    truth: Array,
    every: int,
    std: float | Array = OBSERVATION_STD,
    measure: Operator = vorticity,
) -> Observations:
    """Observations of every `every`-th frame of a truth [frames, nx, ny], times leading."""
    check_shape("truth", truth, (None, *grid.shape))
    if isinstance(std, int | float):
        check_positive("observation noise", std)
    times = jnp.arange((truth.shape[0] + every - 1) // every)
    return jax.vmap(lambda time, omega: observe(key, grid, layout, omega, time, std, measure))(times, truth[::every])
