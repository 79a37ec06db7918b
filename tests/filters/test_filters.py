"""The contract that every assimilation method keeps, and what tells some of them apart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import COARSE, FINE, GRID, TESTBED, observed, quick_jit, setup, states

from jaxsrda.cycling.assimilator import Setup
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.experiment.registry import METHODS, make_assimilator
from jaxsrda.filters.config import FILTERS, FilterConfig, filter_params
from jaxsrda.filters.dual import DualState, dual_filter
from jaxsrda.filters.ensemble import EnsembleState, ensemble_filter
from jaxsrda.flow import climatology
from jaxsrda.flow.forecasts import Forecast, to_amplitudes, to_fields
from jaxsrda.flow.grid import regrid, regrid_hat, to_physical, to_spectral
from jaxsrda.flow.simulate import integrate
from jaxsrda.flow.solver import Speeds
from jaxsrda.flow.testbed import jet
from jaxsrda.observing.observations import Observations
from jaxsrda.observing.operators import OPERATORS
from jaxsrda.observing.sensors import Sensors

FILTER_METHODS = [name for name, method in METHODS.items() if isinstance(method.config, FilterConfig)]
CONFIG = FilterConfig(members=3, localization=1.0, additive=0.1)
ENSEMBLE = [m for m in FILTER_METHODS if m.split("-")[0] in ("enkf", "etkf", "letkf", "ensf")]
DETERMINISTIC = ("free-run", "bicubic")  # their steps draw nothing


class Case:
    """A method on the small levels, its functions compiled once; the additive noise and the mask are traced."""

    def __init__(self, method):
        self.dtype = "float32"
        where, params = setup(self.dtype), filter_params(CONFIG, self.dtype)
        self.assimilator = make_assimilator(method, where, CONFIG)

        def step(key, state, observations, additive):
            return make_assimilator(method, where, CONFIG, params._replace(additive=additive)).step(
                key, state, observations
            )

        self.compiled = quick_jit(step)
        self.init = quick_jit(self.assimilator.init)
        self.state = self.init(jax.random.key(0))
        self.observations = jax.tree.map(lambda a: a[0], observed(1, self.dtype))
        self.state_1, self.window = self.step(1, self.state)

    def step(self, key, state, observations=None, additive=0.1):
        observations = self.observations if observations is None else observations
        return self.compiled(jax.random.key(key), state, observations, jnp.asarray(additive, self.dtype))


@functools.cache
def case_of(method):
    return Case(method)


@pytest.fixture(params=FILTER_METHODS)
def case(request):
    return case_of(request.param)


@pytest.mark.parametrize("method", FILTER_METHODS)
def test_the_contract_on_the_testbeds_levels(method, dtype="float64"):
    """Traced, not run: state in = state out, and HR windows in the given type (the small levels run in the other)."""
    hr = jet().grid
    shape = jax.ShapeDtypeStruct
    spectral = shape(hr.spectral_shape, dtype)
    clim = climatology.Climatology(shape((2, *spectral.shape), dtype), shape((3, 2, *spectral.shape), dtype), hr)
    observations = Observations(shape((7,), dtype), shape((7, 2), dtype), shape((7,), bool), shape((7,), dtype))

    def both(clim, key, observations):
        assimilator = make_assimilator(method, Setup(jet(), clim), CONFIG)
        state = assimilator.init(key)
        return state, *assimilator.step(key, state, observations)

    before, after, window = jax.eval_shape(both, clim, jax.random.key(0), observations)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert jax.tree.leaves(before) == jax.tree.leaves(after)  # shapes, types and weak types
    assert window.omega.shape == (3, 4, 128, 65) and window.background.shape == (128, 65)
    assert window.diagnostics.background_observed.shape == window.diagnostics.analysis_observed.shape == (3, 7)
    assert window.diagnostics.speeds.rate.shape == (5,)
    floats = [a.dtype for a in jax.tree.leaves(window) if a.dtype != bool]
    assert set(floats) == {np.dtype(dtype)}


def test_windows_are_finite_ensembles(case):
    window, d = case.window, case.window.diagnostics
    assert jax.tree.structure(case.state) == jax.tree.structure(case.state_1)
    assert [a.aval for a in jax.tree.leaves(case.state)] == [a.aval for a in jax.tree.leaves(case.state_1)]
    assert window.omega.dtype == case.dtype
    assert window.omega.shape == (case.assimilator.members, 4, *GRID.shape)
    assert d.finite and all(jnp.isfinite(a).all() for a in jax.tree.leaves(window))
    assert jnp.all(window.omega.std(0)[:, :, 1:-1] > 0)  # members differ at every point
    assert 1 < abs(window.omega).max() < 50
    assert abs(window.omega[..., 0]).max() < 1e-5 > abs(window.omega[..., -1]).max()


def test_diagnostics_are_of_the_window(case):
    window, where = case.window, setup(case.dtype)
    seen = quick_jit(where.observed)(window.omega[:, 0], case.observations)
    np.testing.assert_allclose(window.diagnostics.analysis_observed, seen, atol=1e-4)
    mean = OPERATORS["vorticity"](GRID, window.background, case.observations.positions)
    np.testing.assert_allclose(window.diagnostics.background_observed.mean(0), mean, atol=1e-4)


def test_one_key_one_answer(case):
    again = case.step(1, case.init(jax.random.key(0)))
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves((case.state_1, case.window))):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("method", FILTER_METHODS)
def test_another_key_another_answer(method):
    case = case_of(method)
    _, other = case.step(2, case.state)
    assert bool(jnp.all(other.omega == case.window.omega)) == (method in DETERMINISTIC)
    starts = [jax.tree.leaves(case.init(jax.random.key(k)))[0] for k in (0, 1)]
    assert bool(jnp.all(starts[0] == starts[1])) == (method in ("climatology", "persistence"))


def test_the_second_call_compiles_nothing(case):
    state, observations = case.state_1, case.observations
    for key in (3, 4):
        observations = observations._replace(mask=~observations.mask)
        state, window = case.step(key, state, observations)
        assert window.diagnostics.finite
    assert case.compiled._cache_size() == 1 and case.init._cache_size() == 1


@pytest.mark.parametrize("method", [m for m in FILTER_METHODS if m != "climatology"])
def test_without_observations_the_background_stays(method):
    case = case_of(method)
    silent = case.observations._replace(
        mask=jnp.zeros_like(case.observations.mask), values=jnp.full_like(case.observations.values, jnp.nan)
    )
    _, window = case.step(1, case.state, silent, additive=0.0)
    tolerance = 2e-5
    np.testing.assert_allclose(window.omega[:, 0].mean(0), window.background, atol=tolerance)
    d = window.diagnostics
    np.testing.assert_allclose(d.analysis_observed, d.background_observed, atol=tolerance)
    # With its additive noise it does not stay, unless it has none.
    _, noisy = case.step(1, case.state, silent)
    moved = abs(noisy.diagnostics.analysis_observed - d.analysis_observed).max()
    assert moved > 1e-3 if method in ENSEMBLE else moved == 0


@pytest.mark.parametrize("method", FILTER_METHODS)
def test_observations_are_used_or_not(method):
    case = case_of(method)
    _, other = case.step(1, case.state, case.observations._replace(values=case.observations.values + 1.0))
    moved = (other.diagnostics.analysis_observed - case.window.diagnostics.analysis_observed).mean()
    if method in (*DETERMINISTIC, "climatology"):
        np.testing.assert_array_equal(other.omega, case.window.omega)
    else:
        assert moved > 0.02


@pytest.mark.parametrize("method", ["enkf-hr", "enkf-sr", "free-run", "bicubic"])
def test_the_forecast_is_the_models(method):
    """Frames after the analysis, and the next state, are the model's run from the analysis at the members' level."""
    case = case_of(method)
    level = FINE if method in ("enkf-hr", "free-run") else COARSE
    own = level.grid
    if method in DETERMINISTIC:
        start = case.state.omega_hat
    else:
        start = jnp.stack([regrid_hat(GRID, own, to_spectral(GRID, f)) for f in case.window.omega[:, 0]])
    run = quick_jit(jax.vmap(lambda s: integrate(TESTBED, level, s, 5).omega_hat))(start)
    np.testing.assert_allclose(case.state_1.omega_hat, run[:, 4], atol=2e-4)
    for member in range(3):
        for frame in (1, 3):
            field = to_physical(own, run[member, frame])
            field = field if own == GRID else regrid(own, GRID, field, "bicubic" if method == "bicubic" else "spectral")
            np.testing.assert_allclose(case.window.omega[member, frame], field, atol=5e-4)
    assert case.state_1.time == 1


def test_the_papers_upsampling():
    """With `bicubic`, LR members reach HR by cubic convolution."""
    made = ensemble_filter(setup(), setup().forecast_model("bicubic"), "enkf", 4, filter_params(CONFIG))
    state = quick_jit(made.init)(jax.random.key(0))
    _, window = quick_jit(made.step)(jax.random.key(1), state, jax.tree.map(lambda a: a[0], observed(1)))
    own = COARSE.grid
    up = jnp.stack([regrid(own, GRID, to_physical(own, s), "bicubic") for s in state.omega_hat])
    np.testing.assert_allclose(window.background, up.mean(0), atol=1e-4)


def test_a_model_of_ones_own_forecasts():
    """A filter takes any `ForecastModel`: here one that holds every state."""
    where, still = setup(), setup().analysis_model()

    def forecast(omega_hat):
        held = jnp.repeat(omega_hat[:, None], 4, axis=1)
        zeros = jnp.zeros(5, omega_hat.dtype)
        return Forecast(held, omega_hat, Speeds(zeros, zeros + 1))

    model = still._replace(forecast=forecast)
    made = ensemble_filter(where, model, "enkf", 4, filter_params(CONFIG))
    observations = jax.tree.map(lambda a: a[0], observed(1))
    state, window = quick_jit(made.step)(
        jax.random.key(1), EnsembleState(states(), jnp.int32(0), jnp.ones(())), observations
    )
    np.testing.assert_allclose(state.omega_hat, to_amplitudes(GRID, window.omega[:, 0]), atol=1e-10)
    np.testing.assert_allclose(
        window.omega[:, 1:], jnp.repeat(to_fields(GRID, state.omega_hat)[:, None], 3, 1), atol=1e-9
    )
    np.testing.assert_array_equal(window.diagnostics.speeds.speed, 1)
    np.testing.assert_array_equal(window.diagnostics.assimilated, observations.mask)


def test_controls_hold_their_frames():
    for method in ("climatology", "persistence"):
        frames = case_of(method).window.omega
        np.testing.assert_array_equal(frames, jnp.broadcast_to(frames[:, :1], frames.shape))
    case = case_of("persistence")
    np.testing.assert_allclose(case.state_1.omega_hat[0], to_spectral(GRID, case.window.omega[:, 0].mean(0)), atol=1e-4)


# The dual-resolution filter


def dual(controls):
    where = setup()
    return dual_filter(where, where.analysis_model(), where.forecast_model(), 4, filter_params(CONFIG), controls)


def test_dual_filter_with_two_controls():
    """Members 0 and 2 stand around control 0, members 1 and 3 around control 1."""
    where = setup()
    assimilator = dual(controls=2)
    control = jnp.stack([states()[0], states()[1]])
    members = jax.vmap(lambda a: regrid_hat(GRID, COARSE.grid, a))(states())
    state = DualState(control, members, jnp.int32(0), jnp.ones(()))
    observations = jax.tree.map(lambda a: a[0], observed(1))
    after, window = quick_jit(assimilator.step)(jax.random.key(1), state, observations)
    assert jax.tree.structure(after) == jax.tree.structure(state) and window.diagnostics.finite
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert jax.eval_shape(assimilator.init, jax.random.key(0)).control_hat.shape == control.shape
    # Before the analysis every member stands around the controls' mean.
    around = jax.vmap(lambda a: regrid_hat(COARSE.grid, GRID, a))(members - members.mean(0)) + control.mean(0)
    shown = where.observed(jax.vmap(lambda a: to_physical(GRID, a))(around), observations)
    np.testing.assert_allclose(window.diagnostics.background_observed, shown, atol=1e-9)
    # Each control is drawn to the observations, and the difference of the controls stays in its members.
    analysed, rms = window.omega[:, 0], lambda f: jnp.sqrt((f**2).mean())
    between = (analysed[0] + analysed[2] - analysed[1] - analysed[3]) / 2
    difference = to_physical(GRID, control[0] - control[1])
    assert 0.05 * rms(difference) < rms(between) and rms(
        window.diagnostics.analysis_observed - observations.values
    ) < rms(shown - observations.values)


@pytest.mark.parametrize("controls", [0, 5])
def test_dual_filter_refuses_other_numbers_of_controls(controls):
    with pytest.raises(ValueError, match=rf"controls: expected 1 to 4 \(the members\), got {controls}"):
        dual(controls)


def test_the_dual_control_carries_the_fine_scales():
    case = case_of("enkf-dual")
    d = case.window.omega[:, 0] - case.window.omega[:, 0].mean(0)
    control = case.window.omega[:, 0].mean(0)  # the perturbations have no mean
    run = quick_jit(lambda s: integrate(TESTBED, FINE, s, 5).omega_hat)(to_spectral(GRID, control))
    np.testing.assert_allclose(case.state_1.control_hat[0], run[4], atol=2e-4)
    later = case.window.omega[:, 2].mean(0)
    np.testing.assert_allclose(later, to_physical(GRID, run[2]), atol=5e-4)
    assert abs(d).max() > 0.01


# Errors


def test_bad_choices_raise():
    with pytest.raises(ValueError, match=r"method: expected one of .*got 'enkf'; did you mean 'enkf-"):
        make_assimilator("enkf", setup())
    with pytest.raises(ValueError, match="analysis: expected one of enkf, etkf, letkf, ensf; got 'kf'"):
        ensemble_filter(setup(), setup().analysis_model(), "kf", 3, filter_params(CONFIG))
    with pytest.raises(ValueError, match="ensf: its likelihood acts on vorticity"):
        make_assimilator("ensf-sr", setup(sensors=(Sensors(operator="speed"),)))
    with pytest.raises(TypeError, match="enkf-sr: expected a FilterConfig as config, got DiffSRDAConfig"):
        make_assimilator("enkf-sr", setup(), DiffSRDAConfig())
    assert set(FILTER_METHODS) == set(FILTERS)
    assert all(METHODS[name].config == FILTERS[name] for name in FILTER_METHODS)
    assert make_assimilator("persistence", setup()).members == FILTERS["persistence"].members
