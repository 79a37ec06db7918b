"""Truths: simulated and kept in the cache, or the user's own; and the climatology of their flow."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.cache import cached_npz, entry, scratch_dir
from jaxsrda.core.checks import check_finite
from jaxsrda.core.progress import Progress, duration
from jaxsrda.core.records import key_of
from jaxsrda.flow.climatology import CLIMATOLOGY_RUNS, Climatology, from_runs, simulate_climatology
from jaxsrda.flow.grid import ChannelGrid, regrid
from jaxsrda.flow.simulate import Run, estimate_seconds, simulate_resumable
from jaxsrda.flow.testbed import Testbed, jet


def simulate_truth(
    testbed: Testbed,
    seeds: Sequence[int],
    level: str = "",
    frames: int | None = None,
    progress: Progress = lambda *_: None,
) -> np.ndarray:
    """Vorticity (truths, frames, nx, ny) of runs, spectrally truncated to the analysis grid; kept in the cache.

    level: by name, by default the testbed's for truths; frames: by default the testbed's.  A run that was killed goes
    on from its last part.  Its cost is part of what `progress` is told.  Raises TypeError without a testbed, ValueError
    for an unknown level.
    """
    if not isinstance(testbed, Testbed):
        raise TypeError(
            f"simulate_truth: expected a testbed first, such as jaxsrda.jet(), got {type(testbed).__name__}; its level "
            "goes by name: level='hr'"
        )
    at = testbed.level(level) if level else testbed.truth
    frames = testbed.frames if frames is None else frames
    key = key_of(testbed.numerics(at), testbed.grid.shape, frames)
    name = f"truth-{testbed.name}-{at.name}"

    def compute(seed: int) -> dict[str, np.ndarray]:
        run = Run(testbed, at, frames, seed=seed)
        what = f"truth {seed}, about {duration(estimate_seconds(run))}"
        progress(what, 0, frames)
        parts = scratch_dir() / entry(f"{name}-{seed}", key).with_suffix(".parts").name
        omega = simulate_resumable(run, parts, progress=lambda done, total: progress(what, done, total))
        return {"omega": to_analysis_grid(omega, testbed)}

    return np.stack([cached_npz(f"{name}-{seed}", key, functools.partial(compute, seed))["omega"] for seed in seeds])


def default_climatology(testbed: Testbed | None = None, runs: int = CLIMATOLOGY_RUNS) -> Climatology:
    """The climatology of `runs` training runs at the level of analyses; kept in the cache.

    Their seeds are apart from those of all truths and members.  testbed: by default `jet`.
    """
    testbed = jet() if testbed is None else testbed
    key = key_of(testbed.numerics(testbed.analysis), testbed.frames, testbed.frames_per_cycle, runs)
    kept = cached_npz(
        f"climatology-{testbed.name}", key, lambda: {"states": np.asarray(simulate_climatology(testbed, runs))}
    )
    return from_runs(testbed.grid, jnp.asarray(kept["states"]), testbed.symmetries)


def prepare_truth(truth: Any, testbed: Testbed | None = None, source: str = "truth", cycles: int = 2) -> np.ndarray:
    """Vorticity (truths, frames, nx, ny) on the analysis grid from the user's frames on the grid of any finer level.

    truth: (frames, nx, ny) or (truths, frames, nx, ny), both walls included, a frame each `testbed.frame`.  Finer grids
    are truncated spectrally.  Frames beyond whole cycles are dropped.  Raises ValueError for other shapes, NaN, or
    fewer frames than `cycles` assimilation times need (the first is not scored, unless a run goes on).
    """
    testbed = jet() if testbed is None else testbed
    truth = np.asarray(truth)
    if truth.ndim not in (3, 4):
        raise ValueError(f"{source}: expected frames × nx × ny, or truths × frames × nx × ny, got shape {truth.shape}")
    truth = truth if truth.ndim == 4 else truth[None]
    grids = [level.grid.shape for level in testbed.levels if level.nx >= testbed.grid.nx]
    if truth.shape[2:] not in grids:
        known = ", ".join(f"{nx} × {ny}" for nx, ny in dict.fromkeys(grids))
        raise ValueError(
            f"{source}: expected a grid of {known} points (both walls counted), got "
            f"{' × '.join(map(str, truth.shape[2:]))}; bring it to one of these first, or describe "
            "its flow as a Testbed"
        )
    every = testbed.frames_per_cycle
    if truth.shape[1] < cycles * every:
        times = "two assimilation times" if cycles == 2 else "one assimilation time"
        raise ValueError(f"{source}: expected at least {cycles * every} frames ({times}), got {truth.shape[1]}")
    check_finite(source, truth)
    truth = truth[:, : truth.shape[1] // every * every]
    return np.stack([to_analysis_grid(frames, testbed) for frames in truth])


def to_analysis_grid(omega: np.ndarray, testbed: Testbed) -> np.ndarray:
    """Vorticity frames (frames, nx, ny) on the analysis grid, by spectral truncation; such frames stay as they are."""
    grid, target, dtype = ChannelGrid(*omega.shape[1:]), testbed.grid, jnp.zeros(()).dtype
    if grid == target:
        return omega.astype(dtype)
    down = jax.jit(lambda frame: regrid(grid, target, frame))
    return np.stack([np.asarray(down(jnp.asarray(frame, dtype))) for frame in omega])
