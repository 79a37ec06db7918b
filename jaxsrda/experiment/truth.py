"""Truths: simulated and kept in the cache, or the user's own."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.cache import cached_npz, scratch_dir
from jaxsrda.core.checks import check_finite
from jaxsrda.core.progress import duration
from jaxsrda.core.records import to_json
from jaxsrda.flow import climatology as climatologies
from jaxsrda.flow.climatology import Climatology
from jaxsrda.flow.grid import ChannelGrid, regrid
from jaxsrda.flow.simulate import Run, estimate_seconds, simulate_resumable
from jaxsrda.flow.testbed import DEFAULT_FRAMES, FRAMES_PER_CYCLE, LEVELS, Level, level_grid

if TYPE_CHECKING:
    pass
from jaxsrda.core.progress import Progress

NUMERICS = 1
"""Raised when the numbers of cached truths and climatologies change."""


# Truth and climatology ------------------------------------------------------------------------


def simulate_truth(
    level: Level, seeds: Sequence[int], frames: int = DEFAULT_FRAMES, progress: Progress = lambda *_: None
) -> np.ndarray:
    """HR vorticity (truths, frames, nx, ny) of runs at `level`, spectrally truncated to HR; kept in the cache.

    A run that was killed goes on from its last part.  Its cost is part of what `progress` is told.
    """
    config = json.dumps([NUMERICS, to_json(level), frames, _precision()])

    def compute(seed: int) -> dict[str, np.ndarray]:
        run = Run(level, frames, seed=seed)
        what = f"truth {seed}, about {duration(estimate_seconds(run))}"
        progress(what, 0, frames)
        parts = scratch_dir() / f"truth-{level.name}-{seed}.parts"
        omega = simulate_resumable(run, parts, progress=lambda done, total: progress(what, done, total))
        return {"omega": to_hr(omega)}

    return np.stack([cached_npz(f"truth-{seed}", config, functools.partial(compute, seed))["omega"] for seed in seeds])


def default_climatology(runs: int = climatologies.CLIMATOLOGY_RUNS) -> Climatology:
    """The climatology of `runs` HR training runs (seeds apart from all truths and members); kept in the cache."""
    level = LEVELS["hr"]
    config = json.dumps([NUMERICS, to_json(level), runs, _precision()])
    states = cached_npz("climatology", config, lambda: {"states": climatologies.simulate_climatology(runs)})["states"]
    return climatologies.from_runs(level_grid(level), jnp.asarray(states))


def _precision() -> str:
    return str(jnp.zeros(()).dtype)


def prepare_truth(truth: Any, source: str = "truth") -> np.ndarray:
    """HR vorticity (truths, frames, nx, ny) from the user's frames at the HR, fine or UHR level.

    truth: (frames, nx, ny) or (truths, frames, nx, ny), both walls included, a frame each 0.25.  Finer grids are
    truncated spectrally.  Frames beyond a multiple of four are dropped.  Raises ValueError for other
    shapes, NaN, or fewer than 8 frames (two assimilation times).
    """
    truth = np.asarray(truth)
    if truth.ndim not in (3, 4):
        raise ValueError(f"{source}: expected frames × nx × ny, or truths × frames × nx × ny, got shape {truth.shape}")
    truth = truth if truth.ndim == 4 else truth[None]
    grids = {level_grid(level).shape: level for level in LEVELS.values() if level.name != "lr"}
    if truth.shape[2:] not in grids:
        known = ", ".join(f"{nx} × {ny}" for nx, ny in grids)
        raise ValueError(
            f"{source}: expected a grid of {known} points (both walls counted), got "
            f"{' × '.join(map(str, truth.shape[2:]))}; bring it to one of these first"
        )
    if truth.shape[1] < 2 * FRAMES_PER_CYCLE:
        raise ValueError(
            f"{source}: expected at least {2 * FRAMES_PER_CYCLE} frames (two assimilation times), got {truth.shape[1]}"
        )
    check_finite(source, truth)
    truth = truth[:, : truth.shape[1] // FRAMES_PER_CYCLE * FRAMES_PER_CYCLE]
    return np.stack([to_hr(frames) for frames in truth])


def to_hr(omega: np.ndarray) -> np.ndarray:
    """Vorticity frames (frames, nx, ny) on the HR grid, by spectral truncation; HR frames stay as they are."""
    grid, hr = ChannelGrid(*omega.shape[1:]), level_grid(LEVELS["hr"])
    if grid == hr:
        return omega.astype(_precision())
    down = jax.jit(lambda frame: regrid(grid, hr, frame))
    return np.stack([down(jnp.asarray(frame, _precision())) for frame in omega])
