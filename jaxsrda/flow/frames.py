"""Frames in the package's order: the axes, the points and the times of an array as they are, or a clear refusal.

`align` sorts by coordinates what can only be meant one way (a reversed y, an x that begins elsewhere) and refuses the
rest.  What it did is in the notes of the `Frames`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsrda.flow.grid import ChannelGrid
from jaxsrda.flow.labelled import NO_UNITS, Labelled, named
from jaxsrda.flow.testbed import testbeds_on

OFF = 0.02
"""By how much of the grid spacing a coordinate may be off: files round."""

ANOTHER = "bring it to one of these first, or describe its flow as a Testbed"
"""What to do with fields on a grid that no testbed has."""

LATE = 1e-3
"""By how much of the time between frames a time may be off."""


@dataclasses.dataclass(frozen=True, eq=False)
class Frames:
    """Fields in the package's order, (…, time, nx, ny) on one of its grids, and what is known of them.

    times: (frames,), None if nothing says; clock: what these count, empty for the testbed's time, otherwise a unit (and
    date) of which the testbed does not know the length.  source: what messages begin with.  notes: what was done.
    """

    values: np.ndarray
    times: np.ndarray | None = None
    clock: str = ""
    source: str = "truth"
    notes: tuple[str, ...] = ()

    @property
    def start(self) -> float:
        """The testbed's time of the first frame: zero where nothing else is said, or in other units."""
        return 0.0 if self.times is None or self.clock else float(self.times[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        return self.values.dtype

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype) if copy else np.asarray(self.values, dtype)

    @property
    def timed(self) -> bool:
        """Whether the testbed's time of each frame is known."""
        return self.times is not None and not self.clock

    def cut(self, first: int, last: int | None = None) -> Frames:
        """The frames from number `first` on, up to number `last` if there is one."""
        times = None if self.times is None else self.times[first:last]
        return dataclasses.replace(self, values=self.values[..., first:last, :, :], times=times)

    def noted(self, *notes: str, **changes: Any) -> Frames:
        """The same with further notes, and other changes."""
        return dataclasses.replace(self, notes=(*self.notes, *notes), **changes)


def align(given: Labelled, axes: Sequence[str], grids: Sequence[ChannelGrid]) -> Frames:
    """An array brought to the axes (*axes, x, y) on one of `grids`; those that it lacks get length 1.

    axes: of truth, member, time, the last of them time.  Raises ValueError for other axes or grids, and for coordinates
    that are not the grid's in some order.
    """
    nameless = given.dims is None
    given = named(given, (*axes, "x", "y"))
    dims = given.dims or ()
    shape = dict(zip(dims, given.values.shape))
    grid = _grid(given, (shape["x"], shape["y"]), grids, nameless)
    notes, values, coords = list(given.notes), given.values, given.coords
    for axis, points, period in (("x", grid.x, grid.nx), ("y", grid.y, 0)):
        if axis in coords:
            order, how = _order(f"{given.source}: {coords[axis].source}", coords[axis].values, points, period)
            if how:
                values = values.take(order, axis=dims.index(axis))
                notes.append(f"{coords[axis].source} {how}")
    have = [axis for axis in (*axes, "x", "y") if axis in shape]
    values = values.transpose([dims.index(axis) for axis in have])
    values = values.reshape([shape.get(axis, 1) for axis in (*axes, "x", "y")])
    times, clock = _clock(given.source, coords["time"]) if "time" in coords else (None, "")
    if times is not None and len(times) != values.shape[-3]:
        raise ValueError(f"{given.source}: expected a time for each of {values.shape[-3]} frames, got {len(times)}")
    return Frames(values, times, clock, given.source, tuple(notes))


def _grid(given: Labelled, shape: tuple[int, int], grids: Sequence[ChannelGrid], nameless: bool) -> ChannelGrid:
    """The grid of so many points; ValueError, with what may have been meant, if there is none."""
    for grid in grids:
        if shape == grid.shape:
            return grid
    shapes = list(dict.fromkeys(grid.shape for grid in grids))
    known = ", ".join(f"{nx} × {ny}" for nx, ny in shapes)
    fitting = testbeds_on(shape)
    hint = f"it is that of testbed {fitting[0]}: choose it (--testbed {fitting[0]})" if fitting else ANOTHER
    sizes = given.values.shape
    if nameless and any(pair in shapes or pair[::-1] in shapes for pair in itertools.pairwise(sizes)):
        hint = (
            f"shape {sizes} looks transposed: put x and y last, or name the dimensions x and y (in a DataArray, NetCDF "
            "or Zarr)"
        )
    elif shape[::-1] in shapes:
        hint = "the names x and y seem to be swapped: rename them"
    elif (shape[0] - 1, shape[1]) in shapes:
        hint = "leave out the last x, which is the first again: the channel is periodic"
    raise ValueError(
        f"{given.source}: expected a grid of {known} points (both walls counted), got "
        f"{' × '.join(map(str, shape))}; {hint}"
    )


def _order(name: str, got: np.ndarray, points: np.ndarray, period: int) -> tuple[np.ndarray, str]:
    """The order that sorts coordinates to the grid's points, and how it sorts in words (nothing if they are sorted).

    period: of the points, 0 if they are not periodic.
    """
    n = len(points)
    order = _sorted(got, points, period)
    if order is None:
        hint = "assign these, or drop the coordinate if the order is right"
        if got.dtype.kind in "fiu" and _sorted(np.deg2rad(got), points, period) is not None:
            hint = "these are degrees: convert them to radians"
        elif got.dtype.kind in "fiu" and len(got) == n and period and np.isclose(np.ptp(got), n * points[1]):
            hint = "a period's end is its beginning again: the points end one spacing before 2π"
        raise ValueError(f"{name}: expected {_said(points)} in some order, got {_said(got)}; {hint}")
    if (order == np.arange(n)).all():
        return order, ""
    if (order == np.arange(n)[::-1]).all():
        return order, f"flipped (it ran from {got[0]:.4g} to {got[-1]:.4g})"
    rolled = (order == np.roll(np.arange(n), -order[0])).all()
    return order, f"rolled to begin at 0 (it ran from {got[0]:.4g} to {got[-1]:.4g})" if rolled else "sorted"


def _sorted(got: np.ndarray, points: np.ndarray, period: int) -> np.ndarray | None:
    if got.dtype.kind not in "fiu" or got.shape != points.shape or not np.isfinite(got).all():
        return None
    steps = got / points[1]
    index = np.rint(steps)
    if np.abs(steps - index).max() > OFF:
        return None
    index = index % period if period else index
    order = np.argsort(index, kind="stable")
    return order if (index[order] == np.arange(len(points))).all() else None


def _said(points: np.ndarray) -> str:
    shown = points if len(points) < 4 else [*points[:2], "…", points[-1]]
    text = ", ".join(f"{each:.4g}" if isinstance(each, np.number) else str(each) for each in shown)
    return f"{len(points)} points {text}"


# Times ----------------------------------------------------------------------------------------


def _clock(source: str, coordinate: Labelled) -> tuple[np.ndarray, str]:
    """Times as numbers, and what they count: nothing for non-dimensional ones."""
    values, units = np.atleast_1d(coordinate.values), str(coordinate.attrs.get("units", "")).strip()
    if values.dtype.kind in "Mm":
        units = "s since 1970-01-01" if values.dtype.kind == "M" else "s"
        seconds = values.astype(f"{values.dtype.kind}8[ns]").astype(np.int64) / 1e9
        values = np.where(np.isnat(values), np.nan, seconds)
    elif values.dtype.kind == "O" and all(hasattr(each, "calendar") for each in values):
        units = f"s since {values[0]}"
        values = np.array([(each - values[0]).total_seconds() for each in values])
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise ValueError(f"{source}: expected times as finite numbers or dates, got {_said(values)}; mend them")
    return values.astype(float), "" if units.lower() in NO_UNITS else units


def check_cadence(frames: Frames, frame: float) -> Frames:
    """`frames` if they are `frame` apart in time, one after another; those in other units by their order, with a note.

    Raises ValueError for other times.
    """
    times = frames.times
    if times is None or len(times) < 2:
        return frames
    steps = np.diff(times)
    needed, unit = (steps[0], frames.clock.split(" since")[0]) if frames.clock else (frame, "")
    needed = max(needed, 0.0)
    bad = ~(np.abs(steps - needed) <= LATE * needed) | (needed == 0)
    if bad.any():
        i, found = int(np.argmax(bad)), ", ".join(f"{step:.6g}" for step in dict.fromkeys(steps.round(9).tolist()))
        wanted = "equally, and later ones last" if frames.clock else f"by {frame:g}"
        raise ValueError(
            f"{frames.source}: expected times that grow {wanted} from frame to frame, got "
            f"{_short(found)} {unit}".rstrip()
            + f" (first wrong from frame {i} to {i + 1}); select or interpolate "
            "frames, or describe their cadence as a Testbed"
        )
    if not frames.clock:
        return frames
    return frames.noted(
        f"times in {frames.clock}, {needed:g} {unit} apart: taken for {frame:g} apart from time 0 on, "
        "because no unit of time is known"
    )


def check_order(frames: Frames) -> Frames:
    """`frames` if later ones come last; ValueError for times that do not grow."""
    times = frames.times
    if times is not None and not (np.diff(times) > 0).all():
        raise ValueError(f"{frames.source}: expected each time once and later ones last, got {_said(times)}; sort them")
    return frames


def _short(text: str) -> str:
    return text if len(text) < 40 else text[:36].rsplit(",", 1)[0] + ", …"


def in_common(truth: Frames, analyses: Frames, frame: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the truth's and of the analyses' frames that are at the same times, by order if neither has times.

    The truth's frames are `frame` apart.  Raises ValueError if none are, or if times of one alone cannot tell.
    """
    count, source = truth.shape[-3], analyses.source
    if analyses.clock and analyses.clock != truth.clock:
        raise ValueError(
            f"{source}: expected times like the truth's, got {analyses.clock!r} beside "
            f"{truth.clock or 'non-dimensional ones or none'}; give both the same"
        )
    begin, times = truth.start, check_order(analyses).times
    if times is None:
        if begin or analyses.shape[-3] != count:
            raise ValueError(
                f"{source}: expected the truth's {count} frames from time {begin:g} on, got {analyses.shape[-3]} "
                "without times; give them a time coordinate"
            )
        return np.arange(count), np.arange(count)
    if analyses.clock and truth.times is not None:
        if len(truth.times) < 2:
            raise ValueError(
                f"{truth.source}: expected two frames or more to tell how long {truth.clock} are, got one; give the "
                "whole truth"
            )
        times = (times - truth.times[0]) / (truth.times[1] - truth.times[0]) * frame
    if truth.times is None and abs(times[0]) > LATE * frame:
        raise ValueError(
            f"{source}: expected times from 0 on like those of {truth.source}, which has none, got {_span(times)}; "
            "give the truth a time coordinate"
        )
    steps = (times - begin) / frame
    number = np.rint(steps).astype(int)
    both = (np.abs(steps - number) <= LATE) & (number >= 0) & (number < count)
    if not both.any():
        raise ValueError(
            f"{source}: expected times of the truth, {begin:g} to {begin + (count - 1) * frame:g} each {frame:g}, got "
            f"{_span(times)}; evaluate against the truth of these times"
        )
    return number[both], np.flatnonzero(both)


def _span(times: np.ndarray) -> str:
    return f"{times[0]:g} to {times[-1]:g}"
