"""The command line in one process: what it writes, how it fails, and that a kill loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

from jaxsrda.app.cli import main as cli
from jaxsrda.experiment import truth as twin
from jaxsrda.flow import climatology
from jaxsrda.flow import simulate as runs
from jaxsrda.flow.jet import initial_state, truth_key
from jaxsrda.flow.simulate import simulate, to_level
from jaxsrda.flow.testbed import LEVELS, level_grid

HR = LEVELS["hr"]


def run_states(seed, frames):
    start = initial_state(truth_key(seed), level_grid(HR))
    return simulate(HR, start[None], frames)


@pytest.fixture(scope="session")
def truth():
    """Eight HR frames of a truth, two assimilation times."""
    return np.asarray(jax.lax.map(lambda state: to_level(HR, HR, state), run_states(5, 8)[0]))


@pytest.fixture(autouse=True)
def small_climatology(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path / "cache"))
    start = jnp.stack([initial_state(climatology.training_key(i), level_grid(HR)) for i in range(3)])
    small = climatology.from_runs(level_grid(HR), start[:, None])
    monkeypatch.setattr(twin, "default_climatology", lambda: small)


@pytest.fixture
def truth_file(tmp_path, truth):
    np.save(tmp_path / "truth.npy", truth)
    return str(tmp_path / "truth.npy")


def fails(capsys, arguments, message):
    """The command ends with 2 and one line that holds `message`, without a traceback."""
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error, error


# assimilate and evaluate ----------------------------------------------------------------------


def test_assimilate_writes_what_evaluate_reads(tmp_path, capsys, truth, truth_file):
    out, record, pictures = tmp_path / "a.nc", tmp_path / "a.json", tmp_path / "pictures"
    arguments = ["assimilate", "--method", "enkf-sr", "--members", "6", "--truth", truth_file, "--out", str(out)]
    arguments += ["--json", str(record), "--plot", str(pictures), "--save-members"]
    assert cli.main(arguments) == 0
    assert "MAER" in capsys.readouterr().out
    written = json.loads(record.read_text())
    assert written["method"] == "enkf-sr" and written["finite"] and written["config"]["filter"]["members"] == 6
    assert set(written["seconds"]) == {"compile", "run"}
    with xarray.open_dataset(out, engine="h5netcdf") as dataset:
        assert dataset["omega"].dims == ("member", "time", "x", "y")
        assert dataset["obs_value"].size == 2 * 128
        mean = dataset["omega_mean"].values
        np.testing.assert_allclose(dataset["omega"].mean("member"), mean, atol=1e-10)
    expected = np.mean(abs(mean - truth)[4:].sum((1, 2)) / abs(truth)[4:].sum((1, 2)))
    assert written["scores"]["maer"]["mean"] == pytest.approx(expected, rel=1e-6)
    assert len(written["series"]["maer"]) == 4
    names = {"fields.png", "series.png", "spectra.png", "rank_histogram.png"}
    assert {path.name for path in pictures.iterdir()} == names

    again = tmp_path / "b.json"
    assert cli.main(["evaluate", str(out), "--json", str(again), "--truth", truth_file]) == 0
    evaluated = json.loads(again.read_text())["scores"]
    for name, value in evaluated.items():
        assert value["mean"] == pytest.approx(written["scores"][name]["mean"], rel=1e-5), name


def test_several_truths_and_evaluation_without_members(tmp_path, truth):
    both = tmp_path / "truths.npz"
    np.savez(both, omega=np.stack([truth, truth[:, ::-1]]))
    out, record, again = tmp_path / "a.zarr", tmp_path / "a.json", tmp_path / "b.json"
    arguments = [
        "assimilate",
        "--method",
        "persistence",
        "--truth",
        str(both),
        "--out",
        str(out),
        "--json",
        str(record),
    ]
    assert cli.main(arguments) == 0
    scores = json.loads(record.read_text())["scores"]["maer"]
    assert scores["low"] <= scores["mean"] <= scores["high"] and scores["low"] < scores["high"]
    assert cli.main(["evaluate", str(out), "--json", str(again)]) == 0
    assert json.loads(again.read_text())["scores"]["maer"]["mean"] == pytest.approx(scores["mean"], rel=1e-5)


def test_two_kinds_of_sensors_are_assimilated_together(tmp_path, capsys, truth_file):
    """The second set moves the analysis, is in the file with its own values, and is named in the record."""
    errors = {}
    arguments = ["assimilate", "--method", "enkf-sr", "--members", "6", "--truth", truth_file, "--layout", "lattice:16"]
    second = ["--guide-layout", "random-fixed:64", "--guide-operator", "velocity-x"]
    second += ["--guide-noise", "0.02", "--guides-assimilated"]
    for name, more in {"one": [], "both": second}.items():
        out, record = tmp_path / f"{name}.nc", tmp_path / f"{name}.json"
        assert cli.main([*arguments, *more, "--out", str(out), "--json", str(record)]) == 0
        written = json.loads(record.read_text())
        errors[name] = written["scores"]["maer"]["mean"]
    assert abs(errors["both"] / errors["one"] - 1) > 1e-5  # little: the members have hardly spread yet
    assert "6 members, lattice:16 and random-fixed:64, 1 truth" in capsys.readouterr().out
    assert written["config"]["guide_assimilated"] and written["config"]["guide_operator"] == "velocity-x"
    with xarray.open_dataset(out, engine="h5netcdf") as dataset:
        assert dataset["obs_guides"].values.sum() == 2 * 64 and dataset["obs_value"].size == 2 * (32 + 64)


def test_new_sensors_guide_from_the_command_line(tmp_path, capsys, truth_file):
    """The released model fits sensors that it was not told of, is better with them, and the record names them."""
    scores, arguments = {}, ["assimilate", "--truth", truth_file, "--members", "4"]
    guiding = ["--guide-layout", "lattice:4", "--guide-noise", "0.05", "--guidance", "oi", "--strength", "1.5"]
    for name, more in {"without": [], "guided": guiding}.items():
        out, record = tmp_path / f"{name}.nc", tmp_path / f"{name}.json"
        assert cli.main([*arguments, *more, "--out", str(out), "--json", str(record)]) == 0
        written = json.loads(record.read_text())
        scores[name] = written["scores"]["maer"]["mean"]
    assert scores["guided"] < 0.9 * scores["without"]
    assert "4 members, lattice:8, guided by lattice:4, 1 truth" in capsys.readouterr().out
    assert written["config"]["guide_layout"] == "lattice:4" and written["config"]["guide_std"] == 0.05
    assert written["config"]["filter"]["guidance"] == "oi" and written["config"]["filter"]["strength"] == 1.5
    with xarray.open_dataset(out, engine="h5netcdf") as dataset:
        assert dataset["obs_guides"].values.sum() == 2 * 512 and dataset["obs_value"].size == 2 * (128 + 512)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "enkf-hd"], "did you mean 'enkf-hr'?"),
        (["--guides-assimilated"], "guides_assimilated: there are no further sensors; give a guide_layout"),
        (["--guides-assimilated", "--guide-layout", "lattice:4", "--guidance", "oi"], "are assimilated or they guide"),
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
        (["--members", "1"], "members: the dual prior filters as many LR members, expected 2 or more"),
        (["--truths", "0"], "truths: expected a finite number above 0, got 0"),
        (["--truth-level", "huge"], "level: expected one of lr, hr, fine, uhr"),
        (["--obs-noise", "-1"], "obs_noise: expected a finite number above 0"),
        (["--withhold", "1"], "withhold: expected a fraction from 0 to below 1, got 1.0"),
        (["--layout", "nowhere.csv"], "expected a file of positions"),
    ],
)
def test_bad_options_are_refused_at_once(capsys, monkeypatch, tmp_path, truth_file, arguments, message):
    monkeypatch.chdir(tmp_path)
    truth = [] if {"--truth", "--truth-level"} & set(arguments) else ["--truth", truth_file]
    fails(capsys, ["assimilate", *arguments, *truth], message)


def test_bad_truths_are_refused(capsys, tmp_path, truth):
    path = tmp_path / "truth.npy"
    np.save(path, truth[:, :-1])
    fails(capsys, ["assimilate", "--truth", str(path)], "expected a grid of 128 × 65")
    np.save(path, truth[:7])
    fails(capsys, ["assimilate", "--truth", str(path)], "expected at least 8 frames")
    np.save(path, truth[0])
    fails(capsys, ["assimilate", "--truth", str(path)], "expected the axes")
    holed = truth.copy()
    holed[3, 5, 6] = np.nan
    np.save(path, holed)
    fails(capsys, ["assimilate", "--truth", str(path)], "first at index (3, 5, 6)")
    path.write_bytes(b"\x93NUMPY")
    fails(capsys, ["assimilate", "--truth", str(path)], "could not read it")


def test_own_sensor_positions(capsys, tmp_path, truth_file):
    sensors = tmp_path / "sensors.csv"
    np.savetxt(sensors, [[1.0, 1.0], [4.0, 2.0]], delimiter=",")
    arguments = ["assimilate", "--method", "persistence", "--truth", truth_file, "--layout", str(sensors)]
    out = tmp_path / "a.nc"
    assert cli.main([*arguments, "--out", str(out)]) == 0
    with xarray.open_dataset(out, engine="h5netcdf") as dataset:
        np.testing.assert_allclose(dataset["obs_x"], [1, 4, 1, 4])
    np.savetxt(sensors, [[1.0, 4.0]], delimiter=",")
    fails(capsys, arguments, "expected x in [0, 2π) and y in [0, π], got 1 outside")


def test_evaluate_refuses_what_does_not_match(capsys, tmp_path, truth_file, truth):
    bad = tmp_path / "a.npz"
    np.savez(bad, omega_mean=truth[:, :, :-1], omega_std=truth[:, :, :-1])
    fails(capsys, ["evaluate", str(bad), "--truth", truth_file], "expected analyses of truths × frames × nx × ny")
    np.savez(bad, other=truth)
    fails(capsys, ["evaluate", str(bad), "--truth", truth_file], "expected a variable 'omega'")


# simulate -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nc", ".zarr", ".npz"])
def test_simulate(tmp_path, suffix):
    out = tmp_path / f"run{suffix}"
    assert cli.main(["simulate", "--level", "lr", "--frames", "5", "--out", str(out), "--seed", "3"]) == 0
    from jaxsrda.app.datasets import read_fields

    omega = read_fields(out)
    level = LEVELS["lr"]
    states = simulate(level, initial_state(truth_key(3), level_grid(level))[None], 5)[0]
    expected = jax.lax.map(lambda state: to_level(level, level, state), states)
    assert omega.shape == (5, 32, 17)
    np.testing.assert_allclose(omega, expected, atol=1e-10)


def test_simulate_goes_on_from_a_field(tmp_path):
    first, second, whole = (tmp_path / name for name in ("a.npz", "b.npz", "c.npz"))
    assert cli.main(["simulate", "--level", "lr", "--frames", "3", "--out", str(first)]) == 0
    arguments = ["simulate", "--level", "lr", "--frames", "3", "--out", str(second), "--initial", str(first)]
    assert cli.main(arguments) == 0
    assert cli.main(["simulate", "--level", "lr", "--frames", "5", "--out", str(whole)]) == 0
    np.testing.assert_allclose(np.load(second)["omega"], np.load(whole)["omega"][2:], atol=1e-9)


def test_simulate_refuses(capsys, tmp_path):
    out = str(tmp_path / "a.nc")
    fails(capsys, ["simulate", "--level", "lr", "--out", out, "--frames", "0"], "frames: expected at least 1")
    fails(capsys, ["simulate", "--level", "lr", "--out", out, "--steps", "1"], "became unstable by t = 0")
    fails(capsys, ["simulate", "--level", "lr", "--out", out, "--scheme", "rk4"], "scheme: expected one of etdrk4, rk2")
    np.save(tmp_path / "start.npy", np.zeros((32, 16)))
    arguments = ["simulate", "--level", "lr", "--out", out, "--initial", str(tmp_path / "start.npy")]
    fails(capsys, arguments, "initial field: expected shape (32, 17), got (32, 16)")
    assert not (tmp_path / "a.nc").exists()


def test_a_run_goes_on_after_kill_9(tmp_path):
    """A killed run leaves its parts; the same command again finishes with the numbers of an undisturbed run."""
    code = (
        "import sys; from jaxsrda import cli, runs; runs.SAVE_EVERY = 0.0;"
        "from jaxsrda.runs import simulate_resumable as s;"
        "sys.exit(cli.main(['simulate', '--level', 'lr', '--frames', '400', '--out', sys.argv[1]]))"
    )
    out = tmp_path / "run.npz"
    parts = tmp_path / ".run.npz.parts"
    process = subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(parts.glob("part-*.npz"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(list(parts.glob("part-*.npz")))
    assert 3 <= kept < 399 and not out.exists()
    done = []
    with jax.enable_x64(False):  # as the killed process ran
        omega = runs.simulate_resumable(runs.Run(LEVELS["lr"], 400), parts, progress=lambda n, total: done.append(n))
        straight = runs.simulate_resumable(runs.Run(LEVELS["lr"], 400), tmp_path / "other")
    assert done[0] >= kept  # nothing was run twice
    np.testing.assert_array_equal(omega, straight)
    assert not parts.exists()


def test_parts_of_another_run_are_refused(tmp_path):
    (tmp_path / "parts").mkdir()
    np.savez(tmp_path / "parts" / "part-0000.npz", omega=np.zeros((1, 32, 17)), state=np.zeros((21, 10)), run="other")
    with pytest.raises(ValueError, match="holds parts of another run"):
        runs.simulate_resumable(runs.Run(LEVELS["lr"], 3), tmp_path / "parts")


# The process ----------------------------------------------------------------------------------


def test_info(capsys, tmp_path):
    assert cli.main(["info", "--json", str(tmp_path / "info.json")]) == 0
    written = json.loads((tmp_path / "info.json").read_text())
    assert "enkf-dual" in written["methods"] and written["levels"]["hr"]["nx"] == 128
    assert "enkf-dual" in capsys.readouterr().out


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
