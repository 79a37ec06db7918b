"""`jaxsrda train` on windows that are made up, so that it takes seconds, and options refused before any work."""

import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro
from helpers import training_programs

from jaxsrda.app.cli import main as cli
from jaxsrda.app.cli.train import Train
from jaxsrda.core.checkpoints import Checkpoints
from jaxsrda.diffsrda.condition import Conditioning
from jaxsrda.diffsrda.model import Model, ModelConfig, network
from jaxsrda.diffsrda.weights import load_model, save_model
from jaxsrda.experiment import truth
from jaxsrda.flow.testbed import jet
from jaxsrda.training import job as train
from jaxsrda.training import stream_run
from jaxsrda.training.dataset import DataConfig
from jaxsrda.training.job import Job, cycling_scores, thinned
from jaxsrda.training.loss import TrainConfig
from jaxsrda.training.windows import Windows

CHANNELS, FRAMES = Conditioning().channels, Conditioning().frames
NX, NY = 128, 65


pytestmark = pytest.mark.usefixtures("smallest")


def made_up(seed, count=2):
    """Random windows, told apart by the first number of their condition."""
    rng = np.random.default_rng(seed)
    condition, correction = (rng.normal(size=(count, NX, NY, n)).astype(np.float16) for n in (CHANNELS, FRAMES))
    condition[:, 0, 0, 0] = seed
    return Windows(condition, correction)


@pytest.fixture
def no_runs(monkeypatch):
    """Windows without runs."""
    data = made_up(1)
    monkeypatch.setattr(train, "truths_of", lambda *_: jnp.zeros((16, 2, 3, 3)))
    monkeypatch.setattr(train, "makers", lambda *_: {})
    monkeypatch.setattr(train, "programs", lambda model, config, *_: training_programs(model, config, data)[0])
    monkeypatch.setattr(train, "default_climatology", lambda testbed: None)


@pytest.fixture
def no_work(monkeypatch):
    """Anything that takes long fails the test."""

    def work(*_, **options):
        pytest.fail("work began before the options were checked")

    for name in ("truths_of", "makers", "fit"):
        monkeypatch.setattr(train, name, work)
    for name in ("simulate_truth", "default_climatology"):
        monkeypatch.setattr(train, name, work)
        monkeypatch.setattr(truth, name, work)


def fails(capsys, arguments, message):
    """The command ends with 2 and one line that holds `message`, without a traceback."""
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error, error


def random_model(target="residual"):
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda: network(ModelConfig("tiny")).initial(0)))
    rng = np.random.default_rng(0)
    params = jax.tree.unflatten(tree, [jnp.asarray(rng.normal(size=leaf.shape), jnp.float32) for leaf in leaves])
    return Model(ModelConfig("tiny", target=target), params, np.ones(5, np.float32))


# The job --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"data": (DataConfig("lr", starts="clean"),), "model": ModelConfig(priors=("lr",)), "policy": "none"},
            "policy: bare forecasts are of no cycle, got none; leave it out",
        ),
        ({"training": TrainConfig(part="denoiser")}, "part: training the denoiser alone needs the rest; give weights"),
        (
            {"training": TrainConfig(part="denoiser"), "model": ModelConfig(target="regression"), "init": "a.npz"},
            "part: a regression has no use for its denoiser",
        ),
        ({"model": ModelConfig(distilled=1)}, "a student learns its denoiser alone, expected part denoiser"),
        (
            {"training": TrainConfig(part="denoiser"), "model": ModelConfig("paper", target="direct"), "init": "a.npz"},
            "part: only tiny, small, base have a denoiser apart, got paper",
        ),
        ({"held_out": 0}, "held_out: expected a multiple of 8 below the number of runs, got 0"),
        ({"held_out": 12}, "held_out: expected a multiple of 8 below the number of runs, got 12"),
        ({"held_out": 160}, "held_out: expected a multiple of 8 below the number of runs, got 160"),
        ({"data": (DataConfig(runs=8),)}, "held_out: expected a multiple of 8 below the number of runs, got 8"),
        ({"data": (DataConfig(), DataConfig(runs=8))}, "data: expected the same testbed, level, runs and times"),
        ({"cycling": 3}, "cycling: expected 0 to 2"),
        ({"cycling": -1}, "cycling: expected 0 to 2"),
    ],
)
def test_bad_jobs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Job(**change)


def test_a_curve_is_thinned_to_means():
    curve = [{"samples": float(i), "fraction": i / 100, "loss": float(i)} for i in range(1, 101)]
    for lines in (40, 7, 1):
        thin = thinned(curve, lines)
        assert len(thin) <= lines < 3 * len(thin) and thin[-1]["samples"] == 100 and thin[-1]["fraction"] == 1
        sizes = np.diff([0, *(row["samples"] for row in thin)])
        np.testing.assert_allclose(
            [row["samples"] - (n - 1) / 2 for row, n in zip(thin, sizes)], [r["loss"] for r in thin]
        )
    assert thinned(curve[:5]) == curve[:5] and thinned([]) == []


# From the command line ------------------------------------------------------------------------


@pytest.mark.usefixtures("no_runs")
def test_train_writes_weights_record_and_curve(tmp_path, capsys, monkeypatch):
    truths = []
    monkeypatch.setattr(train, "simulate_truth", lambda testbed, seeds, progress: truths.append(tuple(seeds)))
    scored = dataclasses.make_dataclass("Scored", ["per_truth"])
    scores = {"maer": np.array([0.25]), "crps": np.array([0.5]), "spread_skill": np.array([1.0])}
    monkeypatch.setattr(train, "assimilate", lambda *_, **options: scored(scores))
    out = tmp_path / "a.npz"
    arguments = ["train", "--out", str(out), "--network", "tiny", "--runs", "16", "--samples", "8", "--batch", "2"]
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32 and multiplies with it
        assert cli.main([*arguments, "--cycling", "1", "--prior", "enkf-sr", "--data-share", "0"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "8 samples of 2 windows in" in printed and "cycling, enkf-sr, each: maer 0.250, crps 0.500" in printed

    model, header = load_model(out)
    assert model.config == ModelConfig("tiny", priors=("enkf-sr",))
    training = made_up(1).correction.astype(float)
    np.testing.assert_allclose(model.scale, np.sqrt((training**2).mean((0, 1, 2))), rtol=1e-3)
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["sha256"] == header["sha256"]
    assert record["windows"] == 2 and record["samples"] == 8 and record["parent"] == {}
    assert record["seconds"]["all"] >= record["seconds"]["training"] > 0 and record["windows_per_second"] > 0
    assert record["job"]["data"][0]["runs"] == 16 and record["job"]["training"]["batch"] == 2
    names = [f"enkf-sr, {restart}" for restart in ("open", "mean", "each")]
    assert record["cycling"] == {name: {"maer": 0.25, "crps": 0.5, "spread_skill": 1.0} for name in names}
    assert truths == [(1000,)]
    with open(tmp_path / "a.train" / "curve.csv", newline="", encoding="utf-8") as file:
        rows = [{name: float(number) for name, number in row.items()} for row in csv.DictReader(file)]
    assert rows == record["curve"] and rows[-1]["samples"] == 8
    (best,) = record["validation"]["chosen"]
    assert record["validation"][best]["regression"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.npz", "a.json", "a.png", "a.train"}


def test_the_cycling_test_runs_each_restart(monkeypatch):
    asked = []
    monkeypatch.setattr(train, "simulate_truth", lambda testbed, seeds, progress: f"{testbed.name} {seeds}")

    def assimilate(method, truths, config, model, truth_seeds, testbed):
        asked.append((method, truths, config.prior, config.restart, truth_seeds))
        return dataclasses.make_dataclass("Scored", ["per_truth"])({"maer": np.array([0.25, 0.75])})

    monkeypatch.setattr(train, "assimilate", assimilate)
    model = dataclasses.replace(random_model(), config=ModelConfig("tiny", priors=("dual", "lr")))
    scores = cycling_scores(model, jet(), (1000, 1001), lambda *_: None)
    each = [(prior, restart) for prior in ("dual", "lr") for restart in ("open", "mean", "each")]
    assert scores == {f"{prior}, {restart}": {"maer": 0.5} for prior, restart in each}
    assert asked == [("diffsrda", "jet (1000, 1001)", *pair, (1000, 1001)) for pair in each]


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "nope"], "network: expected one of tiny, small, base, paper, paper-narrow, 4dsrda-small"),
        (["--network", "paper"], "target: network paper can have direct, got residual"),
        (["--conditioning", "papre"], "conditioning: expected one of full, paper; got 'papre'; did you mean 'paper'"),
        (["--conditioning", "paper", "--latent", "kl"], "conditioning: latent kl needs the first guess of every frame"),
        (["--conditioning", "paper", "--policy", "diffsrda-small"], "policy: their conditions are Conditioning("),
        (["--target", "resid"], "target: expected one of residual, direct, regression; got 'resid'"),
        (["--prior", "dual", "nope"], "prior: expected one of dual, enkf-sr, lagrange, carried, lr; got 'nope'"),
        (["--starts", "nope"], "starts: expected one of"),
        (["--level", "lr"], "level: expected one of hr, fine, uhr; got 'lr'"),
        (["--runs", "3"], "runs: expected a multiple of 8, at least 8; got 3"),
        (["--runs", "8"], "held_out: expected a multiple of 8 below the number of runs, got 8"),
        (["--on-policy", "mean"], "--on-policy: is now --policy; use that name"),
        (["--policy-weights", "a.npz"], "--policy-weights: is now --policy; use that name"),
        (["--policy", "nope"], "weights: expected one of"),
        (["--network", "4dsrda-small"], "target: network 4dsrda-small can have regression, got residual"),
        (["--part", "head"], "part: expected one of all, denoiser; got 'head'"),
        (["--part", "denoiser"], "part: training the denoiser alone needs the rest"),
        (["--distill", "1"], "part: training the denoiser alone needs the rest"),
        (["--distill", "3"], "distilled: expected 0 to 2 steps"),
        (["--init", "missing.npz"], "weights: no file missing.npz"),
        (["--init", "nope"], "weights: expected one of"),
        (["--out", "a.txt"], "suffix: expected one of .npz"),
        (["--out", "nowhere/a.npz"], "expected an existing folder nowhere"),
        (["--parametrization", "nope"], "parametrization: expected one of noise, velocity, data, edm; got 'nope'"),
        (["--layout", "latice:8"], "did you mean 'lattice'?"),
        (["--extra-layouts", "latice:8"], "did you mean 'lattice'?"),
        (["--repeats", "2"], "--repeats: is now --data-share; use that name"),
        (["--starts", "mixup"], "starts: bare forecasts are those of prior lr, got mixup with dual"),
        (["--minutes", "1", "--samples", "9"], "samples, minutes: each is a budget of its own; give one of them"),
        (["--minutes", "-1"], "minutes: expected a finite number above 0"),
        (["--capacity", "-1"], "capacity: expected 1 or more, or 0 for what suits the device"),
        (["--noise-range", "0.5", "0.1"], "noise_range: expected two numbers above 0 in order"),
        (["--batch", "0"], "batch: expected at least 1, got 0"),
        (["--samples", "0"], "samples: expected at least 1, got 0"),
        (["--noises", "0"], "noises: expected at least 1, got 0"),
        (["--loss", "crps"], "loss: crps is that of a student of one step, expected distilled 1 with it, got 0"),
        (["--loss", "l3"], "loss: expected one of l1, l2, crps; got 'l3'"),
        (["--learning-rate", "0"], "learning_rate: expected a finite number above 0"),
        (["--cycling", "3"], "cycling: expected 0 to 2"),
    ],
)
def test_bad_options_of_train_are_refused_at_once(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in arguments else ["--out", "a.npz"]
    fails(capsys, ["train", *out, *arguments], message)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("change, kind", [({"target": "regression"}, "regression"), ({"distilled": 1}, "student")])
def test_only_a_model_of_many_steps_teaches(capsys, tmp_path, change, kind):
    model = random_model()
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, **change))
    save_model(tmp_path / "a.npz", model, {})
    arguments = ["train", "--out", str(tmp_path / "b.npz"), "--network", "tiny", "--init", str(tmp_path / "a.npz")]
    fails(capsys, [*arguments, "--distill", "1"], f"a teacher draws samples in many steps, got a {kind}")


@pytest.mark.usefixtures("no_work")
def test_a_policy_serves_the_priors(capsys, tmp_path):
    save_model(tmp_path / "a.npz", random_model(), {})
    arguments = ["train", "--out", str(tmp_path / "b.npz"), "--network", "tiny", "--prior", "lr"]
    fails(
        capsys,
        [*arguments, "--policy", str(tmp_path / "a.npz")],
        "policy: these weights serve priors dual, the job asks for lr",
    )


@pytest.mark.usefixtures("no_work")
def test_weights_of_another_model_are_no_start(capsys, tmp_path):
    save_model(tmp_path / "a.npz", random_model("direct"), {})
    arguments = ["train", "--out", str(tmp_path / "b.npz"), "--network", "tiny", "--init", str(tmp_path / "a.npz")]
    fails(capsys, arguments, "init: the weights are ModelConfig(network='tiny', priors=('dual',)")


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("diffsrda", ["--localization", "1"], "--localization: not an option of diffsrda, whose options are"),
        ("enkf-hr", ["--steps", "4"], "--steps: not an option of enkf-hr, whose options are"),
        ("diffsrda", ["--prior", "nope"], "prior: expected one of dual, enkf-sr, lagrange, carried, lr; got 'nope'"),
        ("diffsrda", ["--restart", "nope"], "restart: expected one of open, first, mean, each; got 'nope'"),
        ("diffsrda", ["--steps", "0"], "steps: expected at least 1, got 0"),
        ("diffsrda", ["--eta", "2"], "eta: expected a number from 0 (deterministic) to 1, got 2.0"),
        ("diffsrda", ["--sampler", "nope"], "sampler: expected one of ddim, heun, dpmpp-2m, dpmpp-2m-sde, mean"),
        ("diffsrda", ["--weights", "missing.npz"], "weights: no file missing.npz"),
        ("diffsrda", ["--weights", "nope"], "weights: expected one of"),
        ("diffsrda", ["--guidance", "dsp"], "guidance: expected one of none, blend"),
        ("diffsrda", ["--guidance", "dps"], "guidance: it has no new sensors to follow; give a guide_layout"),
        ("diffsrda", ["--guide-layout", "lattice:4"], "guide_layout: diffsrda is not guided; choose a guidance"),
        ("enkf-hr", ["--guide-layout", "lattice:4"], "guide_layout: enkf-hr is not guided"),
        ("enkf-hr", ["--guidance", "dps"], "--guidance: not an option of enkf-hr"),
        (
            "latent-diffsrda",
            ["--guidance", "oi", "--strength", "-1"],
            "strength: expected a finite number above 0, got -1.0",
        ),
        ("latent-diffsrda", ["--guide-layout", "grid:4", "--guidance", "dps"], "layout"),
        (
            "diffsrda",
            ["--strength", "2"],
            "strength: not an option of guidance none, which has no options; leave it out",
        ),
        (
            "diffsrda",
            ["--guidance", "dps", "--iterations", "2"],
            "iterations: not an option of guidance dps, whose options are strength; leave it out",
        ),
        ("diffsrda", ["--guidance", "oi", "--iterations", "0"], "iterations: expected at least 1, got 0"),
        (
            "enkf-hr",
            ["--guide-noise", "0.2"],
            "--guide-noise: has no effect, there are no further sensors",
        ),
        ("diffsrda", ["--guide-operator", "speed"], "--guide-operator: has no effect, there are no further sensors"),
        (
            "diffsrda",
            ["--guide-layout", "lattice:4", "--guidance", "oi", "--guide-operator", "sped"],
            "did you mean 'speed'?",
        ),
    ],
)
def test_bad_options_of_diffsrda_are_refused_at_once(capsys, method, arguments, message):
    fails(capsys, ["assimilate", "--method", method, *arguments], message)


# Checkpoints of other work --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--seed", "1"], "its training.seed is 0, this one's is 1"),
        (["--network", "small"], 'its model.network is "tiny", this one\'s is "small"'),
        (["--layout", "lattice:6"], 'its data.sets.0.layout is "lattice:8", this one\'s is "lattice:6"'),
        (["--policy", "none"], 'its data.policy is "own", this one\'s is "none"'),
        (["--testbed", "jet-small"], "this one's is"),
    ],
)
def test_a_checkpoint_of_other_work_is_refused_at_once(capsys, monkeypatch, tmp_path, no_work, option, message):
    """Before truths are made; the same work with another budget is not."""
    arguments = ["train", "--out", str(tmp_path / "weights.npz"), "--network", "tiny"]
    job = tyro.cli(Train, args=arguments[1:]).job()
    stream = job.stream.settled(job.model)
    work = stream_run.work_of(job.model, job.training, stream, train.data_of(job, "own", {}))
    store = Checkpoints(tmp_path / "weights.train", work | {"runs": "that no one has made yet"})
    store.save(16, {"0": np.zeros(1)})
    store.close()
    fails(capsys, [*arguments, *option], message)
    with pytest.raises(pytest.fail.Exception, match="work began"):
        cli.main([*arguments, "--samples", "99"])
