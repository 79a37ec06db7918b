"""Training runs: truths like those the method will meet, from seeds of their own, on the analysis grid.

Runs come in blocks that are simulated side by side and kept in the cache, so a killed job repeats at
most one block, and more runs may be asked for later.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.cache import cached_npz
from jaxsrda.core.records import key_of
from jaxsrda.flow.climatology import training_key
from jaxsrda.flow.grid import regrid, to_physical
from jaxsrda.flow.simulate import simulate
from jaxsrda.flow.solver import UnstableStepError
from jaxsrda.flow.testbed import Level, Testbed

BLOCK = 8
"""Runs simulated side by side."""

FIRST_SEED = 1_000_000
"""Training seeds start here, beyond those of the climatology."""


def training_runs(
    testbed: Testbed,
    level: Level,
    count: int,
    frames: int | None = None,
    first: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Vorticity (count, frames, nx, ny), float16, of runs at `level`, truncated spectrally to the analysis grid.

    frames: by default one more than the testbed's.  first: number of the first run, a multiple of BLOCK; the same
    number is always the same run.  float16 holds vorticity to 5e-4 of its value, a hundredth of what observations do.
    Raises ValueError for a bad count.
    """
    if count < 1 or first < 0 or first % BLOCK:
        raise ValueError(f"training runs: expected at least 1, from a multiple of {BLOCK}; got {count} from {first}")
    frames = testbed.frames + 1 if frames is None else frames
    key = key_of(testbed.numerics(level), testbed.grid.shape, frames, BLOCK)
    blocks = []
    for block in range(first // BLOCK, -(-(first + count) // BLOCK)):
        progress(block * BLOCK - first, count)
        compute = functools.partial(_block, testbed, level, frames, block)
        blocks.append(cached_npz(f"training-{testbed.name}-{level.name}-{block:04d}", key, compute)["omega"])
    progress(count, count)
    return np.concatenate(blocks)[:count]


def _block(testbed: Testbed, level: Level, frames: int, block: int) -> dict[str, np.ndarray]:
    begin = jax.jit(lambda seed: testbed.start(training_key(seed), level.grid))
    down = jax.jit(lambda run: jax.lax.map(lambda a: regrid(level.grid, testbed.grid, to_physical(level.grid, a)), run))
    start = jnp.stack([begin(seed) for seed in FIRST_SEED + BLOCK * block + np.arange(BLOCK)])
    try:
        omega_hat = simulate(testbed, level, start, frames)
    except UnstableStepError:  # a run faster than most: the whole block again at half the step
        omega_hat = simulate(testbed, level, start, frames, steps=2 * level.steps)
    return {"omega": np.stack([np.asarray(down(run), np.float16) for run in omega_hat])}
