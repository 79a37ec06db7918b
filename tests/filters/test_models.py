"""What filters forecast with: the model of their configuration, its viscosity, and one forecast alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, observed, quick_jit, setup, states

from jaxsrda.cycling.assimilator import Setup
from jaxsrda.experiment.registry import make_assimilator
from jaxsrda.filters.analysis import enkf
from jaxsrda.filters.config import FilterConfig, filter_params
from jaxsrda.filters.controls import optimal_interpolation
from jaxsrda.filters.ensemble import EnsembleState
from jaxsrda.filters.inflation import adapted
from jaxsrda.flow.forecasts import to_amplitudes, to_fields
from jaxsrda.flow.grid import regrid_hat
from jaxsrda.flow.lagrangian import EXPLICIT

KEY = jax.random.key(1)

LAGRANGIAN = ("enkf-lagrange", "letkf-lagrange", "enkf-dual-lagrange", "oi-lagrange")


def test_lagrangian_methods_forecast_with_the_model_of_their_configuration():
    """Every member, or the dual filter's control: substeps, corrector and a traced ν reach the model; 0 is its own."""
    calls = []
    where = setup("float32")

    class Spy(Setup):
        def lagrangian_model(self, *options):
            calls.append(options)
            return Setup.lagrangian_model(self, *options)

    for method in LAGRANGIAN:
        config = FilterConfig(members=3, substeps=3, viscosity=1e-3, corrector=True)
        make_assimilator(method, Spy(*where), config)
        substeps, viscosity, corrector = calls.pop()
        assert not calls and (substeps, corrector) == (3, True) and viscosity == np.float32(1e-3)
    state = states("float32")

    def ahead(viscosity):
        return where.lagrangian_model(viscosity=viscosity).forecast(state).ahead

    ahead = quick_jit(ahead)
    own, zero, more = (ahead(jnp.float32(nu)) for nu in (EXPLICIT * where.testbed.truth.viscosity, 0, 1e-2))
    np.testing.assert_allclose(zero, own, atol=1e-6)
    assert abs(more - own).max() > 0.1


@pytest.mark.parametrize("option, value", [("substeps", 2), ("corrector", True)], ids=lambda value: str(value))
def test_other_methods_refuse_options_of_the_lagrangian_model(option, value):
    config = FilterConfig(members=3, **{option: value})
    with pytest.raises(ValueError, match=rf"{option}: enkf-hr does not .* choose one of enkf-lagrange, letkf-lagrange"):
        make_assimilator("enkf-hr", setup(), config)
    assert make_assimilator("enkf-lagrange", setup(), config).members == 3


@pytest.mark.parametrize("level", ["analysis", "forecast"])
def test_the_models_viscosity_may_be_traced(level):
    """It is that of a testbed with it; zero is the level's own."""
    where, state = setup(), states()
    name = getattr(where.testbed, level).name
    own = getattr(where.testbed, level).viscosity
    state = jax.vmap(lambda a: regrid_hat(GRID, where.testbed.level(name).grid, a))(state)

    @quick_jit
    def ahead(nu):
        model = where.analysis_model(nu) if level == "analysis" else where.forecast_model(viscosity=nu)
        return model.forecast(state).ahead

    varied = where._replace(testbed=where.testbed.vary(viscosity={name: 3 * own}))
    model = varied.analysis_model() if level == "analysis" else varied.forecast_model()
    np.testing.assert_allclose(ahead(3 * own), quick_jit(model.forecast)(state).ahead, atol=1e-10)
    np.testing.assert_allclose(ahead(0.0), ahead(own), atol=1e-12)
    assert abs(ahead(0.0) - ahead(3 * own)).max() > 1e-3 and ahead._cache_size() == 1


def test_the_filters_viscosity_is_its_models():
    asked = []

    class Spy(Setup):
        def analysis_model(self, viscosity=0.0):
            asked.append(("analysis", float(viscosity)))
            return Setup.analysis_model(self, viscosity)

        def forecast_model(self, upsampling="spectral", viscosity=0.0):
            asked.append(("forecast", float(viscosity)))
            return Setup.forecast_model(self, upsampling, viscosity)

    for method, models in {
        "enkf-hr": [("analysis", 1e-3)],
        "letkf-sr": [("forecast", 1e-3)],
        "enkf-dual": [("analysis", 1e-3), ("forecast", 0.0)],
        "free-run": [("analysis", 1e-3)],
        "bicubic": [("forecast", 1e-3)],
    }.items():
        make_assimilator(method, Spy(*setup()), FilterConfig(members=3, viscosity=1e-3))
        assert asked == models, method
        asked.clear()


def test_methods_without_a_model_refuse_its_viscosity():
    for method in ("climatology", "persistence"):
        with pytest.raises(ValueError, match=f"viscosity: {method} has no forecast model, expected 0, got 0.001"):
            make_assimilator(method, setup(), FilterConfig(members=3, viscosity=1e-3))


@pytest.mark.parametrize("adaptive", [0.0, 0.4])
def test_optimal_interpolation_forecasts_its_mean_alone(adaptive):
    """One forecast; the analysis is the Kalman update by climatological anomalies, and members move as it does."""
    where, config = setup(), FilterConfig(members=20, localization=1.0, inflation=0.8, adaptive=adaptive)
    params = filter_params(config)
    model = where.analysis_model()
    made = optimal_interpolation(where, model, 20, params)
    state = EnsembleState(states()[:1], jnp.int32(0), jnp.asarray(config.inflation))
    now = jax.tree.map(lambda a: a[0], observed(1))
    after, window = quick_jit(made.step)(KEY, state, now)
    draw_key, analysis_key = jax.random.split(KEY)
    anomalies = to_fields(GRID, where.climatology.draw(draw_key, 0, 20, GRID))
    background = to_fields(GRID, state.omega_hat) + 0.8 * (anomalies - anomalies.mean(0))
    factor = adapted(params.inflation, where.observed(background, now), now, params)
    assert (abs(factor - 0.8) > 0.01) == (adaptive > 0)
    np.testing.assert_allclose(after.inflation, factor, rtol=1e-6)
    background = to_fields(GRID, state.omega_hat) + factor * (anomalies - anomalies.mean(0))
    expected = enkf(analysis_key, GRID, background, where.observed(background, now), now, params)
    np.testing.assert_allclose(window.omega[:, 0], expected, atol=1e-6)
    np.testing.assert_allclose(window.background, to_fields(GRID, state.omega_hat)[0], atol=1e-12)
    ahead = model.forecast(to_amplitudes(GRID, expected.mean(0, keepdims=True)))
    assert after.omega_hat.shape[0] == 1 and after.time == 1
    np.testing.assert_allclose(after.omega_hat, ahead.ahead, atol=1e-6)
    moved = to_fields(GRID, ahead.frames)[0]
    for member in (0, 7):
        np.testing.assert_allclose(window.omega[member] - expected[member], moved - moved[:1], atol=1e-6)


@pytest.mark.parametrize("options", [{"substeps": -1}, {"viscosity": -1e-6}, {"viscosity": float("nan")}])
def test_options_of_the_lagrangian_model_are_checked(options):
    with pytest.raises(ValueError, match="substeps, viscosity: expected numbers above 0, or 0 for the model's own"):
        FilterConfig(**options)
