"""Files of fields in: .npy, .npz, NetCDF and Zarr, each variable as a `Labelled`.

What the file says of a variable comes with it, undecoded but for dates: names of dimensions, coordinates, attributes.
What that means is for `flow.frames` and `flow.plausible`.  xarray is imported on first use, by .nc and .zarr alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsrda.core.checks import check_choice
from jaxsrda.core.files import read_npz, require_packages
from jaxsrda.flow.labelled import Labelled, known, labelled

if TYPE_CHECKING:
    import xarray

FIELD_SUFFIXES = (".npy", ".npz", ".nc", ".zarr")
"""Formats that `read_fields` reads."""

Found = tuple[Labelled | None, dict[str, bool]]
"""A variable, None if there is none, and of each variable in the file whether it has the dimensions of a field."""


def read_fields(path: str | Path, name: str = "omega") -> Labelled:
    """The variable `name` of a file, or of the one group of a file that has it.

    path: .npy, .npz, .nc (NetCDF 3 or 4) or .zarr.  Raises ValueError for a missing or unreadable file or variable.
    """
    found, names = _load(path, name)
    if found is not None:
        return found
    if any(key.endswith(f"/{name}") for key in names):
        raise ValueError(f"{path}: expected one variable {name!r}, found {', '.join(names)}; keep one")
    fields = [key for key, is_field in names.items() if is_field]
    hint = f"{fields[0]} has the dimensions of a field: rename it" if len(fields) == 1 else "rename one"
    raise ValueError(f"{path}: expected a variable {name!r}, found {', '.join(names) or 'none'}; {hint}")


def variable_names(path: str | Path) -> list[str]:
    """The names of a file's variables (none for .npy).  Raises ValueError for a missing or unreadable file."""
    return [key.rpartition("/")[2] for key in _load(path, "")[1]]


def _load(path: str | Path, name: str) -> Found:
    path = Path(path).expanduser()
    suffix = check_choice(f"{path}: suffix", path.suffix.lower(), FIELD_SUFFIXES)
    if not path.exists():
        raise ValueError(f"{path}: expected a file of fields, found none; check the name and the folder")
    require_packages(suffix)
    load: Callable[[Path, str], Found] = _load_numpy if suffix in (".npy", ".npz") else _load_xarray
    try:
        return load(path, name)
    except Exception as error:  # the readers raise many types; each of them means a bad file
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{path}: expected a complete {suffix} file, could not read it ({reason})") from None


def _load_numpy(path: Path, name: str) -> Found:
    """The array of an .npy file, or `name` of an .npz file, whose x, y and time are its coordinates."""
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return Labelled(loaded, source=str(path)), {}
    with loaded:
        names = loaded.files
    if name in names:
        arrays = read_npz(path, {name, *(key for key in names if known(key) in ("x", "y", "time"))})
        coords = {key: Labelled(each, source=key) for key, each in arrays.items() if each.ndim == 1 and key != name}
        return Labelled(arrays[name], coords=coords, source=f"{path}: {name}"), dict.fromkeys(names, True)
    return None, {key: a.ndim > 1 for key, a in read_npz(path).items()} if name else dict.fromkeys(names, True)


def _load_xarray(path: Path, name: str) -> Found:
    """The variable `name` of a dataset, or of the one group in it that has it."""
    with _datasets(path, name) as groups:
        inside = [group for group, dataset in groups.items() if name in dataset.data_vars]
        if len(inside) != 1:
            return None, {
                f"{group}{key}": {"x", "y"} <= {known(dim) for dim in each.dims}
                for group, dataset in groups.items()
                for key, each in dataset.data_vars.items()
            }
        group, dataset = inside[0], groups[inside[0]]
        found = labelled(dataset, f"{path}: {group}{name}", name)
        return dataclasses.replace(found, notes=(f"read from group {group[:-1]}",) if group else ()), {}


@contextlib.contextmanager
def _datasets(path: Path, name: str) -> Iterator[dict[str, xarray.Dataset]]:
    """The root of a file if it has the variable `name`, else all its groups too, by path/, with what they inherit."""
    import xarray

    options: dict[str, Any] = {"mask_and_scale": False, "decode_timedelta": False} | _engine(path)
    with contextlib.ExitStack() as opened, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dates beyond the nanoseconds' range, and the like

        def open_(function: Callable[..., Any]) -> Any:
            try:
                return opened.enter_context(function(path, **options))
            except ValueError as error:
                if "decode" not in str(error):
                    raise
                # A calendar that cannot be decoded: its times stay numbers with their unit.
                return opened.enter_context(function(path, decode_times=False, **options))

        root = open_(xarray.open_dataset)
        if name in root.data_vars or options["engine"] == "scipy":
            yield {"": root}
            return
        tree = open_(xarray.open_datatree)
        yield {f"{node.path}/".lstrip("/"): node.to_dataset() for node in tree.subtree}


def open_dataset(path: Path) -> xarray.Dataset:
    """A dataset that stays open until it is closed, its times as numbers.  Raises what xarray raises for a bad file."""
    import xarray

    return xarray.open_dataset(path, decode_times=False, **_engine(path))


def _engine(path: Path) -> dict[str, Any]:
    """The options of xarray that read such a file."""
    if path.suffix.lower() == ".zarr":
        return {"engine": "zarr", "consolidated": False}
    with open(path, "rb") as file:
        magic = file.read(4)
    if not magic.startswith(b"CDF"):
        return {"engine": "h5netcdf", "phony_dims": "access"}
    if magic[3] == 5:
        raise ValueError("NetCDF 3 of the kind CDF-5; convert it: nccopy -k nc4 old.nc new.nc")
    try:
        importlib.import_module("scipy")
    except ImportError:
        raise ValueError("NetCDF 3, which needs scipy; pip install scipy, or convert it to NetCDF 4") from None
    return {"engine": "scipy"}
