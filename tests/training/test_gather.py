"""Whose cycling windows come from, and training for a flow of the user's own from its runs to its analyses."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, TESTBED, setup, truth

from jaxsrda.core.records import key_of
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.model import Model, ModelConfig, encode, network
from jaxsrda.diffsrda.sampling import make_draw
from jaxsrda.diffsrda.weights import load_model, model_hash
from jaxsrda.experiment.run import assimilate
from jaxsrda.training import job as train
from jaxsrda.training.dataset import DataConfig, WindowSet
from jaxsrda.training.job import Job, gather
from jaxsrda.training.loss import TrainConfig
from jaxsrda.training.windows import Windows

pytestmark = pytest.mark.usefixtures("smallest")

CONFIG = ModelConfig.of(TESTBED, network="tiny", priors=("enkf-sr",))
DATA = DataConfig("enkf-sr", members=3, runs=16, layout="lattice:4", extra_layouts=(), testbed=TESTBED)
KEY = jax.random.key(2)


@pytest.fixture(scope="module", autouse=True)
def compile_fast():
    """Small arrays: the time goes into compiling."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def loud_model(**changes):
    """A model whose every weight has its say."""
    config = dataclasses.replace(CONFIG, **changes)
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda: network(config).initial(0)))
    rng = np.random.default_rng(0)
    loud = [rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])) for leaf in leaves]
    params = jax.tree.unflatten(tree, [jnp.asarray(a, jnp.float32) for a in loud])
    return Model(config, params, np.linspace(0.5, 1.5, config.frames, dtype=np.float32))


def condition():
    return jax.random.normal(jax.random.key(5), (1, *GRID.shape, CONFIG.channels), jnp.float32)


@pytest.fixture
def asked(monkeypatch):
    """The models in the loop that windows were asked for with: (setup, draw, restart, tag)."""
    calls = []

    def training_windows(config, where, draw=None, restart="open", tag="", units=None, progress=None):
        calls.append((where, draw, restart, tag))
        assert units == CONFIG.conditioning  # the job's
        window = Windows(np.zeros((1, *GRID.shape, CONFIG.channels)), np.zeros((1, *GRID.shape, CONFIG.frames)))
        return WindowSet([window for _ in config.plan()])

    monkeypatch.setattr(train, "training_runs", lambda *_, **options: None)
    monkeypatch.setattr(train, "training_windows", training_windows)
    return calls


def drawn(asked, model, on_policy):
    """The draw, restart and tag that gather uses with a model in the loop."""
    job = Job((DATA,), model.config, init="a.npz", on_policy=on_policy, open_loop=False)
    gather(job, setup("float32"), model, lambda *_: None)
    ((where, draw, restart, tag),) = asked
    assert where is setup("float32")
    return draw, restart, tag


def test_the_mean_is_drawn_where_no_samples_are_needed(asked):
    """Restart mean: one member, the conditioner's mean times the scale of corrections, zero on the walls."""
    model = loud_model()
    draw, restart, tag = drawn(asked, model, "mean")
    assert restart == "mean" and draw.members == 1 and draw.conditioning == CONFIG.conditioning
    assert tag.split() == [model_hash(model)]  # nothing that samples depend on is in it
    corrections = draw(KEY, condition())
    assert corrections.shape == (1, CONFIG.frames, *GRID.shape)
    mean = np.array(encode(model, condition()).mean[0]) * model.scale
    mean[:, [0, -1]] = 0
    np.testing.assert_allclose(np.moveaxis(corrections[0], 0, -1), mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(draw(jax.random.key(9), condition()), corrections)  # whatever the key


def test_the_mean_of_a_direct_model_is_its_denoisers(asked):
    """It has no conditioner's mean; its estimate from pure noise stands for that."""
    model = loud_model(target="direct")
    draw, _, _ = drawn(asked, model, "mean")
    corrections = draw(KEY, condition())
    assert corrections.shape == (1, CONFIG.frames, *GRID.shape) and not corrections[..., [0, -1]].any()
    features = model.network.encode(model.params, condition())
    mean = np.moveaxis(np.asarray(features.mean[0]) * model.scale, -1, 0)
    assert abs(corrections[0] - mean)[..., 1:-1].max() > 0.01


def test_samples_are_drawn_for_a_restart_of_each(asked):
    model = loud_model()
    draw, restart, tag = drawn(asked, model, "each")
    cycled = DiffSRDAConfig(prior="enkf-sr", members=3, restart="each")
    assert restart == "each" and draw.members == 3 and tag == f"{model_hash(model)} {key_of(cycled)}"
    wanted = make_draw(model, cycled)(KEY, condition())
    np.testing.assert_array_equal(draw(KEY, condition()), wanted)
    assert wanted.std(0).max() > 0.01


@pytest.mark.parametrize("on_policy, restart", [("open", "open"), ("best", "open")])
def test_a_model_may_leave_the_prior_its_own_way(asked, on_policy, restart):
    draw, got, _ = drawn(asked, loud_model(), on_policy)
    assert got == restart and draw.members == 1


def test_progress_names_the_level_of_the_runs(asked):
    stages = []
    gather(Job((DATA,), CONFIG), setup("float32"), None, lambda *stage: stages.append(stage))
    assert stages == [("hr runs", 0, 16), ("hr runs", 8, 16)]


# What is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataConfig(others=()), "DataConfig: others is now extra_layouts; use that name"),
        (lambda: DataConfig(observation_std=0.1), "DataConfig: observation_std is now noise_std; use that name"),
        (lambda: Job(visit="best"), "Job: visit is now on_policy; use that name"),
        (lambda: Job(visitor="a.npz"), "Job: visitor is now policy_weights; use that name"),
        (lambda: TrainConfig(levels="vp"), "TrainConfig: levels is now sigmas; use that name"),
    ],
)
def test_old_names_of_options_say_the_new(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_one_model_is_trained_for_one_testbed(asked, tmp_path):
    other = dataclasses.replace(DATA, prior="dual", testbed=TESTBED.vary(beta=0.3))
    model = dataclasses.replace(CONFIG, priors=("enkf-sr", "dual"))
    with pytest.raises(ValueError, match="data: expected one testbed for all training sets, got several; train one"):
        train.train(Job((DATA, other), model), tmp_path / "a.npz")
    assert not asked and not list(tmp_path.iterdir())


def test_the_models_priors_are_those_of_the_data(asked, tmp_path):
    with pytest.raises(ValueError, match=r"priors: the model's are \('dual',\), the data's differ; make them agree"):
        train.train(Job((DATA,), dataclasses.replace(CONFIG, priors=("dual",))), tmp_path / "a.npz")
    assert not asked


def test_runs_are_not_coarser_than_analyses():
    assert DATA.truth_level == TESTBED.truth
    assert dataclasses.replace(DATA, level="hr").truth_level == TESTBED.analysis
    with pytest.raises(ValueError, match="level: expected one of hr; got 'lr'"):
        dataclasses.replace(DATA, level="lr")


# From runs to analyses


def test_a_model_is_trained_for_an_own_flow_and_used(tmp_path, monkeypatch):
    """Runs, windows, fit, covariance, weights, cycling test; then the file analyses a truth of the same flow."""
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(train, "default_climatology", lambda testbed: setup("float32").climatology)
    flow = dataclasses.replace(TESTBED.vary(beta=0.3), name="own", frames=8, frames_per_cycle=2)
    data = dataclasses.replace(DATA, testbed=flow)
    model = ModelConfig.of(flow, network="tiny", priors=("enkf-sr",))
    assert model.frames == 3 and (model.nx, model.ny) == GRID.shape
    asked = []

    def cycled(method, truths, **options):
        asked.append((method, truths.shape, options["testbed"].name, options["config"].restart))
        return dataclasses.make_dataclass("Scored", ["per_truth"])({"maer": np.array([0.5])})

    monkeypatch.setattr(train, "assimilate", cycled)
    job = Job((data,), model, TrainConfig(samples=8, batch=4, half_lives=(50,)), cycling=1)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        fitted, record = train.train(job, tmp_path / "own.npz")
        # Four cycles a run, the first left out, two blocks of eight; the second is kept for validation.
        assert record["windows"] == 24 and record["job"]["data"][0]["testbed"]["name"] == "own"
        assert asked == [("diffsrda", (1, 8, *GRID.shape), "own", restart) for restart in ("open", "mean", "each")]
        loaded, _ = load_model(tmp_path / "own.npz")
        assert loaded.config == model and loaded.config.conditioning.frames == 3
        assert loaded.residual is not None
        np.testing.assert_allclose(loaded.residual.spectrum, fitted.model.residual.spectrum)
        options = {"testbed": flow, "climatology": setup("float32").climatology, "layout": "lattice:4"}
        config = DiffSRDAConfig("enkf-sr", members=3, weights=str(tmp_path / "own.npz"), steps=2)
        result = assimilate("diffsrda", truth(1, "float32"), config=config, **options)
    assert result.finite and result.mean.shape == (1, 4, *GRID.shape) and result.scores["maer"][0] > 0
    assert json.loads((tmp_path / "own.json").read_text())["cycling"]["enkf-sr, each"] == {"maer": 0.5}
