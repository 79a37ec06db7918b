"""The members at the start from the user's own fields, in the place of random ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.prior import PRIORS
from jaxsrda.experiment.registry import Config
from jaxsrda.experiment.truth import to_analysis_grid
from jaxsrda.flow.frames import LATE, Frames, align, check_order
from jaxsrda.flow.labelled import labelled
from jaxsrda.flow.plausible import check_frames, check_walls, numbers
from jaxsrda.flow.testbed import Testbed

ONE_FORECAST = ("oi-lagrange", "persistence")
"""Methods without an ensemble of their own: they start from the mean of the members."""


def read_members(given: Any, testbed: Testbed, start: float | None = None, source: str = "members_from") -> Frames:
    """Members (M, 1, nx, ny) on the analysis grid, valid at the time `start`, with notes of what was done to them.

    given: (M, nx, ny) or (M, times, nx, ny), both walls included, on the grid of any level that is not coarser than the
    analyses' (truncated spectrally): an array, or a DataArray or `Labelled` whose dimensions have names, then in any
    order.  Of several times the one at `start` is taken; one alone without times is taken for it.  start: None where
    that is not known yet, which leaves all times.  Raises ValueError for what `read_truth` refuses, and if no time is
    `start`.
    """
    if isinstance(given, Frames):
        return at_start(given, testbed, start)
    array = labelled(given, source)
    axes = ("member",) if array.dims is None and np.ndim(array.values) == 3 else ("member", "time")
    grids = [level.grid for level in testbed.levels if level.nx >= testbed.grid.nx]
    frames = align(numbers(array, testbed), axes, grids)
    if axes == ("member",):
        frames = dataclasses.replace(frames, values=frames.values[:, None])
    frames = check_order(check_frames(frames, testbed))
    check_walls(frames, testbed)
    frames = at_start(frames, testbed, start)
    return dataclasses.replace(frames, values=np.stack([to_analysis_grid(each, testbed) for each in frames.values]))


def at_start(frames: Frames, testbed: Testbed, start: float | None) -> Frames:
    """The frame (M, 1, nx, ny) at the time `start`; ValueError if there is none."""
    count = frames.shape[1]
    if start is None or (count == 1 and not frames.timed):
        return frames
    if not frames.timed:
        said = f"times in {frames.clock}" if frames.clock else "no times"
        raise ValueError(
            f"{frames.source}: expected the time {start:g}, at which the run begins, got {count} frames with {said}; "
            "select one, or give non-dimensional times"
        )
    at = np.flatnonzero(np.abs(np.asarray(frames.times) - start) <= LATE * testbed.frame)
    if not len(at):
        first, last = (float(np.asarray(frames.times)[i]) for i in (0, -1))
        got = f"{first:g}" if count == 1 else f"{first:g} to {last:g}"
        raise ValueError(
            f"{frames.source}: expected members of the time {start:g}, at which the run begins, got {got}; give those "
            "of that time, or another start"
        )
    left = () if count == 1 else (f"the members of time {start:g} taken, of {count} times",)
    return frames.cut(int(at[0]), int(at[0]) + 1).noted(*left)


def one_forecast(method: Any, config: Config | None) -> bool:
    """Whether a method goes on from the mean of the members alone."""
    if isinstance(config, DiffSRDAConfig):
        return not PRIORS[config.prior].ensemble
    return method in ONE_FORECAST


def with_members(method: str, config: Config, count: int, free: bool = False) -> Config:
    """The configuration for so many members at the start, which is set to them where it is `free`.

    Raises ValueError for a method that starts from no fields, and for another number of members in the configuration.
    """
    if method == "climatology":
        raise ValueError("members_from: climatology starts from no fields; leave it out")
    if one_forecast(method, config) or config.members == count:
        return config
    if not free:
        raise ValueError(
            f"members_from: expected {config.members} members, as {method} is set to have, got {count}; give as many, "
            "or set members to that"
        )
    return dataclasses.replace(config, members=count)
