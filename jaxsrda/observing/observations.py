"""Observations: what was measured where, and how precisely.

`Observations` has a fixed capacity: unused slots are masked, so layouts that change from time to
time share one compiled program.  What is observed depends only on (key, truth seed, time), never on
the method or on the order of evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
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


FILL = 1e10
"""A value of this size or more is a fill value that nobody marked."""


def check_measured(name: str, values: np.ndarray) -> None:
    """ValueError for values that are NaN, infinite, or so large that they stand for a missing one."""
    check_finite(name, values)
    if (large := np.abs(values) >= FILL).any():
        first = tuple(int(i) for i in np.argwhere(large)[0])
        raise ValueError(
            f"{name}: expected measurements, got {values[first]:.4g} at index {first}, which looks like a fill value; "
            "mask it or leave it out"
        )


def pack(values: Any, positions: Any, variance: Any, capacity: int | None = None) -> Observations:
    """Observations of one time from the user's own arrays: values (p,), positions (p, 2), variance (p,) or a number.

    Slots up to `capacity` are masked, and so is what a masked array (`numpy.ma`) masks.  Raises ValueError for more
    observations than the capacity, positions outside the channel, variances that are not positive, or numbers that are
    not finite or look like fill values.
    """
    hidden = [np.ma.getmaskarray(np.ma.asarray(a)) for a in (values, positions, variance)]
    values, positions, variance = (np.asarray(a, float) for a in (values, positions, variance))
    check_shape("observation values", values, (None,))
    positions = positions.reshape(-1, 2) if positions.size == 0 else positions
    check_shape("observation positions", positions, (len(values), 2))
    variance = variance if variance.ndim else np.full(values.shape, variance)
    check_shape("observation variance", variance, (len(values),))
    capacity = len(values) if capacity is None else capacity
    if len(values) > capacity:
        raise ValueError(f"observations: {len(values)} do not fit a capacity of {capacity}; raise the capacity or thin")
    mask = ~(hidden[0] | hidden[1].reshape(positions.shape).any(1) | hidden[2])
    values, variance = np.where(mask, values, 0), np.where(mask, variance, 1)
    positions = np.where(mask[:, None], positions, 1)
    check_measured("observation values", values)
    for name, array in (("positions", positions), ("variance", variance)):
        check_finite(f"observation {name}", array)
    check_positions(positions)
    if (variance <= 0).any():
        raise ValueError(f"observation variance: expected numbers above 0, got {variance.min():.4g}")
    dtype = jnp.zeros(()).dtype
    packed = Observations(
        jnp.asarray(values, dtype), jnp.asarray(positions, dtype), jnp.asarray(mask), jnp.asarray(variance, dtype)
    )
    return padded(packed, capacity)


def padded(observations: Observations, capacity: int) -> Observations:
    """Observations with masked slots behind them, `capacity` slots in all; leading axes stay."""
    spare = capacity - observations.capacity

    def fill(array: Array | None, value: Any, axis: int = -1) -> Any:
        if array is None or spare == 0:
            return array
        widths = [(0, 0)] * array.ndim
        widths[axis] = (0, spare)
        return jnp.pad(array, widths, constant_values=value)

    return Observations(
        fill(observations.values, 0),
        fill(observations.positions, 1, -2),
        fill(observations.mask, False),
        fill(observations.variance, 1),
        fill(observations.sets, 0),
    )


def stack(times: Sequence[Observations | None]) -> Observations:
    """Observations over the assimilation times (times, p) from those of each time, as `pack` makes them.

    None and a time without observations are silent; p is the largest number of slots of a time, the others are masked.
    Raises ValueError for no time, for observations that have an axis of times already, and if some times' belong to
    sets and others' do not; TypeError for anything but observations.
    """
    for number, each in enumerate(times):
        if each is not None and not isinstance(each, Observations):
            raise TypeError(
                f"observations: expected those of each time as jaxsrda.pack makes them, or None, got "
                f"{type(each).__name__} at time {number}"
            )
        if each is not None and np.ndim(each.values) != 1:
            raise ValueError(
                f"observations: expected those of one time, (p,), got shape {np.shape(each.values)} at time {number}"
            )
    heard = [each for each in times if each is not None and np.any(np.asarray(each.mask))]
    if not times:
        raise ValueError("observations: expected those of at least one time, got none")
    belonging = [each.sets is not None for each in heard]
    if any(belonging) and not all(belonging):
        raise ValueError(
            "observations.sets: some times' observations belong to sets of sensors, others' to none in particular; "
            "number the sets of all"
        )
    capacity = max((each.capacity for each in heard), default=0)
    silent = padded(pack([], [], 1.0), capacity)
    if any(belonging):
        silent = silent._replace(sets=jnp.zeros(capacity, jnp.int32))
    kept = [None if each is None or not np.any(np.asarray(each.mask)) else each for each in times]
    return jax.tree.map(lambda *a: jnp.stack(a), *(silent if each is None else padded(each, capacity) for each in kept))


def extended(observations: Observations, times: int) -> Observations:
    """Observations (cycles, p) with silent times behind them up to `times`; as they are if there are as many."""
    spare = times - len(observations.mask)
    if spare <= 0:
        return observations
    last = jax.tree.map(lambda a: jnp.repeat(a[-1:], spare, axis=0), observations)
    silent = last._replace(mask=jnp.zeros_like(last.mask))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), observations, silent)


def check_observations(observations: Observations) -> Observations:
    """The user's observations, stacked over times (cycles, p), in JAX's default float; zeros where silent.

    What a masked array (`numpy.ma`) masks is silent.  Raises ValueError for other shapes, and for sensors with the
    faults that `pack` refuses.
    """
    shape = np.shape(observations.values)
    check_shape("observations.values", observations.values, (None, None), "; stack them over the assimilation times")
    sets = observations.sets
    for name in ("positions", "mask", "variance", *(() if sets is None else ("sets",))):
        check_shape(f"observations.{name}", getattr(observations, name), (*shape, 2) if name == "positions" else shape)
    values, positions, variance = (np.asarray(a, float) for a in (observations[0], observations[1], observations[3]))
    hidden = [np.ma.getmaskarray(np.ma.asarray(observations[i])) for i in (0, 1, 3)]
    mask = np.asarray(observations.mask, bool) & ~(hidden[0] | hidden[1].any(-1) | hidden[2])
    check_measured("observations.values", np.where(mask, values, 0))
    check_finite("observations.positions", np.where(mask[..., None], positions, 0))
    check_finite("observations.variance", np.where(mask, variance, 0))
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
    noise_std: float | Sequence[float] | Array = NOISE_STD,
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
    noise_std: float | Sequence[float] | Array = NOISE_STD,
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
