"""Arrays as they come: values with, where known, names of their axes, coordinates along them, and attributes.

What a file or an xarray object says of an array is held by a `Labelled`; `named` gives its axes the package's names.
xarray objects are recognised by their attributes, xarray itself is never imported.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

AXES = {
    "truth": ("truth", "truths", "run", "runs"),
    "member": ("member", "members", "number", "ensemble", "realization", "realisation", "ens"),
    "time": ("time", "times", "t", "frame", "analysis_time"),
    "x": ("x", "lon", "longitude", "nx", "xc"),
    "y": ("y", "lat", "latitude", "ny", "yc"),
}
"""The package's names of axes, and the names by which they are known, in any case."""

NO_UNITS = ("", "1", "-", "none", "dimensionless", "nondimensional", "non-dimensional", "unitless", "nd")
"""Units of quantities without a dimension."""

_NO_NAME = re.compile(r"(phony_)?dim_\d+")
"""What xarray calls dimensions without a name."""


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """An array and what is known of it.

    dims: a name an axis, None if there are none.  coords: by the names of dimensions, each a `Labelled` of its own,
    whose source is the coordinate's name.  attrs: units, valid_min, valid_max, valid_range, _FillValue, missing_value,
    scale_factor and add_offset are used.  source: what messages begin with.  notes: what was done to it so far.
    """

    values: Any
    dims: tuple[str, ...] | None = None
    coords: Mapping[str, Labelled] = dataclasses.field(default_factory=dict)
    attrs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    source: str = "array"
    notes: tuple[str, ...] = ()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype) if copy else np.asarray(self.values, dtype)

    def place(self, bad: np.ndarray) -> str:
        """Where a mask is true first, in words."""
        index = ", ".join(str(int(i)) for i in np.argwhere(bad)[0])
        return f"index ({index})" + (f" of {', '.join(self.dims)}" if self.dims else "")


def labelled(given: Any, source: str, name: str = "omega") -> Labelled:
    """An array, a DataArray, or the variable `name` of a Dataset, as a `Labelled`.

    Raises ValueError for a Dataset without `name`.
    """
    if isinstance(given, Labelled):
        return given
    if hasattr(given, "data_vars"):
        if name not in given.data_vars:
            found = ", ".join(map(str, given.data_vars)) or "none"
            raise ValueError(f"{source}: expected a variable {name!r}, found {found}; pass one of these, or rename it")
        points = [key for key, each in given.data_vars.items() if each.ndim == 1 and known(key, each.attrs)]
        given = given.set_coords(points)
        given = given[name]
    if not (hasattr(given, "dims") and hasattr(given, "coords")):
        return Labelled(given if np.ma.isMaskedArray(given) else np.asarray(given), source=source)
    if not any(known(dim) == "time" for dim in given.dims):  # one frame of a run, selected, still has its time
        moment = [key for key, each in given.coords.items() if each.ndim == 0 and known(key) == "time"]
        given = given.expand_dims(moment[:1])
    dims = tuple(str(dim) for dim in given.dims)
    along = {str(key): each for key, each in given.coords.items() if each.ndim == 1}
    coords = {}
    for dim in dims:
        # The coordinate of a dimension has its name, or else a name that an axis is known by.
        found = [
            key for key, each in along.items() if str(each.dims[0]) == dim and (key == dim or known(key, each.attrs))
        ]
        for key in sorted(found, key=lambda key: key == dim)[-1:]:
            coords[dim] = Labelled(np.asarray(along[key].values), (dim,), attrs=dict(along[key].attrs), source=key)
    nameless = all(_NO_NAME.fullmatch(dim) for dim in dims)
    return Labelled(np.asarray(given.values), None if nameless else dims, coords, dict(given.attrs), source)


def known(name: Any, attrs: Mapping[str, Any] | None = None) -> str:
    """The axis that goes by a name, or by the CF attributes axis and standard_name; an empty text for none."""
    said = [name, *((attrs or {}).get(key, "") for key in ("axis", "standard_name"))]
    return next((axis for each in said for axis, names in AXES.items() if str(each).lower() in names), "")


def _axis(dim: str, coordinate: Labelled | None) -> str:
    """The axis that a dimension is: by its name, or by its coordinate's."""
    return known(dim) or (known(coordinate.source, coordinate.attrs) if coordinate is not None else "") or dim


def named(given: Labelled, axes: Sequence[str]) -> Labelled:
    """`given` with all its axes named, axes of length 1 that are not among `axes` dropped.

    axes: what may come, the last two x and y; those of an array without names are the last of these.  Raises ValueError
    for another axis, two of one name, or none for x or y.
    """
    values, wanted = given.values, ", ".join(axes)
    if given.dims is None:
        if not 2 <= values.ndim <= len(axes):
            raise ValueError(
                f"{given.source}: expected the axes {wanted} or the last of them, got shape {values.shape}; "
                "select, or name the dimensions"
            )
        dims = tuple(axes[len(axes) - values.ndim :])
        coords = {known(name): each for name, each in given.coords.items() if known(name) in dims}
        return dataclasses.replace(given, dims=dims, coords=coords)
    roles = [_axis(dim, given.coords.get(dim)) for dim in given.dims]
    notes, kept = list(given.notes), []
    for i, (dim, role, size) in enumerate(zip(given.dims, roles, values.shape)):
        if role in axes:
            kept.append(i)
        elif size == 1:
            notes.append(f"dimension {dim} of length 1 dropped")
        else:
            raise ValueError(
                f"{given.source}: expected the axes {wanted}, got a dimension {dim!r} of length {size}; "
                "select one along it, or rename it"
            )
    found = [roles[i] for i in kept]
    for role in axes:
        if found.count(role) > 1:
            both = " and ".join(given.dims[i] for i in kept if roles[i] == role)
            raise ValueError(f"{given.source}: expected one dimension for the axis {role}, got {both}; rename one")
    if missing := [role for role in ("x", "y") if role not in found]:
        raise ValueError(
            f"{given.source}: expected the axes {wanted}, got {', '.join(given.dims)}; name the dimension "
            f"{missing[0]}, and both walls and all of the channel are needed"
        )
    return dataclasses.replace(
        given,
        values=values.reshape([values.shape[i] for i in kept]),
        dims=tuple(found),
        coords={roles[i]: given.coords[given.dims[i]] for i in kept if given.dims[i] in given.coords},
        notes=tuple(notes),
    )
