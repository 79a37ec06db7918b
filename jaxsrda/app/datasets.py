"""Datasets out: fields, and analyses with the observations used, as NetCDF and Zarr.

Every write is atomic: a temporary sibling is written in full and then moved into place, so a stopped
run leaves the old file or the new one, never half of one.  Bad names raise ValueError; a disk that fails
during a write raises the system's OSError.  xarray is imported on first use.  All quantities are non-dimensional.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsrda.core.checks import check_shape
from jaxsrda.core.files import _plain, atomic_path, require_packages
from jaxsrda.flow.grid import ChannelGrid

if TYPE_CHECKING:
    import xarray

DATASET_SUFFIXES = (".nc", ".zarr")
"""Formats that `write_dataset` writes."""

# Writing --------------------------------------------------------------------------------------


def write_dataset(path: str | Path, dataset: xarray.Dataset) -> None:
    """Write an xarray dataset as NetCDF 4 (.nc) or Zarr (.zarr), compressed, with checksums, atomically.

    Raises ValueError as `check_writable` does.
    """
    with atomic_path(path, DATASET_SUFFIXES) as temporary:
        encoding: dict[Any, dict[str, Any]] = {name: {"_FillValue": None} for name in dataset.variables}
        if temporary.suffix == ".zarr":
            import numcodecs

            checked = {"compressors": [numcodecs.Zstd(level=3, checksum=True)]}
            for name, variable in dataset.variables.items():
                # A chunk that gets lost reads as NaN then, not as zeros.
                encoding[name] = checked | ({"_FillValue": np.nan} if variable.dtype.kind == "f" else {})
            dataset.to_zarr(temporary, mode="w", encoding=encoding, zarr_format=2, consolidated=True)
            return
        for name, variable in dataset.variables.items():
            if variable.ndim and variable.size:
                encoding[name] |= {"zlib": True, "complevel": 1, "shuffle": True, "fletcher32": True}
        dataset.to_netcdf(temporary, engine="h5netcdf", encoding=encoding)


# Datasets -------------------------------------------------------------------------------------


def fields_dataset(
    omega: Any, times: Any, grid: ChannelGrid, attrs: Mapping[str, Any], name: str = "omega"
) -> xarray.Dataset:
    """Vorticity frames (time, x, y) or (truth, time, x, y) as a dataset with coordinates.

    times: (time,).  attrs: global attributes; nested values become JSON text, package versions join.
    Raises ValueError for other shapes or without xarray.
    """
    dims = _frame_dims(name, omega)
    axes = (times, ())
    return _dataset({name: _variable(name, dims, omega, axes, grid, "vorticity")}, axes, grid, attrs)


ANALYSIS_FIELDS = {
    "omega_mean": "ensemble mean of the analysis vorticity",
    "omega_std": "ensemble standard deviation of the analysis vorticity",
    "omega": "analysis vorticity of each member",
    "omega_background": "ensemble mean of the background vorticity",
    "omega_truth": "true vorticity",
}
"""Fields of a dataset of analyses, and what they are called in words."""


def analysis_dataset(
    fields: Mapping[str, Any],
    times: Any,
    grid: ChannelGrid,
    attrs: Mapping[str, Any],
    every: int = 4,
    observations: Mapping[str, Any] | None = None,
) -> xarray.Dataset:
    """Analyses as a dataset: omega_mean, omega_std and, where given, omega, omega_background, omega_truth, obs_*.

    fields: by the names of ANALYSIS_FIELDS, None or absent where there are none: omega_mean, omega_std and omega_truth
    (time, x, y), omega_background (analysis_time, x, y), on every `every`-th frame, omega (member, time, x, y).
    observations: arrays values, mask and variance (cycle, sensor), positions (cycle, sensor, 2) as x and y, times
    (cycle,), and sets (cycle, sensor) if there are several; the sensors whose mask is true are kept, along `obs`, with
    positions also in grid spacings.  Every array but `times` may have a leading truth axis; then all have.
    Raises ValueError for other shapes, missing arrays, or without xarray.
    """
    if unknown := sorted(set(fields) - set(ANALYSIS_FIELDS)):
        raise ValueError(f"fields: expected names among {', '.join(ANALYSIS_FIELDS)}, got {unknown[0]}")
    dims = _frame_dims("omega_mean", fields.get("omega_mean"))
    axes = {name: dims for name in ANALYSIS_FIELDS} | {
        "omega": (*dims[:-3], "member", *dims[-3:]),
        "omega_background": (*dims[:-3], "analysis_time", "x", "y"),
    }
    analyses = np.asarray(times)[::every]
    variables = {
        name: _variable(name, axes[name], fields.get(name), (times, analyses), grid, long_name)
        for name, long_name in ANALYSIS_FIELDS.items()
        if fields.get(name) is not None or name in ("omega_mean", "omega_std")
    }
    if observations is not None:
        variables |= _observation_variables(observations, grid, "truth" in dims)
    return _dataset(variables, (times, analyses), grid, attrs)


def observations_dataset(
    observations: Mapping[str, Any], grid: ChannelGrid, attrs: Mapping[str, Any]
) -> xarray.Dataset:
    """Observations of several truths alone, as the variables obs_* of `analysis_dataset` with obs_truth.

    observations: as there, every array but `times` (cycle,) with a leading truth axis.
    """
    return _dataset(_observation_variables(observations, grid, True), ((), ()), grid, attrs)


def _frame_dims(name: str, array: Any) -> tuple[str, ...]:
    """Dimension names of frames, with a truth axis in front if there are four dimensions."""
    if np.ndim(array) == 4:
        return ("truth", "time", "x", "y")
    check_shape(name, array, (None, None, None), hint=" (time, x, y), or a truth axis in front")
    return ("time", "x", "y")


Times = tuple[Any, Any]
"""Times of frames, and of analyses."""


def _variable(name: str, dims: tuple[str, ...], array: Any, times: Times, grid: ChannelGrid, long_name: str) -> tuple:
    """An xarray variable as (dims, array, attributes), once its shape is what `dims` says."""
    sizes = {"time": len(times[0]), "analysis_time": len(times[1]), "x": grid.nx, "y": grid.ny}
    check_shape(name, array, tuple(sizes.get(dim) for dim in dims), hint=f" (axes {', '.join(dims)})")
    return dims, np.asarray(array), {"units": "1", "long_name": long_name}


def _observation_variables(observations: Mapping[str, Any], grid: ChannelGrid, truths: bool) -> dict[str, tuple]:
    """The variables obs_* along `obs` of the sensors whose mask is true."""
    names = ("values", "positions", "variance", "times")
    missing = {*names, "mask"} - set(observations)
    if missing:
        raise ValueError(f"observations: expected the arrays {', '.join(sorted(missing))} as well, got none; add them")
    values, positions, variance, times = (np.asarray(observations[key]) for key in names)
    mask, sets = np.asarray(observations["mask"], bool), observations.get("sets")
    if sets is not None:
        check_shape("observations: sets", sets, mask.shape)
    check_shape("observations: values", values, (None,) * (3 if truths else 2))
    check_shape("observations: positions", positions, (*values.shape, 2))
    check_shape("observations: mask", mask, values.shape)
    check_shape("observations: variance", variance, values.shape)
    check_shape("observations: times", times, values.shape[:-1] if times.ndim > 1 else (values.shape[-2],))
    x, y = positions[mask].T
    dx, dy = grid.spacing
    arrays = {
        "obs_value": (values[mask], "observed value"),
        "obs_variance": (variance[mask], "variance of the observation noise"),
        "obs_x": (x, "position in x"),
        "obs_y": (y, "position in y"),
        "obs_x_index": (x / dx, "position in x over the grid spacing"),
        "obs_y_index": (y / dy, "position in y over the grid spacing"),
        "obs_time": (np.broadcast_to(times[..., None], values.shape)[mask], "time of the observation"),
    }
    if sets is not None:
        arrays["obs_set"] = (np.asarray(sets)[mask].astype(np.int32), "number of the set of sensors")
    if truths:
        arrays["obs_truth"] = (np.nonzero(mask)[0], "index of the truth observed")
    return {name: (("obs",), array, {"units": "1", "long_name": text}) for name, (array, text) in arrays.items()}


def _dataset(variables: dict[str, tuple], times: Times, grid: ChannelGrid, attrs: Mapping[str, Any]) -> xarray.Dataset:
    """A dataset of `variables` with the coordinates, the attributes and the package versions."""
    require_packages("datasets")
    import xarray

    coordinates = {
        axis: (axis, np.asarray(points), {"units": "1", "long_name": text})
        for axis, points, text in (
            ("x", grid.x, "along the channel"),
            ("y", grid.y, "across the channel"),
            ("time", times[0], "time"),
            ("analysis_time", times[1], "time of an analysis"),
        )
        if any(axis in dims for dims, *_ in variables.values())
    }
    versions = {f"{package}_version": importlib.metadata.version(package) for package in ("jaxsrda", "jax", "numpy")}
    return xarray.Dataset(variables, coordinates, {key: _attribute(v) for key, v in attrs.items()} | versions)


def _attribute(value: Any) -> str | int | float:
    """`value` as an attribute: text and numbers as they are, anything else as JSON text."""
    value = value.item() if isinstance(value, np.generic) else value
    is_scalar = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    return value if is_scalar else json.dumps(_plain(value))  # type: ignore[return-value]
