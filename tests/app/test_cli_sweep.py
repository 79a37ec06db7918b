"""The `sweep` command: what it writes, what it refuses before any work, and presets that `assimilate` takes."""

import csv
import json

import numpy as np
import pytest
from app.test_cli import ON_SMALL, fails, frames_of, small_climatology, three_starts  # noqa: F401

import jaxsrda
from jaxsrda.app.cli import main as cli
from jaxsrda.app.cli.assimilate import Assimilate
from jaxsrda.app.cli.sweep import Sweep
from jaxsrda.experiment.trials import SweepResult, Trial
from jaxsrda.flow.testbed import jet_small

SMALL = jet_small()
START = ["sweep", *ON_SMALL, "--method", "persistence"]


@pytest.fixture
def truth_file(tmp_path):
    np.save(tmp_path / "truth.npy", frames_of(SMALL))
    return str(tmp_path / "truth.npy")


def test_sweep_writes_records_tables_pictures_and_presets(tmp_path, capsys, truth_file):
    record, table, best, pictures = (tmp_path / name for name in ("s.json", "s.csv", "best.json", "pictures"))
    settings = ["--grid", "localization", "0.4", "0.8", "--grid", "inflation", "0.9", "1.1", "--grid", "members", "4"]
    outputs = ["--json", str(record), "--csv", str(table), "--preset", str(best), "--plot", str(pictures)]
    assert cli.main([*START, "--truth", truth_file, *settings, *outputs]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "persistence, 4 settings × 1 truth; best by CRPS" in printed and f"preset: {best}" in printed
    kept = json.loads(record.read_text())
    crps = [row["scores"]["crps"] for row in kept["settings"]]
    assert [row["parameters"] for row in kept["settings"]] == jaxsrda.grid_settings(
        localization=[0.4, 0.8], inflation=[0.9, 1.1], members=[4]
    )
    assert kept["best"]["scores"]["crps"] == min(crps) and kept["settings"][0]["per_truth"]["crps"] == crps[:1]
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["crps"]) for row in rows] == crps and rows[3]["localization"] == "0.8"
    assert {row["finite"] for row in rows} == {"true"} and {path.name for path in pictures.iterdir()} == {
        "parallel.png",
        "heat.png",
    }
    # The preset is what `assimilate` runs with.
    told = Assimilate(method="persistence", testbed="jet-small", tuning=str(best), members=5).experiment()
    wanted = kept["best"]["parameters"] | {"members": 5}
    assert {name: getattr(told.config, name) for name in wanted} == wanted
    fails(capsys, ["assimilate", *ON_SMALL, "--method", "enkf-sr", "--tuning", str(best)], "a preset of persistence")


def search_with(*more):
    return [*START, "--search", "8", "--random", "localization", "0.3", "1.0", *more]


def test_search_prints_and_writes(tmp_path, capsys, truth_file):
    pytest.importorskip("optuna")
    storage, record = tmp_path / "search.log", tmp_path / "s.json"
    more = ["--truth", truth_file, "--grid", "members", "4", "--storage", str(storage), "--json", str(record)]
    assert cli.main(search_with(*more)) == 0
    assert "persistence, 8 settings × 1 truth" in capsys.readouterr().out and storage.exists()
    assert len(json.loads(record.read_text())["settings"]) == 8


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "sweep: expected settings; give --grid, --random, --list or --search"),
        (["--grid", "additve", "1", "2"], "did you mean additive"),
        (["--grid", "localization", "0.4", "--grid", "localization", "0.5"], "--grid: localization is given twice"),
        (["--grid", "localization"], "localization: expected a sequence of at least one value"),
        (["--grid", "localization", "x"], "localization: expected a finite number, got 'x'"),
        (["--random", "rtps", "0", "1"], "--random: how many settings? Add --samples 64"),
        (["--grid", "rtps", "0", "--samples", "3"], "--samples: of no effect without --random"),
        (["--random", "members", "3", "9", "--samples", "3"], "members: every value of it would be compiled"),
        (["--random", "rtps", "0", "1", "--samples", "3", "--search", "9"], "--search: expected ranges"),
        (["--search", "9"], "--search: expected ranges, --random additive 0.01 0.3"),
        (["--grid", "rtps", "0", "--storage", "x"], "of no effect without --search"),
        (["--grid", "inflation", "1", "--by", "spread"], "by: expected a score of which less is better"),
        (["--grid", "inflation", "1", "--truths", "0"], "truths: expected a finite number above 0"),
        (["--grid", "inflation", "1", "--csv", "gone/a.csv"], "expected an existing folder gone"),
        (["--grid", "inflation", "1", "--json", "a.json", "--preset", "a.json"], "is the record's file too"),
        (["--grid", "inflation", "1", "--truth", "t.npy", "--truths", "2"], "of no effect beside --truth"),
        (["--list", "gone.csv"], "list gone.csv: expected a CSV or JSON file"),
        (["--grid", "inflation", "1", "--method", "nudging"], "method: expected one of"),
    ],
)
def test_what_sweep_refuses_before_any_work(capsys, monkeypatch, tmp_path, options, message):
    monkeypatch.chdir(tmp_path)
    fails(capsys, [*START, *options], message)
    assert not list(tmp_path.iterdir())


def test_options_reach_the_sweep():
    told = Sweep(
        method="diffsrda",
        grid=(("guidance", "oi", "mmps"), ("guide_on", "all"), ("steps", "4", "8")),
        random=(("strength", 0.1, 1.0),),
        samples=3,
        layout="lattice:4",
        obs_noise=0.2,
        seed=4,
    )
    settings = told.settings()
    assert len(settings) == 3 * 2 * 2 and settings[0].keys() == {"strength", "guidance", "guide_on", "steps"}
    given = told.experiment(settings[0])
    assert given.seed == 4 and given.sensors[0].noise_std == 0.2 and given.config.guide_on == "all"
    planned = jaxsrda.Sweep(given, settings)
    config = planned.config(planned.settings[-1])
    assert config.guidance.strength == settings[-1]["strength"] and config.steps == 8


# Pictures -------------------------------------------------------------------------------------


def result_of(settings, scores):
    frame = np.outer(np.sin(SMALL.grid.x), np.sin(SMALL.grid.y))
    given = jaxsrda.Experiment("enkf-sr", np.broadcast_to(frame, (1, 8, *frame.shape)), testbed=SMALL)
    per_truth = [{name: np.array([score]) for name in ("crps", "maer", "spread_skill")} for score in scores]
    trials = [Trial(s, p, bool(np.isfinite(p["crps"][0]))) for s, p in zip(settings, per_truth)]
    return SweepResult(given, "crps", tuple(trials), {"compile": 0.0, "run": 0.0})


def test_heat_maps_are_of_grids(tmp_path):
    from jaxsrda.app import sweep_pictures

    settings = jaxsrda.grid_settings(additive=[0.1, 0.2], rtps=[0.0, 0.5], members=[5])
    whole = result_of(settings, [0.3, np.nan, 0.2, 0.4])
    assert sweep_pictures.grid_axes(whole) == {"additive": [0.1, 0.2], "rtps": [0.0, 0.5]}
    sweep_pictures.plot_heat(tmp_path / "heat.png", whole)
    table = sweep_pictures._table(whole, sweep_pictures.grid_axes(whole), ("additive", "rtps"))
    np.testing.assert_array_equal(table, [[0.3, 0.2], [np.nan, 0.4]])
    part = result_of(settings[:3], [0.3, 0.3, 0.3])
    assert sweep_pictures.grid_axes(part) == {}
    with pytest.raises(ValueError, match="heat map: expected a grid of at least two options"):
        sweep_pictures.plot_heat(tmp_path / "heat.png", part)


@pytest.mark.parametrize(
    "settings, scores",
    [
        (jaxsrda.random_settings(20, additive=(0.01, 0.3), rtps=(0.0, 0.9)), np.linspace(0.1, 2, 20)),
        (jaxsrda.grid_settings(prior=["dual", "lr"], steps=[4, 8]), [0.2, np.nan, 0.2, 0.2]),
        ([{"additive": 0.1}], [0.3]),
        ([{"additive": 0.1}, {"rtps": 0.5}], [0.3, 0.2]),
    ],
    ids=["random", "names", "one", "lists"],
)
def test_parallel_coordinates(tmp_path, settings, scores):
    from jaxsrda.app import sweep_pictures

    sweep_pictures.plot_parallel(tmp_path / "p.svg", result_of(settings, scores))
    text = (tmp_path / "p.svg").read_text()
    assert len(text) > 4000 and text.endswith("</svg>\n")


def test_scales():
    from jaxsrda.app.sweep_pictures import Scale

    log, linear, words = (
        Scale("additive", [0.01, 0.1, 1.0]),
        Scale("rtps", [0.1, 0.5, 0.9]),
        Scale("prior", ["lr", None]),
    )
    assert (log(0.1), linear(0.5), words("lr")) == (pytest.approx(0.5), pytest.approx(0.5), 0.25)
    assert words.ticks() == [(0.25, "lr"), (0.75, "preset")] and log.ticks()[0] == (0.0, "0.01")
