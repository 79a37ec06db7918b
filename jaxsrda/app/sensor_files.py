"""Sensors and observations from the user's files."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxsrda.app.fields import open_dataset
from jaxsrda.app.tables import COLUMNS, Columns, Say, read_table
from jaxsrda.core.checks import check_choice
from jaxsrda.core.files import require_packages
from jaxsrda.flow.testbed import Testbed
from jaxsrda.observing.layouts import Layout, at_positions
from jaxsrda.observing.observations import FILL, Observations, pack, stack
from jaxsrda.observing.operators import OPERATORS
from jaxsrda.observing.sensors import Sensors

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".dat")
"""Tables as text."""

SENSOR_SUFFIXES = (*TEXT_SUFFIXES, ".npy")
"""Formats of sensors' positions."""

OBSERVATION_SUFFIXES = (*TEXT_SUFFIXES, ".nc", ".zarr")
"""Formats of observations."""

CYCLE_AT = ("testbed", "observations")
"""When cycles are: as often as the testbed has them, or as often as observations need them."""

IMPLAUSIBLE = 10
"""Vorticity of so many times the testbed's range is no measurement."""

MOST_FRAMES = 1_000_000
"""Times beyond so many frames are in other units."""

ON_A_FRAME = 1e-3
"""Part of a frame by which a time may be off one."""


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)


# Sensors --------------------------------------------------------------------------------------


def layout_from_file(path: str | Path, say: Say = _warn) -> tuple[Layout, tuple[float, ...] | None]:
    """The layout of sensors at the positions that a file holds, and the noise's standard deviation of each, if it does.

    path: text with columns x, y and, if wanted, std (by name or in this order; see `tables.read_table`), or .npy
    (sensors, 2) or (sensors, 3).  x is brought into [0, 2π), since the channel is periodic, and `say` is told so.
    Sensors may share a place.  Raises ValueError, with the line, for y on or beyond the walls, and for numbers that are
    missing or no numbers.
    """
    path = Path(path).expanduser()
    if check_choice(f"{path}: suffix", path.suffix.lower(), SENSOR_SUFFIXES) == ".npy":
        columns = _from_array(path)
    else:
        columns = read_table(path, ("x", "y", "std"), say)
    for name in ("x", "y"):
        if name not in columns.arrays:
            raise ValueError(f"{path}: expected columns x, y and perhaps std, found no {name}; name it so")
    positions = _positions(columns, say, walls=False)
    variance = _variance(columns)
    return at_positions(positions, path.name), None if variance is None else tuple(np.sqrt(variance).tolist())


def _from_array(path: Path) -> Columns:
    try:
        array = np.load(path, allow_pickle=False)
        array = np.asarray(array, float)
    except (OSError, ValueError, EOFError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: expected a file of positions x, y, could not read it ({reason})") from None
    if array.ndim != 2 or array.shape[1] not in (2, 3):
        raise ValueError(f"{path}: expected positions (sensors, 2), or (sensors, 3) with std, got shape {array.shape}")
    return Columns(str(path), "row", np.arange(len(array)), dict(zip(("x", "y", "std"), array.T)))


def _positions(columns: Columns, say: Say, walls: bool) -> np.ndarray:
    """Positions (rows, 2) in the channel, x wrapped; walls: whether they may lie on these."""
    x, y = columns.arrays["x"], columns.arrays["y"]
    turn = 2 * np.pi
    for name, values in (("x", x), ("y", y)):
        columns.refuse(~np.isfinite(values), f"a position {name}", values)
    columns.refuse((x < -turn) | (x >= 2 * turn), "x within a turn of [0, 2π) (radians, not degrees)", x)
    beyond = (y < 0) | (y > np.pi) if walls else (y <= 0) | (y >= np.pi)
    columns.refuse(beyond, "y from 0 to π (radians)" if walls else "y between the walls, 0 < y < π (radians)", y)
    outside = (x < 0) | (x >= turn)
    if outside.any():
        say(f"{columns.source}: x of {outside.sum()} of {len(x)} brought into [0, 2π); the channel is periodic")
        x = np.where(outside, x % turn, x)
        x = np.where(x >= turn, 0.0, x)
    return np.stack([x, y], 1)


def _variance(columns: Columns) -> np.ndarray | None:
    """The variance of the noise (rows,), None if there is no column of it."""
    given = [name for name in ("std", "variance") if name in columns.arrays]
    if not given:
        return None
    if len(given) > 1:
        raise ValueError(f"{columns.source}: expected std or variance, got both; leave one out")
    values = columns.arrays[given[0]]
    columns.refuse(~(np.isfinite(values) & (values > 0)), f"a {given[0]} above 0", values)
    return values**2 if given[0] == "std" else values


# Observations ---------------------------------------------------------------------------------


class Measured(NamedTuple):
    """What a file of observations gives an `Experiment`: observations (cycles, p), the sets of sensors that they belong
    to, and the testbed whose cycles meet them."""

    observations: Observations
    sensors: tuple[Sensors, ...]
    testbed: Testbed


def observations_from_file(
    path: str | Path,
    testbed: Testbed,
    sensors: Sequence[Sensors] | None = None,
    cycle_at: str = "testbed",
    say: Say = _warn,
) -> Measured:
    """Observations that a file holds, one row each, for the cycles of a testbed.

    path: text with a header (`tables.read_table`), or NetCDF or Zarr with variables along one dimension, such as
    `assimilate --out` writes.  Columns time, x, y, value, std or variance, and if wanted operator (or set), the name of
    what was measured; each name becomes a set of sensors.  sensors: what the sets measure and are for where the file
    does not say it, by default vorticity.  cycle_at: `testbed`, whose cycles must meet all times, or `observations`:
    cycles at the greatest common divisor of the times, in whole frames.  say: is told how many values are missing and
    left out, and which x were brought into [0, 2π).  Times without observations are silent.

    Raises ValueError, with the place in the file, for times that no cycle meets, values that look like fill values, and
    positions outside the channel.
    """
    path = Path(path).expanduser()
    check_choice("cycle_at", cycle_at, CYCLE_AT)
    suffix = check_choice(f"{path}: suffix", path.suffix.lower(), OBSERVATION_SUFFIXES)
    known = _Known((), 0)
    if suffix in TEXT_SUFFIXES:
        columns = read_table(path, (), say, text=("set",))
    else:
        columns, known = _from_dataset(path, testbed)
    missing = [name for name in ("time", "x", "y", "value") if name not in columns.arrays]
    if missing or not {"std", "variance"} & set(columns.arrays):
        raise ValueError(
            f"{path}: expected columns time, x, y, value, std (or variance), found no "
            f"{missing[0] if missing else 'std'}; name it so, or add it"
        )
    lost = np.isnan(columns.arrays["value"])
    if lost.any():
        say(f"{path}: {lost.sum()} of {len(lost)} values are missing and left out")
        columns = columns.where(~lost)
    if not len(columns.numbers):
        raise ValueError(f"{path}: expected observations, found no value")
    sets, sensors = _sets(columns, known.sensors, sensors)
    _check_plausible(columns, sets, sensors, testbed)
    cycles, testbed = _cycles(columns, testbed, cycle_at)
    times = max(int(cycles.max()), known.last_frame // testbed.frames_per_cycle) + 1
    values, positions = columns.arrays["value"], _positions(columns, say, walls=True)
    variance: Any = _variance(columns)
    order = np.argsort(cycles, kind="stable")
    ends = np.searchsorted(cycles[order], np.arange(times + 1))
    packed: list[Observations | None] = []
    for i in range(times):
        rows = order[ends[i] : ends[i + 1]]
        one = pack(values[rows], positions[rows], variance[rows])
        packed.append(one if len(sensors) == 1 else one._replace(sets=jnp.asarray(sets[rows], jnp.int32)))
    return Measured(stack(packed), tuple(sensors), testbed)


def _sets(
    columns: Columns, known: Sequence[Sensors | None], given: Sequence[Sensors] | None
) -> tuple[np.ndarray, Sequence[Sensors]]:
    """The set of each row, and the sets of sensors: what the file says, else those given, else vorticity."""
    column = columns.arrays.get("set")
    if column is not None and column.dtype.kind not in "iuf":
        if given is not None:
            raise ValueError(f"{columns.source}: names the operators itself; leave sensors and operator out")
        names = list(dict.fromkeys(column.tolist()))
        columns.refuse(~np.isin(column, list(OPERATORS)), f"an operator, one of {', '.join(OPERATORS)}", column)
        return np.array([names.index(name) for name in column.tolist()]), [Sensors(operator=name) for name in names]
    said = [(each.operator_name, each.role) for each in known if each is not None]
    if given is not None and said and said != [(each.operator_name, each.role) for each in given]:
        raise ValueError(
            f"{columns.source}: says itself what was measured and what for, {said}; leave sensors and operator out"
        )
    sensors = list(given) if given is not None else [each for each in known if each is not None] or [Sensors()]
    if given is None and None in known:
        raise ValueError(
            f"{columns.source}: was measured with an operator that is none of {', '.join(OPERATORS)}; give it as "
            "`sensors` of observations_from_file"
        )
    if column is not None:
        columns.refuse(~np.isfinite(column), "a number of a set of sensors", column)
    sets = np.zeros(len(columns.numbers), int) if column is None else column.astype(int)
    columns.refuse(sets < 0, "a number of a set of sensors, 0 or more", sets)
    if sets.max(initial=0) >= len(sensors):
        raise ValueError(
            f"{columns.source}: its observations belong to sets up to number {sets.max()}, {len(sensors)} set(s) of "
            "sensors are described; make them agree"
        )
    return sets, sensors


def _check_plausible(columns: Columns, sets: np.ndarray, sensors: Sequence[Sensors], testbed: Testbed) -> None:
    """ValueError for values that no sensor can have measured."""
    values = columns.arrays["value"]
    most = IMPLAUSIBLE * max(abs(end) for end in testbed.vorticity_range)
    limits = np.array([most if each.measures_vorticity else FILL for each in sensors])[sets]
    expected = f"a value within ± {limits.min():.3g} (leave the cell of a missing one empty)"
    columns.refuse(~(np.abs(values) < limits), expected, values)


def _cycles(columns: Columns, testbed: Testbed, cycle_at: str) -> tuple[np.ndarray, Testbed]:
    """The cycle of each row, and the testbed with these cycles."""
    times = columns.arrays["time"]
    latest = MOST_FRAMES * testbed.frame
    columns.refuse(~((times >= 0) & (times <= latest)), f"a time from 0 to {latest:g} (non-dimensional)", times)
    frames = np.rint(times / testbed.frame).astype(int)
    off = np.abs(times / testbed.frame - frames) > ON_A_FRAME
    columns.refuse(off, f"times in multiples of a frame, {testbed.frame:g}", times)
    if cycle_at == "observations":
        every = math.gcd(*frames.tolist()) or testbed.frames_per_cycle
        if every != testbed.frames_per_cycle:
            testbed = dataclasses.replace(testbed, frames_per_cycle=every)
    every = testbed.frames_per_cycle
    columns.refuse(
        frames % every != 0,
        f"a time that a cycle meets, one each {every * testbed.frame:g} from 0 (--cycle-at observations makes cycles "
        "that meet all)",
        times,
    )
    return frames // every, testbed


class _Known(NamedTuple):
    """What a file that `assimilate` wrote says of its observations: the sets of sensors, None for one with an operator
    of the user's own, and the frame of the last cycle."""

    sensors: tuple[Sensors | None, ...]
    last_frame: int


def _from_dataset(path: Path, testbed: Testbed) -> tuple[Columns, _Known]:
    """The columns of a dataset, the variables along the dimension of the values; other variables are not read."""
    require_packages(path.suffix.lower())
    try:
        dataset = open_dataset(path)
    except Exception as error:  # the readers raise many types; each of them means a bad file
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{path}: expected a complete {path.suffix} file, could not read it ({reason})") from None
    with dataset:
        flat = {str(name): variable for name, variable in dataset.variables.items() if variable.ndim == 1}
        value = next((flat[name] for name in COLUMNS["value"] if name in flat), None)
        if value is None:
            raise ValueError(
                f"{path}: expected a variable {' or '.join(COLUMNS['value'])} along one dimension, found "
                f"{', '.join(map(str, dataset.variables)) or 'none'}"
            )
        along = {name: variable for name, variable in flat.items() if variable.dims == value.dims}
        if "obs_truth" in along and len(np.unique(along["obs_truth"].values)) > 1:
            raise ValueError(f"{path}: holds observations of several truths; select those of one (obs_truth)")
        arrays: dict[str, np.ndarray] = {}
        for known, names in COLUMNS.items():
            found = [name for name in names if name in along]
            if len(found) > 1:
                raise ValueError(f"{path}: expected one variable {known}, got {' and '.join(found)}")
            if found:
                if known == "time" and "since" in str(along[found[0]].attrs.get("units", "")):
                    raise ValueError(f"{path}: expected non-dimensional times, got {along[found[0]].attrs['units']!r}")
                arrays[known] = _plain(along[found[0]].values, path, found[0])
        analyses = flat["analysis_time"].values if "analysis_time" in flat else np.zeros(1)
        last_frame = round(float(np.max(analyses)) / testbed.frame)
        described = _described(dataset.attrs.get("config"))
    return Columns(str(path), "obs", np.arange(value.size), arrays), _Known(described, last_frame)


def _plain(array: np.ndarray, path: Path, name: str) -> np.ndarray:
    """Numbers in double precision, whole numbers and words as they are."""
    if array.dtype.kind in "OSU":
        return np.array([each.decode() if isinstance(each, bytes) else str(each) for each in array])
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected numbers as {name}, got {array.dtype}")
    return array.astype(float)


def _described(config: Any) -> tuple[Sensors | None, ...]:
    """The sets of sensors that the configuration in a file describes, none if it describes none."""
    try:
        sets = json.loads(config)["sensors"]
        return tuple(
            Sensors(operator=each["operator"], role=each["role"]) if each["operator"] in OPERATORS else None
            for each in sets
        )
    except (TypeError, ValueError, KeyError):
        return ()
