"""A sweep is its runs, compiled once; what is kept of it, and what is refused."""

import dataclasses
import errno
import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import SENSORS, TESTBED, observed, setup, truth

import jaxsrda
from jaxsrda.core import files
from jaxsrda.core.interrupts import Interrupted
from jaxsrda.core.provenance import stamped
from jaxsrda.diffsrda import model as models
from jaxsrda.diffsrda.model import Model, ModelConfig
from jaxsrda.experiment import batch, runner, scan, trials
from jaxsrda.experiment.registry import method_preset
from jaxsrda.experiment.sweep import Sweep, experiment_key, run_sweep
from jaxsrda.experiment.trials import SweepResult, Trial
from jaxsrda.filters.config import FilterConfig

CONFIG = FilterConfig(members=3, localization=1.0)
grid = jaxsrda.grid_settings


@functools.cache
def truths(cycles):
    return np.stack([np.asarray(truth(cycles, seed=i)) for i in range(2)])


def experiment(method="persistence", cycles=2, **options):
    told = {"config": CONFIG, "sensors": SENSORS, "climatology": setup().climatology, "testbed": TESTBED} | options
    return jaxsrda.Experiment(method, truths(cycles), **told)


def assert_as_assimilated(given, settings, result):
    assert [trial.parameters for trial in result.trials] == settings
    for trial in result.trials:
        config = jaxsrda.Sweep(given, [trial.parameters]).config(trial.parameters)
        alone = jaxsrda.run(dataclasses.replace(given, config=config)).per_truth
        assert set(trial.per_truth) == set(alone)
        for name, values in alone.items():
            np.testing.assert_allclose(trial.per_truth[name], values, rtol=1e-6, atol=1e-9, err_msg=name)
        assert trial.finite and trial.mean["crps"] == pytest.approx(alone["crps"].mean(), rel=1e-9)


def test_settings_are_those_of_assimilate():
    """Traced numbers and static ones around them, on two truths."""
    given, settings = experiment(), [{"members": 4, "localization": 0.8}, {"inflation": 1.3}]
    assert_as_assimilated(given, settings, run_sweep(Sweep(given, settings)))


def model_of(seed=0):
    kind = ModelConfig.of(TESTBED, network="tiny")
    return Model(kind, models.network(kind).initial(seed), np.full(kind.frames, 0.3, np.float32))


@pytest.mark.usefixtures("smallest")
def test_settings_of_a_guided_model_are_those_of_assimilate():
    """Numbers of the sampler, of the guide and of the prior's filter in one program."""
    config = jaxsrda.DiffSRDAConfig(members=2, steps=2, sampler="ddim", guidance=jaxsrda.OI(1.0, 2), guide_on="all")
    given = experiment("diffsrda", config=config, model=model_of())
    settings = [{"eta": 0.3, "strength": 0.2, "prior_additive": 0.2}, {"eta": 0.9, "prior_localization": 0.5}]
    settings[1]["prior_additive"] = 0.07
    scan.program.cache_clear()
    result = run_sweep(Sweep(given, settings))
    assert len({tuple(trial.per_truth["crps"]) for trial in result.trials}) == 2
    assert_as_assimilated(given, settings, result)
    with pytest.raises(ValueError, match="prior_viscosity: of no effect on diffsrda with these options"):
        run_sweep(Sweep(given, [{"prior_viscosity": 1e-4}]))


@pytest.mark.usefixtures("smallest")
def test_other_weights_are_another_experiment():
    one, two = (experiment("diffsrda", config=None, model=model_of(seed)) for seed in (0, 1))
    assert experiment_key(one) != experiment_key(two)


def test_static_options_are_the_outer_loop():
    given, settings = experiment(), grid(members=[3, 4], localization=[0.4, 0.6, 0.8])
    calls = []
    result = run_sweep(Sweep(given, settings, at_once=2), progress=lambda *report: calls.append(report))
    assert [done for what, done, _ in calls if what == "setting"] == [0, 2, 3, 5, 6]  # two calls for each size
    assert [trial.parameters for trial in result.trials] == settings
    assert len({trial.mean["crps"] for trial in result.trials}) == 6
    four = run_sweep(Sweep(given, settings[4:], at_once=2))
    for a, b in zip(result.trials[4:], four.trials):
        np.testing.assert_allclose(a.per_truth["crps"], b.per_truth["crps"], rtol=1e-12)


@pytest.mark.parametrize("method", ["enkf-sr", "enkf-dual-lagrange"])
def test_settings_of_filters_are_those_of_assimilate(method):
    given = experiment(method)
    settings = [
        {"additive": 0.1, "rtps": 0.5, "assumed_std": 0.3},
        {"localization": 0.6, "inflation": 1.1, "rtpp": 0.2, "representativeness": 0.2, "viscosity": 3e-4},
    ]
    if method == "enkf-sr":
        assert_as_assimilated(given, settings, run_sweep(Sweep(given, settings)))
    else:
        settings = [{"substeps": 4, **settings[1]}, {"controls": 2, "initial": 0.2}]
        del settings[0]["rtpp"]
        assert_as_assimilated(given, settings, run_sweep(Sweep(given, settings)))


def test_sixty_four_settings_compile_once(traces):
    given = experiment("traced")
    settings = grid(localization=list(np.linspace(0.3, 1.0, 8)), inflation=list(np.linspace(0.8, 1.5, 8)))
    first = run_sweep(Sweep(given, settings[:16], at_once=16))
    assert first.seconds["compile"] > 0
    traces.clear()
    result = run_sweep(Sweep(given, settings, at_once=16))
    # The only trace sees which options a step reads.
    assert result.seconds["compile"] == 0 and len(traces) == 1 and len(result.trials) == 64
    assert len({trial.mean["crps"] for trial in result.trials}) == 64
    assert result.best is min(result.trials, key=lambda trial: trial.mean["crps"])
    assert [t.mean["crps"] for t in result.ranked()] == sorted(t.mean["crps"] for t in result.trials)


def test_a_setting_that_diverged_cannot_win(tmp_path):
    record = tmp_path / "s.json"
    settings = grid(inflation=[1.0, 1e200])
    result = run_sweep(Sweep(experiment(), settings), record)
    good, bad = result.trials
    assert good.finite and not bad.finite and result.best is good and result.ranked() == [good]
    rows = json.loads(record.read_text())["settings"]
    assert rows[1]["scores"]["crps"] is None and rows[1]["per_truth"]["crps"] == [None, None] and not rows[1]["finite"]
    alone = dataclasses.replace(result, trials=(bad,))
    with pytest.raises(ValueError, match="no setting stayed finite; try less additive noise"):
        _ = alone.best


# Records --------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def test_a_sweep_goes_on_from_its_record(tmp_path, monkeypatch):
    given, settings = experiment(), grid(localization=[0.4, 0.6, 0.8, 1.0])
    record, straight = tmp_path / "s.json", tmp_path / "straight.json"
    whole = run_sweep(Sweep(given, settings, at_once=1), straight)

    def stop(what, done, total):
        if what == "setting" and done == 2:
            raise Killed

    with pytest.raises(Killed):
        run_sweep(Sweep(given, settings, at_once=1), record, stop)
    assert len(json.loads(record.read_text())["settings"]) == 2
    ran, run = [], runner.Runner.run
    monkeypatch.setattr(runner.Runner, "run", lambda self, part, *rest: ran.extend(part) or run(self, part, *rest))
    again = run_sweep(Sweep(given, settings, at_once=1), record)
    assert ran == settings[2:]
    assert [t.row()["scores"] for t in again.trials] == [t.row()["scores"] for t in whole.trials]
    first, second = (json.loads(path.read_text()) for path in (record, straight))
    assert first["settings"] == second["settings"] and first["best"] == second["best"]
    assert first["provenance"]["source"] and first["frames"] == 8 and first["method"] == "persistence"
    # All is there: nothing is run; a finer grid adds to it, and keeps what it had.
    ran.clear()
    run_sweep(Sweep(given, settings, at_once=1), record)
    assert ran == []
    finer = run_sweep(Sweep(given, grid(localization=[0.5, 0.6])), record)
    assert ran == [{"localization": 0.5}] and [t.parameters["localization"] for t in finer.trials] == [
        *(0.5, 0.6),
        *(0.4, 0.8, 1.0),
    ]
    # What other code made is run again.
    monkeypatch.setattr(trials, "same_code", lambda row: False)
    ran.clear()
    run_sweep(Sweep(given, grid(localization=[0.6])), record)
    assert ran == [{"localization": 0.6}] and len(json.loads(record.read_text())["settings"]) == 1


LOUDER = jaxsrda.Sensors("lattice:4", noise_std=0.2)


@pytest.mark.parametrize("change", [{"seed": 1}, {"sensors": LOUDER}, {"testbed": TESTBED.vary(drag=0.2)}])
def test_a_record_of_another_experiment_is_refused(tmp_path, change):
    given = experiment()
    assert experiment_key(given) == experiment_key(experiment()) != experiment_key(experiment(**change))
    record = tmp_path / "s.json"
    record.write_text(json.dumps(stamped({"key": experiment_key(given), "method": "persistence", "settings": []})))
    with pytest.raises(ValueError, match=r"s.json: holds a sweep of another experiment \(persistence, other truths"):
        run_sweep(Sweep(experiment(**change), [{"localization": 0.5}]), record)


@pytest.mark.parametrize("text", ["[]", "{", '{"scores": 1}'])
def test_a_file_that_is_no_record_is_left_alone(tmp_path, text):
    record = tmp_path / "a.json"
    record.write_text(text)
    with pytest.raises(ValueError, match=r"a.json: expected the record of a sweep or nothing there"):
        run_sweep(Sweep(experiment(), [{"localization": 0.5}]), record)
    assert record.read_text() == text


KILLED = """
import os, signal, sys
import jax
jax.config.update("jax_enable_x64", True)
from experiment.test_sweep import Sweep, experiment, grid, run_sweep

def kill(what, done, total):
    if what == "setting" and done == 2:
        os.kill(os.getpid(), signal.SIGKILL)

run_sweep(Sweep(experiment(), grid(localization=[0.4, 0.6, 0.8, 1.0]), at_once=1), sys.argv[1], kill)
"""


def in_another_process(script, *arguments, flags=""):
    xla = f"{os.environ.get('QUICK_XLA_FLAGS', '')} {flags}"
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    env = dict(os.environ, XLA_FLAGS=xla, JAX_PLATFORMS="cpu", PYTHONPATH=path)
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )


def test_a_sweep_that_was_killed_goes_on(tmp_path):
    record = tmp_path / "s.json"
    process = in_another_process(KILLED, record)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == -signal.SIGKILL, errors
    assert len(json.loads(record.read_text())["settings"]) == 2
    settings = grid(localization=[0.4, 0.6, 0.8, 1.0])
    got, wanted = (run_sweep(Sweep(experiment(), settings), path) for path in (record, None))
    for a, b in zip(got.trials, wanted.trials):
        assert a.parameters == b.parameters and a.mean["crps"] == pytest.approx(b.mean["crps"], rel=1e-9)


def test_a_sweep_on_a_full_disk_keeps_its_record(tmp_path, monkeypatch):
    """The third setting finds no space; with some, what was done is not run again."""
    record, settings, written = tmp_path / "s.json", grid(localization=[0.4, 0.6, 0.8]), []
    sync = files.os.fsync

    def full(descriptor):
        written.append(descriptor)
        if len(written) > 4:  # the file and its folder, twice
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            run_sweep(Sweep(experiment(), settings, at_once=1), record)
    kept = json.loads(record.read_text())["settings"]
    assert [row["parameters"]["localization"] for row in kept] == [0.4, 0.6] and not list(tmp_path.glob(".s-*"))
    told = []
    result = run_sweep(Sweep(experiment(), settings, at_once=1), record, lambda *a: told.append(a))
    assert ("setting", 2, 3) in told and ("setting", 0, 3) not in told
    assert len(result.trials) == 3 == len(json.loads(record.read_text())["settings"])


def test_an_interrupted_sweep_keeps_its_record(tmp_path):
    def press(what, done, total):
        if what == "setting" and done == 1:
            signal.raise_signal(signal.SIGINT)

    record, settings = tmp_path / "s.json", grid(localization=[0.4, 0.6, 0.8])
    with pytest.raises(Interrupted, match=r"what is done is kept in .*s\.json, and the same command goes on"):
        run_sweep(Sweep(experiment(), settings, at_once=1), record, press)
    assert len(json.loads(record.read_text())["settings"]) == 2
    with pytest.raises(Interrupted, match="give a record, --json"):
        run_sweep(Sweep(experiment(), settings, at_once=1), None, press)


def test_side_by_side_is_one_after_the_other(monkeypatch):
    """As on an accelerator: a call that one setting does not fill, all of it at once."""
    settings = grid(localization=[0.4, 0.6, 0.8])
    monkeypatch.setattr(batch, "side_by_side", lambda settings: settings)
    scan.program.cache_clear()
    together = run_sweep(Sweep(experiment(), settings, at_once=2))
    monkeypatch.undo()
    scan.program.cache_clear()
    apart = run_sweep(Sweep(experiment(), settings, at_once=2))
    for a, b in zip(together.trials, apart.trials):
        np.testing.assert_allclose(a.per_truth["crps"], b.per_truth["crps"], rtol=1e-7)


# Devices --------------------------------------------------------------------------------------

SHARDED = """
import json, sys
import jax
jax.config.update("jax_enable_x64", True)
assert len(jax.devices()) == 2
from experiment.test_sweep import Sweep, experiment, grid, run_sweep
from jaxsrda.experiment.batch import settings_mesh

assert settings_mesh("all", 4, 2).devices.shape == (2, 1)
assert settings_mesh("all", 1, 2).devices.shape == (1, 2)
assert settings_mesh("all", 1, 1) is None and settings_mesh(1, 4, 4) is None
many = run_sweep(Sweep(experiment(), grid(localization=[0.4, 0.6, 0.8])))
one = run_sweep(Sweep(experiment(), grid(localization=[0.4])), devices=2)
print(json.dumps([[list(t.per_truth["crps"]) for t in result.trials] for result in (many, one)]))
"""


def test_two_devices_are_one():
    """Settings are shared out (three fill two devices with one to spare), or the truths of a setting alone."""
    process = in_another_process(SHARDED, flags="--xla_force_host_platform_device_count=2")
    out, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    many, one = json.loads(out.splitlines()[-1])
    here = run_sweep(Sweep(experiment(), grid(localization=[0.4, 0.6, 0.8])))
    np.testing.assert_allclose(many, [trial.per_truth["crps"] for trial in here.trials], rtol=1e-6)
    np.testing.assert_allclose(one, [here.trials[0].per_truth["crps"]], rtol=1e-6)


def test_calls_have_no_more_settings_than_wanted(monkeypatch):
    monkeypatch.setattr(runner, "settings_parts", lambda devices: 4)
    sizes = {most: runner.Runner(None, None, most).size(20, CONFIG) for most in (1, 3, 4, 6, 7, 10, 30)}
    assert sizes == {1: 1, 3: 3, 4: 4, 6: 4, 7: 4, 10: 8, 30: 20}


def test_members_of_a_sweep_are_not_shared_out():
    axes = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("member",))
    with pytest.raises(ValueError, match="expected a mesh with axes among setting, case, got 'member'"):
        batch.settings_mesh(axes, 3, 2)


# Values ---------------------------------------------------------------------------------------


def test_the_best_setting_is_a_preset(tmp_path):
    given = experiment("enkf-sr")
    scores = {"crps": np.array([0.3, 0.2]), "maer": np.array([0.1, 0.1])}
    rows = (Trial({"additive": 0.2}, scores), Trial({"additive": 0.1}, {k: v / 2 for k, v in scores.items()}))
    result = SweepResult(given, "crps", rows, {"compile": 0.0, "run": 0.0})
    (tmp_path / "best.json").write_text(json.dumps(result.preset()))
    assert method_preset("enkf-sr", tuning=tmp_path / "best.json") == dataclasses.replace(CONFIG, additive=0.1)
    assert result.preset()["chosen"]["scores"]["crps"] == pytest.approx(0.125)
    assert result.config(rows[0]).additive == 0.2


def test_settings_are_read_and_equal_ones_count_once():
    sweep = Sweep(experiment(), [{"localization": "0.5", "members": "4"}, {"members": 4, "localization": 0.5}])
    assert sweep.settings == ({"localization": 0.5, "members": 4},)


def test_truths_are_validation_truths_cut_to_frames(monkeypatch):
    asked = []

    def simulated(testbed, seeds, frames, progress):
        assert frames == testbed.frames
        asked.append(list(seeds))
        return truths(3)

    monkeypatch.setattr(sys.modules["jaxsrda.experiment.sweep"], "simulate_truth", simulated)
    given = dataclasses.replace(experiment(), truth=None, truth_seeds=None)
    assert Sweep(given, [{}]).truth_seeds == (1000, 1001, 1002, 1003)
    result = run_sweep(Sweep(given, [{"localization": 0.5}], (1000, 1001), frames=8))
    assert asked == [[1000, 1001]] and result.experiment.truth.shape[:2] == (2, 8)
    assert tuple(result.experiment.truth_seeds) == (1000, 1001)
    with pytest.raises(ValueError, match="frames: expected at most the truths' 12, got 16"):
        run_sweep(Sweep(given, [{"localization": 0.5}], frames=16))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"settings": [{"additve": 0.1}]}, "additve: not an option of persistence, .*; did you mean additive"),
        ({"settings": [{"members": 1}]}, "members: expected at least 2"),
        ({"settings": [{"substeps": 4}]}, "substeps: persistence does not forecast with the Lagrangian model"),
        ({"settings": []}, "settings: expected at least one, got none"),
        ({"by": "spread_skill"}, "by: expected a score of which less is better, maer, mssim_loss, rmse, crps; got"),
        ({"by": "energy"}, "by: expected a score of which less is better"),
        ({"frames": 7}, r"frames: expected at least 8 \(two assimilation times\), got 7"),
        ({"at_once": 0}, "at_once: expected at least 1, got 0"),
        ({"truth_seeds": ()}, "truth_seeds: expected at least one, got none"),
    ],
)
def test_bad_sweeps(options, message):
    with pytest.raises(ValueError, match=message):
        Sweep(**{"experiment": experiment(), "settings": [{"localization": 0.5}]} | options)


def test_experiments_that_cannot_be_swept():
    own = dataclasses.replace(experiment(), method=lambda setup: None, config=None)
    with pytest.raises(ValueError, match="sweep: expected a method by name, got one of your own; name it with"):
        Sweep(own, [{}])
    with pytest.raises(ValueError, match="withhold: a sweep keeps no analyses to verify"):
        Sweep(experiment(withhold=0.1), [{}])
    one = dataclasses.replace(experiment(), truth=truths(2)[:1], truth_seeds=None)
    own = dataclasses.replace(one, observations=observed(2))
    with pytest.raises(ValueError, match="sweep: expected truths to score against, got observations of your own"):
        Sweep(own, [{}])


def test_weights_that_do_not_fit_are_said_when_a_sweep_is_made():
    given = dataclasses.replace(experiment(), method="diffsrda", config=None)
    with pytest.raises(ValueError, match="the weights are for windows of 5 frames on 128 × 65 points"):
        Sweep(given, [{"eta": 0.5}])


def test_options_without_effect_are_refused():
    with pytest.raises(ValueError, match="rtps: of no effect on persistence with these options; leave it out"):
        run_sweep(Sweep(experiment(), grid(rtps=[0.1, 0.2])))
