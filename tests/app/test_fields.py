"""Fields as other programs write them: each is brought to the package's order, or refused in a line that says why."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from jaxsrda.app import datasets, fields
from jaxsrda.app.cli import main as cli
from jaxsrda.app.fields import FIELD_SUFFIXES, read_fields
from jaxsrda.core import files
from jaxsrda.experiment import run as run_module
from jaxsrda.experiment import truth as truth_module
from jaxsrda.experiment.evaluate import evaluate
from jaxsrda.experiment.experiment import Experiment
from jaxsrda.experiment.truth import prepare_truth, read_start, read_truth, truth_to_follow, whole_cycles
from jaxsrda.flow import climatology
from jaxsrda.flow.forecasts import to_fields
from jaxsrda.flow.frames import Frames
from jaxsrda.flow.jet import truth_key
from jaxsrda.flow.labelled import Labelled
from jaxsrda.flow.simulate import simulate
from jaxsrda.flow.testbed import jet, jet_small

SMALL = jet_small()
GRID = SMALL.grid
ON_SMALL = ["--testbed", "jet-small"]
NT = 16


@pytest.fixture(scope="module")
def run():
    """36 frames of a run at the analyses' level, float32."""
    start = SMALL.start(truth_key(5), GRID)
    omega_hat = simulate(SMALL, SMALL.analysis, start[None], 36)[0]
    return np.asarray(to_fields(GRID, omega_hat)).astype("float32")


def described(values, dims=("time", "x", "y"), **coords):
    """A dataset of ω with the coordinates of its dimensions."""
    known = {"time": 0.25 * np.arange(values.shape[dims.index("time")]), "x": GRID.x, "y": GRID.y} | coords
    return xarray.Dataset({"omega": (dims, values)}, {dim: (dim, known[dim]) for dim in dims if dim in known})


def write(path, dataset, **options):
    """A file of a dataset, as plainly as xarray writes it."""
    if path.suffix == ".zarr":
        dataset.to_zarr(path, **options)
    else:
        dataset.to_netcdf(path, **{"engine": "h5netcdf"} | options)
    return path


def spoil(dataset, value, where=(3, slice(10, 12), 20)):
    """The dataset with a value that is no vorticity in some places."""
    values = dataset["omega"].values.copy()
    values[where] = value
    return dataset.assign(omega=dataset["omega"].copy(data=values))


def take(run, frames, **coords):
    return described(run[frames], **{"time": 0.25 * np.arange(36)[frames]} | coords)


# Order ----------------------------------------------------------------------------------------

BROUGHT = {
    # How the first 16 frames may come, and what is said of it.
    "plain": (lambda d: d, []),
    "y descending": (lambda d: d.isel(y=slice(None, None, -1)), ["y flipped (it ran from 3.142 to 0)"]),
    "x descending": (lambda d: d.isel(x=slice(None, None, -1)), ["x flipped (it ran from 6.185 to 0)"]),
    "x from -pi": (
        lambda d: d.assign_coords(x=(GRID.x + np.pi) % (2 * np.pi) - np.pi).sortby("x"),
        ["x rolled to begin at 0 (it ran from -3.142 to 3.043)"],
    ),
    "x to 2 pi": (
        lambda d: d.roll(x=-1).assign_coords(x=2 * np.pi * np.arange(1, 65) / 64),
        ["x rolled to begin at 0 (it ran from 0.09817 to 6.283)"],
    ),
    "x at random": (lambda d: d.isel(x=np.random.default_rng(0).permutation(64)), ["x sorted"]),
    "both": (
        lambda d: d.isel(y=slice(None, None, -1), x=slice(None, None, -1)).transpose("y", "x", "time"),
        ["x flipped (it ran from 6.185 to 0)", "y flipped (it ran from 3.142 to 0)"],
    ),
    "time, lat, lon": (lambda d: d.transpose("time", "y", "x").rename(x="lon", y="lat"), []),
    "capitals": (lambda d: d.rename(x="Longitude", y="LAT", time="T").transpose(), []),
    "no coordinates": (lambda d: d.transpose("y", "time", "x").drop_vars(["time", "x", "y"]), []),
    "rounded coordinates": (lambda d: d.assign_coords(x=GRID.x.round(3), y=GRID.y.astype("f4")), []),
    "a level": (lambda d: d.expand_dims(level=[0.0], axis=2), ["dimension level of length 1 dropped"]),
    "a member": (lambda d: d.expand_dims(member=1), ["dimension member of length 1 dropped"]),
    "one truth": (lambda d: d.expand_dims(run=[7], axis=3), []),
    "points by name": (lambda d: d.rename_dims(x="i", y="j").isel(j=slice(None, None, -1)), ["y flipped (it ran"]),
    "points as variables": (
        lambda d: (
            d.isel(y=slice(None, None, -1)).rename_dims(x="i", y="j").drop_indexes(["x", "y"]).reset_coords(["x", "y"])
        ),
        ["y flipped (it ran"],
    ),
    "points by CF": (
        lambda d: (
            d.isel(y=slice(None, None, -1))
            .drop_vars("x")
            .rename_dims(y="j")
            .rename_vars(y="north")
            .assign(north=lambda d: d.north.assign_attrs(axis="Y"))
        ),
        ["north flipped (it ran from 3.142 to 0)"],
    ),
    "CF axes": (
        lambda d: (
            d.isel(y=slice(None, None, -1))
            .assign_coords(x=d.x.assign_attrs(axis="X"), y=d.y[::-1].assign_attrs(standard_name="latitude"))
            .rename(x="east", y="north")
        ),
        ["north flipped (it ran from 3.142 to 0)"],
    ),
    "time in float32": (lambda d: d.assign_coords(time=d.time.astype("f4") + np.float32(1e-6)), []),
    "dates": (
        lambda d: d.assign_coords(time=np.datetime64("2020-01-01", "ns") + 6 * np.arange(16) * np.timedelta64(1, "h")),
        ["times in s since 1970-01-01, 21600 s apart: taken for 0.25 apart from time 0 on, because no unit of"],
    ),
    "hours": (
        lambda d: d.assign_coords(time=("time", 6.0 * np.arange(16), {"units": "hours"})),
        ["times in hours, 6 hours apart: taken for 0.25 apart"],
    ),
    "another calendar": (
        lambda d: d.assign_coords(
            time=("time", np.arange(16.0), {"units": "days since 2000-02-20", "calendar": "noleap"})
        ),
        ["times in days since 2000-02-20, 1 days apart: taken for 0.25 apart"],
    ),
    "units without dimension": (lambda d: d.assign(omega=d.omega.assign_attrs(units="Dimensionless")), []),
    "a fill value that is nowhere": (lambda d: d.assign(omega=d.omega.assign_attrs(missing_value=-999.0)), []),
    "a valid range": (lambda d: d.assign(omega=d.omega.assign_attrs(valid_range=[-50.0, 50.0])), []),
}


@pytest.mark.parametrize("way", ["python", ".nc", ".zarr"])
@pytest.mark.parametrize("case", BROUGHT)
def test_what_can_be_meant_one_way_is_brought_to_the_packages_order(tmp_path, run, case, way):
    change, said = BROUGHT[case]
    given = change(described(run[:NT]))
    got = read_truth(given if way == "python" else read_fields(write(tmp_path / f"a{way}", given)), SMALL)
    np.testing.assert_array_equal(got.values, run[None, :NT])
    assert len(got.notes) == len(said) and all(map(str.startswith, got.notes, said)), got.notes
    assert got.start == 0 or case == "time in float32"


def test_finer_grids_are_sorted_on_their_own_points(run):
    fine = np.sin(SMALL.truth.grid.y) * (2 + np.cos(SMALL.truth.grid.x))[None, :, None] * np.ones((NT, 1, 1))
    given = described(fine, x=SMALL.truth.grid.x, y=SMALL.truth.grid.y)
    got = read_truth(given.isel(y=slice(None, None, -1)), SMALL)
    np.testing.assert_allclose(got.values, read_truth(fine, SMALL).values, atol=1e-12)
    assert got.shape == (1, NT, 64, 33) and got.notes == ("y flipped (it ran from 3.142 to 0)",)


@pytest.mark.parametrize("way", ["python", ".nc"])
def test_truths_go_by_name(tmp_path, run, way):
    eight = np.stack([run[k : k + 12] for k in range(8)])
    given = described(eight, ("truth", "time", "x", "y")).transpose("time", "y", "truth", "x")
    got = read_truth(given if way == "python" else read_fields(write(tmp_path / f"a{way}", given)), SMALL)
    np.testing.assert_array_equal(got.values, eight)


def test_the_dataarray_of_an_experiment(run):
    """The notes are in the experiment, are warned about in Python, and survive its being made again."""
    given = described(run[:15]).isel(y=slice(None, None, -1))
    with pytest.warns(UserWarning) as warned:
        made = Experiment("persistence", given["omega"], testbed=SMALL)
    said = ["y flipped (it ran from 3.142 to 0)", "the last 3 of 15 frames dropped: they make no whole cycle of 4"]
    assert [str(each.message) for each in warned] == [f"truth: {note}" for note in said]
    np.testing.assert_array_equal(made.truth, run[None, :12])
    again = dataclasses.replace(made, seed=1)
    assert again.truth is made.truth and again.truth.notes == tuple(said) and len(again.truth) == 1
    assert run_module.settings(again)["notes"] == said
    with pytest.warns(UserWarning, match="y flipped"):
        np.testing.assert_array_equal(prepare_truth(given, SMALL), run[None, :12])


REFUSED = {
    # What cannot be meant one way, and what is said of it.
    "x with its end": (
        lambda d: d.assign_coords(x=np.linspace(0, 2 * np.pi, 64)),
        "x: expected 64 points 0, 0.09817, …, 6.185 in some order, got 64 points 0, 0.09973, …, 6.283; a period's end",
    ),
    "x with its end, a point more": (
        lambda d: d.pad(x=(0, 1), mode="wrap").assign_coords(x=np.linspace(0, 2 * np.pi, 65)),
        "expected a grid of 64 × 33, 128 × 65 points (both walls counted), got 65 × 33; leave out the last x, which",
    ),
    "degrees": (
        lambda d: d.assign_coords(x=np.rad2deg(GRID.x), y=np.rad2deg(GRID.y)),
        "x: expected 64 points 0, 0.09817, …, 6.185 in some order, got 64 points 0, 5.625, …, 354.4; these are degrees",
    ),
    "degrees of latitude": (
        lambda d: d.assign_coords(y=np.linspace(-90, 90, 33)).rename(y="lat"),
        "lat: expected 33 points 0, 0.09817, …, 3.142 in some order, got 33 points -90, -84.38, …, 90; assign these",
    ),
    "indices": (lambda d: d.assign_coords(x=np.arange(64)), "got 64 points 0, 1, …, 63; assign these, or drop the"),
    "middles of cells": (lambda d: d.assign_coords(x=GRID.x + GRID.x[1] / 2), "got 64 points 0.04909, 0.1473, …"),
    "y about the middle": (lambda d: d.assign_coords(y=GRID.y - np.pi / 2), "y: expected 33 points 0, 0.09817, …"),
    "points twice": (lambda d: d.assign_coords(x=np.r_[GRID.x[:-1], 0]), "x: expected 64 points"),
    "coordinates lost": (lambda d: d.assign_coords(y=np.full(33, np.nan)), "got 33 points nan, nan, …, nan"),
    "names of points": (lambda d: d.assign_coords(y=[f"y{i}" for i in range(33)]), "got 33 points y0, y1, …, y32"),
    "another grid": (lambda d: d.isel(x=slice(60)), "got 60 × 33; bring it to one of these first, or describe its"),
    "no walls": (lambda d: d.isel(y=slice(1, -1)), "points (both walls counted), got 64 × 31"),
    "x and y swapped": (
        lambda d: d.drop_vars(["x", "y"]).rename(x="y", y="x"),
        "got 33 × 64; the names x and y seem to be swapped: rename them",
    ),
    "levels": (
        lambda d: d.expand_dims(level=3).assign_coords(level=[0, 1, 2]),
        "expected the axes truth, time, x, y, got a dimension 'level' of length 3; select one along it, or rename it",
    ),
    "members": (lambda d: d.expand_dims(member=5), "got a dimension 'member' of length 5; select one"),
    "no y": (lambda d: d.isel(y=3), "expected the axes truth, time, x, y, got time, x; name the dimension y"),
    "x twice": (
        lambda d: d.drop_vars(["x", "y"]).rename(y="lon"),
        "expected one dimension for the axis x, got x and lon; rename one",
    ),
    "frames apart": (
        lambda d: d.assign_coords(time=0.5 * np.arange(16)),
        "expected times that grow by 0.25 from frame to frame, got 0.5 (first wrong from frame 0 to 1); select or",
    ),
    "times irregular": (
        lambda d: d.assign_coords(time=0.25 * np.r_[0:6, 7:10, 14:17, 20:24]),
        "got 0.25, 0.5, 1.25, 1 (first wrong from frame 5 to 6)",
    ),
    "times reversed": (lambda d: d.isel(time=slice(None, None, -1)), "got -0.25 (first wrong from frame 0 to 1)"),
    "times twice": (lambda d: d.assign_coords(time=0.25 * np.r_[0:4, 3:15]), "got 0.25, 0 (first wrong from frame 3"),
    "times all the same": (lambda d: d.assign_coords(time=np.zeros(16)), "by 0.25 from frame to frame, got 0 (first"),
    "times lost": (
        lambda d: d.assign_coords(time=np.full(16, np.nan)),
        "expected times as finite numbers or dates, got",
    ),
    "times in words": (lambda d: d.assign_coords(time=[str(i) for i in range(16)]), "as finite numbers or dates, got"),
    "dates reversed": (
        lambda d: d.assign_coords(time=np.datetime64("2020-01-20", "ns") - np.arange(16) * np.timedelta64(1, "D")),
        "expected times that grow equally, and later ones last from frame to frame, got -86400 s (first wrong",
    ),
    "dates irregular": (
        lambda d: d.assign_coords(time=np.datetime64("2020-01-01", "ns") + np.arange(16) ** 2 * np.timedelta64(1, "D")),
        "later ones last from frame to frame, got 86400, 259200, 432000, 604800, … s (first wrong from frame 1 to 2)",
    ),
    "per second": (
        lambda d: d.assign(omega=d.omega.assign_attrs(units="s-1")),
        "expected non-dimensional vorticity (units '1'), got units 's-1'; divide it by its scale",
    ),
    "a number for what is missing": (
        lambda d: spoil(d, -999.0),
        "expected vorticity within ±70.7 (5 times the testbed's vorticity_range), got -999 (2 beyond, first at index "
        "(3, 10, 20) of time, x, y); fill what is missing or give the testbed another vorticity_range",
    ),
    "a large number": (lambda d: spoil(d, 1e20), "got 1e+20 (2 beyond, first at index (3, 10, 20) of time, x, y)"),
    "NaN": (
        lambda d: spoil(d, np.nan),
        "expected finite numbers, got 2 NaN or infinite (first at index (3, 10, 20) of",
    ),
    "infinite": (lambda d: spoil(d, np.inf), "expected finite numbers, got 2 NaN or infinite (first at index (3, 10"),
    "valid_min and valid_max": (
        lambda d: spoil(d.assign(omega=d.omega.assign_attrs(valid_min=-20.0, valid_max=20.0)), 21.0),
        "expected values of its own valid range -20 to 20, got 21 (2 outside, first at index (3, 10, 20) of time",
    ),
    "valid_range": (
        lambda d: spoil(d.assign(omega=d.omega.assign_attrs(valid_range=[-20.0, 20.0])), -21.0),
        "expected values of its own valid range -20 to 20, got -21",
    ),
    "missing_value": (
        lambda d: spoil(d.assign(omega=d.omega.assign_attrs(missing_value=np.float32(9.5))), 9.5),
        "expected a value everywhere, got 2 missing (missing_value 9.5, first at index (3, 10, 20) of time, x, y)",
    ),
    "walls": (
        lambda d: spoil(d, -2.0, np.s_[5:, 7, -1]),
        "expected vorticity 0 on the walls (free slip), got 2 at y = π, x index 7, frame 5",
    ),
    "lost frames": (
        lambda d: spoil(d, 0.0, np.s_[8:12]),
        "expected vorticity, got 0 everywhere in 4 frame(s), the first frame 8: a lost part of a file",
    ),
    "complex numbers": (lambda d: d.astype(complex), "expected real numbers, got complex128; convert them to float32"),
    "no frames": (lambda d: d.isel(time=slice(0)), "expected at least one frame and grid point, got shape (0, 64, 33)"),
}


def test_members_start_when_the_truth_does(run):
    """At its own times, unless they are no times of an analysis; another start is refused."""
    later = described(run[:NT]).assign_coords(time=8 + 0.25 * np.arange(NT))
    given = Experiment("persistence", later.omega, testbed=SMALL)
    assert given.start == 8 and given.first == 8 and given.setup(None).first == 8
    assert Experiment("persistence", run[:NT], testbed=SMALL, start=8).start == 8  # an array does not say
    with pytest.raises(ValueError, match="start: the truth's own times begin at 8, got 4; leave it out"):
        Experiment("persistence", later.omega, testbed=SMALL, start=4)
    with pytest.raises(ValueError, match=r"start: expected a time of an analysis, 0 or a multiple of 1, got 8\.25"):
        Experiment("persistence", later.omega.assign_coords(time=8.25 + 0.25 * np.arange(NT)), testbed=SMALL)


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused(run, case):
    change, message = REFUSED[case]
    with pytest.raises(ValueError) as error:
        truth_to_follow(change(described(run[:NT])), SMALL, "my truth")
    assert message in str(error.value) and str(error.value).startswith("my truth"), error.value


@pytest.mark.parametrize("case", [case for case in REFUSED if case != "complex numbers"])
def test_files_are_refused_alike(tmp_path, run, case):
    """In the file, NaN may be what stands for missing values; the message begins with the file and the variable."""
    change, message = REFUSED[case]
    path = write(tmp_path / "a.nc", change(described(run[:NT])))
    with pytest.raises(ValueError) as error:
        truth_to_follow(read_fields(path), SMALL)
    assert message in str(error.value) and str(error.value).startswith(f"{path}: omega: "), error.value


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((16, 33, 64), "got 33 × 64; shape (16, 33, 64) looks transposed: put x and y last, or name the dimensions"),
        ((64, 33, 16), "got 33 × 16; shape (64, 33, 16) looks transposed"),
        ((2, 16, 33, 64), "shape (2, 16, 33, 64) looks transposed"),
        ((33,), "expected the axes truth, time, x, y or the last of them, got shape (33,); select, or name the dim"),
        ((1, 1, 8, 64, 33), "expected the axes truth, time, x, y or the last of them, got shape (1, 1, 8, 64, 33)"),
        ((8, 16, 9), "got 16 × 9; bring it to one of these first"),
    ],
)
def test_arrays_without_names(tmp_path, shape, message):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal(shape))
    for given in (
        np.load(tmp_path / "a.npy"),
        read_fields(tmp_path / "a.npy"),
        jnp.ones(shape),
        np.ones(shape).tolist(),
    ):
        with pytest.raises(ValueError) as error:
            read_truth(given, SMALL)
        assert message in str(error.value), error.value


@pytest.mark.parametrize("values", [np.ones((8, 64, 33), bool), np.full((8, 64, 33), "a"), np.full((8, 64, 33), None)])
def test_what_is_no_number(values):
    with pytest.raises(ValueError, match=rf"truth: expected real numbers, got {values.dtype}"):
        read_truth(values, SMALL)


def test_masked_arrays_are_refused(run):
    masked = np.ma.masked_where(run[:8] > 1, run[:8])
    with pytest.raises(ValueError, match=r"truth: expected a value everywhere, got \d+ masked \(first at index \(0, "):
        read_truth(masked, SMALL)
    np.testing.assert_array_equal(read_truth(np.ma.array(run[:8]), SMALL).values, run[None, :8])


def test_datasets_without_omega(run):
    given = described(run[:8])
    with pytest.raises(
        ValueError, match="truth: expected a variable 'omega', found zeta; pass one of these, or rename"
    ):
        read_truth(given.rename(omega="zeta"), SMALL)


def test_what_is_possible_but_strange_is_said(run):
    part = run[:NT].copy()
    part[8:12, :16, 16:] = 0  # a chunk
    assert read_truth(part, SMALL).notes == (
        "exactly 0 at 13% of the points between the walls of frame 8: a lost part of a file, or coarse rounding",
    )
    assert read_truth(run[:NT].round(3), SMALL).notes == ()
    small = read_truth(1e-5 * run[:NT], SMALL).notes
    assert len(small) == 1 and "far below the testbed's -14.1 to 14: is it dimensional?" in small[0]


def test_a_stronger_flow_says_so_in_its_testbed(run):
    with pytest.raises(ValueError, match=r"expected vorticity within ±70\.7"):
        read_truth(20 * run[:8], SMALL)
    strong = dataclasses.replace(SMALL, vorticity_range=(-280.0, 280.0))
    np.testing.assert_array_equal(read_truth(20 * run[:8], strong).values[0], 20 * run[:8])


def test_whole_cycles(run):
    frames = Frames(run[None, :7], times=0.25 * np.arange(7))
    with pytest.raises(ValueError, match=r"truth: expected at least 8 frames \(two assimilation times\), got 7"):
        whole_cycles(frames, SMALL)
    cut = whole_cycles(frames, SMALL, cycles=1)
    assert cut.shape == (1, 4, 64, 33) and len(cut.times) == 4
    assert cut.notes == ("the last 3 of 7 frames dropped: they make no whole cycle of 4",)
    assert whole_cycles(cut, SMALL, cycles=1) is cut


# Files ----------------------------------------------------------------------------------------


def save(path, values, name="omega"):
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, **{name: values})
    else:
        write(path, described(values).rename(omega=name))
    return path


@pytest.mark.parametrize("suffix", FIELD_SUFFIXES)
def test_every_format(tmp_path, run, suffix, dtype):
    values = run[:8].astype(dtype)
    got = read_fields(save(tmp_path / f"a{suffix}", values))
    np.testing.assert_array_equal(got, values)
    assert got.values.dtype == dtype
    np.testing.assert_array_equal(read_truth(got, SMALL).values[0], values)


@pytest.mark.parametrize("dtype_in", ["float16", "int16", "int64", ">f4", ">f8"])
def test_other_types(tmp_path, run, dtype_in):
    values = run[:8].astype(dtype_in)
    for suffix in (".npy", ".nc"):
        got = read_truth(read_fields(save(tmp_path / f"a{suffix}", values)), SMALL)
        np.testing.assert_array_equal(got.values[0], values)


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_packed_and_unlimited(tmp_path, run, engine):
    """Packed values are unpacked, and what is declared of them is in terms of the packed ones."""
    packing = {"dtype": "int16", "scale_factor": 1e-3, "add_offset": 0.5, "_FillValue": -32768}
    options = {"engine": engine, "encoding": {"omega": packing}, "unlimited_dims": ["time"]}
    given = described(run[:8])
    given["omega"].attrs = {"valid_min": np.int16(-30000), "valid_max": np.int16(30000)}
    got = read_truth(read_fields(write(tmp_path / "a.nc", given, **options)), SMALL)
    np.testing.assert_allclose(got.values[0], run[:8], atol=6e-4)
    assert abs(got.values[0] - run[:8]).max() > 1e-4
    write(tmp_path / "b.nc", spoil(given, np.nan), **options)
    with pytest.raises(ValueError, match=r"got 2 missing \(_FillValue -32768, first at index \(3, 10, 20\) of time"):
        read_truth(read_fields(tmp_path / "b.nc"), SMALL)
    write(tmp_path / "c.nc", spoil(given, 31.0), **options)
    with pytest.raises(
        ValueError, match=r"own valid range -30000 to 30000, got 30500 \(2 outside, first at index \(3, "
    ):
        read_truth(read_fields(tmp_path / "c.nc"), SMALL)


def test_unsigned_bytes_of_netcdf_3(tmp_path, run):
    given = described(run[:8])
    raw = np.rint((run[:8] + 10) * 12).astype("uint8")
    given["omega"] = (
        ("time", "x", "y"),
        raw.view("int8"),
        {"_Unsigned": "true", "scale_factor": 1 / 12, "add_offset": -10},
    )
    got = read_truth(read_fields(write(tmp_path / "a.nc", given, engine="scipy")), SMALL)
    np.testing.assert_allclose(got.values[0], run[:8], atol=0.05)


def test_netcdf_3(tmp_path, run, monkeypatch):
    path = write(tmp_path / "a.nc", described(run[:8]), engine="scipy", format="NETCDF3_CLASSIC")
    np.testing.assert_array_equal(read_fields(path), run[:8])
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ValueError, match=r"NetCDF 3, which needs scipy; pip install scipy, or convert it to NetCDF 4"):
        read_fields(path)
    path.write_bytes(b"CDF\x05" + path.read_bytes()[4:])
    with pytest.raises(ValueError, match=r"NetCDF 3 of the kind CDF-5; convert it: nccopy -k nc4 old.nc new.nc"):
        read_fields(path)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_groups(tmp_path, run, suffix):
    """The group that has the variable is read with the coordinates of those above it; of two, none is chosen."""
    path, given = tmp_path / f"a{suffix}", described(run[:8]).isel(y=slice(None, None, -1))
    write(path, given.drop_vars("omega"))
    write(path, given.drop_vars(["time", "x", "y"]), group="model/flow", mode="a")
    got = read_truth(read_fields(path), SMALL)
    np.testing.assert_array_equal(got.values[0], run[:8])
    assert got.notes == ("read from group model/flow", "y flipped (it ran from 3.142 to 0)")
    with pytest.raises(
        ValueError, match=r"expected a variable 'zeta', found model/flow/omega; model/flow/omega has the"
    ):
        read_fields(path, "zeta")
    write(path, given, group="other", mode="a")
    with pytest.raises(ValueError, match=r"expected one variable 'omega', found \S+/omega, \S+/omega; keep one"):
        read_fields(path)


def test_hdf5_without_names_of_dimensions(tmp_path, run):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["omega"], file["x"] = run[:8], GRID.x
    np.testing.assert_array_equal(read_truth(read_fields(tmp_path / "a.nc"), SMALL).values[0], run[:8])
    with h5py.File(tmp_path / "b.nc", "w") as file:
        file["omega"] = run[:8].transpose(0, 2, 1)
    with pytest.raises(ValueError, match=r"shape \(8, 33, 64\) looks transposed"):
        read_truth(read_fields(tmp_path / "b.nc"), SMALL)


def test_npz_with_coordinates(tmp_path, run):
    np.savez(tmp_path / "a.npz", omega=run[:8, :, ::-1], x=GRID.x, y=GRID.y[::-1], t=0.25 * np.arange(8), seed=3)
    got = read_truth(read_fields(tmp_path / "a.npz"), SMALL)
    np.testing.assert_array_equal(got.values[0], run[:8])
    assert got.notes == ("y flipped (it ran from 3.142 to 0)",)
    np.savez(tmp_path / "a.npz", omega=run[:8], t=0.5 * np.arange(8))
    with pytest.raises(ValueError, match=r"expected times that grow by 0.25 from frame to frame, got 0.5"):
        read_truth(read_fields(tmp_path / "a.npz"), SMALL)
    np.savez(tmp_path / "a.npz", omega=run[:8], t=0.25 * np.arange(9))
    with pytest.raises(ValueError, match=r"omega: expected a time for each of 8 frames, got 9"):
        read_truth(read_fields(tmp_path / "a.npz"), SMALL)


@pytest.mark.parametrize("suffix", [".npz", ".nc", ".zarr"])
def test_missing_variable_says_what_is_there(tmp_path, run, suffix):
    path = save(tmp_path / f"a{suffix}", run[:8], "zeta")
    message = "expected a variable 'omega', found zeta; zeta has the dimensions of a field: rename it"
    with pytest.raises(ValueError, match=message):
        read_fields(path)
    np.testing.assert_array_equal(read_fields(path, "zeta"), run[:8])
    assert fields.variable_names(path) == ["zeta"]
    if suffix == ".nc":
        write(path, described(run[:8]).rename(omega="zeta").assign(psi=("time", np.zeros(8)), u=("x", np.zeros(64))))
        with pytest.raises(ValueError, match="found zeta, psi, u; zeta has the dimensions of a field: rename it"):
            read_fields(path)
        write(
            path, described(run[:8]).rename(omega="zeta").assign(psi=("time", np.zeros(8))).assign(a=lambda d: d.zeta)
        )
        with pytest.raises(ValueError, match="found zeta, psi, a; rename one"):
            read_fields(path)


@pytest.mark.parametrize("suffix", FIELD_SUFFIXES)
def test_missing_file(tmp_path, suffix):
    with pytest.raises(ValueError, match="expected a file of fields, found none"):
        read_fields(tmp_path / f"absent{suffix}")


def test_unknown_suffix_lists_the_known(tmp_path):
    with pytest.raises(ValueError, match=r"expected one of \.npy, \.npz, \.nc, \.zarr; got '\.mat'"):
        read_fields(tmp_path / "truth.mat")


@pytest.mark.parametrize("suffix", FIELD_SUFFIXES)
def test_corrupt_file(tmp_path, run, suffix):
    path = save(tmp_path / f"a{suffix}", run[:8])
    if path.is_dir():
        next((path / "omega").glob("*.json")).write_text("{")
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"a{suffix}: expected a complete {suffix} file, could not read it \("):
        read_fields(path)


@pytest.mark.parametrize("suffix", FIELD_SUFFIXES)
def test_file_of_another_kind(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_text("not an array")
    with pytest.raises(ValueError, match="expected a complete"):
        read_fields(path)


def test_a_lost_chunk_is_noticed(tmp_path, run):
    """Of the package's own stores and of others, whatever their chunks are filled with."""
    own = datasets.fields_dataset(run[:NT], 0.25 * np.arange(NT), GRID, {})
    datasets.write_dataset(tmp_path / "own.zarr", own)
    np.testing.assert_array_equal(read_truth(read_fields(tmp_path / "own.zarr"), SMALL).values[0], run[:NT])
    chunks = [path for path in (tmp_path / "own.zarr" / "omega").iterdir() if not path.name.startswith(".")]
    chunks[0].unlink()
    with pytest.raises(
        ValueError, match=r"expected finite numbers, got \d+ NaN or infinite .* or a lost part of a file"
    ):
        read_truth(read_fields(tmp_path / "own.zarr"), SMALL)
    for fill, message in ((None, "NaN or infinite"), (0.0, r"got 0 everywhere in 4 frame\(s\), the first frame 8")):
        path = tmp_path / f"{fill}.zarr"
        encoding = {"omega": {"chunks": (4, 64, 33), "_FillValue": None}}
        write(path, described(run[:NT]), encoding=encoding, zarr_format=3)
        meta = json.loads((path / "omega" / "zarr.json").read_text())
        if fill is not None:
            (path / "omega" / "zarr.json").write_text(json.dumps(meta | {"fill_value": fill}))
        np.testing.assert_array_equal(read_truth(read_fields(path), SMALL).values[0], run[:NT])
        shutil.rmtree(path / "omega" / "c" / "2")
        with pytest.raises(ValueError, match=message):
            read_truth(read_fields(path), SMALL)


def test_numpy_files_need_no_optional_package(tmp_path, run):
    np.save(tmp_path / "a.npy", run[:8])
    code = (
        "import sys; sys.modules.update(xarray=None, zarr=None, h5netcdf=None, matplotlib=None)\n"
        "from jaxsrda.app.fields import read_fields\nfrom jaxsrda.core import files\n"
        f"values = read_fields({str(tmp_path / 'a.npy')!r}).values\n"
        f"files.write_npz({str(tmp_path / 'b.npz')!r}, omega=values)\n"
        f"assert read_fields({str(tmp_path / 'b.npz')!r}).values.shape == (8, 64, 33)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})


# Starts ---------------------------------------------------------------------------------------


def test_starts_of_simulations(tmp_path, run):
    """A field, or the last frame of a run, in any order; with its time where that is known."""
    for given in (run[7], run[:8], described(run[:8]).isel(y=slice(None, None, -1)), described(run[:8]).isel(time=7)):
        got = read_start(given, SMALL, GRID)
        np.testing.assert_array_equal(got.values, run[7:8])
    assert got.start == 1.75 and read_start(run[:8], SMALL, GRID).start == 0
    np.testing.assert_array_equal(read_start(np.zeros(GRID.shape), SMALL, GRID).values[0], 0)  # a flow at rest
    for given, message in (
        (
            described(run[:8]).isel(time=slice(None, None, -1)),
            "expected each time once and later ones last, got 8 points",
        ),
        (described(run[:8], x=np.rad2deg(GRID.x)), "these are degrees"),
        (spoil(described(run[:8]), 0.0, np.s_[7]), "got 0 everywhere in 1 frame"),
        (run[7].T, r"shape \(33, 64\) looks transposed"),
        (run[7] + 1, "expected vorticity 0 on the walls"),
        (np.stack([run[:8]] * 2), "expected the axes time, x, y or the last of them"),
    ):
        with pytest.raises(ValueError, match=message):
            read_start(given, SMALL, GRID)


def test_simulate_goes_on_from_a_flipped_file(tmp_path, capsys, run):
    path, out = tmp_path / "start.nc", tmp_path / "run.nc"
    write(path, described(run[:8]).isel(y=slice(None, None, -1)))
    simulating = ["simulate", *ON_SMALL, "--level", "hr", "--frames", "2", "--out", str(out)]
    assert cli.main([*simulating, "--initial", str(path)]) == 0
    got = read_fields(out)
    np.testing.assert_allclose(got.values, run[7:9], atol=1e-4)
    np.testing.assert_allclose(got.coords["time"].values, [1.75, 2.0])
    assert capsys.readouterr().out.count("note: y flipped (it ran from 3.142 to 0)") == 1


# Evaluation -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def members(run):
    """Four members about the first 16 frames, each off by another smooth field."""
    off = np.sin(GRID.y) * np.cos(np.arange(1, 5)[:, None, None] * GRID.x[:, None] + np.arange(4)[:, None, None])
    return (run[None, :NT] + 0.3 * off[:, None]).astype("float32")


def scores(*given, **options):
    return {name: value[0] for name, value in evaluate(SMALL, *given, **options).scores.items()}


def maer(mean, truth):
    return np.mean(abs(mean - truth).sum((1, 2)) / abs(truth).sum((1, 2)))


def test_members_go_by_name(run, members):
    plain = scores(run[:NT], members=members)
    assert {"maer", "crps", "spread_skill", "energy_distance_members"} <= set(plain)
    assert plain["maer"] == pytest.approx(maer(members.mean(0)[4:], run[4:NT]), rel=1e-4)
    given = described(members, ("member", "time", "x", "y"))
    for change in (
        lambda d: d.transpose("time", "member", "x", "y"),
        lambda d: d.transpose("y", "x", "time", "member").isel(y=slice(None, None, -1)).rename(member="number"),
    ):
        assert scores(run[:NT], members=change(given)) == plain
    assert scores(described(run[:NT]).isel(y=slice(None, None, -1)), members=given) == plain


def test_analyses_meet_the_truth_at_their_times(run, members):
    """Each frame is compared with the truth's of the same time; those of the first time unit are not scored."""
    truth, mean = described(run[:NT]), described(members.mean(0))
    late = evaluate(SMALL, truth, mean.isel(time=slice(8, 16)))
    assert late.scores["maer"][0] == pytest.approx(maer(members.mean(0)[8:], run[8:NT]), rel=1e-4)
    assert late.series["maer"].shape == (1, 8) and late.times[0] == 2 and late.background is None
    assert late.config["notes"] == ["compared at 8 times: 8 frames of the analyses, 16 of the truth"]
    few = evaluate(SMALL, truth, mean.isel(time=slice(0, None, 4)))
    assert few.scores["maer"][0] == pytest.approx(maer(members.mean(0)[4::4], run[4:NT:4]), rel=1e-4)
    beyond = evaluate(SMALL, truth.isel(time=slice(0, 10)), mean)
    assert beyond.scores["maer"][0] == pytest.approx(maer(members.mean(0)[4:10], run[4:10]), rel=1e-4)
    later = evaluate(SMALL, truth.assign_coords(time=8 + truth.time), mean.assign_coords(time=8 + mean.time))
    assert later.scores["maer"][0] == pytest.approx(maer(members.mean(0)[4:], run[4:NT]), rel=1e-4)
    assert later.times[0] == 8 and later.config["notes"] == []
    dates = {"time": np.datetime64("2020-01-01", "ns") + np.arange(16) * np.timedelta64(6, "h")}
    dated = evaluate(SMALL, truth.assign_coords(dates), mean.assign_coords(dates).isel(time=slice(8, 16)))
    assert dated.scores["maer"] == late.scores["maer"]
    own = evaluate(SMALL, truth.assign_coords(dates), mean)  # what `assimilate` writes of such a truth
    assert own.scores["maer"][0] == pytest.approx(maer(members.mean(0)[4:], run[4:NT]), rel=1e-4)
    without = evaluate(SMALL, run[:NT], mean.isel(time=slice(0, 12)))  # an array of frames from time zero
    assert without.scores["maer"][0] == pytest.approx(maer(members.mean(0)[4:12], run[4:12]), rel=1e-4)


def test_scores_without_spread(run, members):
    """Fields without a spread have the scores that need none; so has a lone member."""
    alone = scores(run[:NT], members.mean(0))
    assert set(alone) == {"maer", "mssim_loss", "rmse"}
    with_spread = scores(run[:NT], members.mean(0), members.std(0, ddof=1))
    assert {name: with_spread[name] for name in alone} == alone
    assert set(with_spread) == {*alone, "spread", "spread_skill", "error_spread_correlation"}
    first = scores(run[:NT], members[0])
    assert scores(run[:NT], members=members[0]) == scores(run[:NT], members=members[:1]) == first
    assert first["maer"] == pytest.approx(maer(members[0, 4:], run[4:NT]), rel=1e-4)


def test_backgrounds_are_those_of_their_times(run, members):
    truth, mean = described(run[:NT]), described(members.mean(0))
    before = mean.isel(time=slice(0, None, 4)).rename(time="analysis_time")
    np.testing.assert_allclose(evaluate(SMALL, truth, mean, background=before).background[0], before.omega)
    late = evaluate(SMALL, truth, mean.isel(time=slice(8, 16)), background=before)
    np.testing.assert_allclose(late.background[0], before.omega[2:])
    plain = before.omega.values
    np.testing.assert_allclose(evaluate(SMALL, run[:NT], mean.omega.values, background=plain).background[0], plain)
    assert evaluate(SMALL, run[:NT], mean.omega.values, background=plain[:-1]).background is None


def test_zero_spread_is_said(run, members):
    std = members.std(0, ddof=1)
    std[8:12] = 0
    said = evaluate(SMALL, run[:NT], members.mean(0), std).config["notes"]
    assert said == ["analyses: no spread at all in 4 of 16 frames"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d.assign_coords(time=8 + d.time),
            "mean: expected times of the truth, 0 to 3.75 each 0.25, got 8 to",
        ),
        (
            lambda d: d.assign_coords(time=d.time + 0.1),
            "mean: expected times of the truth, 0 to 3.75 each 0.25, got 0.1",
        ),
        (lambda d: d.isel(time=slice(0, 4)), "mean: expected frames after the first 1 time units of the truth, which"),
        (
            lambda d: d.isel(time=slice(None, None, -1)),
            "mean: expected each time once and later ones last, got 16 points",
        ),
        (
            lambda d: d.drop_vars("time").isel(time=slice(0, 12)),
            "mean: expected the truth's 16 frames from time 0 on, got 12 without times; give them a time coordinate",
        ),
        (
            lambda d: d.assign_coords(time=np.datetime64("2020-01-01", "ns") + np.arange(16) * np.timedelta64(6, "h")),
            "mean: expected times like the truth's, got 's since 1970-01-01' beside non-dimensional ones or none; give",
        ),
        (
            lambda d: d.expand_dims(truth=3),
            r"mean: expected analyses of 1 truth\(s\), got 3; evaluate against the truths",
        ),
        (
            lambda d: d.expand_dims(member=3),
            "mean: expected the axes truth, time, x, y, got a dimension 'member' of len",
        ),
        (lambda d: d.assign_coords(y=np.rad2deg(GRID.y)), "mean: y: expected 33 points .* these are degrees"),
        (lambda d: spoil(d, -999.0), "mean: expected vorticity within ±70.7"),
        (lambda d: spoil(d, 0.0, np.s_[8:12]), "mean: expected vorticity, got 0 everywhere in 4"),
        (lambda d: d.isel(x=slice(60)), r"mean: expected a grid of 64 × 33 points \(both walls counted\), got 60 × 33"),
    ],
)
def test_analyses_that_do_not_match(run, members, change, message):
    with pytest.raises(ValueError, match=message):
        evaluate(SMALL, described(run[:NT]), change(described(members.mean(0))))


def test_parts_of_analyses_that_do_not_match(run, members):
    truth, mean, std = run[:NT], members.mean(0), members.std(0)
    with pytest.raises(ValueError, match="analyses: expected a mean or members, got neither; give one of these"):
        evaluate(SMALL, truth)
    with pytest.raises(ValueError, match="std: expected standard deviations, got some below 0; give no variances"):
        evaluate(SMALL, truth, mean, -std)
    with pytest.raises(ValueError, match=r"std: expected truths × frames × nx × ny like mean's \(1, 16, 64, 33\), got"):
        evaluate(SMALL, truth, mean, std[:12])
    with pytest.raises(ValueError, match="members: expected the times of mean, got others; give the same"):
        shifted = described(members, ("member", "time", "x", "y"), time=1 + 0.25 * np.arange(NT))
        evaluate(SMALL, truth, described(mean), members=shifted)
    with pytest.raises(
        ValueError, match="mean: expected times from 0 on like those of truth, which has none, got 2 to"
    ):
        evaluate(SMALL, truth, described(mean).isel(time=slice(8, 16)))


# The command line -----------------------------------------------------------------------------


@pytest.fixture
def few_starts(monkeypatch):
    """A climatology of three first states."""
    bed = SMALL.vary(perturbation=0.05)
    starts = jnp.stack([bed.start(climatology.training_key(i), GRID) for i in range(3)])[:, None]
    monkeypatch.setattr(run_module, "default_climatology", lambda _: climatology.from_runs(GRID, starts))


def test_assimilate_says_what_it_did_to_the_truth(tmp_path, capsys, run, few_starts):
    """A file upside down and rolled gives what the plain one gives; what was done is printed once and recorded."""
    given = described(run[:9])
    other = given.isel(y=slice(None, None, -1)).assign_coords(x=(GRID.x + np.pi) % (2 * np.pi) - np.pi).sortby("x")
    records = []
    for name, each in (("plain", given), ("other", other.transpose("y", "time", "x"))):
        path, record, out = write(tmp_path / f"{name}.nc", each), tmp_path / f"{name}.json", tmp_path / f"{name}-a.nc"
        arguments = ["assimilate", *ON_SMALL, "--method", "persistence", "--truth", str(path)]
        assert cli.main([*arguments, "--json", str(record), "--out", str(out)]) == 0
        records.append(json.loads(record.read_text()))
        printed = capsys.readouterr().out.splitlines()
    plain, moved = records
    assert plain["scores"] == moved["scores"]
    dropped = "the last 1 of 9 frames dropped: they make no whole cycle of 4"
    x, y = "x rolled to begin at 0 (it ran from -3.142 to 3.043)", "y flipped (it ran from 3.142 to 0)"
    assert plain["config"]["notes"] == [dropped] and moved["config"]["notes"] == [x, y, dropped]
    assert [line for line in printed if line.startswith("note: ")] == [f"note: {note}" for note in (x, y, dropped)]
    with xarray.open_dataset(out, engine="h5netcdf") as written:
        assert json.loads(written.attrs["config"])["notes"] == [x, y, dropped]


def test_evaluate_files(tmp_path, capsys, run, members):
    """Members in any order, a mean without spread, analyses that begin later: from the command line, with pictures."""
    truth = write(tmp_path / "truth.nc", described(run[:NT]))
    given = described(members, ("member", "time", "x", "y"))
    mean = described(members.mean(0)).rename(omega="omega_mean")
    cases = {
        "members": given,
        "times first": given.transpose("time", "member", "x", "y"),
        "no spread": mean,
        "one field": given.isel(member=0, drop=True),
        "late": mean.isel(time=slice(9, 16)),
    }
    found = {}
    for name, each in cases.items():
        path, record = write(tmp_path / f"{name}.nc", each), tmp_path / f"{name}.json"
        arguments = ["evaluate", str(path), *ON_SMALL, "--truth", str(truth), "--json", str(record)]
        assert cli.main([*arguments, *(["--plot", str(tmp_path / name)] if name == "late" else [])]) == 0
        found[name] = json.loads(record.read_text())
    assert found["members"]["scores"] == found["times first"]["scores"]
    assert set(found["no spread"]["scores"]) == {"maer", "mssim_loss", "rmse"}
    assert found["no spread"]["scores"]["maer"]["mean"] == pytest.approx(found["members"]["scores"]["maer"]["mean"])
    assert found["one field"]["scores"]["maer"]["mean"] == pytest.approx(maer(members[0, 4:], run[4:NT]), rel=1e-4)
    assert found["late"]["scores"]["maer"]["mean"] == pytest.approx(maer(members.mean(0)[9:], run[9:NT]), rel=1e-4)
    note = "compared at 7 times: 7 frames of the analyses, 16 of the truth"
    assert found["late"]["config"]["notes"] == [note] and f"note: {note}" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "late").iterdir()} == {"fields.png", "series.png"}
    path = write(tmp_path / "late.nc", mean.assign_coords(time=8 + mean.time))
    assert cli.main(["evaluate", str(path), *ON_SMALL, "--truth", str(truth)]) == 2
    message = capsys.readouterr().err
    assert message == (
        f"jaxsrda: {path}: omega_mean: expected times of the truth, 0 to 3.75 each 0.25, got 8 to 11.75; evaluate "
        "against the truth of these times\n"
    )


def test_fields_of_another_testbed_say_which(tmp_path, capsys, run):
    """Evaluated, or followed, where another testbed was meant."""
    path = write(tmp_path / "a.nc", described(run[:NT]))
    for arguments in (["evaluate", str(path)], ["assimilate", "--method", "persistence"]):
        assert cli.main([*arguments, "--truth", str(path)]) == 2
        error = capsys.readouterr().err
        assert "got 64 × 33; it is that of testbed jet-small: choose it (--testbed jet-small)" in error
        assert error.count("\n") == 1


def test_members_at_the_start_from_a_file(tmp_path, capsys, run):
    """Refused in one line before any truth is made; what was done to them is said and recorded."""
    path = write(tmp_path / "a.nc", described(np.stack([run[:NT]] * 3), ("number", "time", "x", "y"), y=GRID.y[::-1]))
    command = ["assimilate", *ON_SMALL, "--truth", str(write(tmp_path / "t.nc", described(run[:NT])))]
    command += ["--members-from", str(path), "--json", str(tmp_path / "a.json")]
    assert cli.main([*command, "--method", "enkf-sr", "--members", "4"]) == 2
    assert capsys.readouterr().err == (
        "jaxsrda: members_from: expected 4 members, as enkf-sr is set to have, got 3; give as many, or set members to "
        "that\n"
    )
    assert cli.main([*command, "--method", "climatology"]) == 2
    assert "members_from: climatology starts from no fields" in capsys.readouterr().err
    assert cli.main([*command, "--method", "persistence"]) == 0
    notes = ["y flipped (it ran from 3.142 to 0)", "the members of time 0 taken, of 16 times"]
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if str(path) in line] == [f"note: {path}: omega: {note}" for note in notes]
    record = json.loads((tmp_path / "a.json").read_text())["config"]["members_from"]
    assert record["members"] == 3 and record["notes"] == notes and record["source"] == f"{path}: omega"


def test_members_at_the_start_are_checked_before_truths_are_made(tmp_path, capsys, run, monkeypatch):
    """Once, with --members too, and with their times where those of the run are known."""
    monkeypatch.setattr(truth_module, "simulate_truth", lambda *_, **__: pytest.fail("made"))
    command = ["assimilate", *ON_SMALL, "--method", "enkf-sr", "--members", "3", "--members-from"]
    assert cli.main([*command, str(tmp_path / "none.nc")]) == 2
    assert "none.nc" in capsys.readouterr().err
    path = write(tmp_path / "a.nc", described(np.stack([run[:NT]] * 3), ("number", "time", "x", "y")))
    read = []
    monkeypatch.setattr(fields, "read_fields", lambda *a: read.append(a) or read_fields(*a))
    assert cli.main([*command, str(path), "--start", "8"]) == 2
    assert "expected members of the time 8, at which the run begins, got 0 to 3.75" in capsys.readouterr().err
    assert len(read) == 1


@pytest.mark.parametrize("command", ["assimilate", "simulate", "evaluate"])
def test_a_bad_file_ends_with_2_and_one_line(tmp_path, capsys, run, command):
    path = write(tmp_path / "a.nc", described(run[:NT], y=np.rad2deg(GRID.y)))
    options = {
        "assimilate": ["--method", "persistence", "--truth", str(path)],
        "simulate": ["--level", "hr", "--out", str(tmp_path / "b.nc"), "--initial", str(path)],
        "evaluate": [str(path), "--truth", str(path)],
    }[command]
    assert cli.main([command, *ON_SMALL, *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{path}: omega: y: expected 33 points" in error and "degrees" in error


def test_labelled_keeps_what_it_is_given(run):
    """A `Labelled` made by hand is as good as a DataArray."""
    given = Labelled(run[:8, :, ::-1], ("time", "x", "y"), {"y": Labelled(GRID.y[::-1], source="y")}, source="mine")
    np.testing.assert_array_equal(read_truth(given, SMALL).values[0], run[:8])
    assert np.asarray(given, "float64").dtype == "float64" and not np.shares_memory(np.array(given), given.values)
    assert np.asarray(Frames(run)).shape == run.shape and Frames(run).dtype == "float32"
    with pytest.raises(ValueError, match="expected a grid of 128 × 65"):
        read_truth(given, jet())


def test_missing_packages_are_named(tmp_path, monkeypatch, run):
    path = save(tmp_path / "a.nc", run[:8])
    monkeypatch.setitem(sys.modules, files.PACKAGES[".nc"][-1], None)
    with pytest.raises(ValueError, match=r"\.nc: expected the package h5netcdf, could not import it; pip install"):
        read_fields(path)
