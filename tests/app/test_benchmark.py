"""`jaxsrda benchmark`: rows of methods and of analyses, what it exports, and how it refuses."""

import json
import shlex

import numpy as np
import pytest
import xarray
from benchmark.conftest import protocol, truths  # noqa: F401
from helpers import TESTBED

from jaxsrda.app.cli import main as cli
from jaxsrda.app.cli.benchmark import Benchmark
from jaxsrda.app.cli.common import command_of
from jaxsrda.benchmark import read_row
from jaxsrda.benchmark.protocol import draws_of

BASE = ["benchmark", "--protocol", "smallest", "--reference", "none"]
HOLD = [*BASE, "benchmark.methods:hold"]


def fails(capsys, arguments, message):
    """The command ends with 2 and one line that holds `message`, without a traceback."""
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error, error


def test_a_row_a_table_and_its_command(protocol, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    assert cli.main([*HOLD, "--tasks", "speed", "--truths", "1", "--note", "two fields"]) == 0
    out = capsys.readouterr().out
    row = read_row(tmp_path / "leaderboard" / "smallest" / "hold.json")
    score = row["tasks"]["speed"]["scores"]["maer"]["mean"]
    assert f"{score:.3f}" in out and "a cycle of speed" in out and row["note"] == "two fields"
    assert row["protocol"] == {
        "name": "smallest",
        "fingerprint": protocol.fingerprint,
        "tasks": ["lattice-4", "speed"],
        "truth_seeds": [0, 1],
    }
    command = row["tasks"]["speed"]["command"]
    again = cli.parse(shlex.split(command)[1:])
    assert isinstance(again, Benchmark) and again.method == "benchmark.methods:hold" and again.tasks == ("speed",)
    # A later run of another task leaves it; that scores of other code are kept is not said.
    assert cli.main([*HOLD, "--tasks", "lattice-4", "--truths", "1", "--reuse-any-code"]) == 0
    row = read_row(tmp_path / "leaderboard" / "smallest" / "hold.json")
    assert row["tasks"]["speed"]["command"] == command and row["note"] == "two fields" and "command" not in row
    assert row["tasks"]["lattice-4"]["command"] == command.replace("speed", "lattice-4").replace(
        " --note 'two fields'", ""
    )


def test_commands_of_all_options():
    given = Benchmark("enkf-sr", tasks=("speed",), set=(("members", "4"), ("additive", "0.2")), reuse_any_code=True)
    words = command_of("benchmark", given)
    assert words == "jaxsrda benchmark enkf-sr --tasks speed --set members 4 --set additive 0.2 --reuse-any-code"
    assert cli.parse(shlex.split(words)[1:]) == given


def test_refusals_are_one_line(protocol, tmp_path, capsys):  # noqa: F811
    out = ["--out", str(tmp_path / "rows")]
    fails(capsys, ["benchmark", "--protocol", "jet-v2"], "protocol: expected one of jet-v1, jet-small-v1")
    fails(capsys, BASE, "benchmark: expected a method; give package.module:attribute, a name, or analyses")
    fails(capsys, [*BASE, "enkf-rs"], "or one of enkf-hr")
    fails(capsys, [*BASE, "no_module:x"], "no_module:x: expected a module no_module, found none")
    fails(capsys, [*BASE, "benchmark.methods:gone"], "benchmark.methods has no gone; it has")
    fails(capsys, [*BASE, "benchmark.methods:number"], "expected a function Setup → Assimilator")
    fails(capsys, [*BASE, *out, "benchmark.methods:wrong_frames"], "task lattice-4: benchmark.methods:wrong_frames")
    fails(capsys, [*HOLD, "--tasks", "sparse"], "task: expected one of lattice-4, speed; got 'sparse'")
    fails(capsys, [*HOLD, "--truths", "9"], "truths: smallest has 2, expected 1 to 2, got 9")
    fails(capsys, [*HOLD, "--name", "../row"], "--name: expected letters, digits")
    ours = "name: enkf-hr is a method of ours, and this is benchmark.methods:hold; choose another --name"
    fails(capsys, [*HOLD, "--name", "enkf-hr", *out], ours)
    fails(capsys, [*HOLD, "--set", "members", "4"], "members: benchmark.methods:hold is a value with settings")
    fails(capsys, [*BASE, "enkf-sr", "--set", "members", "4", "--set", "members", "5"], "--set: an option is given")
    (tmp_path / "file").write_text("")
    fails(capsys, [*HOLD, "--out", str(tmp_path / "file")], "--out: expected a folder that can be made")
    fails(capsys, [*HOLD, "--export", str(tmp_path)], "--export: writes files for other programs and scores nothing")


# Analyses of other programs -------------------------------------------------------------------


def analyses(members=3, seeds=(0, 1), **changes):
    """Truths with errors of some members, as a dataset like one of another program."""
    noise = np.random.default_rng(0).normal(size=(len(seeds), members, *truths(TESTBED, (0,)).shape[1:]))
    omega = truths(TESTBED, seeds)[:, None] + 0.5 * noise
    omega[..., [0, -1]] = 0
    coords = {"time": TESTBED.frame * np.arange(omega.shape[2]), "x": TESTBED.grid.x, "y": TESTBED.grid.y}
    dims = ("truth", "member", "time", "x", "y")
    return xarray.Dataset({"omega": (dims, omega.astype("f4"))}, coords).assign(**changes)


def test_analyses_of_another_program(protocol, tmp_path, capsys):  # noqa: F811
    folder, out = tmp_path / "mine", tmp_path / "rows"
    folder.mkdir()
    given = analyses()
    # In another order of axes and of y, which the coordinates say.
    given.transpose("time", "member", "y", "truth", "x").isel(y=slice(None, None, -1)).to_netcdf(folder / "speed.nc")
    (folder / "notes.txt").write_text("not one of them")
    assert cli.main([*BASE, str(folder), "--out", str(out)]) == 0
    row = json.loads((out / "smallest" / "mine.json").read_text())
    entry = row["tasks"]["speed"]
    assert list(row["tasks"]) == ["speed"] and entry["members"] == 3 and not row["cost"]
    error = given["omega"].mean("member").values - truths(TESTBED, (0, 1))
    rmse = np.sqrt((error[:, 4:] ** 2).mean((2, 3))).mean(1)
    assert entry["per_truth"]["rmse"] == pytest.approx(rmse, rel=1e-5)
    assert {"crps", "energy", "variogram", "crps_change", "spread_skill_block8"} <= set(entry["scores"])
    capsys.readouterr()
    fails(
        capsys, [*BASE, str(folder), "--tasks", "lattice-4", "--out", str(out)], "expected a file lattice-4.nc, found"
    )
    (folder / "speed.npz").write_bytes(b"")
    fails(capsys, [*BASE, str(folder), "--out", str(out)], "expected one file a task, got speed.nc and speed.npz")


def test_tasks_are_added_to_a_row_of_analyses(protocol, tmp_path, capsys):  # noqa: F811
    """Only a task whose file changed is scored anew."""
    run = [*BASE, str(tmp_path / "mine"), "--out", str(tmp_path / "rows")]
    (tmp_path / "mine").mkdir()
    analyses(1).to_netcdf(tmp_path / "mine" / "speed.nc")
    assert cli.main(run) == 0
    first = read_row(tmp_path / "rows" / "smallest" / "mine.json")["tasks"]
    analyses(2).to_netcdf(tmp_path / "mine" / "lattice-4.nc")
    assert cli.main(run) == 0
    second = read_row(tmp_path / "rows" / "smallest" / "mine.json")["tasks"]
    assert second["speed"] == first["speed"] and second["lattice-4"]["members"] == 2
    analyses(3).to_netcdf(tmp_path / "mine" / "lattice-4.nc")
    assert cli.main(run) == 0
    assert "the analyses of lattice-4 have changed since; they are scored anew" in capsys.readouterr().err
    third = read_row(tmp_path / "rows" / "smallest" / "mine.json")["tasks"]
    assert third["speed"] == first["speed"] and third["lattice-4"]["members"] == 3


def test_a_folder_does_not_stand_before_a_method(protocol, tmp_path, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "enkf-sr").mkdir()
    fails(capsys, [*BASE, "enkf-sr", "--set", "member", "4"], "member: not an option of enkf-sr")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda given: given.isel(time=slice(8)), "task speed: expected all 8 frames from t = 1 on, got 4"),
        (lambda given: given.isel(truth=[0]), "expected analyses of 2 truth(s), got 1"),
        (lambda given: given.isel(x=slice(16)), "expected a grid of 32 × 17 points"),
        (lambda given: given.where(given["time"] < 2), "expected finite numbers"),
        (lambda given: given.rename(omega="vorticity"), "expected a variable 'omega', found vorticity"),
    ],
    ids=["times", "truths", "grid", "finite", "name"],
)
def test_analyses_that_do_not_match(protocol, tmp_path, capsys, change, message):  # noqa: F811
    change(analyses(1)).to_netcdf(tmp_path / "some.nc")
    arguments = [*BASE, str(tmp_path / "some.nc"), "--out", str(tmp_path / "rows")]
    fails(capsys, arguments, "the analyses of which task? Add --tasks with one of lattice-4, speed")
    fails(capsys, [*arguments, "--tasks", "speed"], message)


def test_what_is_exported_is_what_a_method_sees(protocol, tmp_path, monkeypatch):  # noqa: F811
    from helpers import setup

    from jaxsrda.app import benchmark_files

    monkeypatch.setattr(benchmark_files, "simulate_truth", truths)
    monkeypatch.setattr(benchmark_files, "default_climatology", lambda testbed: setup().climatology)
    assert cli.main(["benchmark", "--protocol", "smallest", "--export", str(tmp_path / "given")]) == 0
    with xarray.open_dataset(tmp_path / "given" / "observations" / "lattice-4.nc") as seen:
        assert seen.attrs["fingerprint"] == protocol.fingerprint and seen.attrs["operator"] == "vorticity"
        one = (seen["obs_truth"] == 1) & (seen["obs_time"] == 2)
        values = seen["obs_value"][one].values
        i, j = (np.rint(seen[name][one].values).astype(int) for name in ("obs_x_index", "obs_y_index"))
        assert set(np.unique(seen["obs_time"])) == {0, 1, 2} and np.allclose(seen["obs_variance"], 0.01)
    drawn = draws_of(protocol, protocol.task("lattice-4"))
    noise = np.asarray(drawn.values)[1, 2][np.asarray(drawn.mask)[1, 2]]
    np.testing.assert_allclose(values, truths(TESTBED, (1,))[0, 8][i, j] + noise, atol=1e-5)
    with xarray.open_dataset(tmp_path / "given" / "climatology.nc") as known:
        assert known["omega"].dims == ("truth", "time", "x", "y") and known.sizes["x"] == 32
    assert json.loads((tmp_path / "given" / "protocol.json").read_text())["tasks"][1]["operator"] == "speed"
    assert not list((tmp_path / "given").rglob("*truth*"))
