"""Whose cycling windows come from, and training for a flow of the user's own from its runs to its analyses."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, TESTBED, quick_jit, setup, truth

from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.model import Model, ModelConfig, network
from jaxsrda.diffsrda.weights import load_model
from jaxsrda.experiment.run import assimilate
from jaxsrda.training import dataset, sources
from jaxsrda.training import job as train
from jaxsrda.training.dataset import DataConfig, one_set_of_truths, truths_of
from jaxsrda.training.job import Job
from jaxsrda.training.loss import TrainConfig
from jaxsrda.training.programs import CHECKED, check_capacity, compiled, makers, programs
from jaxsrda.training.sources import Policy
from jaxsrda.training.stream import Fixed, StreamConfig, first_state

pytestmark = pytest.mark.usefixtures("smallest")

CONFIG = ModelConfig.of(TESTBED, network="tiny", priors=("enkf-sr",))
DATA = DataConfig("enkf-sr", members=3, runs=16, layout="lattice:4", extra_layouts=(), testbed=TESTBED)
STREAM = StreamConfig(capacity=8, dispatch=1, side_by_side=2)


@pytest.fixture(scope="module", autouse=True)
def compile_fast():
    """Small arrays: the time goes into compiling."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def asked(monkeypatch):
    """What makers were asked for, in the place of them."""
    calls = []

    def cycled(where, model, prior, sensing, members, looped, mesh):
        calls.append((prior, sensing.layouts, members, looped, model, where.sensors[0].noise_std))
        return lambda key, truths, policy: policy

    def forecasts(where, model, sensing, starts):
        calls.append((starts, sensing.layouts))
        return lambda key, truths, policy: policy

    monkeypatch.setattr(sources, "cycled", cycled)
    monkeypatch.setattr(sources, "forecasts", forecasts)
    return calls


def test_each_prior_has_makers_of_few_and_of_many_sensors(asked):
    data = dataclasses.replace(DATA, extra_layouts=("lattice:8", "lattice:2"), noise_std=0.3)
    other = dataclasses.replace(data, prior="carried", extra_layouts=())
    made = makers(setup("float32"), CONFIG, (data, other), dataclasses.replace(STREAM, side_by_side=9))
    assert list(made) == ["enkf-sr", "enkf-sr, dense", "carried"]
    assert [call[:4] for call in asked] == [
        ("enkf-sr", ("lattice:4", "lattice:8"), 3, True),
        ("enkf-sr", ("lattice:2",), 3, True),
        ("carried", ("lattice:4",), 3, True),
    ]
    assert {call[5] for call in asked} == {0.3}
    # Eight runs make one round of the shares 6, 1 and 1, so nine or more are two.
    assert [m.runs for m in made.values()] == [14, 2, 9]
    # Errors are of the main layout's windows, of all cycles but the first.
    cycles = TESTBED.frames // TESTBED.frames_per_cycle - 1
    assert [m.checked for m in made.values()] == [min(CHECKED, 12 * cycles), 0, min(CHECKED, 9 * cycles)]


def test_windows_are_of_the_policy_asked_for(asked):
    """The model's own cycling, the prior's alone, that of other weights, or none at all for bare forecasts."""
    own, alone = (makers(setup("float32"), CONFIG, (DATA,), STREAM, policy)["enkf-sr"] for policy in ("own", "none"))
    assert [call[3] for call in asked] == [True, False]
    assert own.make("key", "truths", "policy") == alone.make("key", "truths", "policy") == "policy"
    other = Model(dataclasses.replace(CONFIG, target="direct"), {"a": jnp.ones(2)}, np.full(CONFIG.frames, 0.5))
    fixed = makers(setup("float32"), CONFIG, (DATA,), STREAM, other)["enkf-sr"]
    assert asked[2][3:5] == (True, other.config)
    params, scale = fixed.make("key", "truths", "policy")
    assert params is other.params and scale.tolist() == [0.5] * CONFIG.frames
    bare = dataclasses.replace(DATA, prior="lr", starts="mixup")
    makers(setup("float32"), dataclasses.replace(CONFIG, priors=("lr",)), (bare,), STREAM)
    assert asked[3] == ("mixup", ("lattice:4",))


def test_a_buffer_holds_what_is_made_at_once(asked):
    made = makers(setup("float32"), CONFIG, (DATA,), STREAM)
    cycles = TESTBED.frames // TESTBED.frames_per_cycle - 1
    assert made["enkf-sr"].windows == 2 * cycles
    check_capacity(made, 2 * cycles)
    with pytest.raises(ValueError, match=f"capacity: expected room for the {2 * cycles} windows .* for enkf-sr, got 1"):
        check_capacity(made, 1)


def test_programs_compiled_before_are_the_same():
    training = TrainConfig(samples=8, batch=2)
    made = makers(setup("float32"), CONFIG, (DATA,), STREAM)
    state = jax.eval_shape(lambda: first_state(CONFIG, training))
    shapes = {
        "whole": state.params,
        "fixed": Fixed(),
        "state": state,
        "run": jax.ShapeDtypeStruct((9, *GRID.shape), "f"),
    }
    names = []

    class Now:
        def __init__(self, program):
            self.program = program

        def result(self):
            return self.program

    def compile_(name, function, *shapes, donate=()):
        names.append(name)
        jax.eval_shape(function, *shapes)  # the shapes fit
        return Now(quick_jit(function))

    with jax.numpy_dtype_promotion("standard"):
        ready = compiled(CONFIG, training, STREAM, {"enkf-sr": made["enkf-sr"]._replace(checked=2)}, shapes, compile_)()
    assert names == ["steps", "enkf-sr", "error of enkf-sr"]
    later = programs(CONFIG, training, STREAM, made, what="these")
    assert later.what == "these" and ready.makers.keys() == later.makers.keys() == ready.errors.keys()
    assert ready.makers["enkf-sr"][1] == later.makers["enkf-sr"][1] == 2


def test_truths_are_cut_to_the_times_asked_for(monkeypatch):
    runs = np.arange(3 * (TESTBED.frames + 1), dtype=np.float16).reshape(3, -1, 1, 1)
    monkeypatch.setattr(dataset, "training_runs", lambda testbed, level, count, progress: runs[:count])
    found = truths_of(dataclasses.replace(DATA, times=1), 2)
    assert found.dtype == jnp.float16 and found.shape == (2, 2 * TESTBED.frames_per_cycle + 1, 1, 1)
    np.testing.assert_array_equal(found, runs[:2, : found.shape[1]])


def test_elsewhere_truths_are_made_on_the_device(monkeypatch):
    monkeypatch.setattr(dataset, "on_cpu", lambda: False)
    monkeypatch.setattr(dataset, "AT_ONCE", 2)
    empty = jnp.ones((2, TESTBED.frames + 1, 1, 1))
    made = truths_of(DATA, 3, program=lambda seeds: empty * (seeds[0] % 1000).astype(float))
    assert made.shape[0] == 3 and made[:, 0, 0, 0].tolist() == [0, 0, 2]


# What is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataConfig(others=()), "DataConfig: others is now extra_layouts; use that name"),
        (lambda: DataConfig(observation_std=0.1), "DataConfig: observation_std is now noise_std; use that name"),
        (lambda: Job(visit="best"), "Job: visit is now policy: own, none, or weights whose"),
        (lambda: Job(policy_weights="a.npz"), "Job: policy_weights is now policy: own, none, or weights whose"),
        (lambda: TrainConfig(levels="vp"), "TrainConfig: levels is now sigmas; use that name"),
    ],
)
def test_old_names_of_options_say_the_new(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize("change", [{"testbed": TESTBED.vary(beta=0.3)}, {"runs": 24}, {"times": 1}])
def test_a_model_is_trained_on_the_same_runs_for_all_priors(change):
    with pytest.raises(ValueError, match="data: expected the same testbed, level, runs and times for all training"):
        one_set_of_truths((DATA, dataclasses.replace(DATA, prior="dual", **change)))


def test_the_models_priors_are_those_of_the_data():
    with pytest.raises(ValueError, match=r"priors: the model's are \('dual',\), the data's \('enkf-sr',\); make them"):
        Job((DATA,), dataclasses.replace(CONFIG, priors=("dual",)))


def test_runs_are_not_coarser_than_analyses():
    assert DATA.truth_level == TESTBED.truth
    assert dataclasses.replace(DATA, level="hr").truth_level == TESTBED.analysis
    with pytest.raises(ValueError, match="level: expected one of hr; got 'lr'"):
        dataclasses.replace(DATA, level="lr")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capacity": -1}, "capacity: expected 1 or more, or 0 for what suits the device"),
        ({"dispatch": -1}, "dispatch: expected 1 or more, or 0 for what suits the device"),
        ({"side_by_side": -1}, "side_by_side: expected 1 or more, or 0 for what suits the device"),
        ({"validate": 0}, "validate: expected 1 or more, got 0"),
        ({"data_share": 1.5}, "data_share: expected a fraction from 0 to below 1, got 1.5"),
    ],
)
def test_streams_that_do_not_flow_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        StreamConfig(**change)


def test_what_suits_a_cpu_is_bounded_in_memory():
    found = StreamConfig().settled(ModelConfig())
    window = 2 * 128 * 65 * (ModelConfig().channels + ModelConfig().frames)
    assert found.dispatch == 1 and found.side_by_side == 8 and 0.99 * 3e9 < found.capacity * window <= 3e9
    assert STREAM.settled(ModelConfig()) == STREAM


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
    stream = StreamConfig(side_by_side=2, validate=1, data_share=0.0)
    job = Job((data,), model, TrainConfig(samples=8, batch=4, averages=(0.1,)), stream, cycling=1)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        fitted, record = train.train(job, tmp_path / "own.npz")
        # Four cycles a run, the first left out, of two runs.
        assert record["windows"] == 6 and record["job"]["data"][0]["testbed"]["name"] == "own"
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


def test_weights_whose_cycling_is_visited_may_be_of_another_network():
    """A policy of fixed weights makes the same windows whatever is trained."""
    visited = ModelConfig.of(TESTBED, network="tiny", priors=("enkf-sr",), target="regression")
    params = jax.tree.map(lambda a: a + 0.01, network(visited).initial(0))
    model = Model(visited, params, np.full(visited.frames, 0.3, np.float32))
    run = jnp.stack([truth(3, "float32", seed)[:9] for seed in (0, 1)])
    fields = []
    for kind in (CONFIG, dataclasses.replace(CONFIG, target="direct")):
        made = makers(setup("float32"), kind, (DATA,), STREAM, model)["enkf-sr"].make
        ignored = Policy(network(kind).initial(1), jnp.ones(kind.frames, jnp.float32))
        fields.append(quick_jit(made)(jax.random.key(0), run, ignored))
    np.testing.assert_array_equal(fields[0].condition, fields[1].condition)
