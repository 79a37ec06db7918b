"""Observations of the user's own from the command line: the same analyses as from the run that wrote them."""

import json

import numpy as np
import pytest
import xarray
from test_cli import fails, three_starts

from jaxsrda.app.cli import main as cli
from jaxsrda.experiment import run as run_module
from jaxsrda.flow.testbed import jet_small

BASE = ["assimilate", "--testbed", "jet-small", "--method", "persistence", "--members", "6"]


@pytest.fixture(autouse=True)
def small_climatology(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(run_module, "default_climatology", three_starts)
    monkeypatch.setattr("jaxsrda.experiment.truth.simulate_truth", lambda *_, **options: pytest.fail("simulated"))


def read(path):
    with xarray.open_dataset(path, engine="h5netcdf") as dataset:
        return dataset.load()


def test_what_assimilate_writes_gives_the_same_analysis(tmp_path):
    x, y = (jet_small().grid.x[:, None], jet_small().grid.y)
    np.save(tmp_path / "truth.npy", [np.cos(x - 0.1 * t) * np.sin(y) for t in range(8)])
    truth = ["--truth", str(tmp_path / "truth.npy")]
    sensors = ["--layout", "random-fixed:40", "--operator", "vorticity-spectral"]
    own = ["--observations", str(tmp_path / "a.nc")]
    for name, options in (("a", sensors), ("b", own)):
        files = ["--json", str(tmp_path / f"{name}.json"), "--out", str(tmp_path / f"{name}.nc")]
        assert cli.main([*BASE, *truth, *options, *files]) == 0
    a, b = (read(tmp_path / f"{name}.nc") for name in "ab")
    for name in ("omega_mean", "omega_std", "obs_value", "obs_x", "omega_truth"):
        np.testing.assert_array_equal(b[name], a[name])
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab")
    assert first["scores"] == second["scores"]
    (record,) = second["config"]["sensors"]
    assert (record["operator"], record["noise_std"], record["layout"]) == (
        *("vorticity-spectral", None),
        "own observations",
    )


def test_cycles_follow_a_table_and_gross_errors_are_rejected(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = [(t, rng.uniform(-1, 6), rng.uniform(0.1, 3), 0.1 * rng.normal()) for t in (0, 0.5, 1.5) for _ in range(9)]
    table = tmp_path / "observations.csv"
    lines = [f"{t},{x:.4f},{y:.4f},{value:.3f},0.1" for t, x, y, value in rows] + ["1.5,1,1,99,0.1", "1.5,1,1,,0.1"]
    table.write_text("\n".join(["time,x,y,value,std", *lines]))
    own = [*BASE, "--observations", str(table)]
    fails(capsys, own, "line 11: expected a time that a cycle meets, one each 1 from 0 (--cycle-at observations makes")
    record, out = tmp_path / "a.json", tmp_path / "a.nc"
    arguments = [*own, "--cycle-at", "observations", "--reject", "20", "--json", str(record), "--out", str(out)]
    assert cli.main(arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 of 29 values are missing and left out" in printed and "brought into [0, 2π)" in printed
    written = json.loads(record.read_text())
    assert written["scores"]["observations_rejected"]["mean"] == 1 and written["config"]["reject"] == 20
    assert "own observations, no truth" in printed and "MAER" not in printed and "omega_truth" not in read(out)
    assert {name.split("_")[0] for name in written["scores"]} == {"observation", "observations"}
    assert "obs. χ², background" in printed and "observations rejected" in printed
    assert written["scores"]["observation_chi2_background"]["mean"] < 400
    assert read(out).sizes["analysis_time"] == 4 and read(out).sizes["time"] == 8


def test_observations_beyond_a_run_are_said(tmp_path, capsys):
    """Those after it are left out; a run longer than they are is silent in the end."""
    table, out = tmp_path / "o.csv", tmp_path / "a.nc"
    lines = [f"{t},{1 + 0.1 * t},1.5,{0.1 * t},0.1" for t in range(5)]
    table.write_text("\n".join(["time,x,y,value,std", *lines]))
    own = [*BASE, "--observations", str(table), "--out", str(out)]
    assert cli.main([*own, "--cycles", "3"]) == 0
    assert "2 observations of times after this run are left out" in " ".join(capsys.readouterr().out.split())
    assert len(read(out)["time"]) == 3 * 4
    assert cli.main([*own, "--cycles", "7"]) == 0
    assert len(read(out)["time"]) == 7 * 4
    fails(
        capsys, [*own, "--start", "6"], "expected some from cycle 6 on, where this run begins, got none after cycle 4"
    )
    assert cli.main([*own, "--start", "3"]) == 0
    assert "3 observations of times before this run are left out" in " ".join(capsys.readouterr().out.split())


def test_weights_need_their_window(tmp_path, capsys):
    table = tmp_path / "observations.csv"
    table.write_text("time,x,y,value,std\n0.5,1,1,1,0.1\n")
    arguments = ["assimilate", "--method", "diffsrda", "--observations", str(table), "--cycle-at", "observations"]
    message = "--cycle-at observations: diffsrda needs the window that its weights were trained with, 4 frames a cycle"
    fails(capsys, arguments, message)


def test_what_the_file_says_is_not_said_again(tmp_path, capsys):
    sensors, table = tmp_path / "sensors.csv", tmp_path / "observations.csv"
    sensors.write_text("x,y,std\n1,1,0.1\n")
    table.write_text("time,x,y,value,std,operator\n0,1,1,1,0.1,speed\n")
    fails(capsys, [*BASE, "--layout", str(sensors), "--obs-noise", "0.2"], "--obs-noise: has no effect, ")
    fails(capsys, [*BASE, "--observations", str(table), "--operator", "speed"], "names the operators itself")
    fails(capsys, [*BASE, "--observations", str(table), "--guides-assimilated"], "--guides-assimilated: has no effect")
