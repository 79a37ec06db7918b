"""Truths: simulated and kept in the cache, or the user's own; and the climatology of their flow."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrda.core.cache import cached_npz, unfinished
from jaxsrda.core.progress import Progress, duration
from jaxsrda.core.records import key_of
from jaxsrda.flow.climatology import CLIMATOLOGY_RUNS, Climatology, from_runs, simulate_climatology
from jaxsrda.flow.frames import Frames, align, check_cadence, check_order
from jaxsrda.flow.grid import ChannelGrid, regrid
from jaxsrda.flow.labelled import labelled
from jaxsrda.flow.plausible import check_frames, check_walls, numbers
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
        parts = unfinished(f"{name}-{seed}", key)
        omega = simulate_resumable(run, parts, progress=lambda done, total: progress(what, done, total), keep=True)
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
    return jax.jit(from_runs, static_argnums=(0, 2))(testbed.grid, kept["states"], testbed.symmetries)


def prepare_truth(truth: Any, testbed: Testbed | None = None, source: str = "truth", cycles: int = 2) -> np.ndarray:
    """Vorticity (truths, frames, nx, ny) on the analysis grid from the user's frames on the grid of any finer level.

    truth: as `read_truth` takes it.  Frames beyond whole cycles are dropped; what was done to it is warned about.
    Raises ValueError as `read_truth` does, and for fewer frames than `cycles` assimilation times need (the first is not
    scored, unless a run goes on).
    """
    return truth_to_follow(truth, jet() if testbed is None else testbed, source, cycles).values


def read_truth(truth: Any, testbed: Testbed, source: str = "truth") -> Frames:
    """Truths (truths, frames, nx, ny) on the analysis grid, with their times and notes of what was done to them.

    truth: (frames, nx, ny) or (truths, frames, nx, ny), both walls included, a frame each `testbed.frame`, on the grid
    of any level that is not coarser than the analyses' (truncated spectrally): an array, or a DataArray or `Labelled`
    whose dimensions have names, then in any order.  Raises ValueError for other axes, grids, coordinates or times, and
    for values that cannot be such vorticity.
    """
    if isinstance(truth, Frames):
        return truth
    given = numbers(labelled(truth, source), testbed)
    grids = [level.grid for level in testbed.levels if level.nx >= testbed.grid.nx]
    frames = check_frames(align(given, ("truth", "time"), grids), testbed)
    check_walls(frames, testbed)
    frames = check_cadence(frames, testbed.frame)
    return dataclasses.replace(frames, values=np.stack([to_analysis_grid(each, testbed) for each in frames.values]))


def read_start(field: Any, testbed: Testbed, grid: ChannelGrid, source: str = "initial field") -> Frames:
    """One frame (1, nx, ny) to start a run from: a field on `grid`, or the last frame of a run, with its time.

    field: as `read_truth` takes it, with or without a time axis.  Raises ValueError as `read_truth` does, but that the
    field may be zero: a flow at rest.
    """
    frames = align(numbers(labelled(field, source), testbed), ("time",), [grid])
    if frames.shape[0] > 1:
        frames = check_frames(check_order(frames), testbed)
    check_walls(frames, testbed)
    times = None if frames.times is None else frames.times[-1:]
    return dataclasses.replace(frames, values=frames.values[-1:], times=times)


def truth_to_follow(truth: Any, testbed: Testbed, source: str = "truth", cycles: int = 2) -> Frames:
    """`read_truth` of what a method is to follow: whole cycles, at least so many.

    The notes of a truth that comes here unread are warned about as well.
    """
    frames = whole_cycles(read_truth(truth, testbed, source), testbed, cycles)
    if not isinstance(truth, Frames):
        for note in frames.notes:
            warnings.warn(f"{frames.source}: {note}", stacklevel=2)
    return frames


def whole_cycles(frames: Frames, testbed: Testbed, cycles: int = 2) -> Frames:
    """`frames` without those beyond whole cycles; ValueError for fewer than `cycles` of them."""
    every, count = testbed.frames_per_cycle, frames.shape[1]
    if count < cycles * every:
        times = "two assimilation times" if cycles == 2 else "one assimilation time"
        raise ValueError(f"{frames.source}: expected at least {cycles * every} frames ({times}), got {count}")
    rest = count % every
    if not rest:
        return frames
    note = f"the last {rest} of {count} frames dropped: they make no whole cycle of {every}"
    return frames.cut(0, count - rest).noted(note)


def to_analysis_grid(omega: np.ndarray, testbed: Testbed) -> np.ndarray:
    """Vorticity frames (frames, nx, ny) on the analysis grid, by spectral truncation; such frames stay as they are."""
    grid, target, dtype = ChannelGrid(*omega.shape[1:]), testbed.grid, jnp.zeros(()).dtype
    if grid == target:
        return omega.astype(dtype)
    down = jax.jit(lambda frame: regrid(grid, target, frame))
    return np.stack([np.asarray(down(jnp.asarray(frame, dtype))) for frame in omega])
