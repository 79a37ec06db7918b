"""Methods and flows of the user's own run where the package's do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, TESTBED, observed, quick_jit, setup, truth

import jaxsrda
from jaxsrda.cycling.assimilator import Assimilator
from jaxsrda.cycling.cycle import run_cycles
from jaxsrda.experiment import run as run_module
from jaxsrda.experiment import truth as truth_module
from jaxsrda.experiment.experiment import Experiment
from jaxsrda.experiment.registry import METHODS, Method, make_assimilator, method_preset, register_method
from jaxsrda.experiment.result import Result
from jaxsrda.experiment.run import assimilate
from jaxsrda.filters.config import FILTERS, LAYOUT_FILTERS, FilterConfig
from jaxsrda.flow.jet import Physics
from jaxsrda.flow.testbed import Level, jet
from jaxsrda.observing.layouts import parse_layout
from jaxsrda.observing.sensors import Sensors, layout_name


def nudging(setup):
    """Two members, apart by a constant around the mean of what is observed."""

    def init(key):
        return jnp.zeros((), setup.dtype)

    def step(key, state, observations):
        observations = setup.assimilated(observations)
        seen = observations.mask.astype(setup.dtype)
        mean = (seen * observations.values).sum() / seen.sum()
        apart = jnp.asarray([-0.1, 0.1], setup.dtype)[:, None, None, None]
        frames = mean + apart * jnp.ones((1, setup.testbed.frames_per_cycle, *setup.grid.shape), setup.dtype)
        return state + mean, setup.window(observations, frames)

    return Assimilator(init, step, 2)


def run_own(method, **options):
    sets = (Sensors("lattice:4"),)
    return assimilate(method, truth(2), testbed=TESTBED, climatology=setup().climatology, sensors=sets, **options)


@pytest.fixture(scope="module")
def own():
    return run_own(nudging, keep_members=True)


def test_an_own_method_runs_and_is_scored(own):
    assert isinstance(own, Result) and own.method == "nudging" and own.finite and own.config["filter"] == {}
    observations = own.observations
    for cycle in range(2):
        wanted = observations.values[0, cycle][observations.mask[0, cycle]].mean()
        np.testing.assert_allclose(own.mean[0, 4 * cycle : 4 * cycle + 4], wanted, rtol=1e-12)
        np.testing.assert_allclose(own.background[0, cycle], wanted, rtol=1e-12)
    np.testing.assert_allclose(own.std, 0.1 * 2**0.5)
    true = np.asarray(truth(2))
    error = abs(own.mean[0] - true).sum((1, 2)) / abs(true).sum((1, 2))
    np.testing.assert_allclose(own.series["maer"][0], error[4:], rtol=1e-9)
    assert own.members.shape == (1, 2, 8, *GRID.shape) and own.statistics[0]["frames"] == 4
    assert {"crps", "spread_skill", "observation_rmse_analysis"} <= set(own.scores)


def test_an_assimilator_and_the_function_that_makes_it_are_the_same(own):
    made = run_own(nudging(setup()))
    assert made.method == "own"
    np.testing.assert_array_equal(made.mean, own.mean)
    assert made.scores == own.scores and made.members is None


def test_a_function_that_makes_no_assimilator_is_refused():
    with pytest.raises(TypeError, match="method: expected the function to return an Assimilator, got NoneType"):
        run_own(lambda setup: None)


# By name


@pytest.fixture
def methods():
    """The table of methods as it was before the test."""
    before = dict(METHODS)
    yield METHODS
    METHODS.clear()
    METHODS.update(before)


def test_a_method_is_registered_and_runs_by_name(methods, own):
    seen = []

    def make(setup, config, params, model):
        seen.append((config, params, model))
        return nudging(setup)

    preset = FilterConfig(members=2, inflation=1.5)
    register_method("nudging", Method(make, preset))
    result = run_own("nudging")
    np.testing.assert_array_equal(result.mean, own.mean)
    config, params, model = seen[-1]
    assert config is preset and params.inflation.shape == () and model is None
    assert result.method == "nudging" and result.config["filter"]["inflation"] == 1.5
    assert method_preset("nudging") is preset
    tuned = FilterConfig(members=2, inflation=2.0)
    make_assimilator("nudging", setup(), tuned)
    assert seen[-1][0] is tuned and float(seen[-1][1].inflation) == 2.0
    with pytest.raises(ValueError, match="register_method: 'nudging' is taken; choose another name"):
        register_method("nudging", Method(make, preset))
    with pytest.raises(ValueError, match=r"did you mean 'nudging'\?"):
        run_own("nuding")


def test_names_of_the_package_are_taken(methods):
    before = dict(methods)
    with pytest.raises(ValueError, match="register_method: 'enkf-hr' is taken"):
        register_method("enkf-hr", METHODS["enkf-sr"])
    assert methods == before


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if isinstance(method.config, FilterConfig)])
def test_every_filter_has_its_preset_and_makes_an_assimilator(name):
    assert METHODS[name].config == FILTERS[name]
    made = make_assimilator(name, setup(), FilterConfig(members=3))
    assert isinstance(made, Assimilator) and made.members == 3
    seen = jax.tree.map(lambda a: a[0], observed(1))
    _, window = jax.eval_shape(lambda key: made.step(key, made.init(key), seen), jax.random.key(0))
    assert window.omega.shape == (3, 4, *GRID.shape) and window.background.shape == GRID.shape


def test_methods_refuse_the_configuration_of_another():
    with pytest.raises(TypeError, match="enkf-hr: expected a FilterConfig as config, got DiffSRDAConfig"):
        make_assimilator("enkf-hr", setup(), METHODS["diffsrda"].config)
    with pytest.raises(ValueError, match=r"method: expected one of .*did you mean 'enkf-[hs]r'\?"):
        make_assimilator("enkf-lr", setup())


# A flow of the user's own


def wide(y, width):
    """A jet of another shape."""
    xp = np if isinstance(width, int | float) else jnp
    return xp.exp(-(((y - np.pi / 2) / width) ** 2))


OWN = jaxsrda.Testbed(
    "own",
    forecast=Level("coarse", 24, 13, 3e-4, steps=8),
    analysis=Level("fine", 96, 49, 3e-5, steps=20),
    truth=Level("fine", 96, 49, 3e-5, steps=20),
    physics=Physics(beta=0.3, width=0.5, perturbation=0.02),  # waves at once
    profile=wide,
    frame=0.2,
    frames_per_cycle=3,
    frames=9,
    symmetries=("shift",),
)


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXSRDA_CACHE", str(tmp_path))
    return tmp_path


def test_an_own_flow_is_analysed_by_a_filter(own_cache, monkeypatch):
    """Truth, climatology, cadence and grids are the testbed's own; the filter brings the background to the truth."""

    def of_two_runs(testbed):
        return truth_module.default_climatology(testbed, 2)

    monkeypatch.setattr(run_module, "default_climatology", of_two_runs)
    result = assimilate("enkf-sr", testbed=OWN, config=FilterConfig(members=8), layout="lattice:4", seed=3)
    assert result.finite and result.testbed is OWN and result.config["testbed"] == "own"
    assert result.mean.shape == result.truth.shape == (1, 9, 96, 49) and result.background.shape == (1, 3, 96, 49)
    np.testing.assert_allclose(result.times, 0.2 * np.arange(9))
    assert result.series["maer"].shape == (1, 6) and result.statistics[0]["frames"] == 6
    fit = result.per_truth
    assert fit["observation_rmse_analysis"] < 0.9 * fit["observation_rmse_background"]
    names = sorted(path.name.rsplit("-", 1)[0] for path in own_cache.iterdir())
    assert names == ["climatology-own", "truth-own-fine-3"]


def test_the_cycle_takes_cadence_and_range_from_the_testbed():
    """Frames a cycle decide how the truth is cut; the range of vorticity scales the structural similarity."""
    where = setup()
    method = nudging(where)

    @quick_jit
    def scores(observations, frames):
        kinds = (TESTBED, dataclasses.replace(TESTBED, vorticity_range=(-1.0, 1.0)))
        return [run_cycles(method, jax.random.key(0), observations, frames, testbed=kind)[1].scores for kind in kinds]

    wide, narrow = scores(observed(2), truth(2))
    assert wide["maer"].shape == (2, 4)
    np.testing.assert_array_equal(wide["rmse"], narrow["rmse"])
    assert (abs(narrow["mssim_loss"] - wide["mssim_loss"]) > 1e-3).all()
    with pytest.raises(ValueError, match=r"truth: expected shape .*; 3 frames for each observation time"):
        run_cycles(method, jax.random.key(0), observed(2), truth(2), testbed=OWN)


@pytest.mark.parametrize("layout", ["lattice:12", "lattice:12+dropout:0.3", parse_layout("lattice:12", jet().grid)])
def test_a_method_has_the_tuning_of_its_sensors(monkeypatch, layout):
    """By name on a layout, alone or thinned out, with a guiding set before it, and in every way to ask for it."""
    sparse = FilterConfig(members=4, localization=0.9)
    monkeypatch.setitem(LAYOUT_FILTERS, "lattice:12", {"enkf-sr": sparse})
    sensors = (Sensors("lattice:8", role="guiding"), Sensors(layout))
    name = layout if isinstance(layout, str) else layout.name
    assert method_preset("enkf-sr", name) == sparse
    assert Experiment("enkf-sr", sensors=Sensors(layout)).config == sparse
    assert Experiment("enkf-sr", sensors=Sensors(layout), testbed=TESTBED).config == FILTERS["enkf-sr"]
    assert layout_name(sensors) == name
    assert make_assimilator("enkf-sr", setup()._replace(sensors=sensors, testbed=jet())).members == 4
    assert method_preset("enkf-sr", "track:4") == FILTERS["enkf-sr"] == method_preset("enkf-sr")
    assert method_preset("enkf-hr", name) == FILTERS["enkf-hr"]
