"""Files: atomic writes of JSON and arrays, and checks before the work begins."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib
import importlib.metadata
import io
import json
import math
import os
import shutil
import uuid
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsrda.core.checks import check_choice

PACKAGES = {".nc": ("xarray", "h5py", "h5netcdf"), ".zarr": ("xarray", "zarr"), "datasets": ("xarray",)}
"""Optional packages that a format needs."""


def require_packages(kind: str) -> None:
    """Raise ValueError if a package that files of this suffix, or `datasets`, need is not installed."""
    for package in PACKAGES.get(kind, ()):
        try:
            importlib.import_module(package)
        except ImportError as error:
            message = f'{kind}: expected the package {package}, could not import it; pip install "jaxsrda[io]"'
            raise ValueError(f"{message} ({error})") from None


# Writing --------------------------------------------------------------------------------------


def check_writable(path: str | Path, suffixes: Sequence[str]) -> Path:
    """`path` if a file with one of `suffixes` can be written there; call it before long work.

    Raises ValueError for another suffix, a package not installed, a missing or read-only folder, or
    a path where something that is not such a file stands.
    """
    path = Path(path).expanduser()
    suffix = check_choice(f"{path}: suffix", path.suffix.lower(), suffixes)
    require_packages(suffix)
    if not path.parent.is_dir():
        raise ValueError(f"{path}: expected an existing folder {path.parent}, found none; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"{path}: expected a folder open for writing, {path.parent} is not; choose another")
    if suffix == ".zarr":
        # A folder of other things would be lost when the new one takes its place.
        replaceable = path.is_dir() and ({"zarr.json", ".zgroup"} & set(os.listdir(path)) or not os.listdir(path))
    else:
        replaceable = path.is_file()
    if os.path.lexists(path) and not replaceable:
        raise ValueError(f"{path}: expected an earlier {suffix} file or nothing there, found something else; move it")
    return path


@contextlib.contextmanager
def atomic_path(path: str | Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """A temporary sibling of `path` to write, moved to `path` once the block succeeds, else removed.

    Raises ValueError as `check_writable` does.
    """
    path = check_writable(path, suffixes)
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix.lower()}")
    try:
        yield temporary
        if temporary.is_dir():
            _swap(on_disk(temporary), path)
        else:
            os.replace(on_disk(temporary), path)
        on_disk(path.parent, inside=False)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def on_disk(path: Path, inside: bool = True) -> Path:
    """`path`, once the system has written the file to the disk, or the folder's list of names and what is inside."""
    if path.is_dir() and inside:
        for each in path.rglob("*"):
            on_disk(each, inside=False)
    if path.is_dir() and os.name == "nt":  # folders have no such thing there
        return path
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno in (errno.ENOSPC, errno.EIO):  # some file systems sync no folders
            raise
    finally:
        os.close(descriptor)
    return path


def _swap(new: Path, path: Path) -> None:
    """Move the folder `new` to `path`; the one that was there goes only when the new one is in place."""
    old = new.with_name(new.name + ".old")
    if path.exists():
        os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        if old.exists():
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: str | Path, payload: Any) -> None:
    """Write `payload` as JSON, atomically: arrays as lists, NaN and infinities as null.

    Raises ValueError for what JSON cannot hold, and as `check_writable` does.
    """
    text = json.dumps(_plain(payload), indent=2, allow_nan=False)
    with atomic_path(path, (".json",)) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_npz(path: str | Path, /, **arrays: Any) -> None:
    """Write named arrays as .npz, atomically.  Raises ValueError as `check_writable` does."""
    with atomic_path(path, (".npz",)) as temporary:
        np.savez(temporary, **arrays)


def read_npz(path: str | Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """All arrays of an .npz file, or those of some names, their checksums compared; nothing that it holds is run.

    Raises OSError, ValueError or zipfile.BadZipFile for a file that is not whole.
    """
    with zipfile.ZipFile(path) as archive:
        # Each member is read to its end: numpy reads no more than a header asks for, and then compares nothing.
        there = {name.removesuffix(".npy"): name for name in archive.namelist()}
        wanted = [name for name in there if names is None or name in names]
        members = {name: io.BytesIO(archive.read(there[name])) for name in wanted}
    return {name: np.lib.format.read_array(member, allow_pickle=False) for name, member in members.items()}


def _plain(value: Any) -> Any:
    """`value` made of what JSON knows; raises ValueError for any other type."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic) or hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.dtype.kind in "biufU":
            return _plain(array.tolist())
    raise ValueError(f"JSON: expected numbers, text, lists, mappings or arrays, got {type(value).__name__}; convert it")
