"""Inputs that the subjects share: states, sensors and truths of the right shapes, made in no time."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array

import jaxsrda
from jaxsrda.flow.climatology import from_runs
from jaxsrda.observing.observations import observation_key

RUNS = 4
"""Runs that the climatology of costs is of; its size has no effect on them."""


def states(testbed: jaxsrda.Testbed, members: int, level: jaxsrda.Level | None = None) -> Array:
    """First states (members, 2K+1, L) at a level, by default that of analyses."""
    grid = (level or testbed.analysis).grid
    keys = jax.random.split(jax.random.key(0), members)
    return jax.jit(lambda keys: jax.lax.map(lambda key: testbed.start(key, grid, "float32"), keys))(keys)


@functools.cache
def setup(testbed: jaxsrda.Testbed) -> jaxsrda.Setup:
    """A testbed with a climatology of first states."""
    runs = states(testbed, 2 * RUNS).reshape(RUNS, 2, *testbed.grid.spectral_shape)
    return jaxsrda.Setup(testbed, from_runs(testbed.grid, runs, testbed.symmetries))


@functools.cache
def observed(testbed: jaxsrda.Testbed, truths: int, cycles: int) -> tuple[Array, jaxsrda.Observations]:
    """Truths (truths, frames, nx, ny), runs at the level of analyses, and their observations (truths, cycles, p)."""
    every, grid = testbed.frames_per_cycle, testbed.grid
    run = jaxsrda.simulate(testbed, testbed.analysis, states(testbed, truths), every * cycles)
    frames = jax.jit(jax.vmap(jax.vmap(functools.partial(jaxsrda.to_physical, grid))))(run)
    layout = jaxsrda.Sensors().placed(grid)

    def one(seed: Array, frames: Array) -> jaxsrda.Observations:
        return jaxsrda.observe_run(observation_key(0, seed), grid, layout, frames, every)

    return frames, jax.jit(jax.vmap(one))(jnp.arange(truths, dtype=jnp.uint32), frames)
