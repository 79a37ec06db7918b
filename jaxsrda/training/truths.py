"""Training runs: truths like those the method will meet, from seeds of their own, on the HR grid.

Runs come in blocks that are simulated side by side and kept in the cache, so a killed job repeats at
most one block, and more runs may be asked for later.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.cache import cached_npz
from jaxsrda.core.records import to_json
from jaxsrda.flow.climatology import training_key
from jaxsrda.flow.jet import initial_state
from jaxsrda.flow.simulate import simulate, to_level
from jaxsrda.flow.solver import UnstableStepError
from jaxsrda.flow.testbed import DEFAULT_FRAMES, LEVELS, Level, default_steps, level_grid

BLOCK = 8
"""Runs simulated side by side."""

FIRST_SEED = 1_000_000
"""Training seeds start here, beyond those of the climatology."""

NUMERICS = 1
"""Raised when the numbers of cached runs change."""


def training_runs(
    level: Level,
    count: int,
    frames: int = DEFAULT_FRAMES + 1,
    first: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """HR vorticity (count, frames, nx, ny), float16, of runs at `level`, truncated spectrally to HR.

    first: number of the first run, a multiple of BLOCK; the same number is always the same run.  float16 holds
    vorticity to 5e-4 of its value, a hundredth of what observations do.  Raises ValueError for a bad count.
    """
    if count < 1 or first < 0 or first % BLOCK:
        raise ValueError(f"training runs: expected at least 1, from a multiple of {BLOCK}; got {count} from {first}")
    config = json.dumps([NUMERICS, to_json(level), frames, BLOCK])
    blocks = []
    for block in range(first // BLOCK, -(-(first + count) // BLOCK)):
        progress(block * BLOCK - first, count)
        compute = functools.partial(_block, level, frames, block)
        blocks.append(cached_npz(f"training-{level.name}-{block:04d}", config, compute)["omega"])
    progress(count, count)
    return np.concatenate(blocks)[:count]


def _block(level: Level, frames: int, block: int) -> dict[str, np.ndarray]:
    seeds = FIRST_SEED + BLOCK * block + np.arange(BLOCK)
    start = jnp.stack([_start(level, seed) for seed in seeds])
    try:
        omega_hat = simulate(level, start, frames)
    except UnstableStepError:  # a run faster than most: the whole block again at half the step
        omega_hat = simulate(level, start, frames, steps=2 * default_steps(level))
    return {"omega": np.stack([np.asarray(_truncate(level, run), np.float16) for run in omega_hat])}


@functools.partial(jax.jit, static_argnums=0)
def _start(level: Level, seed):
    return initial_state(training_key(seed), level_grid(level))


@functools.partial(jax.jit, static_argnums=0)
def _truncate(level: Level, omega_hat):
    return jax.lax.map(functools.partial(to_level, level, LEVELS["hr"]), omega_hat)
