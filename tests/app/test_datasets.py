"""Files: what is written comes back, and a failed write leaves no trace."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from jaxsrda.app import datasets
from jaxsrda.app.fields import read_fields
from jaxsrda.core import files
from jaxsrda.flow.grid import ChannelGrid

GRID = ChannelGrid(8, 5)
TIMES = np.arange(3) * 0.25


@pytest.fixture
def fields():
    return np.random.default_rng(0).standard_normal((3, 8, 5))


@pytest.fixture
def observations():
    rng = np.random.default_rng(1)
    return {
        "values": rng.standard_normal((2, 4)),
        "positions": rng.uniform(0, 3, (2, 4, 2)),
        "mask": np.array([[True, False, True, True], [False, False, True, False]]),
        "variance": np.full((2, 4), 0.01),
        "times": np.array([0.0, 1.0]),
    }


def mean_and_std(fields):
    """The fields that every dataset of analyses has."""
    return {"omega_mean": fields, "omega_std": fields}


def save(path: Path, array: np.ndarray, name: str = "omega") -> Path:
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        files.write_npz(path, **{name: array})
    else:
        dims = ("truth", "time", "x", "y")[-array.ndim :]
        datasets.write_dataset(path, xarray.Dataset({name: (dims, array)}))
    return path


@pytest.mark.parametrize(("kind", "package"), [(k, p) for k, packages in files.PACKAGES.items() for p in packages])
def test_missing_package_names_the_remedy(tmp_path, monkeypatch, fields, kind, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"expected the package {package}.*pip install \"jaxsrda\[io\]\""):
        if kind == "datasets":
            datasets.fields_dataset(fields, TIMES, GRID, {})
        else:
            files.check_writable(tmp_path / f"a{kind}", datasets.DATASET_SUFFIXES)


# Writing --------------------------------------------------------------------------------------


def test_check_writable(tmp_path):
    assert files.check_writable(str(tmp_path / "a.NC"), (".nc",)) == tmp_path / "a.NC"
    with pytest.raises(ValueError, match=r"expected one of \.nc, \.zarr; got '\.ncc'; did you mean '\.nc'"):
        files.check_writable(tmp_path / "a.ncc", datasets.DATASET_SUFFIXES)
    with pytest.raises(ValueError, match=r"expected an existing folder .*nowhere, found none; make it first"):
        files.check_writable(tmp_path / "nowhere" / "a.nc", datasets.DATASET_SUFFIXES)
    assert not list(tmp_path.iterdir())


def test_check_writable_protects_what_is_no_such_file(tmp_path, monkeypatch):
    (tmp_path / "a.json").mkdir()
    (tmp_path / "photos.zarr").mkdir()
    (tmp_path / "photos.zarr" / "cat.jpg").touch()
    (tmp_path / "file.zarr").touch()
    (tmp_path / "empty.zarr").mkdir()
    for name in ("a.json", "photos.zarr", "file.zarr"):
        with pytest.raises(ValueError, match="found something else; move it"):
            files.check_writable(tmp_path / name, (".json", ".zarr"))
    files.check_writable(tmp_path / "empty.zarr", (".zarr",))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match="expected a folder open for writing"):
        files.check_writable(tmp_path / "b.json", (".json",))


@pytest.mark.parametrize("suffix", datasets.DATASET_SUFFIXES)
def test_written_dataset_replaces_the_old(tmp_path, fields, suffix):
    path = save(tmp_path / f"a{suffix}", np.zeros((7, 8, 5)), "other")
    dataset = datasets.fields_dataset(fields, TIMES, GRID, {"seed": 1})
    datasets.write_dataset(path, dataset)
    with xarray.open_dataset(path, engine="h5netcdf" if suffix == ".nc" else "zarr", decode_times=False) as got:
        xarray.testing.assert_identical(got.load(), dataset)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_netcdf_is_compressed(tmp_path):
    datasets.write_dataset(
        tmp_path / "a.nc", datasets.fields_dataset(np.zeros((3, 128, 65)), TIMES, ChannelGrid(128, 65), {})
    )
    assert (tmp_path / "a.nc").stat().st_size < 60_000


@pytest.mark.parametrize("suffix", datasets.DATASET_SUFFIXES)
def test_failed_write_leaves_the_old_file_only(tmp_path, monkeypatch, fields, suffix):
    path = save(tmp_path / f"a{suffix}", fields)
    dataset = datasets.fields_dataset(fields + 1, TIMES, GRID, {})
    method = "to_netcdf" if suffix == ".nc" else "to_zarr"
    write = getattr(xarray.Dataset, method)

    def write_then_fail(*args, **kwargs):
        write(*args, **kwargs)
        raise OSError("disk full")

    monkeypatch.setattr(xarray.Dataset, method, write_then_fail)
    with pytest.raises(OSError, match="disk full"):
        datasets.write_dataset(path, dataset)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    np.testing.assert_array_equal(read_fields(path), fields)


def test_failed_swap_puts_the_old_store_back(tmp_path, monkeypatch, fields):
    path = save(tmp_path / "a.zarr", fields)
    rename = os.rename

    def fail_on_the_new_one(source, target):
        if Path(target) == path and not str(source).endswith(".old"):
            raise OSError("no")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_on_the_new_one)
    with pytest.raises(OSError, match="no"):
        save(path, fields + 1)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    np.testing.assert_array_equal(read_fields(path), fields)


@pytest.mark.parametrize("name", ["a.json", "a.npz"])
def test_failed_replacement_leaves_no_trace(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        files.write_json(path, {}) if name == "a.json" else files.write_npz(path, a=np.ones(2))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_json(tmp_path):
    @dataclasses.dataclass
    class Config:
        path: Path
        factor: float

    payload = {
        "scores": {"maer": np.float32(0.5), "crps": float("nan")},
        "series": np.array([1.0, np.nan, -np.inf]),
        "jax": jnp.arange(2),
        "finite": np.bool_(True),
        "config": Config(Path("a/b"), 2.0),
        3: (None, "ü"),
    }
    files.write_json(tmp_path / "a.json", payload)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {
        "scores": {"maer": 0.5, "crps": None},
        "series": [1.0, None, None],
        "jax": [0, 1],
        "finite": True,
        "config": {"path": "a/b", "factor": 2.0},
        "3": [None, "ü"],
    }


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j, np.array([1j])])
def test_json_refuses_what_it_cannot_hold(tmp_path, value):
    with pytest.raises(ValueError, match="JSON: expected numbers, text, lists, mappings or arrays, got"):
        files.write_json(tmp_path / "a.json", {"a": value})
    assert not list(tmp_path.iterdir())


# Datasets -------------------------------------------------------------------------------------


def test_fields_dataset(fields):
    attrs = {"method": "enkf-hr", "seed": np.int64(3), "config": {"a": [1, None]}, "finite": True}
    dataset = datasets.fields_dataset(jnp.asarray(fields), TIMES, GRID, attrs)
    assert dataset["omega"].dims == ("time", "x", "y")
    assert dataset["omega"].attrs == {"units": "1", "long_name": "vorticity"}
    np.testing.assert_array_equal(dataset["omega"], fields)
    for axis, points in {"x": GRID.x, "y": GRID.y, "time": TIMES}.items():
        np.testing.assert_array_equal(dataset[axis], points)
        assert dataset[axis].attrs["units"] == "1"
    assert dataset.attrs["method"] == "enkf-hr" and dataset.attrs["seed"] == 3 and dataset.attrs["finite"] == "true"
    assert json.loads(dataset.attrs["config"]) == {"a": [1, None]}
    assert dataset.attrs["numpy_version"] == np.__version__
    assert {"jaxsrda_version", "jax_version"} <= set(dataset.attrs)
    assert datasets.fields_dataset(fields[None], TIMES, GRID, {}, name="psi")["psi"].dims == ("truth", "time", "x", "y")


def test_fields_dataset_shapes(fields):
    with pytest.raises(ValueError, match=r"omega: expected shape \(3, 8, 5\), got \(2, 8, 5\)"):
        datasets.fields_dataset(fields[:2], TIMES, GRID, {})
    with pytest.raises(ValueError, match="omega: expected 3 dimensions"):
        datasets.fields_dataset(fields[0], TIMES, GRID, {})


@pytest.mark.parametrize("suffix", datasets.DATASET_SUFFIXES)
def test_analysis_dataset_round_trip(tmp_path, fields, observations, suffix):
    members = np.stack([fields, fields + 1])
    given = {"omega_mean": fields, "omega_std": abs(fields), "omega": members}
    given |= {"omega_background": fields[:1] + 2, "omega_truth": fields + 3}
    dataset = datasets.analysis_dataset(given, TIMES, GRID, {}, observations=observations)
    assert set(dataset.data_vars) >= {"omega_mean", "omega_std", "omega", "omega_background", "omega_truth"}
    assert dataset["omega"].dims == ("member", "time", "x", "y")
    assert dataset["omega_background"].dims == ("analysis_time", "x", "y")
    np.testing.assert_array_equal(dataset["analysis_time"], [0])
    datasets.write_dataset(tmp_path / f"a{suffix}", dataset)
    np.testing.assert_array_equal(read_fields(tmp_path / f"a{suffix}"), members)
    np.testing.assert_array_equal(read_fields(tmp_path / f"a{suffix}", "omega_truth"), fields + 3)


def test_observations_are_those_of_the_mask(fields, observations):
    dataset = datasets.analysis_dataset(mean_and_std(fields), TIMES, GRID, {}, observations=observations)
    assert set(dataset.data_vars) == {"omega_mean", "omega_std"} | {
        f"obs_{name}" for name in ("value", "variance", "x", "y", "x_index", "y_index", "time")
    }
    cycle, sensor = [0, 0, 0, 1], [0, 2, 3, 2]
    np.testing.assert_array_equal(dataset["obs_value"], observations["values"][cycle, sensor])
    np.testing.assert_array_equal(dataset["obs_x"], observations["positions"][cycle, sensor, 0])
    np.testing.assert_array_equal(dataset["obs_y"], observations["positions"][cycle, sensor, 1])
    np.testing.assert_allclose(dataset["obs_x_index"] * 2 * np.pi / 8, dataset["obs_x"])
    np.testing.assert_allclose(dataset["obs_y_index"] * np.pi / 4, dataset["obs_y"])
    np.testing.assert_array_equal(dataset["obs_time"], [0, 0, 0, 1])


def test_the_set_of_each_sensor_is_written_too(fields, observations):
    sets = np.array([[0, 0, 1, 1], [0, 0, 1, 1]])
    given = mean_and_std(fields)
    dataset = datasets.analysis_dataset(given, TIMES, GRID, {}, observations=observations | {"sets": sets})
    np.testing.assert_array_equal(dataset["obs_set"], [0, 1, 1, 1])
    assert dataset["obs_set"].attrs["long_name"] == "number of the set of sensors"
    np.testing.assert_array_equal(dataset["obs_value"][1], observations["values"][0, 2])
    assert "obs_set" not in datasets.analysis_dataset(
        given, TIMES, GRID, {}, observations=observations | {"sets": None}
    )
    with pytest.raises(ValueError, match="observations: sets: expected shape"):
        datasets.analysis_dataset(given, TIMES, GRID, {}, observations=observations | {"sets": sets[:, :-1]})


def test_background_is_on_every_analysis_time(fields):
    """Every second frame of three is an analysis: two times, and two backgrounds."""
    given = mean_and_std(fields) | {"omega_background": fields[::2]}
    dataset = datasets.analysis_dataset(given, TIMES, GRID, {}, every=2)
    np.testing.assert_array_equal(dataset["analysis_time"], TIMES[::2])
    np.testing.assert_array_equal(dataset["omega_background"], fields[::2])
    with pytest.raises(ValueError, match=r"omega_background: expected shape \(1, 8, 5\), got \(2, 8, 5\)"):
        datasets.analysis_dataset(given, TIMES, GRID, {}, every=4)


@pytest.mark.parametrize("times_per_truth", [False, True])
def test_analysis_of_several_truths(fields, observations, times_per_truth):
    stacked = {key: np.stack([value, value]) for key, value in observations.items()}
    stacked["mask"][0] = False
    if not times_per_truth:
        stacked["times"] = observations["times"]
    two = np.stack([fields, fields])
    given = mean_and_std(two) | {"omega": two[:, None]}
    dataset = datasets.analysis_dataset(given, TIMES, GRID, {}, observations=stacked)
    assert dataset["omega"].dims == ("truth", "member", "time", "x", "y")
    np.testing.assert_array_equal(dataset["obs_truth"], [1, 1, 1, 1])
    np.testing.assert_array_equal(dataset["obs_time"], [0, 0, 0, 1])


@pytest.mark.parametrize("suffix", datasets.DATASET_SUFFIXES)
def test_no_observations_left(tmp_path, fields, observations, suffix):
    observations["mask"][:] = False
    path = tmp_path / f"a{suffix}"
    dataset = datasets.analysis_dataset(mean_and_std(fields), TIMES, GRID, {}, observations=observations)
    datasets.write_dataset(path, dataset)
    with xarray.open_dataset(path, engine="h5netcdf" if suffix == ".nc" else "zarr") as dataset:
        assert dataset.sizes["obs"] == 0


def test_analysis_dataset_errors(fields, observations):
    given = mean_and_std(fields)
    with pytest.raises(ValueError, match=r"omega_std: expected shape \(3, 8, 5\), got \(3, 8, 4\)"):
        datasets.analysis_dataset(given | {"omega_std": fields[..., :4]}, TIMES, GRID, {})
    with pytest.raises(ValueError, match=r"omega: expected 4 dimensions .*axes member, time, x, y"):
        datasets.analysis_dataset(given | {"omega": fields}, TIMES, GRID, {})
    with pytest.raises(ValueError, match=r"fields: expected names among omega_mean, .*omega_truth, got omega_median"):
        datasets.analysis_dataset(given | {"omega_median": fields}, TIMES, GRID, {})
    for missing in ("omega_mean", "omega_std"):
        with pytest.raises(ValueError, match=f"{missing}: expected 3 dimensions"):
            datasets.analysis_dataset(given | {missing: None}, TIMES, GRID, {})
    with pytest.raises(ValueError, match="observations: expected the arrays mask, times as well, got none; add them"):
        few = {key: observations[key] for key in ("values", "positions", "variance")}
        datasets.analysis_dataset(given, TIMES, GRID, {}, observations=few)
    with pytest.raises(ValueError, match=r"observations: positions: expected shape \(2, 4, 2\)"):
        bad = observations | {"positions": np.zeros((2, 3, 2))}
        datasets.analysis_dataset(given, TIMES, GRID, {}, observations=bad)
