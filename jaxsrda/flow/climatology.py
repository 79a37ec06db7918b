"""Climatology of training runs: means and random anomalies at each assimilation time.

A few runs go a long way, because each may be shifted in x by any distance and reflected in y
with a change of sign where these are exact symmetries of the testbed.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsrda.core import draws
from jaxsrda.flow.grid import ChannelGrid, reflect_hat, regrid_hat, shift_hat
from jaxsrda.flow.simulate import simulate
from jaxsrda.flow.testbed import SYMMETRIES, Testbed

CLIMATOLOGY_RUNS = 20


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["mean", "anomalies"], meta_fields=["grid", "symmetries"]
)
@dataclasses.dataclass(frozen=True)
class Climatology:
    """States of training runs at the assimilation times, as amplitudes on `grid`.

    mean: (times, 2K+1, L), the climatological mean with the flow's symmetries (of `jet`, only row 0 differs from zero);
    anomalies: (runs, times, 2K+1, L) about it; symmetries: those by which the runs may be moved.
    """

    mean: Array
    anomalies: Array
    grid: ChannelGrid
    symmetries: tuple[str, ...] = SYMMETRIES

    def draw(self, key: Array, time: Array | int, members: int, grid: ChannelGrid) -> Array:
        """Random anomalies (members, 2K+1, L) on `grid` at assimilation time `time`, mean not removed.

        Each is one run's, shifted by a random distance in x and, half of the time, reflected, as far as these are
        symmetries.  Times past the last are the last: the flow is close to statistically steady by then.
        """
        run_key, shift_key, side_key = jax.random.split(key, 3)
        run = draws.integers(run_key, (members,), 0, self.anomalies.shape[0])
        distance = 2 * np.pi * draws.uniform(shift_key, (members,), self.mean.dtype)
        side = draws.coins(side_key, (members,))
        now = self.anomalies[:, jnp.minimum(time, self.anomalies.shape[1] - 1)]

        def one(run: Array, distance: Array, side: Array) -> Array:
            anomaly = now[run]
            if "shift" in self.symmetries:
                anomaly = shift_hat(self.grid, anomaly, distance)
            if "reflection" in self.symmetries:
                anomaly = jnp.where(side, reflect_hat(self.grid, anomaly), anomaly)
            return regrid_hat(self.grid, grid, anomaly)

        return jax.vmap(one)(run, distance, side)

    def mean_at(self, time: Array | int, grid: ChannelGrid) -> Array:
        """The climatological mean (2K+1, L) on `grid` at assimilation time `time`."""
        return regrid_hat(self.grid, grid, self.mean[jnp.minimum(time, self.mean.shape[0] - 1)])


def from_runs(grid: ChannelGrid, states: Array, symmetries: tuple[str, ...] = SYMMETRIES) -> Climatology:
    """The climatology of states (runs, times, 2K+1, L) on `grid`: the mean is given the symmetries."""
    mean = states.mean(0)
    if "shift" in symmetries:
        mean = mean.at[:, 1:].set(0.0)
    if "reflection" in symmetries:
        mean = (mean + jax.vmap(lambda a: reflect_hat(grid, a))(mean)) / 2
    return Climatology(mean, states - mean[None], grid, symmetries)


def training_key(seed: int | Array) -> Array:
    """The key of a training run, apart from truths and members."""
    return jax.random.fold_in(jax.random.key(0x636C), seed)


def simulate_climatology(testbed: Testbed, runs: int = CLIMATOLOGY_RUNS, seed: int = 0) -> Array:
    """States (runs, times, 2K+1, L) of training runs at the assimilation times, on the analysis level.

    Raises ValueError below 2 runs.
    """
    if runs < 2:
        raise ValueError(f"climatology: expected at least 2 runs, got {runs}")
    keys = jax.vmap(lambda i: training_key(seed * 100_000 + i))(jnp.arange(runs, dtype=jnp.uint32))
    start = jax.vmap(lambda key: testbed.start(key, testbed.grid))(keys)
    return simulate(testbed, testbed.analysis, start, testbed.frames + 1)[:, :: testbed.frames_per_cycle]
