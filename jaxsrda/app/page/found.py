"""What a folder holds: records, analyses, pictures, and files that are none of these."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxsrda.app.datasets import DATASET_SUFFIXES

PICTURES = {".png": "image/png", ".gif": "image/gif", ".svg": "image/svg+xml"}
"""Suffixes of pictures that a page can show, and their media types."""

DEPTH = 2
"""Folders below the folder that are looked into, one in another."""

SOUGHT = (
    "records (.json) that --json of `jaxsrda assimilate` or `jaxsrda evaluate` writes, "
    f"analyses ({', '.join(DATASET_SUFFIXES)}) that --out writes, pictures ({', '.join(PICTURES)}) that --plot writes"
)


@dataclasses.dataclass(frozen=True)
class Record:
    """One JSON record: scores as (mean, low, high), series and statistics as arrays, NaN where the file has null."""

    method: str
    scores: dict[str, tuple[float, float, float]]
    series: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    times: np.ndarray | None
    payload: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, empty if the record has none."""
        config = self.payload.get("config")
        return config if isinstance(config, dict) else {}


@dataclasses.dataclass
class Found:
    """records, analyses: name → record, file; a name is the path in the folder without its suffix, so that a record and
    the analyses written beside it have one name.  skipped: path → why."""

    folder: Path
    records: dict[str, Record] = dataclasses.field(default_factory=dict)
    analyses: dict[str, Path] = dataclasses.field(default_factory=dict)
    pictures: list[Path] = dataclasses.field(default_factory=list)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the results."""
        return sorted({*self.records, *self.analyses})

    def relative(self, path: Path) -> str:
        """A path as the page names it."""
        return path.relative_to(self.folder).as_posix()


def find_results(folder: str | Path) -> Found:
    """The results in a folder and up to `DEPTH` folders below.

    Raises ValueError for a missing folder, a folder without any result or picture, and two analyses of one name.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        what = "a file" if folder.exists() else "none"
        raise ValueError(f"{folder}: expected a folder of results, found {what}; check the name")
    found = Found(folder)
    for path in _paths(folder, DEPTH):
        name = found.relative(path.with_suffix(""))
        suffix = path.suffix.lower()
        if suffix in DATASET_SUFFIXES:
            if name in found.analyses:
                both = f"{found.relative(found.analyses[name])} and {found.relative(path)}"
                raise ValueError(f"{folder}: expected one result of a name, found {both}; rename or move one")
            found.analyses[name] = path
        elif suffix in PICTURES:
            found.pictures.append(path)
        elif suffix == ".json":
            try:
                found.records[name] = read_record(path)
            except ValueError as error:
                found.skipped[found.relative(path)] = str(error)
    if not (found.names or found.pictures):
        none = f" ({len(found.skipped)} JSON files are no records)" if found.skipped else ""
        raise ValueError(f"{folder}: expected {SOUGHT}; found none{none}")
    return found


def _paths(folder: Path, depth: int) -> list[Path]:
    """Files, and Zarr stores as if they were files, in a settled order; hidden ones are left out."""
    paths = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_file() or path.suffix.lower() == ".zarr":
            paths.append(path)
        elif entry.is_dir(follow_symlinks=False) and depth:
            paths += _paths(path, depth - 1)
    return paths


def read_record(path: Path) -> Record:
    """The record in a JSON file; ValueError says why it is none."""
    try:
        payload = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"not readable as JSON ({error})") from None
    if not isinstance(payload, dict) or (missing := [key for key in ("method", "scores") if key not in payload]):
        lacks = "is no mapping" if not isinstance(payload, dict) else f"has no {' and no '.join(missing)}"
        raise ValueError(f"no record of `jaxsrda assimilate` or `jaxsrda evaluate`: it {lacks}")
    try:
        scores = {name: _interval(value) for name, value in payload["scores"].items()}
        series = {name: _array(values, 1) for name, values in (payload.get("series") or {}).items()}
        statistics = {name: _array(values) for name, values in (payload.get("statistics") or {}).items()}
        times = None if payload.get("times") is None else _array(payload["times"], 1)
        if times is not None and not (np.diff(times) > 0).all():
            raise ValueError("times do not increase")
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError("no record: its scores, series, statistics or times are not of the expected form") from None
    return Record(str(payload["method"]), scores, series, statistics, times, payload)


def _interval(value: Mapping[str, Any]) -> tuple[float, float, float]:
    mean, low, high = (np.nan if value[key] is None else float(value[key]) for key in ("mean", "low", "high"))
    return mean, low, high


def _array(values: Any, ndim: int | None = None) -> np.ndarray:
    array = np.asarray(values, float)  # None becomes NaN
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"expected {ndim} dimensions, got {array.ndim}")
    return array
