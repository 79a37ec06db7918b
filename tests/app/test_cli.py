"""The command line in one process: what it writes, how it fails, and that a kill loses nothing."""

import dataclasses
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro
import xarray

from jaxsrda.app.cli import main as cli
from jaxsrda.app.cli.assimilate import Assimilate
from jaxsrda.app.fields import read_fields
from jaxsrda.core.checkpoints import Checkpoints
from jaxsrda.core.locks import locked
from jaxsrda.diffsrda.model import Model, ModelConfig
from jaxsrda.diffsrda.model import network as config_network
from jaxsrda.diffsrda.weights import save_model
from jaxsrda.diffusion.guidance import OI, Blend
from jaxsrda.experiment import run as run_module
from jaxsrda.flow import climatology
from jaxsrda.flow import simulate as simulations
from jaxsrda.flow.forecasts import to_fields
from jaxsrda.flow.jet import truth_key
from jaxsrda.flow.simulate import Run, simulate, simulate_resumable
from jaxsrda.flow.solver import UnstableStepError
from jaxsrda.flow.testbed import jet, jet_small
from jaxsrda.observing.sensors import Sensors

SMALL = jet_small()
ON_SMALL = ["--testbed", "jet-small"]


@functools.cache
def frames_of(testbed):
    """Eight frames of a truth on the analysis grid, two assimilation times."""
    start = testbed.start(truth_key(5), testbed.grid)
    omega_hat = simulate(testbed, testbed.analysis, start[None], 8)[0]
    return np.asarray(to_fields(testbed.grid, omega_hat))


@functools.cache
def three_starts(testbed):
    """A climatology of three first states, their waves larger than those of truths: something to go on."""
    testbed = testbed.vary(perturbation=0.05)
    starts = [testbed.start(climatology.training_key(i), testbed.grid) for i in range(3)]
    return climatology.from_runs(testbed.grid, jnp.stack(starts)[:, None])


@pytest.fixture(scope="session")
def truth():
    return frames_of(SMALL)


@pytest.fixture(autouse=True)
def small_climatology(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(run_module, "default_climatology", three_starts)


@pytest.fixture
def truth_file(tmp_path, truth):
    np.save(tmp_path / "truth.npy", truth)
    return str(tmp_path / "truth.npy")


def fails(capsys, arguments, message):
    """The command ends with 2 and one line that holds `message`, without a traceback."""
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error, error


def ends(capsys, arguments):
    """What the command prints to either stream before it ends with 2, by itself or in the parser."""
    try:
        code = cli.main(arguments)
    except SystemExit as end:
        code = end.code
    assert code == 2
    printed = capsys.readouterr()
    return " ".join((printed.out + printed.err).split())


# assimilate and evaluate ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def filtered(tmp_path_factory, truth):
    """A folder with a truth, and all that `assimilate` writes of a filter on it."""
    folder = tmp_path_factory.mktemp("filtered")
    np.save(folder / "truth.npy", truth)
    arguments = ["assimilate", *ON_SMALL, "--method", "enkf-sr", "--members", "6", "--truth"]
    arguments += [str(folder / "truth.npy"), "--out", str(folder / "a.nc"), "--json", str(folder / "a.json")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "default_climatology", three_starts)
        assert cli.main([*arguments, "--plot", str(folder / "pictures"), "--save-members"]) == 0
    return folder


def test_assimilate_writes_what_evaluate_reads(tmp_path, capsys, truth, filtered):
    out = filtered / "a.nc"
    written = json.loads((filtered / "a.json").read_text())
    assert written["method"] == "enkf-sr" and written["finite"] and written["config"]["filter"]["members"] == 6
    assert set(written["seconds"]) == {"compile", "run"} and written["config"]["testbed"] == "jet-small"
    with xarray.open_dataset(out, engine="h5netcdf") as dataset:
        assert dataset["omega"].dims == ("member", "time", "x", "y")
        assert dataset["obs_value"].size == 2 * 32
        mean = dataset["omega_mean"].values
        np.testing.assert_allclose(dataset["omega"].mean("member"), mean, atol=1e-10)
    expected = np.mean(abs(mean - truth)[4:].sum((1, 2)) / abs(truth)[4:].sum((1, 2)))
    assert written["scores"]["maer"]["mean"] == pytest.approx(expected, rel=1e-6)
    assert len(written["series"]["maer"]) == 4
    names = {"fields.png", "series.png", "spectra.png", "rank_histogram.png"}
    assert {path.name for path in (filtered / "pictures").iterdir()} == names

    again = tmp_path / "b.json"
    arguments = ["evaluate", str(out), *ON_SMALL, "--json", str(again), "--truth", str(filtered / "truth.npy")]
    assert cli.main(arguments) == 0
    evaluated = json.loads(again.read_text())["scores"]
    for name, value in evaluated.items():
        assert value["mean"] == pytest.approx(written["scores"][name]["mean"], rel=1e-5), name
    assert {"crps", "spread_skill", "energy_distance_members"} <= set(evaluated)
    printed = capsys.readouterr().out
    assert "MAER" in printed and f"scores: {again}" in " ".join(printed.split())


def test_several_truths_and_evaluation_without_members(tmp_path, truth):
    both = tmp_path / "truths.npz"
    np.savez(both, omega=np.stack([truth, truth[:, ::-1]]))
    out, record, again = tmp_path / "a.zarr", tmp_path / "a.json", tmp_path / "b.json"
    arguments = ["assimilate", *ON_SMALL, "--method", "persistence", "--truth", str(both)]
    assert cli.main([*arguments, "--out", str(out), "--json", str(record)]) == 0
    scores = json.loads(record.read_text())["scores"]["maer"]
    assert scores["low"] <= scores["mean"] <= scores["high"] and scores["low"] < scores["high"]
    assert cli.main(["evaluate", str(out), *ON_SMALL, "--json", str(again)]) == 0
    assert json.loads(again.read_text())["scores"]["maer"]["mean"] == pytest.approx(scores["mean"], rel=1e-5)


def test_two_kinds_of_sensors_are_assimilated_together(tmp_path, capsys, truth_file, filtered):
    """The second set moves the analysis, is in the file with its own values, and is named in the record."""
    arguments = ["assimilate", *ON_SMALL, "--method", "enkf-sr", "--members", "6", "--truth", truth_file]
    arguments += ["--guide-layout", "random-fixed:64", "--guide-operator", "velocity-x"]
    out, record = tmp_path / "a.nc", tmp_path / "a.json"
    arguments += ["--guide-noise", "0.02", "--guides-assimilated", "--out", str(out), "--json", str(record)]
    assert cli.main(arguments) == 0
    alone, both = (json.loads(path.read_text()) for path in (filtered / "a.json", record))
    moved, plain = (np.array(record["series"]["maer"]) for record in (both, alone))
    assert abs(moved / plain - 1).max() > 1e-2
    printed = capsys.readouterr().out
    assert "6 members, lattice:8 and random-fixed:64, 1 truth" in printed and "MAER" in printed
    first, other = both["config"]["sensors"]
    assert first["layout"] == "lattice:8" and other["operator"] == "velocity-x" and other["noise_std"] == 0.02
    assert other["role"] == "assimilated" and other["linear"]
    with xarray.open_dataset(out, engine="h5netcdf") as dataset:
        assert dataset["obs_set"].values.sum() == 2 * 64 and dataset["obs_value"].size == 2 * (32 + 64)
        np.testing.assert_allclose(dataset["obs_variance"][dataset["obs_set"] == 1], 0.0004)


def follow(tmp_path, testbed, arguments):
    """Run diffsrda on a truth; its record, and the file of its analyses."""
    np.save(tmp_path / "truth.npy", frames_of(testbed))
    common = ["assimilate", "--testbed", testbed.name, "--truth", str(tmp_path / "truth.npy"), "--members", "4"]
    out, record = tmp_path / "a.nc", tmp_path / "a.json"
    assert cli.main([*common, *arguments, "--out", str(out), "--json", str(record)]) == 0
    return json.loads(record.read_text()), out


GUIDING = ["--guide-noise", "0.05", "--guidance", "oi", "--strength", "1.5"]


def test_new_sensors_guide_from_the_command_line(tmp_path, capsys, smallest):
    """A model, here an untrained one, fits sensors that it was not told of, and the record names them."""
    config = ModelConfig.of(SMALL, network="tiny", priors=("enkf-sr",))
    model = Model(config, config_network(config).initial(0), np.full(5, 0.5, np.float32))
    save_model(tmp_path / "tiny.npz", model, {})
    arguments = ["--prior", "enkf-sr", "--weights", str(tmp_path / "tiny.npz"), "--guide-layout", "lattice:4"]
    written, out = follow(tmp_path, SMALL, [*arguments, *GUIDING])
    assert "4 members, lattice:8, guided by lattice:4, 1 truth" in capsys.readouterr().out
    _, other = written["config"]["sensors"]
    assert other["layout"] == "lattice:4" and other["noise_std"] == 0.05 and other["role"] == "guiding"
    assert written["config"]["filter"]["guidance"] == {"kind": "OI", "strength": 1.5, "iterations": 3}
    with xarray.open_dataset(out, engine="h5netcdf") as dataset:
        assert dataset["obs_set"].values.sum() == 2 * 128 and dataset["obs_value"].size == 2 * (32 + 128)
        last = dataset.isel(obs=(dataset["obs_set"] == 1) & (dataset["obs_time"] == 1))
        at = [np.rint(last[f"obs_{axis}_index"].values).astype(int) for axis in "xy"]
        fields = {"omega_mean": dataset["omega_mean"].sel(time=1), "background": dataset["omega_background"][1]}
        off = {name: np.std(field.values[tuple(at)] - last["obs_value"].values) for name, field in fields.items()}
    assert off["omega_mean"] < 0.3 * off["background"]


@pytest.mark.slow
def test_released_weights_follow_new_sensors(tmp_path, capsys):
    """The released model fits sensors that it was not told of, is better with them, and the record names them."""
    without = follow(tmp_path, jet(), [])[0]["scores"]["maer"]["mean"]
    written, out = follow(tmp_path, jet(), ["--guide-layout", "lattice:4", *GUIDING])
    assert written["scores"]["maer"]["mean"] < 0.9 * without
    assert "4 members, lattice:8, guided by lattice:4, 1 truth" in capsys.readouterr().out
    assert written["config"]["sensors"][1]["layout"] == "lattice:4"
    with xarray.open_dataset(out, engine="h5netcdf") as dataset:
        assert dataset["obs_set"].values.sum() == 2 * 512 and dataset["obs_value"].size == 2 * (128 + 512)


def test_files_are_there_before_the_table(tmp_path, monkeypatch, capsys, truth_file):
    """A terminal that cannot show the table costs no result, of either command."""

    def broken(*_):
        raise OSError("the terminal is gone")

    monkeypatch.setattr("jaxsrda.app.report.score_table", broken)
    out, record, pictures = tmp_path / "a.nc", tmp_path / "a.json", tmp_path / "pictures"
    arguments = ["assimilate", *ON_SMALL, "--method", "climatology", "--members", "4", "--truth", truth_file]
    arguments += ["--out", str(out), "--json", str(record), "--plot", str(pictures)]
    assert "the terminal is gone" in ends(capsys, arguments)
    assert out.exists() and json.loads(record.read_text())["finite"] and (pictures / "series.png").exists()
    again, more = tmp_path / "b.json", tmp_path / "more"
    evaluate = ["evaluate", str(out), *ON_SMALL, "--json", str(again), "--plot", str(more)]
    assert "the terminal is gone" in ends(capsys, evaluate)
    assert json.loads(again.read_text())["scores"]["maer"]
    assert {path.name for path in more.iterdir()} == {"fields.png", "series.png"}  # what needs no members


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "enkf-hd"], "did you mean 'enkf-hr'?"),
        (
            ["--testbed", "jet-smal"],
            "testbed: expected one of jet, jet-small; got 'jet-smal'; did you mean 'jet-small'?",
        ),
        (["--testbed", "nowhere:made"], "testbed: expected module:name of a testbed, got 'nowhere:made'"),
        (["--testbed", "math:pi"], "testbed: expected 'math:pi' to be a Testbed, got float"),
        (
            ["--guides-assimilated"],
            "--guides-assimilated: has no effect, there are no further sensors (give a --guide-layout); leave it out",
        ),
        (
            ["--method", "diffsrda", "--guides-assimilated", "--guide-layout", "lattice:4", "--guidance", "oi"],
            "guidance: it has no new sensors to follow; give a guide_layout (a set whose role is guiding)",
        ),
        (["--layout", "latice:8"], "did you mean 'lattice'?"),
        (["--layout", "lattice"], "expected name:number such as lattice:8"),
        (["--operator", "vorticty"], "did you mean 'vorticity'?"),
        (["--truth", "nowhere.npy"], "expected a file of fields, found none"),
        (["--truth", "truth.txt"], "suffix: expected one of .npy, .npz, .nc, .zarr"),
        (["--out", "a.txt"], ".nc"),
        (["--out", "nowhere/a.nc"], "nowhere"),
        (["--json", "a.txt"], ".json"),
        (["--method", "enkf-dual", "--members", "1"], "members: expected at least 2"),
        (["--method", "enkf-dual", "--controls", "0"], "controls: expected 1 to 50 (the members), got 0"),
        (
            ["--method", "diffsrda", "--members", "1"],
            "members: the dual prior filters as many cheap members, expected 2",
        ),
        (
            ["--method", "diffsrda"],
            "the weights are for windows of 5 frames on 128 × 65 points, this testbed has 5 on 64",
        ),
        (["--truths", "0"], "truths: expected a finite number above 0, got 0"),
        (["--truth-level", "huge"], "level: expected one of lr, hr, fine; got 'huge'"),
        (["--testbed", "jet", "--truth-level", "huge"], "level: expected one of lr, hr, fine, uhr"),
        (["--obs-noise", "-1"], "obs_noise: expected a finite number above 0"),
        (["--guide-layout", "lattice:4", "--guide-noise", "0"], "guide_noise: expected a finite number above 0"),
        (["--withhold", "1"], "withhold: expected a fraction from 0 to below 1, got 1.0"),
        (
            ["--layout", "nowhere.csv"],
            "nowhere.csv: expected a text file, could not read it (No such file or directory)",
        ),
    ],
)
def test_bad_options_are_refused_at_once(capsys, monkeypatch, tmp_path, truth_file, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_module, "run_parts", lambda *_: pytest.fail("worked"))
    monkeypatch.setattr("jaxsrda.experiment.truth.simulate_truth", lambda *_, **options: pytest.fail("worked"))
    truth = [] if {"--truth", "--truth-level"} & set(arguments) else ["--truth", truth_file]
    testbed = [] if "--testbed" in arguments else ON_SMALL
    method = [] if "--method" in arguments else ["--method", "enkf-sr"]
    fails(capsys, ["assimilate", *testbed, *method, *arguments, *truth], message)


def test_bad_truths_are_refused(capsys, tmp_path, truth):
    path = tmp_path / "truth.npy"
    arguments = ["assimilate", *ON_SMALL, "--method", "enkf-sr", "--truth", str(path)]
    np.save(path, truth[:, :-1])
    fails(capsys, arguments, "expected a grid of 64 × 33")
    fails(capsys, ["assimilate", "--method", "enkf-sr", "--truth", str(path)], "expected a grid of 128 × 65")
    np.save(path, truth[:7])
    fails(capsys, arguments, "expected at least 8 frames")
    np.save(path, truth[0, 0])
    fails(capsys, arguments, "expected the axes truth, time, x, y or the last of them, got shape (33,)")
    holed = truth.copy()
    holed[3, 5, 6] = np.nan
    np.save(path, holed)
    fails(capsys, arguments, "first at index (3, 5, 6)")
    path.write_bytes(b"\x93NUMPY")
    fails(capsys, arguments, "could not read it")


def test_own_sensor_positions(capsys, tmp_path, truth_file):
    sensors = tmp_path / "sensors.csv"
    np.savetxt(sensors, [[1.0, 1.0], [4.0, 2.0]], delimiter=",")
    arguments = ["assimilate", *ON_SMALL, "--method", "persistence", "--truth", truth_file, "--layout", str(sensors)]
    out = tmp_path / "a.nc"
    assert cli.main([*arguments, "--out", str(out)]) == 0
    with xarray.open_dataset(out, engine="h5netcdf") as dataset:
        np.testing.assert_allclose(dataset["obs_x"], [1, 4, 1, 4])
    np.savetxt(sensors, [[1.0, 4.0]], delimiter=",")
    fails(capsys, arguments, "expected x in [0, 2π) and y in [0, π], got 1 outside")


def test_evaluate_refuses_what_does_not_match(capsys, tmp_path, truth_file, truth):
    bad = tmp_path / "a.npz"
    np.savez(bad, omega_mean=truth[:, :, :-1], omega_std=truth[:, :, :-1])
    arguments = ["evaluate", str(bad), *ON_SMALL, "--truth", truth_file]
    fails(capsys, arguments, "expected a grid of 64 × 33 points")
    np.savez(bad, other=truth)
    fails(capsys, arguments, "expected a variable 'omega'")


def test_an_own_testbed_goes_by_module_and_name(capsys, tmp_path, monkeypatch):
    """A module of the user's own, on the path, holds the flow; a run of it is what the value gives."""
    (tmp_path / "my_flow.py").write_text(
        "import dataclasses\nfrom jaxsrda import jet_small\n"
        "made = dataclasses.replace(jet_small().vary(beta=0.3), name='mine', frames_per_cycle=2)\n"
        "def make():\n    return made\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    out = tmp_path / "run.npz"
    for name in ("my_flow:made", "my_flow:make"):
        simulating = ["simulate", "--testbed", name, "--level", "lr", "--frames", "2", "--out", str(out)]
        assert cli.main(simulating) == 0
        mine = SMALL.vary(beta=0.3)
        start = mine.start(truth_key(0), mine.forecast.grid)
        expected = to_fields(mine.forecast.grid, simulate(mine, mine.forecast, start[None], 2)[0])
        np.testing.assert_allclose(np.load(out)["omega"], expected, atol=1e-10)
    fails(capsys, ["info", "--testbed", "my_flow:other"], "expected module:name of a testbed, got 'my_flow:other'")


# Options --------------------------------------------------------------------------------------

OLD_OPTIONS = {
    # What `jaxsrda assimilate` has taken since its first version: option → values that it takes.
    "--method": ["enkf-dual"],
    "--truth": ["truth.npy"],
    "--truth-level": ["fine"],
    "--truths": ["2"],
    "--layout": ["lattice:4"],
    "--operator": ["speed"],
    "--obs-noise": ["0.2"],
    "--withhold": ["0.1"],
    "--seed": ["3"],
    "--tuning": ["paper"],
    "--members": ["12"],
    "--controls": ["2"],
    "--localization": ["0.6"],
    "--inflation": ["1.1"],
    "--adaptive": ["0.2"],
    "--additive": ["0.1"],
    "--rtps": ["0.5"],
    "--rtpp": ["0.5"],
    "--representativeness": ["0.2"],
    "--prior": ["lr"],
    "--restart": ["first"],
    "--steps": ["8"],
    "--sampler": ["ddim"],
    "--eta": ["0.5"],
    "--centred": [],
    "--guidance": ["oi"],
    "--strength": ["2"],
    "--iterations": ["3"],
    "--guide-on": ["all"],
    "--blur": ["2", "1"],
    "--hard-steps": ["1"],
    "--guide-layout": ["lattice:4"],
    "--guide-operator": ["speed"],
    "--guide-noise": ["0.3"],
    "--guides-assimilated": [],
    "--weights": ["diffsrda-small"],
    "--out": ["a.nc"],
    "--save-members": [],
    "--json": ["a.json"],
    "--plot": ["pictures"],
    "--animate": [],
}


def parsed(*arguments):
    return tyro.cli(Assimilate, args=list(arguments))


@pytest.mark.parametrize("option", OLD_OPTIONS)
def test_every_option_of_assimilate_still_parses(option):
    values = OLD_OPTIONS[option]
    got = getattr(parsed(option, *(["True"] if option == "--centred" else values)), option[2:].replace("-", "_"))
    wanted = {0: True, 1: values[0] if values else None, 2: (2.0, 1.0)}[len(values)]
    assert str(got) == str(wanted) or float(got) == float(wanted)
    assert getattr(parsed(), option[2:].replace("-", "_")) != got


def test_options_reach_the_experiment():
    given = parsed(
        *("--testbed", "jet-small", "--method", "diffsrda", "--layout", "lattice:4", "--obs-noise", "0.2"),
        *("--members", "6", "--prior", "lr", "--steps", "8", "--sampler", "ddim", "--eta", "0.5"),
        *("--guidance", "blend", "--strength", "2", "--blur", "2", "1", "--hard-steps", "1"),
        *("--guide-layout", "lattice:8", "--guide-operator", "speed", "--guide-noise", "0.3"),
        *("--withhold", "0.25", "--seed", "4", "--save-members", "--out", "a.nc"),
    ).experiment()
    assert given.testbed is SMALL and given.withhold == 0.25 and given.seed == 4 and given.keep == "members"
    first, second = given.sensors
    assert (first.layout.name, first.operator_name, first.noise_std, first.role) == (
        *("lattice:4", "vorticity", 0.2),
        "assimilated",
    )
    assert (second.layout.name, second.operator_name, second.noise_std, second.role) == (
        *("lattice:8", "speed", 0.3),
        "guiding",
    )
    config = given.config
    assert (config.members, config.prior, config.steps, config.sampler, config.eta) == (6, "lr", 8, "ddim", 0.5)
    assert config.restart == "each" and config.guidance == Blend(2.0, (2.0, 1.0), 1)


def test_options_of_filters_reach_the_experiment():
    tuning = {"members": 7, "controls": 2, "localization": 0.9, "inflation": 1.1, "additive": 0.2}
    tuning |= {"rtps": 0.3, "rtpp": 0.1, "representativeness": 0.4}
    options = [text for name, value in tuning.items() for text in (f"--{name}", str(value))]
    given = parsed(*ON_SMALL, "--method", "enkf-dual", *options).experiment()
    assert {name: getattr(given.config, name) for name in tuning} == tuning
    assert given.sensors == (Sensors(given.sensors[0].layout),) and given.keep == "scores"


def test_options_of_the_lagrangian_model_reach_the_experiment():
    options = ("--substeps", "3", "--viscosity", "1e-5", "--corrector", "True")
    config = parsed(*ON_SMALL, "--method", "letkf-lagrange", *options).experiment().config
    assert (config.substeps, config.viscosity, config.corrector) == (3, 1e-5, True)
    with pytest.raises(
        ValueError, match="substeps: enkf-hr does not forecast with the Lagrangian model; choose one of"
    ):
        parsed(*ON_SMALL, "--method", "enkf-hr", "--substeps", "3").experiment()


def test_guides_by_name_have_their_own_options():
    guided = ["--method", "diffsrda", "--guide-layout", "lattice:4", "--guidance", "oi"]
    assert parsed(*guided).experiment().config.guidance == OI()
    assert parsed(*guided, "--strength", "1.5", "--iterations", "2").experiment().config.guidance == OI(1.5, 2)
    assert parsed("--guidance", "none").experiment().config.guidance is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--visit", "--policy"),
        ("--visitor", "--policy"),
        ("--others", "--extra-layouts"),
        ("--levels", "--sigmas"),
    ],
)
@pytest.mark.parametrize("form", ["{} best", "{}=best"])
def test_old_options_of_train_say_the_new(capsys, tmp_path, old, new, form):
    arguments = ["train", "--out", str(tmp_path / "a.npz"), *form.format(old).split()]
    fails(capsys, arguments, f"{old}: is now {new}; use that name")
    assert not list(tmp_path.glob("a.*"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "--out", "a.nc"],
        ["train", "--out", "a.npz"],
        ["assimilate"],
        ["evaluate", "a.nc"],
        ["info"],
    ],
)
def test_unknown_testbeds_are_refused_by_every_command(capsys, monkeypatch, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    message = "testbed: expected one of jet, jet-small; got 'jat'; did you mean 'jet'?"
    fails(capsys, [*arguments, "--testbed", "jat"], message)
    assert not list(tmp_path.iterdir())


def test_unknown_options_and_commands_end_with_2(capsys):
    for arguments in (["assimilate", "--memebers", "3"], ["assimilat"], ["simulate"], ["train", "--no-such", "1"]):
        assert ends(capsys, arguments)


# simulate -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nc", ".zarr", ".npz"])
def test_simulate(tmp_path, suffix):
    out = tmp_path / f"run{suffix}"
    arguments = ["simulate", "--level", "lr", "--frames", "5", "--out", str(out), "--seed", "3"]
    assert cli.main([*arguments, "--json", str(tmp_path / "run.json")]) == 0
    omega = np.asarray(read_fields(out))
    level = jet().forecast
    states = simulate(jet(), level, jet().start(truth_key(3), level.grid)[None], 5)[0]
    expected = to_fields(level.grid, states)
    assert omega.shape == (5, 32, 17)
    np.testing.assert_allclose(omega, expected, atol=1e-10)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["config"]["level"]["name"] == "lr" and record["config"]["testbed"]["name"] == "jet"
    assert record["config"]["seed"] == 3 and record["finite"] and record["seconds"]["run"] > 0


def test_simulate_goes_on_from_a_field(tmp_path):
    first, second, whole = (tmp_path / name for name in ("a.npz", "b.npz", "c.npz"))
    simulating = ["simulate", *ON_SMALL, "--level", "lr"]
    assert cli.main([*simulating, "--frames", "3", "--out", str(first)]) == 0
    assert cli.main([*simulating, "--frames", "3", "--out", str(second), "--initial", str(first)]) == 0
    assert cli.main([*simulating, "--frames", "5", "--out", str(whole)]) == 0
    np.testing.assert_allclose(np.load(second)["omega"], np.load(whole)["omega"][2:], atol=1e-9)


def test_simulate_refuses(capsys, tmp_path):
    out = str(tmp_path / "a.nc")
    simulating = ["simulate", "--level", "lr", "--out", out]
    fails(capsys, [*simulating, "--frames", "0"], "frames: expected at least 1")
    fails(capsys, [*simulating, "--steps", "1"], "became unstable by t = 0")
    fails(capsys, [*simulating, "--scheme", "rk4"], "scheme: expected one of etdrk4, rk2")
    fails(capsys, ["simulate", "--level", "huge", "--out", out], "level: expected one of lr, hr, fine, uhr")
    fails(capsys, ["simulate", *ON_SMALL, "--level", "uhr", "--out", out], "level: expected one of lr, hr, fine;")
    np.save(tmp_path / "start.npy", np.zeros((32, 16)))
    arguments = [*simulating, "--initial", str(tmp_path / "start.npy")]
    fails(capsys, arguments, "start.npy: expected a grid of 32 × 17 points (both walls counted), got 32 × 16")
    assert not (tmp_path / "a.nc").exists()


def test_a_run_goes_on_after_kill_9(tmp_path):
    """A killed run leaves its parts; the same command again finishes with the numbers of an undisturbed run."""
    code = (
        "import sys; from jaxsrda.app.cli.main import main; from jaxsrda.flow import simulate;"
        "simulate.SAVE_EVERY = 0.0;"
        "small = ['--testbed', 'jet-small', '--level', 'lr', '--frames', '400'];"
        "sys.exit(main(['simulate', *small, '--out', sys.argv[1]]))"
    )
    out, parts = tmp_path / "run.npz", tmp_path / ".run.npz.parts"
    # Compiled as here: the numbers have to be the same to the last bit.
    env = dict(os.environ, XLA_FLAGS=os.environ["QUICK_XLA_FLAGS"])
    process = subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.DEVNULL, env=env)

    def kept():
        return sorted(int(path.name) for path in parts.glob("*") if path.name.isdigit())

    deadline = time.monotonic() + 120
    while len(kept()) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = kept()
    assert len(left) >= 3 and left[-1] < 400 and not out.exists()
    done, run = [], Run(SMALL, SMALL.forecast, 400)
    with jax.enable_x64(False):  # as the killed process ran
        jax.config.update("jax_disable_most_optimizations", False)
        omega = simulate_resumable(run, parts, progress=lambda n, total: done.append(n))
        straight = simulate_resumable(run, tmp_path / "other")
        jax.config.update("jax_disable_most_optimizations", True)
    assert done[0] >= len(left) + 1 and done[0] in (left[-1], left[-1] + 1)  # nothing was run twice
    np.testing.assert_array_equal(omega, straight)
    assert not parts.exists()


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    """Stopped anywhere between two parts, it goes on from the last one and gives the same numbers."""
    run, parts = Run(SMALL, SMALL.forecast, 12), tmp_path / "parts"

    def stop(at):
        def progress(done, total):
            if done == at:
                raise KeyboardInterrupt

        return progress

    monkeypatch.setattr(simulations, "SAVE_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        simulate_resumable(run, parts, progress=stop(4))
    monkeypatch.setattr(simulations, "SAVE_EVERY", 1e9)
    with pytest.raises(KeyboardInterrupt):
        simulate_resumable(run, parts, progress=stop(9))  # keeps no more than there was
    done = []
    omega = simulate_resumable(run, parts, progress=lambda n, total: done.append(n))
    assert done == list(range(3, 13)) and not parts.exists()
    np.testing.assert_array_equal(omega, simulate_resumable(run, tmp_path / "other"))


def test_parts_of_another_run_are_refused(tmp_path):
    store = Checkpoints(tmp_path / "parts", "other", keep=None)
    store.save_part(0, 1, {"omega": np.zeros((1, 16, 9)), "state": np.zeros((11, 6))}, {})
    store.close()
    with pytest.raises(ValueError, match="holds a checkpoint of other work"):
        simulate_resumable(Run(SMALL, SMALL.forecast, 3), tmp_path / "parts")


# The process ----------------------------------------------------------------------------------


def test_info(capsys, tmp_path):
    assert cli.main(["info", "--json", str(tmp_path / "info.json")]) == 0
    written = json.loads((tmp_path / "info.json").read_text())
    assert "enkf-dual" in written["methods"] and written["levels"]["hr"]["nx"] == 128
    assert set(written["levels"]) == {"lr", "hr", "fine", "uhr"} and "track" in written["layouts"]
    printed = capsys.readouterr().out
    assert "enkf-dual" in printed and "jet-small" in printed and "256 × 129" in printed
    assert cli.main(["info", *ON_SMALL, "--json", str(tmp_path / "small.json")]) == 0
    assert json.loads((tmp_path / "small.json").read_text())["levels"]["hr"]["nx"] == 64
    assert "128 × 65" in capsys.readouterr().out


def rates_file(tmp_path):
    """A record with a rate of each kind."""
    from jaxsrda.experiment.rates import KINDS, Rate

    path = tmp_path / "rates.json"
    path.write_text(json.dumps({"rates": [Rate(kind, 1000, 10, 1e-9)._asdict() for kind in KINDS]}))
    return path


def test_a_plan_is_printed_and_written(capsys, tmp_path, monkeypatch):
    from jaxsrda.experiment import plan

    monkeypatch.setattr(plan, "memory_of", lambda outline: (3_500_000_000, 12.0))
    rates, out = rates_file(tmp_path), tmp_path / "plan.json"
    asked = ["--method", "enkf-hr", "--grid", "256", "129", "--members", "30", "--sensors", "500", "--truths", "4"]
    assert cli.main(["info", "--plan", *asked, "--rates", str(rates), "--json", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "enkf-hr of 30 members on 256 × 129 points, 500 sensors, 4 truths × 24 cycles" in printed
    assert "3.5 GB" in printed and "rates.json" in printed.replace(" ", "")
    made = json.loads(out.read_text())
    assert made["grid"] == [256, 129] and made["memory_bytes"] == 3_500_000_000 and "--plan" in made["command"]
    # Twice the analysis level's points in x, so twice its steps.
    assert made["flops"]["forecasts, hr"] == 4 * 24 * 4 * 30 * 4 * 50 * 8 * 171 * 129 * (171 // 2 + 256)
    assert set(made["seconds"]) == set(made["flops"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--members", "3"], "--members: has no effect without --plan; add --plan or leave it out"),
        (["--plan", "--level", "uhr", "--grid", "64", "33"], "--grid: expected either a level or a grid, got both"),
        (["--plan", "--level", "huge"], "level: expected one of lr, hr, fine, uhr; got 'huge'"),
        (["--plan", "--grid", "63", "33"], "expected an even nx"),
        (["--plan", "--method", "enkf"], "method: expected one of"),
        (["--plan", "--members", "1"], "members: expected at least 2 for a filter, got 1"),
        (["--plan", "--steps", "4"], "steps: are those of a sampler, and this method has none"),
        (["--plan", "--sensors", "0"], "sensors: expected at least 1, got 0"),
        (["--plan", "--rates", "none.json"], "rates: expected a record of `python -m benchmarks"),
    ],
)
def test_plans_that_mean_nothing_are_refused(capsys, arguments, message):
    fails(capsys, ["info", *arguments], message)


def test_exit_codes_of_the_process(tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "jaxsrda", *arguments], capture_output=True, text=True, env=dict(os.environ)
        )

    refused = run("simulate", "--out", str(tmp_path / "a.nc"), "--level", "huge")
    assert refused.returncode == 2 and refused.stderr.startswith("jaxsrda: level: expected one of lr, hr, fine, uhr")
    assert "Traceback" not in refused.stderr
    assert run("simulate", "--no-such-option").returncode == 2


def test_interrupt_ends_with_130(monkeypatch, capsys):
    monkeypatch.setattr(cli.Info, "run", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli.main(["info"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_an_interrupted_process_of_several_leaves_the_others(monkeypatch, capsys):
    """Its own end would wait for theirs."""

    def left(*told, **how):
        raise SystemExit(f"{told}, {how}")

    monkeypatch.setattr(cli, "number_of", lambda command: 1)
    monkeypatch.setattr(cli, "leave", left)
    monkeypatch.setattr(cli.Assimilate, "run", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    told = "('process 1: interrupted; files that were written stay', 130), {'met': True}"
    with pytest.raises(SystemExit, match=f"^{re.escape(told)}$"):
        cli.main(["assimilate", "--processes", "2", "--process", "1", "--coordinator", "localhost:1"])
    alone, several = (Assimilate(out=Path("a.nc"), processes=count) for count in (1, 2))
    assert alone.parts == Path(".a.nc.parts") and several.parts is None


# Going on -------------------------------------------------------------------------------------


def test_assimilate_goes_on_from_a_folder(tmp_path, capsys, truth):
    """One call a part, each in the same words, gives what one call gives; the next is refused."""
    path, folder = tmp_path / "truth.npy", tmp_path / "carry"
    np.save(path, np.concatenate([truth, truth[::-1]]))
    common = ["assimilate", *ON_SMALL, "--method", "persistence", "--members", "4"]
    common += ["--truth", str(path), "--start", "5"]
    outs = [tmp_path / f"{name}.nc" for name in ("whole", "first", "second")]
    assert cli.main([*common, "--out", str(outs[0])]) == 0
    for out in outs[1:]:
        assert cli.main([*common, "--cycles", "2", "--carry", str(folder), "--out", str(out)]) == 0
    whole, first, second = (xarray.open_dataset(out, engine="h5netcdf") for out in outs)
    joined = xarray.concat([each[["omega_mean"]] for each in (first, second)], "time")
    np.testing.assert_array_equal(joined["time"], 5 + 0.25 * np.arange(16))
    np.testing.assert_allclose(joined["omega_mean"], whole["omega_mean"], atol=1e-9)
    capsys.readouterr()
    again = [*common, "--carry", str(folder)]
    fails(capsys, again, "cycles: expected at most 0, those that the truth has left after 4 that were run, got 1")
    fails(capsys, [*again, "--seed", "3"], "its seed is 0, this run's is 3")
    again[again.index("5")] = "3"
    fails(capsys, again, "--start: the run in")
    np.save(path, np.concatenate([truth[::-1], truth, truth]))  # another one, longer
    fails(capsys, [*common, "--carry", str(folder)], "the truth before this run is not the one that it followed")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--start", "0.6"], "start: expected a time of an analysis, 0 or a multiple of 1, got 0.6"),
        (["--cycles", "0"], "cycles: expected a finite number above 0, got 0"),
        (["--cycles", "3"], "cycles: expected at most 2, those that the truth has left after 0 that were run, got 3"),
        (["--carry", "nowhere/carry"], "--carry: expected a folder or room for one, found no folder nowhere"),
    ],
)
def test_bad_ways_to_go_on_are_refused(capsys, monkeypatch, tmp_path, truth_file, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_module, "run_parts", lambda *_: pytest.fail("worked"))
    fails(capsys, ["assimilate", *ON_SMALL, "--method", "enkf-sr", "--truth", truth_file, *arguments], message)


# Faults of long runs ---------------------------------------------------------------------------


def three_parts(monkeypatch, folder, run):
    """Stop a run at frame 8, with a part of each frame."""

    def stop(done, total):
        if done == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(simulations, "SAVE_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        simulate_resumable(run, folder, progress=stop)


@pytest.mark.parametrize("fault", ["gap", "damaged"])
def test_parts_behind_a_gap_are_run_anew(tmp_path, monkeypatch, fault):
    run, parts, done = Run(SMALL, SMALL.forecast, 10), tmp_path / "parts", []
    three_parts(monkeypatch, parts, run)
    if fault == "gap":
        shutil.rmtree(parts / "4")
    else:
        for data in (path for path in (parts / "4").rglob("*") if path.is_file()):
            data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.warns(UserWarning, match=r"parts: the part up to [45] is damaged or has a gap; run anew"):
        omega = simulate_resumable(run, parts, progress=lambda n, total: done.append(n))
    assert done == list(range(3, 11)) and not parts.exists()
    np.testing.assert_array_equal(omega, simulate_resumable(run, tmp_path / "other"))


def test_two_processes_do_not_share_parts(tmp_path):
    run, parts = Run(SMALL, SMALL.forecast, 3), tmp_path / "parts"
    with locked(tmp_path / "parts.lock"), pytest.raises(ValueError, match="another process is at work on this run"):
        simulate_resumable(run, parts)
    assert simulate_resumable(run, parts).shape == (3, 16, 9) and not list(tmp_path.iterdir())


def fast(strength):
    """A start whose flow is far too fast for the level's step."""
    level = SMALL.forecast
    return strength * np.asarray(to_fields(level.grid, SMALL.start(truth_key(0), level.grid)[None])[0])


def test_a_step_that_becomes_too_long_is_made_shorter(tmp_path, monkeypatch):
    """It goes on from the last sound frame at shorter steps, also after a kill, and says from where on."""
    run, told = Run(SMALL, SMALL.forecast, 6), []
    omega = simulate_resumable(run, tmp_path / "parts", fast(40.0), shorter=lambda *at: told.append(at))
    assert told[0] == (0, 9) and [steps for _, steps in told] == sorted(steps for _, steps in told)
    frames = dict(told)
    # The same frames, each from the one before at the steps that were told.
    state, steps = simulations.start_state(run, fast(40.0)), SMALL.forecast.steps
    for i in range(5):
        steps = frames.get(i, steps)
        state = simulate(SMALL, SMALL.forecast, state[None], 2, steps=steps)[0, 1]
        np.testing.assert_array_equal(omega[i + 1], to_fields(SMALL.forecast.grid, state[None])[0])
    with pytest.raises(KeyboardInterrupt):
        monkeypatch.setattr(simulations, "SAVE_EVERY", 0.0)

        def stop(done, total):
            if done == 4:
                raise KeyboardInterrupt

        simulate_resumable(run, tmp_path / "parts", fast(40.0), stop, lambda *at: None)
    again = []
    resumed = simulate_resumable(run, tmp_path / "parts", fast(40.0), shorter=lambda *at: again.append(at))
    np.testing.assert_array_equal(resumed, omega)
    assert dict(again) == frames


def test_going_back_undoes_the_parts_that_were_kept(tmp_path, monkeypatch):
    """A run whose step fails at frame 5, and none of whose frames was sound, is that of the shorter step throughout."""
    plain, told = simulations.simulate, []

    def failing(testbed, level, state, frames, params, scheme, steps, begin):
        if steps == level.steps and begin >= 5 * testbed.frame:
            raise UnstableStepError("too long")
        return plain(testbed, level, state, frames, params, scheme, steps, begin)

    monkeypatch.setattr(simulations, "simulate", failing)
    monkeypatch.setattr(simulations, "stable_rate", lambda *_: 0.0)
    monkeypatch.setattr(simulations, "SAVE_EVERY", 0.0)
    run, parts = Run(SMALL, SMALL.forecast, 8), tmp_path / "parts"
    omega = simulate_resumable(run, parts, shorter=lambda *at: told.append(at))
    assert told == [(0, 9)] and not parts.exists()
    np.testing.assert_array_equal(omega, simulate_resumable(dataclasses.replace(run, steps=9), tmp_path / "other"))


def test_simulate_records_a_shorter_step(tmp_path, capsys):
    grid = SMALL.forecast.grid
    np.save(tmp_path / "fast.npy", 68 * np.sin(grid.x)[:, None] * np.sin(2 * grid.y))  # as large as may be
    out, record = tmp_path / "a.npz", tmp_path / "a.json"
    arguments = ["simulate", *ON_SMALL, "--level", "lr", "--frames", "3", "--initial", str(tmp_path / "fast.npy")]
    assert cli.main([*arguments, "--out", str(out), "--json", str(record)]) == 0
    shorter = json.loads(record.read_text())["config"]["shorter_steps"]
    assert int(shorter["0"]) > SMALL.forecast.steps
    assert f"the step became too long: {shorter['0']} steps a frame from t = 0 on" in capsys.readouterr().out
    fails(capsys, [*arguments, "--out", str(out), "--steps", "6"], "became unstable by t = 0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["assimilate", "--membrs", "5"], "Unrecognized options: --membrs, 5 Perhaps you meant: --members"),
        (["assimilate", "--members", "ten"], "invalid literal for int() with base 10: 'ten'"),
        (["simulate"], "Missing from jaxsrda simulate: --out PATH"),
        (["frobnicate"], "Available subcommands: simulate, train"),
        ([], "Expected one of {simulate,train"),
        (["train", "--out", "a.npz", "--minutes", "0"], "minutes: expected a finite number above 0, got 0"),
    ],
)
def test_arguments_that_mean_nothing_are_one_line(capsys, arguments, message):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message.replace(" ", "") in error.replace(" ", ""), error
