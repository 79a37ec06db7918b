"""Files: vorticity fields in; datasets, JSON and arrays out.

Every write is atomic: a temporary sibling is written in full and then moved into place, so a stopped
run leaves the old file or the new one, never half of one.  Bad files and names raise ValueError; a
disk that fails during a write raises the system's OSError.  xarray is imported on first use, and
`.npy` and `.npz` do without it.  All quantities are non-dimensional.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsrda.core.checks import check_choice, check_finite, check_shape
from jaxsrda.flow.grid import ChannelGrid

if TYPE_CHECKING:
    import xarray
from jaxsrda.core.files import _plain, atomic_path, require_packages

FIELD_SUFFIXES = (".npy", ".npz", ".nc", ".zarr")
"""Formats that `read_fields` reads."""

DATASET_SUFFIXES = (".nc", ".zarr")
"""Formats that `write_dataset` writes."""

AXES = {2: "x, y", 3: "frame, x, y", 4: "truth, frame, x, y", 5: "truth, member, frame, x, y"}
"""What the axes of a field array of so many dimensions stand for."""


# Reading --------------------------------------------------------------------------------------


def read_fields(path: str | Path, name: str = "omega", ndims: Sequence[int] = (3, 4)) -> np.ndarray:
    """The fields `name` of a file, (frames, nx, ny) or (truths, frames, nx, ny), float32 or float64.

    path: .npy, .npz, .nc (NetCDF 4) or .zarr; float64 stays, every other real type becomes float32.
    ndims: numbers of dimensions to accept; 2 is a single field (nx, ny).
    Dimensions called x and y are brought to the end in this order, whatever the order in the file.
    Raises ValueError for a missing or unreadable file, a missing variable, or an array that is not
    of finite real numbers in `ndims` dimensions.
    """
    fields, names = _load(path, name)
    if fields is None:
        raise ValueError(f"{path}: expected a variable {name!r}, found {', '.join(names) or 'none'}; rename one")
    return _as_fields(f"{path}: {name}", fields, ndims)


def variable_names(path: str | Path) -> list[str]:
    """The names of a file's variables (none for .npy).  Raises ValueError for a missing or unreadable file."""
    return _load(path, "")[1]


def _load(path: str | Path, name: str) -> tuple[np.ndarray | None, list[str]]:
    """The array `name` of a file, None if it has none, and the names there."""
    path = Path(path).expanduser()
    suffix = check_choice(f"{path}: suffix", path.suffix.lower(), FIELD_SUFFIXES)
    if not path.exists():
        raise ValueError(f"{path}: expected a file of fields, found none; check the name and the folder")
    require_packages(suffix)
    load = _load_numpy if suffix in (".npy", ".npz") else _load_xarray
    try:
        return load(path, name)
    except Exception as error:  # the readers raise many types; each of them means a bad file
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{path}: expected a complete {suffix} file, could not read it ({reason})") from None


def _load_numpy(path: Path, name: str) -> tuple[np.ndarray | None, list[str]]:
    """The array of an .npy file, or `name` of an .npz file (None if it has none), and the names there."""
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded, []
    with loaded:
        return loaded[name] if name in loaded.files else None, loaded.files


def open_dataset(path: Path) -> xarray.Dataset:
    """A dataset (.nc or .zarr) that stays open until it is closed.  Raises what xarray raises for a bad file."""
    import xarray

    options: dict[str, Any] = {"engine": "zarr", "consolidated": False}
    if path.suffix.lower() == ".nc":
        options = {"engine": "h5netcdf"}
    return xarray.open_dataset(path, decode_times=False, **options)


def _load_xarray(path: Path, name: str) -> tuple[np.ndarray | None, list[str]]:
    """The variable `name` of a dataset (None if it has none) with x and y last, and the names there."""
    with open_dataset(path) as dataset:
        names = [str(key) for key in dataset.data_vars]
        if name not in names:
            return None, names
        variable = dataset[name]
        if {"x", "y"} <= set(variable.dims):
            variable = variable.transpose(..., "x", "y")
        return variable.values, names


def _as_fields(label: str, fields: np.ndarray, ndims: Sequence[int]) -> np.ndarray:
    """`fields` in float32 or float64 once they are known to be finite, real and of `ndims` dimensions."""
    if fields.ndim not in ndims:
        wanted = " or ".join(f"({AXES[n]})" for n in ndims)
        raise ValueError(f"{label}: expected the axes {wanted}, got shape {fields.shape}; add or select an axis")
    if fields.dtype.kind not in "fiu":
        raise ValueError(f"{label}: expected real numbers, got {fields.dtype}; convert them to float32 or float64")
    if not fields.size:
        raise ValueError(f"{label}: expected at least one frame and grid point, got shape {fields.shape}")
    wide = fields.dtype.kind == "f" and fields.dtype.itemsize >= 8
    fields = np.asarray(fields, np.float64 if wide else np.float32)
    check_finite(f"{label} (axes {AXES[fields.ndim]})", fields)
    return fields


def write_dataset(path: str | Path, dataset: xarray.Dataset) -> None:
    """Write an xarray dataset as NetCDF 4 (.nc) or Zarr (.zarr), compressed, atomically.

    Raises ValueError as `check_writable` does.
    """
    with atomic_path(path, DATASET_SUFFIXES) as temporary:
        encoding: dict[Any, dict[str, Any]] = {name: {"_FillValue": None} for name in dataset.variables}
        if temporary.suffix == ".zarr":
            dataset.to_zarr(temporary, mode="w", encoding=encoding, zarr_format=2, consolidated=True)
            return
        for name, variable in dataset.data_vars.items():
            if variable.ndim and variable.size:
                encoding[name] |= {"zlib": True, "complevel": 1, "shuffle": True}
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
