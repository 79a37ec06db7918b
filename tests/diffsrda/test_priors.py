"""Priors of carried fields: an ensemble that its samples move as a whole, and one forecast with a memory.

Tolerances are those of noise that is drawn in float32.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import GRID, TESTBED, observed, quick_jit, setup

from jaxsrda.diffsrda.condition import Conditioning
from jaxsrda.diffsrda.config import DiffSRDAConfig
from jaxsrda.diffsrda.prior import carried_ensemble_prior, carried_prior, chosen, make_prior
from jaxsrda.diffsrda.step import Corrections, Draw, recorded_step, start
from jaxsrda.filters.config import FILTERS, FilterConfig, filter_params
from jaxsrda.filters.controls import optimal_interpolation
from jaxsrda.filters.ensemble import EnsembleState, ensemble_filter
from jaxsrda.flow.forecasts import to_fields

MEMBERS, KEY = 4, jax.random.key(3)
PARAMS = filter_params(FilterConfig(members=MEMBERS, localization=1.0, additive=0.1, inflation=0.5), "float64")
UNITS = Conditioning.of(TESTBED)
SEEN = jax.tree.map(lambda a: a[0], observed(1))


@functools.cache
def model():
    return setup().lagrangian_model(substeps=1)


def prior_of(name):
    make = {"lagrange": carried_ensemble_prior, "carried": carried_prior}[name]
    return make(setup(), model(), MEMBERS, PARAMS)


@functools.cache
def analysed(name):
    """A prior, its first state, and what it makes of the first observations."""
    prior = prior_of(name)
    state = prior.init(KEY)
    return prior, state, *quick_jit(prior.analyse)(KEY, state, SEEN)


def samples(count=3):
    waves = jnp.sin(jnp.asarray(GRID.y)) * jnp.cos(
        jnp.asarray(np.arange(1.0, count + 1))[:, None, None] * jnp.asarray(GRID.x)[:, None]
    )
    return analysed("lagrange")[3].guess.frames[:, 0] + 0.3 * waves


def ahead(fields):
    return quick_jit(lambda f: model().forecast(model().from_analysis_grid(f)).ahead)(fields)


def test_the_ensembles_guess_is_its_filters():
    _, state, after, found = analysed("lagrange")
    inner = ensemble_filter(setup(), model(), "enkf", MEMBERS, PARAMS)
    expected, window = quick_jit(inner.step)(KEY, state, SEEN)
    np.testing.assert_allclose(after.omega_hat, expected.omega_hat, atol=1e-6)
    (frames,), (spread,) = found.guess.frames, found.guess.spread
    np.testing.assert_allclose(frames[:-1], window.omega.mean(0), atol=1e-6)
    later = to_fields(GRID, expected.omega_hat)
    np.testing.assert_allclose(frames[-1], later.mean(0), atol=1e-6)
    np.testing.assert_allclose(spread[1], later.std(0, ddof=1), atol=1e-6)


def test_the_mean_of_samples_moves_the_ensemble_as_a_whole():
    prior, _, after, _ = analysed("lagrange")
    moved = prior.restart(after, samples(), "mean")
    np.testing.assert_allclose(moved.omega_hat.mean(0), ahead(samples().mean(0, keepdims=True))[0], atol=1e-6)
    own = after.omega_hat - after.omega_hat.mean(0)
    np.testing.assert_allclose(moved.omega_hat - moved.omega_hat.mean(0), own, atol=1e-6)
    assert abs(moved.omega_hat - after.omega_hat).max() > 0.01 and moved.time == after.time
    each = prior.restart(after, samples(), "each").omega_hat
    np.testing.assert_allclose(each, ahead(samples())[jnp.array([0, 1, 2, 0])], atol=1e-6)
    first = prior.restart(after, samples(), "first").omega_hat
    np.testing.assert_allclose(first, jnp.broadcast_to(ahead(samples())[:1], first.shape), atol=1e-6)


def test_forecasts_restart_from_a_sample_each_the_first_or_their_mean():
    fields = jnp.asarray([1.0, 2.0, 6.0])[:, None]
    found = {mode: chosen(fields, 4, mode)[:, 0].tolist() for mode in ("each", "first", "mean")}
    assert found == {"each": [1, 2, 6, 1], "first": [1, 1, 1, 1], "mean": [3, 3, 3, 3]}


def test_one_carried_forecast_is_interpolated():
    """Its guess is the forecast of the interpolated analysis; there is a spread, but no ensemble."""
    prior, state, after, found = analysed("carried")
    assert prior.guesses == 1 and state.omega_hat.shape[0] == after.omega_hat.shape[0] == 1
    inner = optimal_interpolation(setup(), model(), MEMBERS, PARAMS)
    expected, window = quick_jit(inner.step)(KEY, state, SEEN)
    (frames,), (spread,), (background,) = found.guess
    np.testing.assert_allclose(frames[:-1], window.omega.mean(0), atol=1e-6)
    np.testing.assert_allclose(frames[-1], to_fields(GRID, expected.omega_hat)[0], atol=1e-6)
    np.testing.assert_allclose(background, to_fields(GRID, state.omega_hat)[0], atol=1e-6)
    np.testing.assert_allclose(spread, jnp.stack([window.omega[:, 0].std(0, ddof=1)] * 2), atol=1e-6)
    assert abs(frames[0] - background).max() > 0.1 and spread.max() > 0.1


@pytest.mark.parametrize("restart", ["open", "first", "mean"])
def test_the_forecast_carries_what_was_drawn(restart):
    """The mean that a draw gives, not that of its samples; memory holds what the forecast really starts from."""
    prior, first, *_ = analysed("carried")
    mean = 0.2 * jnp.sin(jnp.asarray(GRID.y)) * jnp.ones((UNITS.frames, *GRID.shape))
    waves = (samples() - samples().mean(0))[:, None] * jnp.ones((1, UNITS.frames, 1, 1))
    draw = Draw(lambda *_: Corrections(waves + 0.1, mean), UNITS, 3)
    step = quick_jit(recorded_step(setup(), prior, draw, restart))
    state = start(setup(), prior, KEY, "float64")._replace(prior=first)
    after, window, now = step(KEY, state, SEEN)
    guess = now.guess.frames[0]
    np.testing.assert_allclose(window.analysis, (guess + mean)[:-1], atol=1e-6)
    np.testing.assert_allclose(window.omega, (guess + waves + 0.1)[:, :-1], atol=1e-6)
    wanted = {"mean": guess[:1] + mean[:1], "first": window.omega[:1, 0]}
    if restart == "open":
        np.testing.assert_allclose(after.memory.analyses[0, 0], guess[0], atol=1e-6)
        return
    np.testing.assert_allclose(after.prior.omega_hat, ahead(wanted[restart]), atol=1e-6)
    went = model().to_analysis_grid(model().from_analysis_grid(wanted[restart]))[0]
    np.testing.assert_allclose(after.memory.analyses[0, 0], went, atol=1e-6)


def test_carried_priors_come_by_name():
    with pytest.raises(ValueError, match="restart: the carried prior is one forecast, expected mean, first or open"):
        DiffSRDAConfig(prior="carried", restart="each")
    one = DiffSRDAConfig(prior="carried", members=1)
    assert one.restart == "mean" and make_prior(setup(), one).guesses == 1
    several = DiffSRDAConfig(prior="lagrange", members=3)
    assert several.restart == "mean" and make_prior(setup(), several).guesses == 1
    with pytest.raises(ValueError, match="members: the lagrange prior filters as many cheap members, expected 2 or"):
        DiffSRDAConfig(prior="lagrange", members=1)
    state = jax.eval_shape(make_prior(setup(), several).init, KEY)
    assert state.omega_hat.shape == (3, *GRID.spectral_shape)
    assert {"oi-lagrange", "enkf-lagrange"} <= set(FILTERS)


def test_carried_fields_have_the_tuned_viscosity():
    """What restarts is carried with the viscosity of the filter's parameters."""
    config = DiffSRDAConfig(prior="carried", members=1)

    @quick_jit
    def restarted(viscosity):
        prior = make_prior(setup(), config, PARAMS._replace(viscosity=viscosity))
        return prior.restart(EnsembleState(jnp.zeros((1, *GRID.spectral_shape)), 0), fields, "mean").omega_hat[0]

    fields, given = samples(), (jnp.asarray(0.0), jnp.asarray(1e-3))
    none, some = (restarted(viscosity) for viscosity in given)
    model = setup().lagrangian_model(viscosity=given[1])
    wanted = quick_jit(lambda f: model.forecast(model.from_analysis_grid(f)).ahead)(fields.mean(0, keepdims=True))[0]
    np.testing.assert_allclose(some, wanted, atol=1e-6)
    assert abs(some - none).max() > 0.01
