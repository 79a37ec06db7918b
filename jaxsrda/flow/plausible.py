"""Whether values can be vorticity of a testbed: what is declared missing, out of range or dimensional is refused.

Refused is what cannot be meant; what is possible but unlikely is said in a note.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxsrda.flow.frames import Frames
from jaxsrda.flow.labelled import NO_UNITS, Labelled
from jaxsrda.flow.testbed import Testbed

MOST = 5.0
"""Vorticity beyond so many times the testbed's range is refused.  Truths of `jet` stay within 0.8 of it."""

LEAST = 0.01
"""A run whose vorticity stays below this part of the range is remarked on."""

WALL = 0.01
"""Vorticity on the walls above this part of the range is refused: free slip makes it zero there."""

ZEROS = 0.02
"""Part of a frame between the walls that may be exactly zero; simulated frames have none."""


def _largest(testbed: Testbed) -> float:
    return float(np.max(np.abs(testbed.vorticity_range)))


def numbers(given: Labelled, testbed: Testbed) -> Labelled:
    """`given` unpacked, in float32 or float64 (float64 stays), once its values can be vorticity or a deviation of it.

    Raises ValueError for values that are masked, no real numbers, not finite, declared missing or invalid by an
    attribute, dimensional, or beyond all that the testbed's `vorticity_range` allows.
    """
    values, source = given.values, given.source
    if np.ma.isMaskedArray(values):
        if np.ma.is_masked(values):
            raise ValueError(
                f"{source}: expected a value everywhere, got {int(np.ma.count_masked(values))} masked (first at "
                f"{given.place(np.ma.getmaskarray(values))}); fill them before passing the array on"
            )
        values = values.data
    if values.dtype.kind not in "fiu":
        raise ValueError(f"{source}: expected real numbers, got {values.dtype}; convert them to float32 or float64")
    if not values.size:
        raise ValueError(f"{source}: expected at least one frame and grid point, got shape {values.shape}")
    units = str(given.attrs.get("units", "")).strip()
    if units.lower() not in NO_UNITS:
        raise ValueError(
            f"{source}: expected non-dimensional vorticity (units '1'), got units {units!r}; divide it by its scale"
        )
    given = dataclasses.replace(given, values=values)
    _check_declared(given)
    values = _unpacked(given)
    _check_sizes(dataclasses.replace(given, values=values), testbed)
    return dataclasses.replace(given, values=values)


def _unpacked(given: Labelled) -> np.ndarray:
    """The values behind packed ones, in native float32 or float64."""
    values, attrs = given.values, given.attrs
    if values.dtype.kind == "i" and str(attrs.get("_Unsigned", "")).lower() == "true":
        values = values.astype(values.dtype.newbyteorder("=")).view(f"u{values.dtype.itemsize}")
    wide = values.dtype.kind == "f" and values.dtype.itemsize >= 8
    values = np.asarray(values, np.float64 if wide else np.float32)
    if "scale_factor" in attrs or "add_offset" in attrs:
        return values * np.asarray(attrs.get("scale_factor", 1), values.dtype) + np.asarray(
            attrs.get("add_offset", 0), values.dtype
        )
    return values


def _check_declared(given: Labelled) -> None:
    """ValueError for values that the attributes declare missing or invalid; both are in terms of packed values."""
    values, attrs = given.values, given.attrs
    for name in ("_FillValue", "missing_value"):
        # Zero stands on the walls of every field: a lost part is looked for by whole frames instead.
        fills = [fill for fill in np.ravel(attrs.get(name, ())) if isinstance(fill, np.number | int | float) and fill]
        missing = np.isin(values, np.asarray(fills)) if fills else np.zeros((), bool)
        if missing.any():
            raise ValueError(
                f"{given.source}: expected a value everywhere, got {int(missing.sum())} missing ({name} "
                f"{fills[0]:g}, first at {given.place(missing)}); fill them, or write the file again"
            )
    low, high = (float(each) for each in np.ravel(attrs.get("valid_range", (-np.inf, np.inf)))[[0, -1]])
    low, high = (float(np.ravel(attrs.get(name, each))[0]) for name, each in (("valid_min", low), ("valid_max", high)))
    invalid = (values < low) | (values > high)
    if invalid.any():
        raise ValueError(
            f"{given.source}: expected values of its own valid range {low:g} to {high:g}, got {values[invalid][0]:g} "
            f"({int(invalid.sum())} outside, first at {given.place(invalid)}); fill them, or write the file again"
        )


def _check_sizes(given: Labelled, testbed: Testbed) -> None:
    values, most = given.values, MOST * _largest(testbed)
    low, high = values.min(), values.max()
    if not np.isfinite([low, high]).all():
        bad = ~np.isfinite(values)
        raise ValueError(
            f"{given.source}: expected finite numbers, got {int(bad.sum())} NaN or infinite (first at "
            f"{given.place(bad)}): missing values, or a lost part of a file; fill them, or write it again"
        )
    if max(-low, high) > most:
        bad = np.abs(values) > most
        raise ValueError(
            f"{given.source}: expected vorticity within ±{most:.3g} ({MOST:g} times the testbed's vorticity_range), "
            f"got {values[bad][0]:.6g} ({int(bad.sum())} beyond, first at {given.place(bad)}); fill what is missing or "
            "give the testbed another vorticity_range"
        )


def check_frames(frames: Frames, testbed: Testbed) -> Frames:
    """`frames` (…, time, nx, ny) of vorticity, with a note where they are strange; ValueError for one that is all zero.

    A part of a Zarr store that was lost reads as zeros.
    """
    values = frames.values
    inner = values[..., 1:-1]
    zeros = np.count_nonzero(inner == 0, axis=(-2, -1)) / (inner.shape[-2] * inner.shape[-1])
    if (zeros == 1).any():
        which = np.unique(np.argwhere(zeros == 1)[:, -1])
        raise ValueError(
            f"{frames.source}: expected vorticity, got 0 everywhere in {len(which)} frame(s), the first frame "
            f"{which[0]}: a lost part of a file; write it again"
        )
    notes = list(frames.notes)
    if zeros.max() > ZEROS:
        notes.append(
            f"exactly 0 at {zeros.max():.0%} of the points between the walls of frame "
            f"{int(np.unravel_index(zeros.argmax(), zeros.shape)[-1])}: a lost part of a file, or coarse rounding"
        )
    if np.abs(values).max() < LEAST * _largest(testbed):
        notes.append(
            f"vorticity of at most {np.abs(values).max():.3g}, far below the testbed's "
            f"{testbed.vorticity_range[0]:.3g} to {testbed.vorticity_range[1]:.3g}: is it dimensional?"
        )
    return dataclasses.replace(frames, notes=tuple(notes))


def check_walls(frames: Frames, testbed: Testbed) -> None:
    """ValueError for vorticity on the walls, where free slip makes it zero."""
    walls = np.abs(frames.values[..., [0, -1]])
    if walls.max() > WALL * _largest(testbed):
        frame, x, wall = (int(i) for i in np.argwhere(walls == walls.max())[0][-3:])
        raise ValueError(
            f"{frames.source}: expected vorticity 0 on the walls (free slip), got {walls.max():.3g} at y = "
            f"{'π' if wall else 0}, x index {x}, frame {frame}; both walls belong to the grid, and ω = 0 there"
        )
