"""Settings to try: the points of a grid, random draws, and lists in files; each setting is a dictionary of options."""

from __future__ import annotations

import csv
import itertools
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Setting = Mapping[str, Any]
"""Options by name."""

LINEAR = ("inflation", "adaptive", "rtps", "rtpp", "eta")
LINEAR += tuple(f"prior_{name}" for name in LINEAR[:-1])
"""Fractions and factors, drawn uniformly; scales are drawn uniformly in their logarithm."""

DIGITS = 4
"""Significant digits of random numbers, so that a setting can be read and typed."""


def grid_settings(**values: Sequence[Any]) -> list[dict[str, Any]]:
    """Every combination of the values of each option, the last option fastest.  ValueError for an option without any.

    A single value fixes its option.
    """
    for name, own in values.items():
        if isinstance(own, str) or not len(own):
            raise ValueError(f"{name}: expected a sequence of at least one value, got {own!r}")
    return [dict(zip(values, point)) for point in itertools.product(*values.values())]


def random_settings(samples: int, seed: int = 0, **ranges: tuple[float, float]) -> list[dict[str, Any]]:
    """Random settings from ranges (low, high): uniform in the logarithm, or linear for fractions (`LINEAR`).

    Each option has a stream of its own, so one more option leaves the others as they were, and fewer samples are the
    first of more.  Raises ValueError for fewer than one sample and for ranges that are empty or not positive.
    """
    if samples < 1:
        raise ValueError(f"samples: expected at least 1, got {samples}")
    drawn = {name: _drawn(name, *check_range(name, own), samples, seed) for name, own in ranges.items()}
    return [{name: float(f"{values[i]:.{DIGITS}g}") for name, values in drawn.items()} for i in range(samples)]


def _drawn(name: str, low: float, high: float, samples: int, seed: int) -> np.ndarray:
    part = np.random.default_rng([seed, zlib.crc32(name.encode())]).random(samples)
    return low + (high - low) * part if name in LINEAR else low * (high / low) ** part


def check_range(name: str, ends: Sequence[float]) -> tuple[float, float]:
    """The ends of a range; ValueError unless low < high, and 0 < low where the logarithm is drawn."""
    if len(ends) != 2 or not all(math.isfinite(end) for end in ends) or not ends[0] < ends[1]:
        raise ValueError(f"{name}: expected a range, two numbers low < high, got {', '.join(map(str, ends))}")
    low, high = ends
    if name not in LINEAR and low <= 0:
        raise ValueError(f"{name}: its logarithm is drawn, expected a range above 0, got {low:g} to {high:g}")
    return low, high


def combined(*parts: Sequence[Setting]) -> list[dict[str, Any]]:
    """Every setting of one part with every one of the others; ValueError for an option that two parts have."""
    settings: list[dict[str, Any]] = [{}]
    for part in parts:
        before, here = ({name for setting in some for name in setting} for some in (settings, part))
        if both := sorted(before & here):
            raise ValueError(f"{both[0]}: given twice; leave it in one of grid, random and list")
        settings = [{**a, **b} for a in settings for b in part]
    return settings


def read_settings(path: str | Path) -> list[dict[str, Any]]:
    """Settings of a file: JSON, a list of objects, or CSV, a column an option (an empty cell leaves it at the preset).

    Raises ValueError for a file that cannot be read as such.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".csv":
            return _of_rows(path, list(csv.DictReader(text.splitlines(), skipinitialspace=True)))
        if path.suffix == ".json":
            return _of_rows(path, json.loads(text))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"list {path}: expected a CSV or JSON file, could not read it: {error}") from None
    raise ValueError(f"list {path}: expected a .csv or a .json file, got {path.suffix or 'no suffix'}")


def _of_rows(path: Path, rows: Any) -> list[dict[str, Any]]:
    if not isinstance(rows, list) or not rows or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError(f"list {path}: expected a list of settings, each a name → value, got none or something else")
    for number, row in enumerate(rows, 1):
        if None in row:  # of csv.DictReader: more cells than there are names
            raise ValueError(f"list {path}: setting {number} has more values than there are names; mend the row")
    return [{name: value for name, value in row.items() if value not in (None, "")} for row in rows]


def varied(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The options that differ between settings, and their values in order; None where one is left out."""
    names = dict.fromkeys(name for setting in settings for name in setting)
    values = {name: list(dict.fromkeys(setting.get(name) for setting in settings)) for name in names}
    return {name: _ordered(own) for name, own in values.items() if len(own) > 1}


def _ordered(values: list[Any]) -> list[Any]:
    numbers = all(isinstance(value, int | float) for value in values)
    return sorted(values) if numbers else values
